# SPDX-License-Identifier: Apache-2.0
"""Surface Dice, clDice and Dice of components: MONAI's and plain definitions as oracles, and absent structures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import DiceHelper, compute_surface_dice
from scipy import ndimage

from monai_sam2adapter.metrics import (
    CaseCenterlineDiceMetric,
    CaseComponentDiceMetric,
    CaseSurfaceDiceMetric,
    create_metrics,
)

METRICS = [CaseSurfaceDiceMetric, CaseCenterlineDiceMetric, CaseComponentDiceMetric]
SPACING = (0.8, 1.5, 4.0)


def one_hot(numbers: np.ndarray, n_classes: int) -> torch.Tensor:
    masks = torch.from_numpy(np.stack([numbers == number for number in range(n_classes)]))[None].float()
    return MetaTensor(masks, torch.diag(torch.tensor([*SPACING[: numbers.ndim], *[1.0] * (4 - numbers.ndim)])))


def blobs(seed: int, shape: tuple[int, ...], n_classes: int = 4) -> np.ndarray:
    """Some components of each class, of different size."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.digitize(noise, np.quantile(noise, [0.6, 0.75, 0.9])[: n_classes - 1])


@pytest.fixture(params=[(40, 50), (24, 20, 9)], ids=["picture", "volume"])
def pair(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    pred, truth = blobs(0, request.param), blobs(0, request.param)
    flipped = np.random.default_rng(1).random(request.param) < 0.05
    pred[flipped] = blobs(2, request.param)[flipped]
    return pred, np.roll(truth, 1, axis=0)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
def test_surface_dice_is_monais(pair: tuple[np.ndarray, np.ndarray], tolerance: float) -> None:
    pred, truth = (one_hot(numbers, 4) for numbers in pair)
    found = CaseSurfaceDiceMetric(tolerance)(pred, truth)
    expected = compute_surface_dice(
        pred.as_tensor(), truth.as_tensor(), [tolerance] * 3, spacing=list(SPACING[: pair[0].ndim])
    )
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-6)
    in_pixels = CaseSurfaceDiceMetric(tolerance, spacing=1)(pred, truth)
    expected = compute_surface_dice(pred.as_tensor(), truth.as_tensor(), [tolerance] * 3)
    torch.testing.assert_close(in_pixels, expected.float(), rtol=0, atol=1e-6)


def test_component_dice_is_monais(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = CaseComponentDiceMetric()(*(one_hot(numbers, 4) for numbers in pair))
    helper = DiceHelper(per_component=True, apply_argmax=False, get_not_nans=False, reduction="none")
    for channel in (1, 2, 3):
        pred, truth = (torch.from_numpy(np.stack([numbers != channel, numbers == channel]))[None] for numbers in pair)
        assert ndimage.label(pair[1] == channel)[1] > 1
        expected = helper(pred.float(), truth.float())
        assert found[0, channel - 1] == pytest.approx(float(expected), abs=1e-6)


def test_component_dice_counts_a_missed_lesion_as_much_as_a_large_one() -> None:
    truth = np.zeros((30, 30), dtype=int)
    truth[2:22, 2:22] = 1
    truth[27, 27] = 1
    pred = truth.copy()
    pred[27, 27] = 0
    assert CaseComponentDiceMetric()(one_hot(pred, 2), one_hot(truth, 2)).item() == pytest.approx(0.5)


def test_cldice_of_lines_by_hand() -> None:
    truth = np.zeros((11, 40), dtype=int)
    truth[5, 5:35] = 1  # 30 pixels, their own skeleton
    pred = np.zeros_like(truth)
    pred[5, 5:20] = 1
    pred[8, 5:15] = 1  # 15 of 25 pixels lie in the truth, which has 30, 15 of them found
    found = CaseCenterlineDiceMetric()(one_hot(pred, 2), one_hot(truth, 2)).item()
    assert found == pytest.approx(2 * 0.6 * 0.5 / 1.1)


def test_cldice_forgives_width_and_not_gaps() -> None:
    truth = np.zeros((21, 60), dtype=int)
    truth[8:13, 5:55] = 1
    thin, broken = np.zeros_like(truth), truth.copy()
    thin[10, 7:53] = 1
    broken[:, 20:40] = 0
    scores = [CaseCenterlineDiceMetric()(one_hot(pred, 2), one_hot(truth, 2)).item() for pred in (thin, broken)]
    assert scores[0] > 0.97 > 0.8 > scores[1]


def test_what_is_too_small_for_a_skeleton_is_its_own() -> None:
    truth = np.zeros((6, 6, 6), dtype=int)
    truth[2:4, 2:4, 2:4] = 1  # of which skimage leaves nothing
    pred = np.zeros_like(truth)
    pred[2:4, 2:4, 2] = 1
    assert CaseCenterlineDiceMetric()(one_hot(truth, 2), one_hot(truth, 2)).item() == 1
    assert 0 < CaseCenterlineDiceMetric()(one_hot(pred, 2), one_hot(truth, 2)).item() < 1


@pytest.mark.parametrize("metric", METRICS)
def test_absent_structures_and_equal_ones(metric: type) -> None:
    truth, pred = np.zeros((1, 12, 12), dtype=int), np.zeros((1, 12, 12), dtype=int)
    truth[:, 2:5, 2:5] = pred[:, 2:5, 2:5] = 1  # in both
    truth[:, 6:9, 6:9] = 2  # missed
    pred[:, 9:, :3] = 3  # only predicted
    found = metric()(one_hot(pred, 5), one_hot(truth, 5))
    np.testing.assert_array_equal(found[0].numpy(), [1, 0, 0, np.nan])


@pytest.mark.parametrize("metric", METRICS)
def test_ignored_voxels_count_nowhere(metric: type, pair: tuple[np.ndarray, np.ndarray]) -> None:
    pred, truth = (one_hot(numbers, 4) for numbers in pair)
    ignored = torch.zeros(pair[0].shape, dtype=torch.bool)
    ignored[:5] = True
    marked = truth.clone()
    marked[:, :, ignored] = 0
    without = pred.clone()
    without[:, :, ignored] = 0
    torch.testing.assert_close(metric(ignore_index=255)(pred, marked), metric()(without, marked))


def test_names_of_the_bundles_make_them() -> None:
    names = ["surface_dice_1mm", "surface_dice_3px", "cldice", "component_dice"]
    metrics = create_metrics(names)
    assert [type(metric) for metric in metrics.values()] == [METRICS[0], *METRICS]
    assert (metrics["surface_dice_1mm"].tolerance, metrics["surface_dice_1mm"].spacing) == (1, None)
    assert (metrics["surface_dice_3px"].tolerance, metrics["surface_dice_3px"].spacing) == (3, 1)


def test_a_negative_tolerance_is_an_error() -> None:
    with pytest.raises(ValueError, match="tolerance must be 0 mm or more, got -1"):
        CaseSurfaceDiceMetric(-1)
