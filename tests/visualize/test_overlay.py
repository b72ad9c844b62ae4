# SPDX-License-Identifier: Apache-2.0
"""Pictures of cases: what is drawn and which way up."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.networks.utils import one_hot

from monai_sam2adapter.visualize import PALETTE, OverlayPlanes, draw_overlay, output_planes

CLASSES = ["ventricle", "wall"]
TITLE, GAP = 26, 6  # pixels above and between the panels


def panel(picture: np.ndarray, number: int, width: int) -> np.ndarray:
    left = number * (width + GAP)
    return picture[TITLE:, left : left + width]


def is_color(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (pixels == np.array(color)).all(-1)


def test_panels_show_image_truth_and_prediction() -> None:
    image = np.linspace(0, 1, 20 * 20).reshape(20, 20)
    label, prediction = np.zeros((2, 20, 20), dtype=int)
    label[2:8, 2:8] = 1
    prediction[10:18, 2:8] = 2
    picture = draw_overlay(image, prediction, label, CLASSES, panel_height=100)
    assert picture.dtype == np.uint8
    assert picture.shape == (TITLE + 100 + TITLE, 3 * 100 + 2 * GAP, 3)
    plain, truth, predicted = (panel(picture, n, 100)[:100] for n in range(3))
    assert (plain == plain[..., :1]).all()
    for shown, mask, color in ((truth, label == 1, PALETTE[0]), (predicted, prediction == 2, PALETTE[1])):
        enlarged = mask.repeat(5, axis=0).repeat(5, axis=1)
        assert (is_color(shown, color) & ~enlarged).sum() == 0
        rows, columns = np.nonzero(is_color(shown, color))
        assert (rows.min(), rows.max()) == tuple(np.flatnonzero(enlarged.any(1))[[0, -1]])
        assert (columns.min(), columns.max()) == tuple(np.flatnonzero(enlarged.any(0))[[0, -1]])
        np.testing.assert_array_equal(shown[~enlarged], plain[~enlarged])
        assert (shown[enlarged] != plain[enlarged]).any(-1).all()
    legend = picture[-TITLE:]
    assert is_color(legend, PALETTE[0]).sum() == is_color(legend, PALETTE[1]).sum() == 13 * 13


def test_outlines_of_classes_that_overlap_lie_on_what_is_filled() -> None:
    masks = np.zeros((40, 40, 2), dtype=int)
    masks[5:30, 5:30, 0], masks[20:38, 20:38, 1] = 1, 1
    shown = panel(draw_overlay(np.full((40, 40), 7), masks, class_names=CLASSES, panel_height=40), 1, 40)[:40]
    first, second = (is_color(shown, color) for color in PALETTE[:2])
    assert first[28:30, 6:20].all()
    assert first[6:20, 28:30].all(), "the border of the first, up to the second"
    assert second[20:22, 20:30].all(), "the border of the second lies on the first"
    assert len(np.unique(shown[[10, 25, 36 - 1], [10, 25, 33]], axis=0)) == 3, "one, both, the other"


@pytest.mark.parametrize("dims", [2, 3])
def test_planes_of_classes_that_overlap(dims: int) -> None:
    masks = torch.zeros(2, 6, 8, 3)
    masks[0, 1:4, 1:4, 1], masks[1, 2:5, 3:6, 1] = 1, 1
    label = masks.clone()
    label[:, 0, 0] = 255  # does not count
    case = {"image": torch.rand(1, 6, 8, 3), "pred": masks, "label": label}
    if dims == 2:
        case = {key: value[..., 1] for key, value in case.items()}
    planes = output_planes(case, overlapping=True)
    assert planes.prediction.shape[2] == 2
    assert planes.prediction.sum(axis=(0, 1)).tolist() == [9, 9]
    np.testing.assert_array_equal(planes.label, planes.prediction)
    assert planes.fit(4, 4).prediction.shape[2] == 2


def test_legend_is_wrapped_and_complete() -> None:
    names = [f"structure number {n}" for n in range(5)]
    picture = draw_overlay(np.zeros((150, 100)), np.zeros((150, 100)), class_names=names, panel_height=150)
    legend = picture[TITLE + 150 :]
    assert len(legend) == 5 * TITLE
    for row, color in enumerate(PALETTE[:5]):
        assert is_color(legend[row * TITLE : (row + 1) * TITLE], color).sum() == 13 * 13
    without = draw_overlay(np.zeros((40, 30)), np.ones((40, 30)), panel_height=40)
    assert without.shape == (TITLE + 40, 2 * 30 + GAP, 3), "no names, no legend; no label, two panels"


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8)), np.full((8, 8), np.nan), np.eye(8) * 1e6, np.random.default_rng(0).random((8, 8, 3))],
    ids=["constant", "nan", "large", "color"],
)
def test_any_intensities_can_be_drawn(image) -> None:
    picture = draw_overlay(image, np.zeros((8, 8)), panel_height=8)
    assert picture.shape == (TITLE + 8, 2 * 8 + GAP, 3)
    assert (panel(picture, 0, 8) == panel(picture, 1, 8)).all()


def test_colors_can_be_chosen_and_repeat_for_more_classes() -> None:
    colors = [(1, 2, 3), (9, 8, 7)]
    picture = draw_overlay(np.zeros((8, 8)), np.full((8, 8), 2), class_names=CLASSES, class_colors=colors)
    assert is_color(picture, (1, 2, 3)).sum() == 13 * 13, "its place in the legend"
    assert is_color(picture, (9, 8, 7)).sum() > 13 * 13, "legend and outline"
    assert not is_color(picture, PALETTE[1]).any()
    mask = np.full((8, 8), len(PALETTE) + 1)
    assert is_color(panel(draw_overlay(np.zeros((8, 8)), mask, panel_height=8), 1, 8), PALETTE[0]).any()


def case_of(*arrays: np.ndarray, affine: np.ndarray | None = None) -> dict[str, torch.Tensor]:
    """Image, prediction and perhaps label as an engine puts them out, of one channel."""
    case = {key: torch.tensor(array)[None] for key, array in zip(("image", "pred", "label"), arrays, strict=False)}
    return case if affine is None else case | {"image": MetaTensor(case["image"], affine=torch.tensor(affine))}


# a mark at the patient's right front (anterior) top of a volume, in arrays stored in different orders
@pytest.mark.parametrize(
    ("affine", "corner"),
    [
        pytest.param(np.diag([-1.0, -1, 1, 1]), (0, 0), id="LPS"),
        pytest.param(np.diag([1.0, 1, 1, 1]), (-1, -1), id="RAS"),
        pytest.param(np.diag([-1.0, 1, 1, 1]), (0, -1), id="LAS"),
        pytest.param(np.array([[0, -1.0, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (0, 0), id="PLS"),
        pytest.param(None, (0, 0), id="unknown"),
    ],
)
def test_slice_is_shown_as_radiologists_do(affine, corner) -> None:
    """Axial slices: the patient's right is on the left of the picture, the front above."""
    prediction = np.zeros((6, 8, 3))
    prediction[corner[0], corner[1], 1] = 1
    planes = output_planes(case_of(np.zeros((6, 8, 3)), prediction, affine=affine))
    assert np.argwhere(planes.prediction == 1).tolist() == [[0, 0]]


