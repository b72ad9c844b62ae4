# SPDX-License-Identifier: Apache-2.0
"""Volumes in ml against hand-computed numbers."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import AbsoluteVolumeDifferenceMetric
from monai.networks.utils import one_hot

from monai_sam2adapter.metrics import CaseVolumeMetric, create_metrics

NAN = float("nan")
# voxels of 1.5 x 2 x 10 mm = 0.03 ml, turned by 90 degrees
AFFINE = torch.tensor([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 10.0, 0], [0, 0, 0, 1]], dtype=torch.float64)


def volume(**voxels: int) -> MetaTensor:
    """One-hot volume, (1, 4, 6, 5, 4), with as many voxels of each class; class 3 has none."""
    labels = torch.zeros(1, 1, 6 * 5 * 4)
    first = 0
    for name, count in voxels.items():
        labels[0, 0, first : first + count] = int(name[1])
        first += count
    return MetaTensor(one_hot(labels.reshape(1, 1, 6, 5, 4), 4), affine=AFFINE)


PRED, TRUTH = volume(c1=10), volume(c1=30, c2=4)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("prediction", [0.3, 0, 0]),
        ("truth", [0.9, 0.12, 0]),
        ("difference", [0.6, 0.12, NAN]),
        ("error", [-0.6, -0.12, NAN]),
        ("percent", [100 * (10 - 30) / 30, -100, NAN]),
    ],
)
def test_volumes_by_hand(of: str, expected: list[float]) -> None:
    metric = CaseVolumeMetric(of)
    metric(y_pred=PRED, y=TRUTH)
    torch.testing.assert_close(metric.aggregate("none"), torch.tensor([expected]), equal_nan=True)


def test_only_predicted_has_an_error_in_ml_and_none_in_percent() -> None:
    for name, expected in (("volume_error_ml", [0.6, 0.12, NAN]), ("volume_error_percent", [200, NAN, NAN])):
        metric = create_metrics([name])[name]
        metric(y_pred=TRUTH, y=PRED)
        torch.testing.assert_close(metric.aggregate("none"), torch.tensor([expected]), equal_nan=True)


def test_difference_is_that_of_monai_in_voxels() -> None:
    oracle = AbsoluteVolumeDifferenceMetric(include_background=False, reduction="none", ignore_empty=False)
    ours = CaseVolumeMetric()
    for metric in (oracle, ours):
        metric(y_pred=PRED, y=TRUTH)
    torch.testing.assert_close(ours.aggregate("none")[:, :2], oracle.aggregate()[:, :2] * 0.03)


def test_ignored_voxels_have_no_volume() -> None:
    truth = TRUTH.clone()
    truth[0, :, :1] = 0  # the first 20 of its 30 voxels, and all of the prediction's
    for name, expected in (("volume_true_ml", 0.3), ("volume_predicted_ml", 0.0)):
        metric = create_metrics([name], ignore_index=255)[name]
        metric(y_pred=PRED, y=truth)
        assert metric.get_buffer()[0, 0].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("pred", "truth"),
    [(PRED.as_tensor(), TRUTH.as_tensor()), (PRED[..., 0], TRUTH[..., 0])],
    ids=["no spacing", "a picture"],
)
def test_what_has_no_volume_is_refused(pred: torch.Tensor, truth: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="needs three axes with a spacing"):
        CaseVolumeMetric()(y_pred=pred, y=truth)
