# SPDX-License-Identifier: Apache-2.0
"""Pooled IoU and Dice against torchmetrics and numbers computed by hand."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from monai_sam2adapter.metrics import PooledDiceMetric, PooledIoUMetric

NAN = float("nan")


def one_hot(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """(B, *spatial) class numbers to (B, C, *spatial)."""
    return torch.nn.functional.one_hot(labels, n_classes).movedim(-1, 1).float()


@pytest.mark.parametrize(
    ("n_classes", "shapes"),
    [
        pytest.param(2, [(2, 9, 7), (1, 20, 4)], id="images"),
        pytest.param(9, [(1, 6, 5, 4), (2, 12, 3, 8), (1, 4, 4, 1)], id="volumes_of_other_sizes"),
    ],
)
def test_random_cases_equal_torchmetrics(n_classes, shapes) -> None:
    ours, dice = PooledIoUMetric(), PooledDiceMetric()
    theirs = MulticlassJaccardIndex(n_classes)
    per_class = MulticlassJaccardIndex(n_classes, average=None)
    matrix = MulticlassConfusionMatrix(n_classes)
    flat = []
    for shape in shapes:
        truth, pred = torch.randint(0, n_classes, (2, *shape))
        pred = torch.where(torch.rand(shape) < 0.6, truth, pred)
        for metric in (ours, dice):
            metric(y_pred=one_hot(pred, n_classes), y=one_hot(truth, n_classes))
        for metric in (theirs, per_class, matrix):
            metric.update(pred, truth)
        flat.append(torch.stack([pred.flatten(), truth.flatten()]))
    assert len(ours) == sum(shape[0] for shape in shapes)
    torch.testing.assert_close(ours.aggregate(), theirs.compute())
    torch.testing.assert_close(ours.aggregate("mean_batch"), per_class.compute())
    assert ours.confusion_matrix().tolist() == matrix.compute().tolist()

    all_pred, all_truth = torch.cat(flat, dim=1)[:, None]  # one image of all voxels
    reference = DiceScore(n_classes, average=None, input_format="index")
    reference.update(all_pred, all_truth)
    torch.testing.assert_close(dice.aggregate("mean_batch"), reference.compute())


def test_by_hand_with_a_class_in_neither_and_one_only_predicted() -> None:
    """Truth 0 0 0 0 1 1 and 0 1; prediction 0 0 1 3 1 0 and 0 1: of class 1, 2 common, 3 true, 3 predicted."""
    iou, dice = PooledIoUMetric(), PooledDiceMetric()
    for truth, pred in (([0, 0, 0, 0, 1, 1], [0, 0, 1, 3, 1, 0]), ([0, 1], [0, 1])):
        for metric in (iou, dice):
            metric(y_pred=one_hot(torch.tensor([pred]), 4), y=one_hot(torch.tensor([truth]), 4))
    assert iou.confusion_matrix().tolist() == [[3, 1, 0, 1], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert iou.get_buffer()[1].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    expected = torch.tensor([3 / 6, 2 / 4, NAN, 0])
    torch.testing.assert_close(iou.aggregate("mean_batch"), expected, equal_nan=True)
    torch.testing.assert_close(iou.aggregate(), torch.tensor(1 / 3))
    expected = torch.tensor([6 / 9, 4 / 6, NAN, 0])
    torch.testing.assert_close(dice.aggregate("mean_batch"), expected, equal_nan=True)
    torch.testing.assert_close(
        PooledIoUMetric.score(iou.confusion_matrix()), iou.aggregate("mean_batch"), equal_nan=True
    )


def test_single_channel_has_foreground_and_background() -> None:
    pred, truth = torch.tensor([[[1.0, 1, 0, 0, 0]]]), torch.tensor([[[1.0, 0, 0, 0, 1]]])
    metric = PooledIoUMetric()
    metric(y_pred=[pred[0]], y=[truth[0]])  # also a decollated list
    two = PooledIoUMetric()
    two(y_pred=torch.cat([1 - pred, pred], 1), y=torch.cat([1 - truth, truth], 1))
    assert metric.confusion_matrix().tolist() == two.confusion_matrix().tolist() == [[2, 1], [1, 1]]
    torch.testing.assert_close(metric.aggregate(), torch.tensor((2 / 4 + 1 / 3) / 2))


def test_is_a_key_metric_and_leaves_a_matrix_of_each_case() -> None:
    items = [{"image": one_hot(torch.randint(0, 3, (1, 8, 6)), 3)[0]} for _ in range(3)]
    for item in items:
        item["label"] = item["image"].roll(1, dims=1)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={
            "miou_pooled": IgniteMetricHandler(PooledIoUMetric(), output_transform=from_engine(["pred", "label"]))
        },
    )
    evaluator.run()
    reference = MulticlassJaccardIndex(3)
    for item in items:
        reference.update(item["image"].argmax(0), item["label"].argmax(0))
    assert evaluator.state.best_metric == pytest.approx(reference.compute().item())
    details = evaluator.state.metric_details["miou_pooled"]
    assert details.shape == (3, 3, 3)
    assert details.sum(dim=(1, 2)).tolist() == [48, 48, 48]


LABELS = one_hot(torch.tensor([[0, 1, 2, 0]]), 3)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        pytest.param(torch.ones_like(LABELS), "the prediction has voxels of no class or of several", id="several"),
        pytest.param(torch.zeros_like(LABELS), "the prediction has voxels of no class or of several", id="none"),
        # as many ones as voxels, but not one at each
        pytest.param(
            torch.tensor([[[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]]), "one of the 3 channels", id="uneven"
        ),
        pytest.param(LABELS / 2, "the prediction holds values other than 0 and 1", id="probabilities"),
        pytest.param(LABELS[..., :2], "one shape", id="shape"),
    ],
)
def test_only_classes_that_exclude_each_other_are_counted(pred, message) -> None:
    with pytest.raises(ValueError, match=message):
        PooledIoUMetric()(y_pred=pred, y=LABELS)


def test_nothing_counted_and_unknown_reduction_are_refused() -> None:
    metric = PooledDiceMetric(reduction="none")
    with pytest.raises(RuntimeError, match="PooledDiceMetric has scored no case"):
        metric.aggregate()
    metric(y_pred=LABELS, y=LABELS)
    with pytest.raises(ValueError, match="none"):
        metric.aggregate()
