# SPDX-License-Identifier: Apache-2.0
"""Pixels that do not count: every metric gives what it gives for an image without them."""

from __future__ import annotations

import pytest
import torch
from monai.metrics import DiceMetric
from monai.networks import one_hot
from monai.transforms import AsDiscreted, Compose

from monai_sam2adapter.metrics import METRIC_PROTOCOLS, CaseDiceMetric, create_metrics
from monai_sam2adapter.transforms import OneHotLabelsd

ALL = [name for name, protocol in METRIC_PROTOCOLS.items() if protocol.create is not None]
MAPS = [name for name in ALL if name.startswith(("s_", "e_", "f_")) or name == "mae"]
PLACED = ["s_measure", "f_weighted"]  # need the whole image
N_CLASSES = 3


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Class numbers of prediction and truth, ``(1, X, Y)``; structures stay away from the lower third."""
    generator = torch.Generator().manual_seed(0)
    truth, pred = torch.zeros(1, 36, 20), torch.zeros(1, 36, 20)
    for number, rows in ((1, slice(2, 10)), (2, slice(12, 20))):
        truth[:, rows, 4:14], pred[:, rows, 6:15] = number, number
    ignored = torch.zeros_like(truth, dtype=torch.bool)
    ignored[:, 24:] = True
    noise = torch.randint(0, N_CLASSES, truth.shape, generator=generator).float()
    return torch.where(ignored, noise, pred), torch.where(ignored, 255.0, truth), ignored


def score(name: str, pred: torch.Tensor, truth: torch.Tensor, ignore_index: int | None) -> torch.Tensor:
    (metric,) = create_metrics([name], ignore_index).values()
    if name in MAPS:
        pred, truth = (pred > 0).float() * 0.8, torch.where(truth == 255, truth, (truth > 0).float())
        metric(pred[None], truth[None])
    else:
        postprocess = Compose(
            [AsDiscreted("pred", to_onehot=N_CLASSES), OneHotLabelsd("label", N_CLASSES, ignore_index)]
        )
        item = postprocess({"pred": pred, "label": truth})
        if hasattr(metric, "spacing"):
            metric.spacing = 1.0
        metric(item["pred"][None], item["label"][None])
    return metric.aggregate()


@pytest.mark.parametrize("name", [name for name in ALL if name not in PLACED])
def test_scores_are_those_of_the_image_without_them(name, case) -> None:
    if name in MAPS and name != "mae":
        pytest.importorskip("py_sod_metrics")
    pred, truth, _ = case
    if name.startswith("volume_"):  # one slice
        pred, truth = pred[..., None], truth[..., None]
    expected = score(name, pred[:, :24], truth[:, :24], None)
    torch.testing.assert_close(score(name, pred, truth, 255), expected)
    assert expected.isfinite()


@pytest.mark.parametrize("name", PLACED)
def test_measures_of_place_take_them_as_empty_background(name, case) -> None:
    pytest.importorskip("py_sod_metrics")
    pred, truth, ignored = case
    expected = score(name, pred.masked_fill(ignored, 0), truth.masked_fill(ignored, 0), None)
    torch.testing.assert_close(score(name, pred, truth, 255), expected)


@pytest.mark.parametrize("ignore_index", [255, 1])
def test_dice_equals_that_of_monai(case, ignore_index) -> None:
    pred, truth, ignored = case
    truth = one_hot(truth.masked_fill(ignored, 0)[None], N_CLASSES)
    if ignore_index == 255:
        truth = truth * ~ignored
    pred = one_hot(pred[None], N_CLASSES)
    ours = CaseDiceMetric(reduction="none", ignore_index=ignore_index)(pred, truth)[0]
    monai = DiceMetric(include_background=False, reduction="none", ignore_index=ignore_index)(pred, truth)[0]
    torch.testing.assert_close(ours.nan_to_num(), monai.nan_to_num())


def test_a_voxel_without_class_is_an_error_where_nothing_is_ignored(case) -> None:
    pred, truth, ignored = case
    y = one_hot(truth.masked_fill(ignored, 0)[None], N_CLASSES) * ~ignored
    (metric,) = create_metrics(["miou_pooled"]).values()
    with pytest.raises(ValueError, match="the label has voxels of no class or of several"):
        metric(one_hot(pred[None], N_CLASSES), y)
