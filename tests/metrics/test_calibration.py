# SPDX-License-Identifier: Apache-2.0
"""Calibration errors against numbers by hand and MONAI's metric."""

from __future__ import annotations

import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from monai.networks.utils import one_hot

from monai_sam2adapter.metrics import CaseCalibrationErrorMetric, calibration, create_metrics, need_probabilities

REDUCTIONS = {"ece": "expected", "ace": "average", "mce": "maximum"}


def draw(*shape: int, n_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and one-hot truth of two cases, which they know something of."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(n_classes, (2, 1, *shape), generator=generator)
    truth = one_hot(labels, n_classes)
    logits = 3 * torch.randn(truth.shape, generator=generator) + truth
    return logits.softmax(dim=1), truth


@pytest.mark.parametrize(("name", "expected"), [("ece", 0.3), ("ace", 11 / 30), ("mce", 0.5)])
def test_by_hand(name: str, expected: float) -> None:
    """Three voxels at 0.9, of which two are of the class: an error of 7/30; one at 0.5 that is not: of 1/2."""
    pred = torch.tensor([[[0.9, 0.9, 0.9, 0.5]]])
    truth = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    metric = create_metrics([name])[name]
    metric(y_pred=pred, y=truth)
    assert metric.aggregate().item() == pytest.approx(expected)


@pytest.mark.parametrize("part", [7, 2**20])
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("shape", [(9, 8, 7), (21, 20)], ids=["volume", "picture"])
def test_is_monais_whatever_the_parts(
    shape: tuple[int, ...], name: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_PART", part)
    pred, truth = draw(*shape)
    ours = create_metrics([name])[name]
    oracle = CalibrationErrorMetric(
        include_background=False, calibration_reduction=REDUCTIONS[name], metric_reduction="none"
    )
    for metric in (ours, oracle):
        metric(y_pred=pred, y=truth)
    torch.testing.assert_close(ours.get_buffer(), oracle.aggregate())
    assert ours.aggregate().item() > 0.01


def test_a_perfect_map_has_no_error_and_a_lying_one_the_largest() -> None:
    _, truth = draw(6, 5, 4)
    for pred, expected in ((truth, 0.0), (1 - truth, 1.0)):
        metric = CaseCalibrationErrorMetric("maximum", num_bins=1 + int(expected))
        metric(y_pred=pred, y=truth)
        assert metric.aggregate().item() == expected


def test_ignored_voxels_do_not_count() -> None:
    pred, truth = draw(6, 5, 4)
    expected = CaseCalibrationErrorMetric()
    expected(y_pred=pred[..., :3], y=truth[..., :3])
    truth[..., 3] = 0
    metric = CaseCalibrationErrorMetric(ignore_index=255)
    metric(y_pred=pred, y=truth)
    torch.testing.assert_close(metric.get_buffer(), expected.get_buffer())
    truth[:] = 0
    metric.reset()
    metric(y_pred=pred, y=truth)
    assert metric.get_buffer().isnan().all()


def test_the_mean_of_many_equal_probabilities_is_exact() -> None:
    """MONAI adds them up in float32: of 2^20 voxels at 0.93 the mean is 0.936."""
    pred, truth = torch.full((1, 1, 2**20), 0.93), torch.ones(1, 1, 2**20)
    metric = CaseCalibrationErrorMetric()
    metric(y_pred=pred, y=truth)
    assert metric.aggregate().item() == pytest.approx(0.07, abs=1e-6)


@pytest.mark.slow
def test_counts_more_voxels_in_a_bin_than_float32_does() -> None:
    """Right up to there: of 2^24 + 2^23 voxels at 0.25, a third is of the class."""
    size = 2**23
    pred, truth = torch.full((1, 1, 3 * size), 0.25), torch.zeros(1, 1, 3 * size)
    truth[..., :size] = 1
    metric = CaseCalibrationErrorMetric()
    metric(y_pred=pred, y=truth)
    assert metric.aggregate().item() == pytest.approx(1 / 3 - 0.25, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"), [(("most",), "expected"), (("expected", 0), "num_bins must be at least 1")]
)
def test_wrong_arguments_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaseCalibrationErrorMetric(*arguments)


def test_logits_are_refused() -> None:
    pred, truth = draw(4, 4)
    with pytest.raises(ValueError, match="expected probabilities from 0 to 1"):
        CaseCalibrationErrorMetric()(y_pred=3 * pred, y=truth)


def test_probabilities_are_asked_for_by_name() -> None:
    assert need_probabilities(["dice", "ece"])
    assert not need_probabilities(["dice", "volume_true_ml", "hd95_mm"])
