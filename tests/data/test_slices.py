# SPDX-License-Identifier: Apache-2.0
"""Slices of cached volumes: which, whose memory, how random, how often a volume is read; neighbors as channels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    RandFlipd,
    RandGaussianNoised,
    Resized,
    ScaleIntensityRanged,
    Transform,
)
from monai.transforms.traits import RandomizableTrait
from monai.utils import set_determinism

from monai_sam2adapter.data import EpochSampler, VolumeSliceDataset, acdc_datalist, slices_with_neighbors

SHAPES = [(1, 6, 5, 4), (1, 8, 7, 3), (1, 5, 9, 2)]


class MakeVolume(Transform):
    """Volumes of different shape and affine, whose voxels tell volume, row, column and slice; counts how often."""

    def __init__(self) -> None:
        self.made: Counter[int] = Counter()

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        number = item["number"]
        self.made[number] += 1
        shape = SHAPES[number]
        image = torch.arange(float(np.prod(shape))).reshape(shape) + 1000 * number
        affine = torch.diag(torch.tensor([1.0 + number, 2.0, 3.0, 1.0]))
        return {
            **item,
            "image": MetaTensor(image, affine=affine, meta={f"only_{number}": number}),
            "label": (image.numpy() % 4).astype(np.uint8),
            "notes": {"of": "the volume"},
        }


class ZeroInPlace(Transform, RandomizableTrait):
    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        item["image"].zero_()
        item["label"].zero_()
        return item


class CountCalls(Transform):
    count = 0

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        return {**item, "seen": item.get("seen", 0) + 1}


def make(transform: Any = None, make_volume: MakeVolume | None = None, **kwargs: Any) -> VolumeSliceDataset:
    data = [{"number": number, "case": f"case{number}"} for number in range(len(SHAPES))]
    return VolumeSliceDataset(data, make_volume or MakeVolume(), transform, progress=False, **kwargs)


@pytest.mark.parametrize("axis", [-1, 2, 1, -3])
def test_items_are_the_slices_of_all_volumes_in_order(axis: int) -> None:
    dataset = make(slice_axis=axis)
    volumes = [MakeVolume()({"number": number}) for number in range(len(SHAPES))]
    expected = [(number, k) for number, shape in enumerate(SHAPES) for k in range(shape[1:][axis])]
    assert len(dataset) == len(expected)
    for item, (number, k) in zip(dataset, expected, strict=True):
        assert (item["number"], item["case"], item["slice_index"]) == (number, f"case{number}", k)
        for key in ("image", "label"):
            torch.testing.assert_close(
                item[key], torch.as_tensor(volumes[number][key]).as_subclass(torch.Tensor).select(1 + axis % 3, k)
            )
    assert dataset[-1]["slice_index"] == expected[-1][1]


def test_items_hold_only_what_belongs_to_a_slice() -> None:
    item = make()[0]
    assert set(item) == {"slice_index", "number", "case", "image", "label"}
    assert type(item["image"]) is type(item["label"]) is torch.Tensor
    assert item["label"].dtype == torch.uint8


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_transform_that_writes_in_place_does_not_change_the_cache(axis: int) -> None:
    dataset = make(ZeroInPlace(), slice_axis=axis)
    for item in dataset:
        assert not item["image"].any()
    untouched = make(slice_axis=axis)
    dataset.transform = untouched.transform
    for item, expected in zip(dataset, untouched, strict=True):
        torch.testing.assert_close(item["image"], expected["image"])
        torch.testing.assert_close(item["label"], expected["label"])
        assert item["image"].is_contiguous()


def test_a_slice_of_a_volume_with_one_slice_is_a_copy_too() -> None:
    volume = torch.ones(1, 4, 4, 1)
    dataset = VolumeSliceDataset([{"image": volume}], Compose([]), progress=False)
    dataset[0]["image"].zero_()
    assert volume.all()


@pytest.mark.parametrize(
    ("cache_rate", "made_before", "made_after"),
    [
        pytest.param(1.0, [1, 1, 1], [1, 1, 1], id="all-cached"),
        pytest.param(0.4, [1, 1, 1], [1, 1 + 3, 1 + 2], id="one-cached"),
        pytest.param(0.0, [1, 1, 1], [1 + 4, 1 + 3, 1 + 2], id="none-cached"),
    ],
)
def test_volumes_are_read_once_for_the_cache_or_the_count(
    cache_rate: float, made_before: list[int], made_after: list[int]
) -> None:
    make_volume = MakeVolume()
    dataset = make(make_volume=make_volume, cache_rate=cache_rate)
    assert [make_volume.made[number] for number in range(3)] == made_before
    images = [item["image"] for item in dataset]
    assert [make_volume.made[number] for number in range(3)] == made_after
    for image, expected in zip(images, make(), strict=True):
        torch.testing.assert_close(image, expected["image"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shuffled_epoch_visits_every_slice_once_and_collates(num_workers: int) -> None:
    dataset = make([Resized(["image", "label"], (8, 8), mode=["bilinear", "nearest"]), RandFlipd(["image"], prob=0.5)])
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=num_workers)
    seen: list[tuple[int, int]] = []
    mixed = False
    for batch in loader:
        assert batch["image"].shape[1:] == batch["label"].shape[1:] == (1, 8, 8)
        seen += list(zip(batch["number"].tolist(), batch["slice_index"].tolist(), strict=True))
        mixed |= len(set(batch["number"].tolist())) > 1
    assert mixed
    assert seen != sorted(seen)
    assert sorted(seen) == [(number, k) for number, shape in enumerate(SHAPES) for k in range(shape[-1])]


def epochs(seed: int, num_workers: int) -> list[torch.Tensor]:
    set_determinism(seed)
    try:
        dataset = make([Resized(["image", "label"], (8, 8)), RandGaussianNoised(["image"], prob=1.0)])
        loader = DataLoader(dataset, batch_size=3, shuffle=True, num_workers=num_workers)
        return [torch.cat([batch["image"] for batch in loader]) for _ in range(2)]
    finally:
        set_determinism(None)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_seed_gives_the_same_random_slices(num_workers: int) -> None:
    first, second, other = epochs(7, num_workers), epochs(7, num_workers), epochs(8, num_workers)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_data_is_the_list_that_was_given_and_python_slices_make_subsets() -> None:
    data = [{"number": 0}, {"number": 2}]
    dataset = VolumeSliceDataset(data, MakeVolume(), progress=False)
    assert dataset.data is data
    assert [item["number"] for item in dataset[3:5]] == [0, 2]


def test_nifti_files_of_different_size_train_in_one_batch(phantom_dir: Path) -> None:
    data = [item for part in ("train", "val") for item in acdc_datalist(phantom_dir, part)]
    keys = ["image", "label"]
    dataset = VolumeSliceDataset(
        data,
        Compose([LoadImaged(keys), EnsureChannelFirstd(keys)]),
        Resized(keys, (64, 64), mode=["bilinear", "nearest"]),
        num_workers=2,
        progress=False,
    )
    batch = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    assert batch["image"].shape == batch["label"].shape == (len(dataset), 1, 64, 64)
    assert set(batch["label"].unique().tolist()) == {0, 1, 2, 3}
    assert set(batch["patient"]) == {"patient001", "patient015"}


@pytest.mark.parametrize("axis", [-3, -2, -1])
@pytest.mark.parametrize("num_neighbors", [1, 9])
def test_neighbors_become_channels_of_all_but_the_label(axis: int, num_neighbors: int) -> None:
    dataset, plain = make(slice_axis=axis, num_neighbors=num_neighbors), make(slice_axis=axis)
    counts = [shape[axis] for shape in SHAPES]
    firsts = np.cumsum([0, *counts])
    for index, (item, expected) in enumerate(zip(dataset, plain, strict=True)):
        volume, k = item["number"], item["slice_index"]
        numbers = [min(max(k + d, 0), counts[volume] - 1) for d in range(-num_neighbors, num_neighbors + 1)]
        channels = torch.cat([plain[int(firsts[volume]) + number]["image"] for number in numbers])
        assert index == firsts[volume] + k
        torch.testing.assert_close(item["image"], channels)
        torch.testing.assert_close(item["label"], expected["label"])


def labeled(*depths: Sequence[int]) -> list[dict[str, Any]]:
    """Volumes of 3 x 4 x D, for each depth one number: the label of one voxel of that slice."""
    data = []
    for number, values in enumerate(depths):
        label = torch.zeros(1, 3, 4, len(values), dtype=torch.uint8)
        label[0, 1, 2] = torch.tensor(values)
        data.append({"image": torch.rand(label.shape), "label": label, "case": f"case{number}"})
    return data


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_foreground_only_leaves_out_empty_slices_and_volumes(cache_rate: float, caplog) -> None:
    data = labeled([0, 3, 0, 255], [0], [1])
    with caplog.at_level(logging.WARNING):
        dataset = VolumeSliceDataset(data, [], cache_rate=cache_rate, progress=False, foreground_only=True)
    assert [(item["case"], item["slice_index"]) for item in dataset] == [("case0", 1), ("case0", 3), ("case2", 0)]
    assert "1 of 3 volumes hold no foreground and are left out" in caplog.text
    assert "case1" in caplog.text


def test_foreground_is_looked_for_along_the_axis_and_neighbors_may_be_empty() -> None:
    data = labeled([0, 1, 0])
    dataset = VolumeSliceDataset(data, [], progress=False, slice_axis=0, foreground_only=True, num_neighbors=1)
    (item,) = dataset
    assert item["slice_index"] == 1
    assert torch.equal(item["image"], data[0]["image"][0])
    assert item["label"].shape == (1, 4, 3)


def test_the_label_may_have_another_name() -> None:
    data = [{"image": item["image"], "mask": item["label"]} for item in labeled([0, 1])]
    dataset = VolumeSliceDataset(data, [], progress=False, foreground_only=True, label_key="mask", num_neighbors=1)
    assert [(item["image"].shape[0], item["mask"].shape[0]) for item in dataset] == [(3, 1)]


class TestCache:
    """What is kept: slices behind the deterministic transforms, or the volume where that is smaller."""

    @staticmethod
    def volumes() -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        return [
            {
                "image": torch.randint(-900, 900, (1, height, 14, 4), generator=generator).to(torch.int16),
                "label": torch.randint(0, 9, (1, height, 14, 4), generator=generator).float(),
            }
            for height in (16, 12)
        ]

    @staticmethod
    def transforms(size: int) -> list[Any]:
        return [
            ScaleIntensityRanged("image", a_min=-500, a_max=500, b_min=0, b_max=1, clip=True),
            Resized(["image", "label"], (size, size), mode=["bilinear", "nearest"]),
            RandFlipd(["image", "label"], prob=0.5),
            RandGaussianNoised("image", prob=0.5),
        ]

    @pytest.mark.parametrize("cache_rate", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("num_neighbors", [0, 1])
    @pytest.mark.parametrize(("size", "is_prepared"), [(8, True), (32, False)])
    def test_items_do_not_depend_on_it(
        self, size: int, is_prepared: bool, num_neighbors: int, cache_rate: float
    ) -> None:
        data, transform = self.volumes(), Compose(self.transforms(size))
        dataset = VolumeSliceDataset(
            data, [], transform, cache_rate, progress=False, slice_axis=0, num_neighbors=num_neighbors
        )
        assert [volume.is_prepared for volume in dataset._cache] == [is_prepared] * int(2 * cache_rate)
        for index in EpochSampler(dataset):
            number, k = divmod(int(index), 16)
            last = data[number]["image"].shape[1] - 1
            near = [min(max(k + d, 0), last) for d in range(-num_neighbors, num_neighbors + 1)]
            item = {"image": data[number]["image"][:, near][0], "label": data[number]["label"][:, k]}
            transform.set_random_state(index.seed)
            expected = transform(item)
            found = dataset[index]
            for key in ("image", "label"):
                assert type(found[key]) is torch.Tensor
                assert found[key].dtype == torch.float32
                torch.testing.assert_close(found[key], expected[key].as_tensor(), rtol=0, atol=1e-6)

    def test_deterministic_transforms_run_once_a_slice(self) -> None:
        count = CountCalls()
        dataset = make([count, Compose([count]), RandFlipd("image", prob=1.0)])
        before = count.count
        assert len(list(dataset)) == len(list(dataset)) == 9
        assert count.count == before
        assert {item["seen"] for item in dataset} == {2}

    def test_takes_no_more_memory_than_the_volumes_and_a_byte_for_a_label(self) -> None:
        for size, image, dtype in ((8, (8, 8), torch.float32), (32, (16, 14), torch.int16)):
            dataset = VolumeSliceDataset(self.volumes(), [], self.transforms(size), progress=False)
            arrays = dataset._cache[0].arrays
            assert arrays["label"].values.dtype == torch.uint8
            assert (arrays["image"].shape, arrays["image"].dtype) == ((4, 1, *image), dtype)
            own = sum(array.nbytes for array in self.volumes()[0].values())
            assert arrays["image"].nbytes + arrays["label"].nbytes < own

    def test_slices_of_different_size_are_prepared_each_time(self) -> None:
        data = labeled([0, 3, 0, 255])
        dataset = VolumeSliceDataset(data, [], CropForegroundd(["image", "label"], "image"), progress=False)
        data[0]["image"][0, 1:, :, 2] = 0
        shorter = VolumeSliceDataset(data, [], CropForegroundd(["image", "label"], "image"), progress=False)
        assert dataset[2]["image"].shape == (1, 3, 4)
        assert [item["image"].shape for item in shorter] == [(1, 3, 4), (1, 3, 4), (1, 1, 4), (1, 3, 4)]


def test_a_function_among_the_transforms_of_a_volume_runs_once_too() -> None:
    calls: list[Any] = []
    data = [{"number": number, "case": ""} for number in range(len(SHAPES))]
    dataset = VolumeSliceDataset(data, [MakeVolume(), lambda item: calls.append(item) or item], progress=False)
    assert len(list(dataset)) == 9
    assert len(calls) == 3


def constant(**arrays: Any) -> Transform:
    class Constant(Transform):
        def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
            return arrays

    return Constant()


@pytest.mark.parametrize(
    ("data", "volume_transform", "kwargs", "message"),
    [
        pytest.param([], constant(), {}, "got no volume", id="no-data"),
        pytest.param([{}], constant(a="b"), {}, r"volume 0 .* has no array after volume_transform", id="no-array"),
        pytest.param(
            [{}], constant(a=torch.ones(4, 5, 6)), {}, r"\(4, 5, 6\).*expected \(C, H, W, D\)", id="no-channel"
        ),
        pytest.param(
            [{}],
            constant(a=torch.ones(1, 5, 6, 7), b=torch.ones(1, 5, 6, 8)),
            {},
            r"differ along the axis 3: .*\(1, 5, 6, 7\).*\(1, 5, 6, 8\)",
            id="other-count",
        ),
        pytest.param([{}], constant(), {"num_neighbors": -1}, "num_neighbors must be 0 or more", id="neighbors"),
        pytest.param(
            [{}],
            constant(image=torch.ones(1, 5, 6, 7)),
            {"foreground_only": True},
            r"no array 'label' to find foreground in, only \['image'\]",
            id="no-label",
        ),
        pytest.param(
            [{}, {}],
            constant(label=torch.zeros(1, 5, 6, 7)),
            {"foreground_only": True},
            "all labels of the 2 volumes are 0",
            id="no-foreground",
        ),
        pytest.param(
            [{}],
            constant(),
            {"slice_axis": 3},
            "slice_axis must be one of the three spatial axes, -3 to 2, got 3",
            id="no-axis",
        ),
        pytest.param(
            [{}], [RandFlipd("a")], {}, "must be deterministic.*holds RandFlipd; move them to transform", id="random"
        ),
        pytest.param(
            [{}], Compose([Compose([RandFlipd("a")])]), {}, "must be deterministic.*RandFlipd", id="random-nested"
        ),
    ],
)
def test_what_cannot_be_sliced_is_an_error(
    data: Sequence[Any], volume_transform: Any, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        VolumeSliceDataset(data, volume_transform, progress=False, **kwargs)


# slice k of two channels holds 10 k and 10 k + 1 at every pixel
SLICES = torch.tensor([[0, 1], [10, 11], [20, 21], [30, 31]])[:, :, None, None].expand(4, 2, 3, 5)


@pytest.mark.parametrize(
    ("start", "stop", "num_neighbors", "expected"),
    [
        pytest.param(1, 3, 0, [[10, 11], [20, 21]], id="none"),
        pytest.param(1, 2, 1, [[0, 1, 10, 11, 20, 21]], id="inside"),
        pytest.param(0, 1, 1, [[0, 1, 0, 1, 10, 11]], id="first"),
        pytest.param(3, 4, 2, [[10, 11, 20, 21, 30, 31, 30, 31, 30, 31]], id="last"),
        pytest.param(1, 2, 5, [[0, 1] * 5 + [10, 11] + [20, 21] + [30, 31] * 4], id="more-neighbors-than-slices"),
    ],
)
def test_channels_are_in_the_order_of_the_slices(start, stop, num_neighbors, expected) -> None:
    result = slices_with_neighbors(SLICES, start, stop, num_neighbors)
    assert result.shape == (stop - start, (2 * num_neighbors + 1) * 2, 3, 5)
    assert result[..., 0, 0].tolist() == result[..., 2, 4].tolist() == expected


@pytest.mark.parametrize("num_neighbors", [0, 1])
def test_the_result_is_a_copy_of_the_same_data_type(num_neighbors: int) -> None:
    slices = torch.ones(1, 1, 2, 2, dtype=torch.int16)
    result = slices_with_neighbors(slices, 0, 1, num_neighbors)
    assert result.dtype == torch.int16
    result.zero_()
    assert slices.all()
