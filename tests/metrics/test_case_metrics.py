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
from monai.transforms import AsDiscreted, Compose

from monai_sam2adapter.metrics import (
    CaseDiceMetric,
    CaseDistanceScores,
    CaseHausdorffDistanceMetric,
    CaseIoUMetric,
    CaseSurfaceDistanceMetric,
)

NAN = float("nan")
SPACING = (1.5, 2.0, 10.0)
SHAPE = (6, 5, 4)
DIAGONAL = math.sqrt((6 * 1.5) ** 2 + (5 * 2.0) ** 2 + (4 * 10.0) ** 2)  # 42.2 mm


def one_hot(labels: torch.Tensor, n_classes: int = 4) -> torch.Tensor:
    """(*spatial) class numbers to (1, C, *spatial)."""
    return torch.nn.functional.one_hot(labels.long(), n_classes).movedim(-1, 0)[None].float()


def volume(**boxes: tuple[slice, slice, slice]) -> torch.Tensor:
    """A label volume with boxes c1=, c2=, c3=."""
    labels = torch.zeros(SHAPE)
    for name, box in boxes.items():
        labels[box] = int(name[1])
    return one_hot(labels)


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
    ],
)
def test_hand_computed_case(metric, expected) -> None:
    torch.testing.assert_close(metric(y_pred=PRED, y=TRUTH), torch.tensor([expected]))


@pytest.mark.parametrize(
    "metric",
    [
        CaseDiceMetric(),
        CaseIoUMetric(),
        CaseHausdorffDistanceMetric(spacing=1),
        CaseSurfaceDistanceMetric(spacing=1),
    ],
    ids=["dice", "iou", "hd95", "asd"],
)
def test_structure_in_neither_is_nan_and_counts_in_no_mean(metric) -> None:
    perfect = 0.0 if isinstance(metric, CaseDistanceScores) else 1.0
    empty = volume()
    only_first = volume(c1=np.s_[0:2, 0:2, 0:2])
    for truth in (only_first, empty, only_first):
        metric(y_pred=truth, y=truth)
    torch.testing.assert_close(metric.aggregate(), torch.tensor(perfect))
    torch.testing.assert_close(metric.aggregate("mean_batch"), torch.tensor([perfect, NAN, NAN]), equal_nan=True)
    expected = torch.tensor([[perfect, NAN, NAN], [NAN, NAN, NAN], [perfect, NAN, NAN]])
    torch.testing.assert_close(metric.aggregate("none"), expected, equal_nan=True)
    assert metric.n_valid().tolist() == [2, 0, 0]


def test_mean_of_nothing_is_nan() -> None:
    metric = CaseDiceMetric()
    metric(y_pred=volume(), y=volume())
    assert metric.aggregate().isnan()


def test_mean_weighs_classes_equally() -> None:
    """Scores (1, 0, 0) and (1, nan, nan): class means 1, 0, 0, mean 1/3; averaging cases first would give 2/3."""
    metric = CaseDiceMetric()
    one = np.s_[0:2, 0:2, 0:2]
    metric(y_pred=volume(c1=one), y=volume(c1=one, c2=np.s_[5, 4, 3], c3=np.s_[5, 0, 0]))
    metric(y_pred=volume(c1=one), y=volume(c1=one))
    torch.testing.assert_close(metric.aggregate(), torch.tensor(1 / 3))
    assert metric.n_valid().tolist() == [2, 1, 1]
    metric.reset()
    with pytest.raises(RuntimeError, match="has scored no case"):
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


def brute_force_distance(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], percentile: float) -> float:
    return max(np.percentile(surface_distances(*pair, spacing), percentile) for pair in ((pred, truth), (truth, pred)))