def test_coronal_slice_has_the_head_above() -> None:
    """Array axes (R, S, A) with slices along the last one: row 0 is the head."""
    affine = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    prediction = np.zeros((6, 8, 3))
    prediction[:, -1, 1] = 1
    planes = output_planes(case_of(np.zeros((6, 8, 3)), prediction, affine=affine))
    assert set(np.argwhere(planes.prediction == 1)[:, 0]) == {0}


@pytest.mark.parametrize("channels", ["classes", "logits"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_middle_slice_with_a_structure_is_shown(channels, axis) -> None:
    image = np.random.default_rng(0).random((4, 5, 9))
    label, prediction = np.zeros((2, 4, 5, 9))
    label[1, 1, [2, 6, 7]] = 1
    prediction[2, 2, 3] = prediction[1, 2, 6] = 2
    for masks in ((label, prediction), (label * 0, prediction), (label * 0, prediction * 0)):
        case = case_of(image, masks[1], masks[0])
        if channels == "logits":
            case |= {key: 2 * one_hot(case[key][None], 3)[0] - 0.7 for key in ("pred", "label")}
        planes = output_planes(case, slice_axis=axis)
        marked = next((np.flatnonzero(m.any(axis=(1, 2) if axis == 0 else (0, 1))) for m in masks if m.any()), None)
        index = image.shape[axis] // 2 if marked is None else marked[len(marked) // 2]
        for shown, volume in ((planes.label, masks[0]), (planes.prediction, masks[1])):
            np.testing.assert_array_equal(shown, volume.take(index, axis).T if axis else volume[index].T[::-1])


@pytest.mark.parametrize(
    "shapes", [[(4, 4, 2), (4, 4, 3)], [(4, 4, 2), (4, 4, 2), (4, 5, 2)], [(4, 4), (4, 5)], [(4,)] * 2]
)
def test_outputs_of_other_shapes_are_refused(shapes) -> None:
    with pytest.raises(ValueError, match=rf"must be images .* of one size, got \[{re.escape(str(shapes)[1:-1])}\]"):
        output_planes(case_of(*map(np.zeros, shapes)))


def test_images_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image must have shape \(H, W\) or \(H, W, 3\), got \(4, 4, 2\)"):
        draw_overlay(np.zeros((4, 4, 2)), np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"prediction has shape \(4, 5\), expected that of the image, \(4, 4\)"):
        draw_overlay(np.zeros((4, 4)), np.zeros((4, 5)))


def test_large_planes_are_reduced_to_fit() -> None:
    mask = np.zeros((60, 200), dtype=np.int16)
    mask[:, 100:] = 7
    planes = OverlayPlanes(np.full((60, 200, 3), 9, np.uint8), mask, None)
    assert planes.fit(200, 60) is planes
    small = planes.fit(100, 60)
    assert small.image.shape == (30, 100, 3)
    np.testing.assert_array_equal(small.prediction, mask[::2, ::2])
    assert small.label is None
