# SPDX-License-Identifier: Apache-2.0
"""Per-case Dice, IoU and surface distances against hand-computed and brute-force numbers, and against medpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from medpy.metric import binary
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.networks.utils import one_hot

from monai_sam2adapter.handlers import CaseScoresHandler
from monai_sam2adapter.metrics import (
    CaseDiceMetric,
    CaseDistanceScores,
    CaseHausdorffDistanceMetric,
    CaseIoUMetric,
    CaseScores,
    CaseSurfaceDistanceMetric,
    ScoredCase,
    TransUNetHausdorffDistanceMetric,
    create_metrics,
)

NAN = float("nan")
SPACING = (1.5, 2.0, 10.0)
SHAPE = (6, 5, 4)
DIAGONAL = math.sqrt((6 * 1.5) ** 2 + (5 * 2.0) ** 2 + (4 * 10.0) ** 2)  # 42.2 mm
AFFINE = torch.tensor([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 10.0, 0], [0, 0, 0, 1]], dtype=torch.float64)
METRICS = [CaseDiceMetric, CaseIoUMetric, CaseHausdorffDistanceMetric, CaseSurfaceDistanceMetric]
UNIT_AND_ANISOTROPIC = pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING], ids=["unit", "anisotropic"])


def build(metric_class: type[CaseScores], spacing: float = 1) -> CaseScores:
    return metric_class(spacing=spacing) if issubclass(metric_class, CaseDistanceScores) else metric_class()


def volume(**boxes: tuple[slice, slice, slice]) -> torch.Tensor:
    """One-hot volume, (1, 4, *SHAPE), with boxes c1=, c2=, c3=."""
    labels = torch.zeros(1, 1, *SHAPE)
    for name, box in boxes.items():
        labels[0, 0][box] = int(name[1])
    return one_hot(labels, 4)


# class 1: 8 and 12 voxels, 4 in common; class 2 only in the truth, class 3 only in the prediction
TRUTH = volume(c1=np.s_[0:2, 0:2, 0:2], c2=np.s_[5, 4, 3])
PRED = volume(c1=np.s_[1:4, 0:2, 0:2], c3=np.s_[5, 0, 0])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        pytest.param(CaseDiceMetric(), [2 * 4 / (8 + 12), 0, 0], id="dice"),
        pytest.param(CaseIoUMetric(), [4 / 16, 0, 0], id="iou"),
        pytest.param(CaseHausdorffDistanceMetric(spacing=SPACING), [3.0, DIAGONAL, DIAGONAL], id="hd95"),
        # prediction planes 1 2 3, truth planes 0 1: 4 voxels each at 1.5 mm steps, every voxel on the surface
        pytest.param(
            CaseSurfaceDistanceMetric(spacing=SPACING),
            [(4 * (0 + 1.5 + 3) + 4 * (1.5 + 0)) / 20, DIAGONAL, DIAGONAL],
            id="asd",
        ),
        # 18 voxels are foreground in one of the two
        pytest.param(CaseDiceMetric(include_background=True), [2 * 102 / (107 + 111), 0.4, 0, 0], id="background"),
    ],
)
def test_hand_computed_case(metric, expected) -> None:
    torch.testing.assert_close(metric(y_pred=PRED, y=TRUTH), torch.tensor([expected]))


@pytest.mark.parametrize("metric_class", METRICS)
def test_structure_in_neither_is_nan_and_counts_in_no_mean(metric_class) -> None:
    metric = build(metric_class)
    perfect = 0.0 if isinstance(metric, CaseDistanceScores) else 1.0
    empty, only_first = volume(), volume(c1=np.s_[0:2, 0:2, 0:2])
    metric(y_pred=empty, y=empty)
    assert metric.aggregate().isnan(), "the mean of nothing"
    for truth in (only_first, only_first):
        metric(y_pred=truth, y=truth)
    torch.testing.assert_close(metric.aggregate(), torch.tensor(perfect))
    torch.testing.assert_close(metric.aggregate("mean_batch"), torch.tensor([perfect, NAN, NAN]), equal_nan=True)
    expected = torch.tensor([[NAN, NAN, NAN], [perfect, NAN, NAN], [perfect, NAN, NAN]])
    torch.testing.assert_close(metric.aggregate("none"), expected, equal_nan=True)
    assert metric.n_valid().tolist() == [2, 0, 0]
    single = TRUTH[:, 1:2]  # one channel is foreground
    assert build(metric_class)(y_pred=single, y=single).tolist() == [[perfect]]


def test_mean_weighs_classes_equally() -> None:
    """Scores (1, 0, 0) and (1, nan, nan): class means 1, 0, 0, mean 1/3; averaging cases first would give 2/3."""
    metric = CaseDiceMetric()
    one = np.s_[0:2, 0:2, 0:2]
    metric(y_pred=volume(c1=one), y=volume(c1=one, c2=np.s_[5, 4, 3], c3=np.s_[5, 0, 0]))
    metric(y_pred=volume(c1=one), y=volume(c1=one))
    torch.testing.assert_close(metric.aggregate(), torch.tensor(1 / 3))
    assert metric.n_valid().tolist() == [2, 1, 1]
    metric.reset()
    with pytest.raises(RuntimeError, match="CaseDiceMetric has scored no case"):
        metric.aggregate()


def surface(mask: np.ndarray) -> np.ndarray:
    """Indices of the voxels of a mask with a face neighbor outside of it; the outside of the array is outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return np.argwhere(mask & ~inner[(slice(1, -1),) * mask.ndim])