@pytest.mark.parametrize("percentile", [50, 95, 100])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING], ids=["unit", "anisotropic"])
def test_random_masks_equal_brute_force(spacing, percentile) -> None:
    generator = torch.Generator().manual_seed(percentile)
    # class 0 fills most of the volume, so that surfaces are scattered
    truth, pred = (one_hot((torch.rand(9, 8, 6, generator=generator) * 4.6 - 1).clamp(0)) for _ in range(2))
    hd = CaseHausdorffDistanceMetric(percentile=percentile, spacing=spacing)(y_pred=pred, y=truth)[0]
    asd = CaseSurfaceDistanceMetric(spacing=spacing)(y_pred=pred, y=truth)[0]
    dice, iou = CaseDiceMetric()(y_pred=pred, y=truth)[0], CaseIoUMetric()(y_pred=pred, y=truth)[0]
    for index in (1, 2, 3):
        p, t = (mask[0, index].numpy().astype(bool) for mask in (pred, truth))
        assert hd[index - 1].item() == pytest.approx(brute_force_distance(p, t, spacing, percentile), rel=1e-5)
        both = np.concatenate([surface_distances(p, t, spacing), surface_distances(t, p, spacing)])
        assert asd[index - 1].item() == pytest.approx(both.mean(), rel=1e-5)
        assert dice[index - 1].item() == pytest.approx(2 * (p & t).sum() / (p.sum() + t.sum()))
        assert iou[index - 1].item() == pytest.approx((p & t).sum() / (p | t).sum())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING], ids=["unit", "anisotropic"])
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


def test_distance_of_two_voxels_in_mm() -> None:
    pred, truth = volume(c1=np.s_[0, 0, 0]), volume(c1=np.s_[0, 1, 2])
    distance = CaseHausdorffDistanceMetric(spacing=SPACING)(y_pred=pred, y=truth)[0, 0]
    assert distance.item() == pytest.approx(math.sqrt(2.0**2 + 20.0**2))
    average = CaseSurfaceDistanceMetric(spacing=SPACING)(y_pred=pred, y=truth)[0, 0]
    assert average.item() == pytest.approx(math.sqrt(2.0**2 + 20.0**2))


