# SPDX-License-Identifier: Apache-2.0
"""Metrics of classes that overlap: each class by itself, as if it were the only one, and none is a background."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sam2adapter.metrics import (
    METRIC_PROTOCOLS,
    CaseDiceMetric,
    PooledDiceMetric,
    PooledIoUMetric,
    ScoredCase,
    ScoredMap,
    create_metrics,
)

NAMES = [name for name, protocol in METRIC_PROTOCOLS.items() if protocol.create is not None]
# which need an optional package, and as MAE does, images
SALIENCY = [name for name in NAMES if name.startswith(("s_", "e_", "f_"))]


def discs(shift: int, spatial: tuple[int, ...]) -> torch.Tensor:
    """Two discs, or cylinders, that overlap; moved by some pixels."""
    x, y = np.mgrid[: spatial[0], : spatial[1]]
    masks = np.stack([np.hypot(x - 12 - shift, y - 16) < 9, np.hypot(x - 20, y - 16 - shift) < 7])
    masks = masks if len(spatial) == 2 else masks[..., None].repeat(spatial[2], axis=-1)
    return torch.from_numpy(masks.astype(np.float32))


def case(name: str, ignored: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction, or probabilities, and truth."""
    spatial = (32, 32) if name in (*SALIENCY, "mae") else (32, 32, 3)
    pred, truth = discs(2, spatial), discs(0, spatial)
    assert ((truth == 1).all(dim=0)).any()
    if METRIC_PROTOCOLS[name].create().case_type is ScoredMap:
        pred = 0.2 + 0.6 * pred
    if ignored is not None:
        truth[:, :, :12] = ignored
    affine = torch.diag(torch.tensor([1.5, 2.0, 4.0, 1.0], dtype=torch.float64))
    return MetaTensor(pred, affine=affine), MetaTensor(truth, affine=affine)


@pytest.mark.parametrize("ignored", [None, 255], ids=["all count", "some do not count"])
@pytest.mark.parametrize("name", NAMES)
def test_every_metric_scores_each_class_as_if_it_were_alone(name: str, ignored: int | None) -> None:
    if name in SALIENCY:
        pytest.importorskip("py_sod_metrics", reason="pysodmetrics is missing; install the extra 'sod'")
    pred, truth = case(name, ignored)
    metric = create_metrics([name], ignored, overlapping=True)[name]
    found = metric(pred[None], truth[None])[0]
    # a single channel is always scored, and its ignored voxels are known by their value
    pairs = zip(pred, truth, strict=True)
    alone = [create_metrics([name], ignored)[name](p[None, None], t[None, None])[0] for p, t in pairs]
    if name.endswith("_pooled"):
        assert found.shape == (2, 2, 2)
        torch.testing.assert_close(found, torch.stack(alone))
    else:
        torch.testing.assert_close(found, torch.cat(alone))
        assert len(found) == 2
    assert np.isfinite(metric.aggregate().item())


def test_dice_and_pooled_scores_by_hand() -> None:
    truth = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]]).float()
    pred = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]]).float()
    scored = ScoredCase(pred, truth, overlapping=True)
    assert scored.confusion.tolist() == [[[1, 0], [1, 2]], [[1, 1], [0, 2]]]
    assert CaseDiceMetric(overlapping=True)(pred[None], truth[None]).tolist() == [[pytest.approx(0.8)] * 2]
    for kind, expected in ((PooledDiceMetric, [0.8, 0.8]), (PooledIoUMetric, [2 / 3, 2 / 3])):
        metric = kind(reduction="mean_batch", overlapping=True)
        for _ in range(3):
            metric(pred[None], truth[None])
        assert metric.aggregate().tolist() == pytest.approx(expected)


def test_voxels_of_no_class_count_beside_ignored_ones() -> None:
    truth = torch.tensor([[0, 0, 1, 9], [0, 0, 1, 9]]).float()
    pred = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 1]]).float()
    dice = CaseDiceMetric(ignore_index=9, overlapping=True)(pred[None], truth[None])
    assert dice.tolist() == [[pytest.approx(2 / 3), 1.0]]