def surface_distances(start: np.ndarray, end: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From each surface voxel of one mask to the nearest one of the other, by trying all pairs."""
    a, b = surface(start) * np.array(spacing), surface(end) * np.array(spacing)
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(axis=1)


@pytest.mark.parametrize("percentile", [50, 95, 100])
@UNIT_AND_ANISOTROPIC
def test_random_masks_equal_brute_force(spacing, percentile) -> None:
    generator = torch.Generator().manual_seed(percentile)
    # class 0 fills most of the volume, so that surfaces are scattered
    labels = [(torch.rand(1, 1, 9, 8, 6, generator=generator) * 4.6 - 1).clamp(0).floor() for _ in range(2)]
    truth, pred = (one_hot(label, 4) for label in labels)
    hd = CaseHausdorffDistanceMetric(percentile=percentile, spacing=spacing)(y_pred=pred, y=truth)[0]
    asd = CaseSurfaceDistanceMetric(spacing=spacing)(y_pred=pred, y=truth)[0]
    dice, iou = CaseDiceMetric()(y_pred=pred, y=truth)[0], CaseIoUMetric()(y_pred=pred, y=truth)[0]
    for index in (1, 2, 3):
        p, t = (mask[0, index].numpy().astype(bool) for mask in (pred, truth))
        both = [surface_distances(*pair, spacing) for pair in ((p, t), (t, p))]
        largest = max(np.percentile(distances, percentile) for distances in both)
        assert hd[index - 1].item() == pytest.approx(largest, rel=1e-5)
        assert asd[index - 1].item() == pytest.approx(np.concatenate(both).mean(), rel=1e-5)
        assert dice[index - 1].item() == pytest.approx(2 * (p & t).sum() / (p.sum() + t.sum()))
        assert iou[index - 1].item() == pytest.approx((p & t).sum() / (p | t).sum())


@UNIT_AND_ANISOTROPIC
def test_surface_distances_equal_those_of_medpy(spacing) -> None:
    """HD95 does not: medpy takes the percentile of both directions together."""
    smooth = torch.nn.AvgPool3d(3, stride=1, padding=1)  # structures with an inside, some at the border of the image
    truth, pred = (smooth(torch.rand(1, 1, 15, 14, 9)) > 0.48 for _ in range(2))
    p, t = pred[0, 0].numpy(), truth[0, 0].numpy()
    masks = {"y_pred": pred.float(), "y": truth.float()}
    asd = CaseSurfaceDistanceMetric(spacing=spacing)(**masks).item()
    assert asd == pytest.approx(binary.assd(p, t, voxelspacing=spacing), rel=1e-5)
    distances = {q: CaseHausdorffDistanceMetric(q, spacing=spacing)(**masks).item() for q in (95, 100)}
    assert distances[100] == pytest.approx(binary.hd(p, t, voxelspacing=spacing), rel=1e-5)
    directions = [np.percentile(surface_distances(*pair, spacing), 95) for pair in ((p, t), (t, p))]
    assert distances[95] == pytest.approx(max(directions), rel=1e-5)


@pytest.mark.parametrize("carrier", ["label", "prediction", "both"])
def test_spacing_comes_from_the_affine_also_of_decollated_lists(carrier) -> None:
    """A rotated affine: its columns are as long as SPACING. A given spacing goes before it."""
    pred, truth = (MetaTensor(mask[0], affine=AFFINE) for mask in (PRED, TRUTH))
    pred = pred if carrier != "label" else pred.as_tensor()
    truth = truth if carrier != "prediction" else truth.as_tensor()
    distance = CaseHausdorffDistanceMetric()(y_pred=[pred], y=[truth])
    torch.testing.assert_close(distance, torch.tensor([[3.0, DIAGONAL, DIAGONAL]]))
    assert CaseHausdorffDistanceMetric(spacing=1)(y_pred=[pred], y=[truth])[0, 0].item() == pytest.approx(2.0)


def test_one_scoring_serves_all_metrics_also_of_overlapping_channels() -> None:
    pred, truth = (torch.cat([mask, mask[:, 1:2]], dim=1)[0] for mask in (PRED, TRUTH))
    case = ScoredCase(pred, truth)
    hd, voxels = CaseHausdorffDistanceMetric(spacing=SPACING), TransUNetHausdorffDistanceMetric()
    for metric in (CaseDiceMetric(), hd, voxels, CaseSurfaceDistanceMetric(spacing=SPACING)):
        torch.testing.assert_close(metric.score_case(case), metric(y_pred=[pred], y=[truth])[0])
    assert hd.score_case(case)[[0, 3]].tolist() == pytest.approx([3, 3])
    assert voxels.score_case(case).tolist() == pytest.approx([2, 0, 0, 2])
    with pytest.raises(ValueError, match="the label has voxels of no class or of several"):
        ScoredCase(PRED[0], truth[[0, 1, 2, 1]]).confusion  # noqa: B018


@pytest.mark.parametrize("metric_class", METRICS)
@pytest.mark.parametrize(
    ("pred", "message"),
    [
        pytest.param(PRED * 3.5, "the prediction holds values other than 0 and 1 .from 0 to 3.5.", id="logits"),
        pytest.param(PRED[..., :3], r"one shape .* got \(4, 6, 5, 3\) and \(4, 6, 5, 4\)", id="other_shape"),
        pytest.param(PRED[:, :1], "one-hot both", id="label_map"),
        pytest.param(torch.cat([PRED, PRED]), "as many predictions as labels, got 2 and 1", id="number"),
    ],
)
def test_unusable_input_is_refused(metric_class, pred, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(metric_class)(y_pred=pred, y=TRUTH)


def test_ill_arguments_are_refused() -> None:
    for metric in (CaseHausdorffDistanceMetric(), CaseSurfaceDistanceMetric()):
        with pytest.raises(ValueError, match=f"{type(metric).__name__} needs the spacing of the voxels, but label and"):
            metric(y_pred=PRED, y=TRUTH)
    with pytest.raises(ValueError, match=r"spacing must be one number or 3, one for each spatial axis, got \(1, 2\)"):
        CaseHausdorffDistanceMetric(spacing=(1, 2))(y_pred=PRED, y=TRUTH)
    for percentile in (0, 101):
        with pytest.raises(ValueError, match=f"percentile must be above 0 and at most 100, got {percentile}"):
            CaseHausdorffDistanceMetric(percentile=percentile)
    metric = CaseDiceMetric(reduction="sum")
    metric(y_pred=PRED, y=TRUTH)
    with pytest.raises(ValueError, match="sum"):
        metric.aggregate()
    for names, message in (([], "list of different"), (["dice"] * 2, "list of different"), (["Dise"], "mean dice")):
        with pytest.raises(ValueError, match=message):
            create_metrics(names)


@pytest.mark.parametrize("decollate", [True, False], ids=["decollated", "batches"])
@pytest.mark.parametrize("handler", ["each", "one"])
def test_evaluator_reports_them_with_the_spacing_of_each_case(decollate, handler) -> None:
    """The prediction is the label shifted by one voxel along an axis that has another spacing in each case."""
    items = []
    for step in (1.0, 2.5, 4.0):
        labels = one_hot(volume(c1=np.s_[1:3, 1:3, 1:3])[:, 1:2], 2)[0]
        affine = torch.diag(torch.tensor([step, 1, 1, 1], dtype=torch.float64))
        image = MetaTensor(labels.roll(1, dims=1), affine=affine)
        items.append({"image": image, "label": MetaTensor(labels, affine=affine)})
    names, reader = ("dice", "iou", "hd95_mm", "miou_pooled"), from_engine(["pred", "label"])
    metrics = {
        name: IgniteMetricHandler(metric, output_transform=reader) for name, metric in create_metrics(names).items()
    }
    if handler == "one":
        metrics = {"dice": CaseScoresHandler(names)}
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(items), batch_size=3),
        network=torch.nn.Identity(),
        decollate=decollate,
        key_val_metric={"dice": metrics.pop("dice")},
        additional_metrics=metrics,
    )
    for _ in range(2):  # a second run begins anew
        evaluator.run()
    pooled = (4 / 12 + 108 / 116) / 2  # 4 voxels in common, 12 in either
    expected = {"dice": 0.5, "iou": 1 / 3, "hd95_mm": 2.5, "miou_pooled": pooled}
    assert evaluator.state.metrics == pytest.approx(expected)
    assert evaluator.state.metric_details["hd95_mm"].flatten().tolist() == pytest.approx([1.0, 2.5, 4.0])
    assert evaluator.state.metric_details["miou_pooled"].shape == (3, 2, 2)
    assert evaluator.state.best_metric == pytest.approx(0.5)


def test_a_key_metric_that_is_not_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="the evaluator's metric is 'dise', expected one of those scored: dice, iou"):
        CaseScoresHandler(["dice", "iou"]).attach(SupervisedEvaluator("cpu", [], torch.nn.Identity()), "dise")
