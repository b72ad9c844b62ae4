# SPDX-License-Identifier: Apache-2.0
"""S-, E- and F-measure against pysodmetrics called directly on the whole set, and on cases known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter

from monai_sam2adapter.metrics import (
    CaseEMeasureMetric,
    CaseFMeasureMetric,
    CaseMetric,
    CaseSMeasureMetric,
    ScoredMap,
    create_metrics,
    saliency,
)

sod = pytest.importorskip("py_sod_metrics", reason="pysodmetrics is missing; install the extra 'sod'")

METRICS = ["s_measure", "e_mean", "e_max", "e_adaptive", "f_weighted", "f_mean", "f_max", "f_adaptive"]
OBJECT = torch.zeros(1, 1, 40, 30)
OBJECT[..., 10:25, 8:20] = 1
NOTHING, ALL = torch.zeros_like(OBJECT), torch.ones_like(OBJECT)


def build(name: str) -> CaseMetric:
    return create_metrics([name])[name]


def draw(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and masks of objects, one of them of an unsure and one of a blind network."""
    rng = np.random.default_rng(0)
    pairs = []
    for strength in np.linspace(0.3, 0.9, number):
        mask = gaussian_filter(rng.normal(size=(33, 41)), 4) > 0.03
        noise = gaussian_filter(rng.normal(size=mask.shape), 1)
        pairs.append((np.clip(0.05 + strength * mask + 0.4 * noise, 0, 1), mask))
    pairs[0] = (np.full_like(pairs[0][0], 0.2), pairs[0][1])
    return pairs


def direct(pairs: list[tuple[np.ndarray, np.ndarray]], normalize: bool) -> dict[str, float]:
    """What pysodmetrics gives for the set, as its examples use it."""
    s, e, weighted, mae = sod.Smeasure(), sod.Emeasure(), sod.WeightedFmeasure(), sod.MAE()
    f = sod.FmeasureV2({"f": sod.FmeasureHandler(with_dynamic=True, with_adaptive=True)})
    for pred, mask in pairs:
        for measure in (s, e, weighted, mae, f):
            if normalize:  # it takes 0 to 255 then
                measure.step(255 * pred, np.uint8(255) * mask)
            else:
                measure.step(pred, mask, normalize=False)
    em, fm = e.get_results()["em"], f.get_results()["f"]
    return {
        "s_measure": s.get_results()["sm"],
        "e_mean": em["curve"].mean(),
        "e_max": em["curve"].max(),
        "e_adaptive": em["adp"],
        "f_weighted": weighted.get_results()["wfm"],
        "f_mean": fm["dynamic"].mean(),
        "f_max": fm["dynamic"].max(),
        "f_adaptive": fm["adaptive"],
        "mae": mae.get_results()["mae"],
    }


