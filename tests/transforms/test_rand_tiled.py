# SPDX-License-Identifier: Apache-2.0
"""Random windows for training: where they lie, how often around which class, and what they are of small images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandAdjustContrastd, RandFlipd

from monai_sam2adapter.data import EpochSampler, SeededCacheDataset, VolumeSliceDataset
from monai_sam2adapter.engines import DeviceTransforms
from monai_sam2adapter.transforms import RandTiled, ResizeWithLabelsd, resize_or_draw_tile

BOTH = ["image", "label"]


def item(size: tuple[int, int], places: dict[int, tuple[int, int]], background: int = 0) -> dict[str, torch.Tensor]:
    """An image whose pixels say where they are, and a label of single pixels by their class."""
    label = torch.full((1, *size), background, dtype=torch.uint8)
    for number, (row, column) in places.items():
        label[0, row, column] = number
    return {"image": torch.arange(float(size[0] * size[1])).reshape(1, *size), "label": label}


def tiles(data: dict[str, Any], tile: Any, count: int = 200, ignore_label: int | None = None) -> list[dict[str, Any]]:
    transform = RandTiled(BOTH, "label", tile, ignore_label).set_random_state(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [transform(data) for _ in range(count)]


@pytest.mark.parametrize("tile", [8, (8, 12)])
def test_windows_are_parts_of_image_and_label_alike(tile: Any) -> None:
    data = item((40, 50), {1: (3, 44), 2: (20, 20)})
    rows, columns = (8, 8) if tile == 8 else tile
    corners = set()
    for found in tiles(data, tile):
        assert found["image"].shape == found["label"].shape == (1, rows, columns)
        row, column = divmod(int(found["image"][0, 0, 0]), 50)
        corners.add((row, column))
        for key in BOTH:
            assert torch.equal(found[key].as_tensor(), data[key][:, row : row + rows, column : column + columns])
    assert len(corners) > 30


def test_each_class_that_is_there_is_as_often_the_middle() -> None:
    data = item((60, 60), {1: (12, 50), 4: (40, 15)})
    found = tiles(data, 9, 600)
    middles = [int(one["label"][0, 4, 4]) for one in found]
    counts = np.bincount(middles, minlength=5) / len(middles)
    np.testing.assert_allclose(counts, [1 / 3, 1 / 3, 0, 0, 1 / 3], atol=0.06)


def test_background_alone_and_pixels_that_do_not_count() -> None:
    corners = {int(one["image"][0, 0, 0]) for one in tiles(item((30, 30), {}), 8)}
    assert len(corners) > 100
    # one pixel counts: it is in every window
    data = item((30, 30), {2: (11, 17)}, background=255)
    assert all((one["label"] == 2).any() for one in tiles(data, 8, 20, ignore_label=255))
    # a class that does not count is found by chance only
    data = item((90, 90), {3: (50, 50)})
    assert sum(bool((one["label"] == 3).any()) for one in tiles(data, 8, 100, ignore_label=3)) < 10
    assert len({int(one["image"][0, 0, 0]) for one in tiles(item((30, 30), {}, 255), 8, ignore_label=255)}) > 100


def test_at_the_border_windows_are_moved_inside() -> None:
    data = item((20, 20), {1: (0, 19)}, background=255)
    for found in tiles(data, 8, 5, ignore_label=255):
        assert int(found["image"][0, 0, 0]) == 12


def test_an_image_of_the_size_of_the_tile_is_taken_whole_and_a_smaller_one_refused() -> None:
    data = item((8, 8), {1: (2, 2)})
    assert torch.equal(tiles(data, 8, 1)[0]["image"].as_tensor(), data["image"])
    with pytest.raises(ValueError, match="larger than the image"):
        tiles(data, 9, 1)


@pytest.mark.parametrize("size", [(5, 30), (5, 7), (1, 1), (40, 6)])
def test_smaller_images_repeat_their_border_with_their_label(size: tuple[int, int]) -> None:
    transform = resize_or_draw_tile("image", "label", 32, tile=(16, 12))
    transform.set_random_state(0)
    data = item(size, {2: (0, 0)})
    found: Any = transform(data)
    assert found["image"].shape == found["label"].shape == (1, 16, 12)
    assert found["label"].dtype == torch.uint8
    # pixels are those of the image, in their place but for the border
    labels = data["label"].flatten()
    assert torch.equal(labels[found["image"].long()], found["label"].as_tensor())


def test_without_tile_images_are_resized_as_before() -> None:
    data = item((20, 30), {1: (5, 6)})
    found: Any = resize_or_draw_tile("image", "label", (8, 12))(data)
    expected = ResizeWithLabelsd("image", (8, 12), "label")(data)
    assert all(torch.equal(found[key], expected[key]) for key in BOTH)
    with pytest.raises(ValueError, match="drawn by one label"):
        resize_or_draw_tile("image", (), 32, tile=8)


def chain() -> Compose:
    steps = [RandFlipd(BOTH, prob=0.5, spatial_axis=0), RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.5))]
    return Compose([resize_or_draw_tile("image", "label", 32, tile=8), *steps])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("kind", ["pictures", "slices"])
def test_caches_samplers_and_batches_on_the_device_take_them(kind: str, on_device: bool, num_workers: int) -> None:
    sizes = [(20, 30), (6, 11), (40, 9)]
    transforms = DeviceTransforms(chain(), enabled=on_device)
    dataset: Any
    if kind == "pictures":
        data = [item(size, {1: (3, 3), 2: (5, 1)}) for size in sizes]
        dataset = SeededCacheDataset(data, transforms.item_transform, progress=False)
        assert dataset[1]["image"].shape == (1, 8, 8)
    else:
        volumes = [{key: value[..., None] for key, value in item(size, {1: (3, 3)}).items()} for size in sizes]
        dataset = VolumeSliceDataset(volumes, [], transforms.item_transform, progress=False, num_neighbors=1)
    epochs = []
    for _ in range(2):
        sampler = EpochSampler(dataset, seed=1)
        sampler.set_epoch(3)
        loader = DataLoader(dataset, sampler=sampler, batch_size=3, num_workers=num_workers)
        epochs.append([transforms(batch, "cpu") for batch in loader])
    for (image, label), (image_again, label_again) in zip(*epochs, strict=True):
        assert image.shape == (3, 1 if kind == "pictures" else 3, 8, 8)
        assert torch.equal(image, image_again)
        assert torch.equal(label, label_again)


def test_on_the_device_the_windows_are_those_of_items() -> None:
    data = [item((20, 30), {1: (3, 3)})]
    found = []
    for enabled in (False, True):
        steps = Compose([resize_or_draw_tile("image", "label", 32, tile=8)])
        transforms = DeviceTransforms(steps, enabled=enabled)
        dataset = SeededCacheDataset(data, transforms.item_transform, progress=False)
        loader = DataLoader(dataset, sampler=EpochSampler(dataset, seed=5), batch_size=1)
        found.append(transforms(next(iter(loader)), "cpu")[0])
    assert torch.equal(*found)


def test_of_masks_that_overlap_each_class_and_none_is_as_often_the_middle() -> None:
    masks = torch.zeros(2, 60, 60, dtype=torch.uint8)
    masks[0, 12:20, 40:50] = 1
    masks[1, 15, 45] = 1  # on the other class
    masks[:, 30:, :20] = 255
    data = {"image": torch.arange(3600.0).reshape(1, 60, 60), "label": masks}
    found = tiles(data, 9, 600, ignore_label=255)
    middles = [tuple(one["label"][:, 4, 4].tolist()) for one in found]
    shares = {kind: middles.count(kind) / len(middles) for kind in {*middles}}
    assert shares[1, 1] == pytest.approx(1 / 3, abs=0.06)
    assert shares[1, 0] == pytest.approx(1 / 3, abs=0.06)
    assert all(one["label"].shape == (2, 9, 9) for one in found)
    alone = {"image": data["image"], "label": torch.full((2, 60, 60), 255, dtype=torch.uint8)}
    assert len({int(one["image"][0, 0, 0]) for one in tiles(alone, 9, ignore_label=255)}) > 100
