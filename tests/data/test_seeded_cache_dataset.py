# SPDX-License-Identifier: Apache-2.0
"""SeededCacheDataset: still MONAI's, and repeatable."""

from __future__ import annotations

import torch
from monai.data import CacheDataset
from monai.transforms import Compose, Lambdad, RandGaussianNoised, Transform
from torch.utils.data import Subset

from monai_sam2adapter.data import SeededCacheDataset, SeededIndex


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