def tensors(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    preds, masks = zip(*pairs, strict=True)
    return torch.tensor(np.stack(preds))[:, None], torch.tensor(np.stack(masks))[:, None].double()


class TestAgainstPysodmetrics:
    @pytest.mark.parametrize("rescaled", [False, True], ids=["as they are", "rescaled"])
    @pytest.mark.parametrize("name", [*METRICS, "mae"])
    def test_the_same_number_for_a_set(self, name: str, rescaled: bool) -> None:
        pairs = draw(4)
        expected = direct(pairs, rescaled)[name]
        y_pred, y = tensors(pairs)
        if rescaled:  # as pysodmetrics does by itself, but for a map of one value
            low, high = y_pred.amin((2, 3), True), y_pred.amax((2, 3), True)
            y_pred = torch.where(high > low, (y_pred - low) / (high - low).clamp(min=1e-12), y_pred)
        metric = build(name)
        for case in range(len(y)):
            metric(y_pred=y_pred[case : case + 1], y=y[case : case + 1])
        assert metric.aggregate().item() == pytest.approx(expected, abs=1e-6)
        details = metric.get_buffer()
        assert details.shape == (4, 1)
        assert details.mean().item() == pytest.approx(expected, abs=1e-6)

    def test_the_best_threshold_is_that_of_the_set_and_not_of_each_case(self) -> None:
        pairs = draw(4)
        each = [direct([pair], normalize=False)["f_max"] for pair in pairs]
        metric = build("f_max")
        y_pred, y = tensors(pairs)
        metric(y_pred=y_pred, y=y)
        details = metric.aggregate("none")[:, 0]
        assert (details <= torch.tensor(each) + 1e-6).all()
        assert details.mean() < np.mean(each) - 1e-3
        assert metric.n_valid().tolist() == [4]


class TestKnownCases:
    @pytest.mark.parametrize("name", METRICS)
    def test_perfect(self, name: str) -> None:
        metric = build(name)
        # threshold 0 of 256 predicts everything, and E is divided by the number of pixels less one
        tolerance = 2 / 256 if name.endswith("mean") else 2 / OBJECT.numel()
        assert metric(y_pred=OBJECT, y=OBJECT)[..., -1:].isfinite().all()
        assert metric.aggregate().item() == pytest.approx(1, abs=tolerance)

    @pytest.mark.parametrize(
        ("name", "pred", "truth", "expected"),
        [
            ("s_measure", NOTHING, NOTHING, 1),
            ("s_measure", 0.25 * ALL, NOTHING, 0.75),
            ("s_measure", 0.25 * ALL, ALL, 0.25),
            ("e_adaptive", 0.1 * OBJECT, NOTHING, 1 - 180 / 1200),
            ("f_weighted", ALL, NOTHING, 0),
            ("f_max", NOTHING, NOTHING, 0),
            # of 1200 pixels 180 are of the object: precision 0.15, recall 1
            ("f_max", ALL, OBJECT, 1.3 * 0.15 / (0.3 * 0.15 + 1)),
            # only the threshold 0 predicts anything
            ("f_mean", NOTHING, OBJECT, 1.3 * 0.15 / (0.3 * 0.15 + 1) / 256),
        ],
    )
    def test_all_background_and_all_object(
        self, name: str, pred: torch.Tensor, truth: torch.Tensor, expected: float
    ) -> None:
        metric = build(name)
        metric(y_pred=pred, y=truth)
        assert metric.aggregate().item() == pytest.approx(expected, abs=1e-3)

    def test_channels_are_scored_one_by_one(self) -> None:
        metric = build("e_max")
        metric(y_pred=torch.cat([OBJECT, NOTHING], 1), y=torch.cat([OBJECT, OBJECT], 1))
        good, bad = metric.aggregate("mean_batch")
        assert good > 0.99
        assert bad < 0.5
        assert metric.aggregate().item() == pytest.approx((good + bad).item() / 2)

    def test_a_list_of_cases_with_metadata(self) -> None:
        metric = build("s_measure")
        metric(y_pred=[MetaTensor(OBJECT[0]), MetaTensor(NOTHING[0])], y=[OBJECT[0], OBJECT[0]])
        assert metric.aggregate("none").shape == (2, 1)
        assert not isinstance(metric.get_buffer(), MetaTensor)


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (4 * OBJECT, OBJECT, r"values from 0 to 4, expected probabilities .*Activations\(sigmoid=True\)"),
        (torch.full_like(OBJECT, torch.nan), OBJECT, "values from nan to nan"),
        (OBJECT, 0.5 * OBJECT, r"the mask holds values other than 0 and 1 \(from 0 to 0.5\)"),
        (OBJECT[..., :9], OBJECT, r"one shape .* got \(1, 40, 9\) and \(1, 40, 30\)"),
        (OBJECT[..., None], OBJECT[..., None], r"of images \(K, X, Y\), got \(1, 40, 30, 1\)"),
    ],
    ids=["logits", "nan", "soft mask", "shapes", "volume"],
)
def test_unusable_input_is_refused(pred: torch.Tensor, truth: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("s_measure")(y_pred=pred, y=truth)


def test_unknown_options_and_no_cases_are_errors() -> None:
    with pytest.raises(ValueError, match="median"):
        CaseEMeasureMetric("median")
    with pytest.raises(ValueError, match="weigthed"):
        CaseFMeasureMetric("weigthed")
    with pytest.raises(RuntimeError, match="CaseSMeasureMetric has scored no case"):
        build("s_measure").aggregate()


def test_without_pysodmetrics_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saliency, "optional_import", lambda name: (None, False))
    with pytest.raises(ImportError, match=r"monai-sam2adapter\[sod\]"):
        CaseSMeasureMetric()


def test_one_scoring_serves_all_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    y_pred, y = (maps[1] for maps in tensors(draw(2)))
    expected = {name: build(name)(y_pred=y_pred[None], y=y[None])[0] for name in [*METRICS, "mae"]}
    steps = []
    monkeypatch.setattr(saliency, "_step", lambda *args, step=saliency._step: (steps.append(args), step(*args))[1])
    case = ScoredMap(y_pred, y)
    for name, metric in create_metrics(list(expected)).items():
        torch.testing.assert_close(metric.score_case(case), expected[name])
    assert len(steps) == 4, "S, E, F and weighted F once each"
