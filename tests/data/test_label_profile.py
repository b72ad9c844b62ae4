# SPDX-License-Identifier: Apache-2.0
"""Numbers about labels, against what is computed by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from monai_sam2adapter.data import LabelProfile, profile_labels


def labels(*masks: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    return [{"label": mask[None]} for mask in masks]


def profile(*masks: torch.Tensor, image_size: int = 64, **options: Any) -> LabelProfile:
    return profile_labels(labels(*masks), lambda item: item, image_size, progress=False, **options)


def square(side: int, value: int = 1, size: int = 64, at: int = 8) -> torch.Tensor:
    mask = torch.zeros(size, size)
    mask[at : at + side, at : at + side] = value
    return mask


def disc(diameter: float, size: int = 64) -> torch.Tensor:
    places = torch.arange(size) + 0.5 - size / 2
    return (places[:, None] ** 2 + places**2 < diameter**2 / 4).float()


class TestProfileLabels:
    def test_square(self) -> None:
        found = profile(square(10))
        assert found.median_diameter == pytest.approx(math.sqrt(4 * 100 / math.pi))  # of a disc of 100 pixels
        assert found.boundary_per_area == pytest.approx(math.pi / 4 * 40 / 100)  # 40 sides of pixels
        assert found.foreground_share == 100 / 64**2
        assert (found.num_classes, found.num_slices, found.num_structures) == (1, 1, 1)
        assert found.image_size == (64, 64)

    def test_disc(self) -> None:
        found = profile(disc(40))
        assert found.median_diameter == pytest.approx(40, rel=0.01)
        assert found.boundary_per_area == pytest.approx(4 / 40, rel=0.02)

    def test_strips(self) -> None:
        found = profile(torch.eye(1).repeat(64, 64) * (torch.arange(64) % 16 < 4))
        # three of the four strips have two boundaries, the first one lies at the border of the image
        assert found.boundary_per_area == pytest.approx(math.pi / 4 * 7 * 64 / (4 * 64 * 4))
        assert found.num_structures == 4

    def test_a_boundary_between_two_classes_counts_for_both(self) -> None:
        halves = torch.cat([torch.full((64, 32), 1.0), torch.full((64, 32), 2.0)], dim=1)
        found = profile(halves)
        assert found.boundary_per_area == pytest.approx(math.pi / 4 * 2 * 64 / 64**2)
        assert found.num_classes == 2
        assert found.foreground_share == 1

    def test_corners_connect(self) -> None:
        assert profile(torch.eye(64)).num_structures == 1

    def test_percentiles(self) -> None:
        masks = [square(side) for side in range(1, 12)]
        found = profile(*masks)
        to_diameter = math.sqrt(4 / math.pi)  # sides 2 and 6 are the second and the sixth of eleven
        assert found.small_diameter == pytest.approx(2 * to_diameter)
        assert found.median_diameter == pytest.approx(6 * to_diameter)

    def test_is_at_the_size_of_the_network(self) -> None:
        found = profile(square(10), image_size=128)
        assert found.median_diameter == pytest.approx(2 * math.sqrt(4 * 100 / math.pi))
        assert found.image_size == (128, 128)
        assert profile(square(10, size=32), image_size=[64, 32]).foreground_share == 100 / 32**2

    def test_order_does_not_matter(self) -> None:
        masks = [square(side, value) + 0 for side in range(1, 9) for value in (1, 2)]
        assert profile(*masks) == profile(*reversed(masks))

    def test_soft_masks_are_rounded(self) -> None:
        assert profile(0.6 * square(10)) == profile(square(10))

    @pytest.mark.parametrize("axis", [-3, -2, -1])
    def test_volumes(self, axis: int) -> None:
        volume = torch.stack([square(10), square(20, 2), torch.zeros(64, 64)]).movedim(0, axis)
        found = profile(volume, slice_axis=axis)
        assert found == profile(square(10), square(20, 2), torch.zeros(64, 64))
        assert found.num_slices == 3

    def test_every_case_is_loaded_once(self) -> None:
        loaded = []

        def load(item: dict[str, Any]) -> dict[str, Any]:
            loaded.append(item)
            return item

        data = labels(square(3), square(4))
        profile_labels(data, load, 64, progress=False)
        assert loaded == data

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: profile(), "no labels to look at"),
            (lambda: profile(torch.zeros(64, 64)), "all labels of the 1 cases are 0"),
            (lambda: profile(torch.zeros(64, 64, 3)), r"shape \(1, 64, 64, 3\) must be \(1, H, W\)"),
            (lambda: profile(square(10), slice_axis=-1), r"must be \(1, X, Y, Z\)"),
        ],
        ids=["no case", "no foreground", "a volume", "an image"],
    )
    def test_ill_data(self, call: Callable[[], LabelProfile], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            call()


class TestLabelProfile:
    def test_json_gives_the_same(self) -> None:
        found = profile(square(10), square(20, 2))
        assert LabelProfile.from_dict(json.loads(json.dumps(found.to_dict()))) == found

    def test_a_text_with_the_numbers(self) -> None:
        found = replace(profile(square(10)), small_diameter=3.25)
        assert "1 structures of 1 classes in 1 slices of 64 x 64 pixels" in str(found)
        assert "3.2 (tenth percentile)" in str(found)

    def test_ill_dict(self) -> None:
        with pytest.raises(ValueError, match=r"a label profile holds median_diameter.*got num_classes"):
            LabelProfile.from_dict({"num_classes": 3})
