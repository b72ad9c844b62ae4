# SPDX-License-Identifier: Apache-2.0
"""The rule of ``adapter: auto`` on profiles made up for it, and its counts."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from monai_sam2adapter.data import LabelProfile
from monai_sam2adapter.networks.adapter_choice import (
    LONG_BOUNDARY,
    MANY_CLASSES,
    SMALL_STRUCTURE,
    AdapterChoice,
    AdapterCosts,
    choose_adapter,
)
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2UNeXT
from monai_sam2adapter.networks.profiling import count_macs
from monai_sam2adapter.networks.utils import reparameterize_model

SMOOTH = LabelProfile(
    median_diameter=80.0,
    small_diameter=SMALL_STRUCTURE,
    boundary_per_area=LONG_BOUNDARY,
    num_classes=MANY_CLASSES - 1,
    foreground_share=0.2,
    image_size=(64, 64),
    num_slices=10,
    num_structures=12,
)
FINE = replace(SMOOTH, small_diameter=SMALL_STRUCTURE - 0.1)
build = partial(PromptFreeSAM2, variant="tiny", in_channels=1, out_channels=4)


@pytest.fixture(scope="module")
def costs() -> AdapterCosts:
    return AdapterCosts(build, 64)


def giga(costs: AdapterCosts, adapter: str, **config: Any) -> float:
    """The smallest budget in which the adapter fits."""
    return costs.total(adapter, config) / 1e9


class TestCosts:
    @pytest.mark.parametrize(
        ("adapter", "config"),
        [("hp", {"bottleneck_ratio": 0.125}), ("lw", {"bottleneck_ratio": 0.5, "blocks": [0, 3, -1]})],
        ids=["hp", "lw in some blocks"],
    )
    def test_are_those_of_the_whole_network(self, adapter: str, config: dict[str, Any], costs: AdapterCosts) -> None:
        network = build(adapter=adapter, adapter_config=config).eval()
        macs = count_macs(reparameterize_model(network, inplace=True), torch.zeros(1, 1, 64, 64)).total
        assert costs.total(adapter, config) == macs

    def test_without_adapters(self, costs: AdapterCosts) -> None:
        assert costs.bare == count_macs(build(adapter="none").eval(), torch.zeros(1, 1, 64, 64)).total
        assert costs.stage_blocks == ((0,), (1, 2), (3, 4, 5, 6, 7, 8, 9), (10, 11))  # of SAM 2's tiny trunk

    def test_of_a_network_with_a_second_encoder(self) -> None:
        pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
        small = partial(SAM2UNeXT, variant="tiny", out_channels=1, dino_variant="small", dino_size=28)
        network = reparameterize_model(small(adapter="lw").eval(), inplace=True)
        assert AdapterCosts(small, 32).total("lw") == count_macs(network, torch.zeros(1, 3, 32, 32)).total

    def test_leave_the_random_numbers_alone(self) -> None:
        state = torch.get_rng_state()
        AdapterCosts(build, 32).total("hp")
        assert torch.equal(torch.get_rng_state(), state)

    def test_other_places(self, costs: AdapterCosts) -> None:
        with pytest.raises(ValueError, match="'lora' is not beside the MLP"):
            costs.total("lora")


class TestRule:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"small_diameter": SMALL_STRUCTURE - 0.1}, "one structure in ten is below 15.9 pixels"),
            ({"boundary_per_area": LONG_BOUNDARY + 0.05}, "0.30 pixels of boundary per pixel of area"),
            ({"num_classes": MANY_CLASSES}, "there are 5 classes"),
        ],
        ids=["small", "long boundary", "many classes"],
    )
    def test_fine_structures_get_hp_in_all_stages(
        self, change: dict[str, Any], reason: str, costs: AdapterCosts
    ) -> None:
        choice = choose_adapter(replace(SMOOTH, **change), 100, costs)
        assert (choice.adapter, choice.config) == ("hp", {"bottleneck_ratio": 0.5})
        assert choice.macs == costs.total("hp", choice.config)
        assert reason in choice.reason
        assert "fine structures" in choice.reason

    def test_smooth_structures_get_lw(self, costs: AdapterCosts) -> None:
        choice = choose_adapter(SMOOTH, 100, costs)
        assert (choice.adapter, choice.config) == ("lw", {"bottleneck_ratio": 0.5})
        assert "large, smooth structures" in choice.reason

    def test_fine_structures_keep_the_stages_and_lose_width(self, costs: AdapterCosts) -> None:
        for width in (0.25, 0.0625):
            choice = choose_adapter(FINE, giga(costs, "hp", bottleneck_ratio=width), costs)
            assert (choice.adapter, choice.config) == ("hp", {"bottleneck_ratio": width})

    def test_fine_structures_get_lw_when_no_hp_fits(self, costs: AdapterCosts) -> None:
        budget = giga(costs, "lw", bottleneck_ratio=0.0625)
        assert budget < giga(costs, "hp", bottleneck_ratio=0.0625)
        choice = choose_adapter(FINE, budget, costs)
        assert (choice.adapter, choice.config) == ("lw", {"bottleneck_ratio": 0.0625})

    @pytest.mark.parametrize("first", [1, 3, 10])
    def test_smooth_structures_keep_the_width_and_lose_early_stages(self, first: int, costs: AdapterCosts) -> None:
        blocks = list(range(first, 12))
        choice = choose_adapter(SMOOTH, giga(costs, "lw", bottleneck_ratio=0.5, blocks=blocks), costs)
        assert (choice.adapter, choice.config) == ("lw", {"bottleneck_ratio": 0.5, "blocks": blocks})

    def test_the_network_can_be_built_from_it(self, costs: AdapterCosts) -> None:
        choice = choose_adapter(SMOOTH, giga(costs, "lw", bottleneck_ratio=0.5, blocks=[10, 11]), costs)
        network = build(adapter=choice.adapter, adapter_config=choice.config)
        assert network.config["adapter_config"]["blocks"] == [10, 11]

    @pytest.mark.parametrize("profile", [FINE, SMOOTH], ids=["fine", "smooth"])
    def test_too_small_a_budget(self, profile: LabelProfile, costs: AdapterCosts) -> None:
        message = (
            rf"fits macs_budget 0.1: the network costs {costs.bare / 1e9:.3f} G MACs .* and \d\.\d+ with the cheap"
        )
        with pytest.raises(ValueError, match=message):
            choose_adapter(profile, 0.1, costs)

    def test_a_budget_between_the_bare_network_and_the_rule(self, costs: AdapterCosts) -> None:
        budget = giga(costs, "lw", bottleneck_ratio=0.0625, blocks=[10, 11])
        cheapest = costs.total("lw", {"bottleneck_ratio": 0.0625}) / 1e9
        with pytest.raises(ValueError, match=f"{cheapest:.3f} with the cheapest one"):
            choose_adapter(FINE, budget, costs)

    @pytest.mark.parametrize("budget", [0, -1, "8", True, None, float("nan")])
    def test_ill_budget(self, budget: Any, costs: AdapterCosts) -> None:
        with pytest.raises(ValueError, match="macs_budget must be a positive number"):
            choose_adapter(SMOOTH, budget, costs)


class TestChoice:
    def test_json_gives_the_same(self, costs: AdapterCosts) -> None:
        for choice in (choose_adapter(SMOOTH, 100, costs), AdapterChoice("hp"), AdapterChoice("lora", {"rank": 8})):
            assert AdapterChoice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice

    def test_a_text_for_the_user(self, costs: AdapterCosts) -> None:
        text = str(choose_adapter(FINE, 100, costs))
        assert "adapter auto: hp, adapter_config {'bottleneck_ratio': 0.5}" in text
        assert "because one structure in ten" in text
        assert "labels: 12 structures" in text
        assert str(AdapterChoice("none")) == "adapter none, adapter_config None"

    @pytest.mark.parametrize("content", [{"adapter": "hp"}, ["hp"], "hp"])
    def test_ill_content(self, content: Any) -> None:
        with pytest.raises(ValueError, match="a choice of an adapter holds adapter, config"):
            AdapterChoice.from_dict(content)
