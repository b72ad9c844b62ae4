# SPDX-License-Identifier: Apache-2.0
"""Seeds made from numbers, and what they seed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandGaussianNoise

from monai_sam2adapter.data import SeededIndex, derive_seed, seeded_transform


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
