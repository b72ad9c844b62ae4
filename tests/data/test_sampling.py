# SPDX-License-Identifier: Apache-2.0
"""Seeds and what they seed; EpochSampler with real loaders: any number of workers, shares of several processes."""

from __future__ import annotations

import pickle
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandAffined, RandFlipd, RandGaussianNoise, RandGaussianNoised, RandLambdad

from monai_sam2adapter.data import (
    EpochSampler,
    SeededCacheDataset,
    SeededIndex,
    VolumeSliceDataset,
    derive_seed,
    seeded_transform,
)
from monai_sam2adapter.data.sampling import take_shard

Epoch = list[tuple[list[str], torch.Tensor]]

# MONAI's own random state twice, and PyTorch's generator, from which torchvision's transforms draw
AUGMENTATION = [
    RandAffined(["image", "label"], prob=0.9, rotate_range=3.0, mode=["bilinear", "nearest"], padding_mode="border"),
    RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
    RandGaussianNoised("image", prob=0.8),
    RandLambdad("image", lambda image: image + torch.rand(1)),
]


def volume_slices() -> VolumeSliceDataset:
    generator = torch.Generator().manual_seed(0)
    data = [
        {"image": torch.rand(1, 4, 4, depth, generator=generator), "label": torch.ones(1, 4, 4, depth), "case": case}
        for case, depth in (("a", 3), ("b", 1), ("c", 4))
    ]
    return VolumeSliceDataset(data, [], AUGMENTATION, progress=False)


def images() -> SeededCacheDataset:
    generator = torch.Generator().manual_seed(0)
    data = [
        {"image": torch.rand(3, 4, 4, generator=generator), "label": torch.ones(1, 4, 4), "case": str(n)}
        for n in range(8)
    ]
    return SeededCacheDataset(data, AUGMENTATION, cache_rate=0.5, progress=False)


def epochs(dataset: Any, numbers: tuple[int, ...] = (1, 2), seed: int = 0, **kwargs: Any) -> list[Epoch]:
    """Case names and images of every batch of some epochs."""
    sampler = EpochSampler(dataset, seed=seed)
    loader = DataLoader(dataset, batch_size=3, sampler=sampler, **kwargs)
    found = []
    for number in numbers:
        sampler.set_epoch(number)
        found.append([(batch["case"], batch["image"]) for batch in loader])
    return found


def same(first: list[Epoch], second: list[Epoch]) -> bool:
    batches = [zip(a, b, strict=True) for a, b in zip(first, second, strict=True)]
    return all(x[0] == y[0] and torch.equal(x[1], y[1]) for pairs in batches for x, y in pairs)


def test_an_index_is_a_number_that_keeps_its_seed_on_the_way_to_a_worker() -> None:
    index = SeededIndex(2, seed=7)
    copy = pickle.loads(pickle.dumps(index))
    assert type(copy) is SeededIndex
    assert (copy, copy.seed) == (2, 7)
    assert ["a", "b", "c"][copy] == "c"


def test_seeds_differ_and_fit_every_generator() -> None:
    seeds = {derive_seed(seed, epoch, index) for seed in range(5) for epoch in range(5) for index in range(5)}
    assert len(seeds) == 125
    assert 0 <= min(seeds) < max(seeds) < 2**32
    assert derive_seed(1, 2, 3) == derive_seed(*np.arange(1, 4)) != derive_seed(3, 2, 1)


@pytest.mark.parametrize("number", [-1, 1.5, None, "0"])
def test_what_is_no_seed_is_an_error(number: object) -> None:
    with pytest.raises(ValueError, match="a seed is made from whole numbers from 0, got"):
        derive_seed(number, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="whole numbers from 0"):
        EpochSampler(range(4), seed=number)  # type: ignore[arg-type]


