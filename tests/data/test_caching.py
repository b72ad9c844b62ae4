# SPDX-License-Identifier: Apache-2.0
"""Caches: still MONAI's, repeatable, small, ended before an error goes on; packing of items."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, Lambda, Lambdad, RandGaussianNoised, Transform
from torch.utils.data import Subset

from monai_sam2adapter.data import CaseCacheDataset, SeededCacheDataset, SeededIndex, VolumeSliceDataset
from monai_sam2adapter.data.caching import Packed, pack, unpack


class CountCalls(Transform):
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, item: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.count += 1
        return item


def test_it_caches_and_subsets_as_monai_does() -> None:
    data = [{"image": torch.full((1, 2, 2), float(n))} for n in range(3)]
    count = CountCalls()
    dataset = SeededCacheDataset(data, [count, Lambdad("image", lambda x: x + 1)], progress=False)
    assert isinstance(dataset, CacheDataset)
    assert dataset.data is data
    assert [dataset[n]["image"].mean() for n in (0, 1, 2, -1)] == [1, 2, 3, 3]
    assert count.count == 3
    assert isinstance(dataset[1:], Subset)
    assert [item["image"].mean() for item in dataset[1:]] == [2, 3]


def test_transforms_inside_a_compose_are_cached_too() -> None:
    count = CountCalls()
    transform = Compose([Compose([count]), RandGaussianNoised("image", prob=1.0)])
    dataset = SeededCacheDataset([{"image": torch.zeros(1, 2, 2)}], transform, progress=False)
    assert count.count == 1
    assert not torch.equal(dataset[0]["image"], dataset[0]["image"])
    assert count.count == 1


def test_the_seed_decides_and_the_cached_item_stays() -> None:
    data = [{"image": torch.zeros(1, 8, 8)}]
    dataset = SeededCacheDataset(data, RandGaussianNoised("image", prob=1.0), progress=False)
    first = dataset[SeededIndex(0, seed=1)]["image"]
    assert not torch.equal(dataset[SeededIndex(0, seed=2)]["image"], first)
    assert torch.equal(dataset[SeededIndex(0, seed=1)]["image"], first)
    assert not torch.equal(dataset[0]["image"], dataset[0]["image"])


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_items_are_plain_copies_and_labels_take_a_byte_a_pixel(cache_rate: float) -> None:
    data = [{"image": MetaTensor(torch.rand(3, 4, 4)), "label": MetaTensor(torch.ones(1, 4, 4)), "case": "a"}]
    dataset = SeededCacheDataset(data, [], cache_rate=cache_rate, progress=False)
    dataset[0]["image"].zero_()
    item = dataset[0]
    for key in ("image", "label"):
        assert type(item[key]) is torch.Tensor
        assert item[key].dtype == torch.float32
        assert torch.equal(item[key], data[0][key].as_tensor())
    assert item["case"] == "a"
    assert [(kept["image"].nbytes, kept["label"].nbytes) for kept in dataset._cache] == [(192, 16)] * int(cache_rate)


@pytest.mark.parametrize(
    ("values", "is_packed"),
    [
        pytest.param(torch.tensor([0.0, 255.0]), True, id="labels"),
        pytest.param(torch.tensor([0, 255], dtype=torch.int64), True, id="integers"),
        pytest.param(torch.tensor([0.0, 256.0]), False, id="above"),
        pytest.param(torch.tensor([-1, 3], dtype=torch.int16), False, id="below"),
        pytest.param(torch.tensor([0.5, 1.0]), False, id="fractions"),
        pytest.param(torch.tensor([torch.nan, 1.0]), False, id="nan"),
        pytest.param(torch.tensor([-0.0, 1.0]), False, id="minus-zero"),
        pytest.param(torch.tensor([1, 2], dtype=torch.uint8), False, id="bytes"),
        pytest.param(torch.tensor([True]), False, id="bool"),
        pytest.param(torch.zeros(0), False, id="nothing"),
    ],
)
def test_packing_is_exact(values: torch.Tensor, is_packed: bool) -> None:
    packed = pack({"a": [values], "b": (np.arange(2), "c")})
    assert isinstance(packed["a"][0], Packed) == is_packed
    item = unpack(packed)
    assert torch.equal(item["a"][0].view(torch.uint8), values.view(torch.uint8))
    assert item["a"][0].dtype == values.dtype
    assert item["b"][1] == "c"


@pytest.mark.parametrize("num_workers", [0, 1, 4, None])
@pytest.mark.parametrize("dataset", [CaseCacheDataset, SeededCacheDataset, VolumeSliceDataset])
def test_no_thread_works_on_when_a_case_cannot_be_loaded(dataset: type, num_workers: int | None) -> None:
    """One that did would abort the process at its end."""
    begun, before = [], threading.active_count()

    def load(number: int) -> dict[str, torch.Tensor]:
        begun.append(number)
        if number == 2:
            raise ValueError("case 2 is damaged")
        time.sleep(0.02)
        return {"image": torch.zeros(1, 2, 2, 2), "label": torch.zeros(1, 2, 2, 2)}

    # without a Compose around it MONAI tells the transform only, not the reason
    with pytest.raises(RuntimeError) as error:
        dataset(list(range(200)), Lambda(load), num_workers=num_workers, progress=False)
    assert str(error.value.__cause__) == "case 2 is damaged"
    assert threading.active_count() == before
    assert len(begun) < 150
