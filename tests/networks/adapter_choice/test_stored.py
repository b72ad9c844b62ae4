# SPDX-License-Identifier: Apache-2.0
"""The choice is made once, stored beside the weights, and nothing that is asked for is ignored."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter.data import LabelProfile
from monai_sam2adapter.networks.adapter_choice import (
    ADAPTER_CHOICE_FILE,
    AdapterChoice,
    prepare_adapter_choice,
    read_adapter_choice,
)
from monai_sam2adapter.networks.nets import PromptFreeSAM2

PROFILE = LabelProfile(12.0, 6.0, 0.5, 1, 0.2, (32, 32), 10, 50)
CHOSEN = AdapterChoice("hp", {"bottleneck_ratio": 0.5}, 123, 2.0, "it is a test.", PROFILE)
build = partial(PromptFreeSAM2, variant="tiny", in_channels=1, out_channels=2)


def not_called(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("no label is read, and no network built")


def prepare(weights: Path, adapter: str = "auto", **options: Any) -> None:
    parts = {"profile": lambda: PROFILE, "build": build, "image_size": 32, "sam2_checkpoint": "random"}
    prepare_adapter_choice(adapter, weights, **{**parts, **options})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tmp_path / "models" / "model.pt"


@pytest.fixture
def stored(weights: Path) -> Path:
    path = weights.with_name(ADAPTER_CHOICE_FILE)
    path.parent.mkdir()
    path.write_text(json.dumps(CHOSEN.to_dict()), encoding="utf-8")
    return path


class TestRead:
    @pytest.mark.parametrize("config", [None, {}])
    def test_a_named_adapter_is_passed_through(self, config: Any, weights: Path) -> None:
        assert read_adapter_choice("hp", weights, config) == AdapterChoice("hp")

    def test_so_are_its_settings(self, weights: Path) -> None:
        assert read_adapter_choice("lora", weights, {"rank": 8}) == AdapterChoice("lora", {"rank": 8})

    @pytest.mark.parametrize("budget", [None, 2])
    def test_auto_is_what_was_stored(self, budget: float | None, weights: Path, stored: Path) -> None:
        assert read_adapter_choice("auto", weights, {}, budget) == CHOSEN

    def test_another_adapter_than_the_chosen_one(
        self, weights: Path, stored: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        read_adapter_choice("hp", weights)
        assert "give --adapter auto to have these" in caplog.text
        caplog.clear()
        read_adapter_choice("hp", weights, {"bottleneck_ratio": 0.5})
        assert not caplog.text

    def test_auto_without_a_choice(self, weights: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"needs .*models.adapter_choice.json, which the training"):
            read_adapter_choice("auto", weights)

    @pytest.mark.parametrize("content", ["{", "{}", "[]"])
    def test_a_damaged_choice(self, content: str, weights: Path, stored: Path) -> None:
        stored.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"adapter_choice.json (is damaged|cannot be read)"):
            read_adapter_choice("auto", weights)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"adapter": "auto", "adapter_config": {"scale": 1}}, "chooses the settings by itself"),
            ({"adapter": "auto", "macs_budget": 3}, "macs_budget is 3, but the adapter in .* was chosen for 2"),
            ({"adapter": "hp", "macs_budget": 2}, "for adapter 'auto' alone, and adapter is 'hp'"),
            ({"adapter": "hp", "adapter_config": "rank=8"}, "must be a dictionary, got 'rank=8'; write it as"),
        ],
        ids=["settings", "another budget", "budget without auto", "text"],
    )
    def test_ill_options(self, options: dict[str, Any], message: str, weights: Path, stored: Path) -> None:
        with pytest.raises(ValueError, match=message):
            read_adapter_choice(weights=weights, **options)


class TestPrepare:
    def test_auto_writes_what_is_read_then(self, weights: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        prepare(weights, macs_budget=5)
        choice = read_adapter_choice("auto", weights, {}, 5)
        assert (choice.adapter, choice.config) == ("hp", {"bottleneck_ratio": 0.5})
        assert choice.profile == PROFILE
        assert str(choice) in caplog.text

    def test_a_named_adapter_costs_nothing(self, weights: Path) -> None:
        prepare(weights, "hp", profile=not_called, build=not_called, sam2_checkpoint=None)
        assert not weights.parent.exists()

    def test_a_new_run_forgets_the_choice_of_the_one_that_it_replaces(self, weights: Path, stored: Path) -> None:
        prepare(weights, "hp", profile=not_called)
        assert not stored.exists()

    @pytest.mark.parametrize("adapter", ["auto", "hp"])
    def test_a_resumed_run_keeps_its_choice(self, adapter: str, weights: Path, stored: Path) -> None:
        before = stored.read_bytes()
        prepare(weights, adapter, profile=not_called, build=not_called, resume=True)
        assert stored.read_bytes() == before

    def test_a_resumed_run_without_a_choice(self, weights: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"adapter_choice\.json"):
            prepare(weights, profile=not_called, build=not_called, resume=True)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "'auto' needs a budget: give macs_budget"),
            ({"macs_budget": "much"}, "must be a positive number"),
            ({"macs_budget": 0.01}, "no adapter fits macs_budget 0.01"),
            ({"macs_budget": 5, "adapter_config": {"scale": 1}}, "chooses the settings by itself"),
            ({"macs_budget": 5, "adapter": "lw"}, "for adapter 'auto' alone"),
            ({"macs_budget": 5, "sam2_checkpoint": None}, "no SAM 2 weights were given"),
            ({"macs_budget": 3, "resume": True}, "was chosen for 2"),
        ],
        ids=["no budget", "text", "too small", "settings", "another adapter", "no weights", "resumed with another"],
    )
    def test_fails_before_a_label_is_read(
        self, options: dict[str, Any], message: str, weights: Path, stored: Path
    ) -> None:
        before = stored.read_bytes()
        with pytest.raises(ValueError, match=message):
            prepare(weights, profile=not_called, **options)
        assert stored.read_bytes() == before