def test_only_the_seed_decides_and_the_generator_of_pytorch_is_put_back() -> None:
    transform = Compose([RandGaussianNoise(prob=1.0), lambda x: x + torch.rand(4)])

    def draw(index: int) -> torch.Tensor:
        with seeded_transform(transform, index):
            return transform(torch.zeros(4))

    before = torch.get_rng_state()
    first = draw(SeededIndex(0, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert not torch.equal(draw(SeededIndex(0, seed=8)), first)
    assert torch.equal(draw(SeededIndex(5, seed=7)), first)
    assert not torch.equal(draw(0), draw(0))  # a plain number seeds nothing


@pytest.mark.parametrize("make", [volume_slices, images])
class TestEpochs:
    def test_are_the_same_with_any_number_of_workers(self, make: Any) -> None:
        expected = epochs(make())
        torch.rand(5)  # no generator's state counts
        assert same(epochs(make(), num_workers=1), expected)
        assert same(epochs(make(), num_workers=2), expected)
        assert same(epochs(make(), num_workers=2, persistent_workers=True), expected)

    def test_need_no_earlier_one(self, make: Any) -> None:
        dataset = make()
        assert same(epochs(dataset, (2,)), epochs(dataset, (1, 2))[1:])

    def test_have_an_order_and_augmentation_of_their_own(self, make: Any) -> None:
        dataset = make()
        first, second = epochs(dataset)
        (other,) = epochs(dataset, (1,), seed=7)
        assert [cases for cases, _ in first] != [cases for cases, _ in second] != [cases for cases, _ in other]


def test_without_shuffling_only_the_augmentation_changes() -> None:
    assert len({index.seed for seed in (0, 1) for index in EpochSampler(range(4), seed=seed)}) == 8
    sampler = EpochSampler(range(3), shuffle=False)
    drawn = []
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        drawn.append(list(sampler))
    assert drawn[0] == drawn[1] == [0, 1, 2]
    assert [index.seed for index in drawn[0]] != [index.seed for index in drawn[1]]


def test_processes_share_an_epoch_and_an_item_keeps_its_seed() -> None:
    whole = EpochSampler(range(5), seed=3)
    parts = [EpochSampler(range(5), num_replicas=2, rank=rank, seed=3) for rank in (0, 1)]
    for sampler in (whole, *parts):
        sampler.set_epoch(1)
    order = list(whole)
    shares = [list(part) for part in parts]
    assert shares == [[order[0], order[2], order[4]], [order[1], order[3], order[0]]]  # the first one twice
    assert {index: index.seed for share in shares for index in share} == {index: index.seed for index in order}
    assert len(EpochSampler(range(5), num_replicas=2, rank=0, drop_last=True)) == 2


def test_the_process_group_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (EpochSampler(range(4)).num_replicas, EpochSampler(range(4)).rank) == (1, 0)
    for name, value in (("is_initialized", True), ("get_world_size", 4), ("get_rank", 3)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    sampler = EpochSampler(range(4))
    assert (sampler.num_replicas, sampler.rank, len(sampler)) == (4, 3, 1)


class Shard(list):
    shard = True


@pytest.mark.parametrize("count", [2, 5, 9])
def test_shards_hold_every_case_once_and_draw_equal_numbers(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(idist, "all_reduce", lambda length: count)
    shards, seeds = [], []
    for rank in range(2):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        shard = take_shard(range(count))
        sampler = EpochSampler(Shard(shard), num_replicas=2, rank=rank)
        drawn = list(sampler)
        assert len(drawn) == len(sampler) == -(-count // 2)
        assert set(drawn) == set(range(len(shard)))
        shards += shard
        seeds += {index.seed for index in drawn}
    assert sorted(shards) == list(range(count))
    assert len(set(seeds)) == count


def test_too_few_cases_for_shards_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idist, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match=r"2 cases cannot be shared out to 3 processes.*--shard_cache False"):
        take_shard(["a", "b"])


@pytest.mark.parametrize("make", [SeededCacheDataset, VolumeSliceDataset])
def test_a_data_set_keeps_its_shard(make: type, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [{"image": torch.full((1, 2, 2, 3), float(n))} for n in range(5)]
    options = {"volume_transform": []} if make is VolumeSliceDataset else {}
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    values = []
    for rank in range(2):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        dataset = make(data, shard=True, progress=False, **options)
        values += {float(item["image"].max()) for item in dataset}
    assert sorted(values) == [0, 1, 2, 3, 4]
    assert len(make(data, progress=False, **options)) in (5, 15)