AFFINE = torch.tensor([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 10.0, 0], [0, 0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize("carrier", ["label", "prediction", "both"])
def test_spacing_comes_from_the_affine_also_of_decollated_lists(carrier) -> None:
    """A rotated affine: its columns are as long as SPACING."""
    pred, truth = (MetaTensor(mask[0], affine=AFFINE) for mask in (PRED, TRUTH))
    pred = pred if carrier != "label" else pred.as_tensor()
    truth = truth if carrier != "prediction" else truth.as_tensor()
    distance = CaseHausdorffDistanceMetric()(y_pred=[pred], y=[truth])
    torch.testing.assert_close(distance, torch.tensor([[3.0, DIAGONAL, DIAGONAL]]))


def test_given_spacing_goes_before_that_of_the_images() -> None:
    pred, truth = (MetaTensor(mask[0], affine=AFFINE) for mask in (PRED, TRUTH))
    assert CaseHausdorffDistanceMetric(spacing=1)(y_pred=[pred], y=[truth])[0, 0].item() == pytest.approx(2.0)


@pytest.mark.parametrize("metric", [CaseHausdorffDistanceMetric(), CaseSurfaceDistanceMetric()], ids=["hd95", "asd"])
def test_distance_without_any_spacing_is_refused(metric) -> None:
    message = f"{type(metric).__name__} needs the spacing of the voxels, but label and prediction are plain tensors"
    with pytest.raises(ValueError, match=message):
        metric(y_pred=PRED, y=TRUTH)


def test_spacing_of_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spacing must be one number or 3, one for each spatial axis, got \(1, 2\)"):
        CaseHausdorffDistanceMetric(spacing=(1, 2))(y_pred=PRED, y=TRUTH)


@pytest.mark.parametrize("percentile", [0, 101])
def test_ill_percentile_is_refused(percentile) -> None:
    with pytest.raises(ValueError, match=f"percentile must be above 0 and at most 100, got {percentile}"):
        CaseHausdorffDistanceMetric(percentile=percentile)


def test_background_is_scored_on_request() -> None:
    score = CaseDiceMetric(include_background=True)(y_pred=PRED, y=TRUTH)
    n = math.prod(SHAPE)
    background = 2 * (n - 18) / ((n - 13) + (n - 9))  # 18 voxels are foreground in one of the two
    torch.testing.assert_close(score, torch.tensor([[background, 0.4, 0, 0]]))


@pytest.mark.parametrize(
    "metric_class", [CaseDiceMetric, CaseIoUMetric, CaseHausdorffDistanceMetric, CaseSurfaceDistanceMetric]
)
def test_single_channel_is_foreground(metric_class) -> None:
    arguments = {"spacing": 1} if issubclass(metric_class, CaseDistanceScores) else {}
    mask = TRUTH[:, 1:2]
    score = metric_class(**arguments)(y_pred=mask, y=mask)
    assert score.tolist() == [[0.0 if arguments else 1.0]]


@pytest.mark.parametrize(
    "metric",
    [
        CaseDiceMetric(),
        CaseIoUMetric(),
        CaseHausdorffDistanceMetric(spacing=1),
        CaseSurfaceDistanceMetric(spacing=1),
    ],
    ids=["dice", "iou", "hd95", "asd"],
)
@pytest.mark.parametrize(
    ("pred", "message"),
    [
        pytest.param(PRED * 3.5, "the prediction holds values other than 0 and 1 .from 0 to 3.5.", id="logits"),
        pytest.param(PRED[..., :3], r"one shape .* got \(4, 6, 5, 3\) and \(4, 6, 5, 4\)", id="other_shape"),
        pytest.param(PRED[:, :1], "one-hot both", id="label_map"),
    ],
)
def test_unusable_input_is_refused(metric, pred, message) -> None:
    with pytest.raises(ValueError, match=message):
        metric(y_pred=pred, y=TRUTH)


def test_unknown_reduction_is_refused() -> None:
    metric = CaseDiceMetric(reduction="sum")
    metric(y_pred=PRED, y=TRUTH)
    with pytest.raises(ValueError, match="sum"):
        metric.aggregate()


@pytest.mark.parametrize("decollate", [True, False], ids=["decollated", "batches"])
def test_evaluator_reports_them_with_the_spacing_of_each_case(decollate) -> None:
    """The prediction is the label shifted by one voxel along an axis that has another spacing in each case."""
    items = []
    for step in (1.0, 2.5, 4.0):
        labels = torch.zeros(1, *SHAPE)
        labels[0, 1:3, 1:3, 1:3] = 1
        affine = torch.diag(torch.tensor([step, 1, 1, 1], dtype=torch.float64))
        image = MetaTensor(labels.roll(1, dims=1), affine=affine)
        items.append({"image": image, "label": MetaTensor(labels, affine=affine)})
    reader = from_engine(["pred", "label"])
    post = None
    if decollate:
        post = Compose([AsDiscreted("pred", argmax=True, to_onehot=2), AsDiscreted("label", to_onehot=2)])

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([0.5 - x, x - 0.5], dim=1) if decollate else x

    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(items), batch_size=3),
        network=Network(),
        decollate=decollate,
        postprocessing=post,
        key_val_metric={"dice": IgniteMetricHandler(CaseDiceMetric(), output_transform=reader)},
        additional_metrics={
            "iou": IgniteMetricHandler(CaseIoUMetric(), output_transform=reader),
            "hd95_mm": IgniteMetricHandler(CaseHausdorffDistanceMetric(percentile=100), output_transform=reader),
            "per_class": IgniteMetricHandler(CaseDiceMetric(reduction="mean_batch"), output_transform=reader),
        },
    )
    evaluator.run()
    assert evaluator.state.metrics == pytest.approx({"dice": 0.5, "iou": 1 / 3, "hd95_mm": 2.5, "per_class": 0.5})
    assert evaluator.state.metric_details["hd95_mm"].flatten().tolist() == pytest.approx([1.0, 2.5, 4.0])
