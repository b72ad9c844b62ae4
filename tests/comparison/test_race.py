# SPDX-License-Identifier: Apache-2.0
"""The race of adapters: who goes on, with trainings of a fake, and what is written."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from monai_sam2adapter.comparison import ComparisonCell, ComparisonConfig, adapter_methods, choose_adapter, comparison
from monai_sam2adapter.comparison.race import Candidate, race, rung_epochs
from monai_sam2adapter.utils import write_json

BUNDLES = Path(__file__).parents[2] / "bundles"


@pytest.mark.parametrize(
    ("arguments", "rungs"),
    [
        ((8, 200), [50, 100, 200]),
        ((7, 200), [50, 100, 200]),
        ((5, 200), [50, 100, 200]),
        ((4, 200), [100, 200]),
        ((3, 9), [5, 9]),
        ((2, 200), [200]),
        ((8, 60, 20), [20, 40, 60]),
        ((8, 2), [1, 2]),
        ((8, 1), [1]),
    ],
    ids=str,
)
def test_rungs_halve_the_epochs_in_whole_validations(arguments: tuple[int, ...], rungs: list[int]) -> None:
    assert rung_epochs(*arguments) == rungs


class FakeTraining:
    """Gives scores that a test names, one a rung, or a reason; notes what was asked of it."""

    def __init__(self, **scores: Sequence[float | str]) -> None:
        self.scores = {name: list(values) for name, values in scores.items()}
        self.calls: list[tuple[str, int, int]] = []
        self.lines: list[str] = []

    def __call__(self, candidates: Sequence[Candidate], start: int, stop: int) -> None:
        self.calls.append((" ".join(candidate.method for candidate in candidates), start, stop))
        for candidate in candidates:
            score = self.scores[candidate.method].pop(0)
            if isinstance(score, str):
                candidate.outcome = score
            else:
                candidate.scores[stop] = score

    def race(self, rungs: Sequence[int], macs: Mapping[str, float] | None = None) -> tuple[str | None, dict[str, str]]:
        """The winner, and the outcome of each."""
        candidates = [Candidate(name, (macs or {}).get(name, 1.0)) for name in self.scores]
        winner = race(candidates, rungs, self, self.lines.append)
        return (None if winner is None else winner.method), {c.method: c.outcome for c in candidates}


class TestRace:
    def test_the_better_half_goes_on_rounded_up(self) -> None:
        train = FakeTraining(a=[0.1], b=[0.5, 0.5], c=[0.4, 0.7, 0.8], d=[0.2], e=[0.3, 0.6, 0.9])
        winner, outcomes = train.race([1, 2, 4])
        assert train.calls == [("a b c d e", 0, 1), ("b c e", 1, 2), ("c e", 2, 4)]
        assert winner == "e"
        assert outcomes == {
            "a": "out at epoch 1, place 5 of 5",
            "b": "out at epoch 2, place 3 of 3",
            "c": "out at epoch 4, place 2 of 2",
            "d": "out at epoch 1, place 4 of 5",
            "e": "chosen",
        }

    def test_of_two_equal_ones_the_cheaper_goes_on(self) -> None:
        train = FakeTraining(a=[0.5], b=[0.5, 0.5], c=[0.9, 0.5])
        assert train.race([1, 2], {"a": 3, "b": 2, "c": 2.5})[0] == "b"
        assert train.calls[1][0] == "b c"
        assert [line for line in train.lines if line.startswith("Equal scores")] == [
            f"Equal scores at epoch {epoch}: their MACs decided. More epochs would tell them apart." for epoch in (1, 2)
        ]

    def test_one_that_fails_leaves_its_place_to_another(self) -> None:
        train = FakeTraining(a=["no luck"], b=[0.1, 0.1], c=[0.2, "memory"], d=["no luck"])
        winner, outcomes = train.race([1, 2])
        assert (winner, outcomes["a"], outcomes["c"]) == ("b", "no luck", "memory")
        assert train.calls[1][0] == "b c"

    def test_when_all_fail_nobody_wins_and_one_alone_need_not_run(self) -> None:
        assert FakeTraining(a=["x"], b=["y"]).race([1])[0] is None
        assert FakeTraining(a=[]).race([])[0] == "a"


class Chooser:
    """Chooses among five adapters; trainings and costs are a fake's. It stops in the middle when told so."""

    SCORES = {
        **{"hp": (0.5, 0.6, 0.7), "lw": (0.4, 0.7, 0.8), "lora": (0.3, 0.3, 0.3)},
        **{"none": (0.2, 0.2, 0.2), "adaptformer": (0.25, 0.25, 0.25)},
    }

    def __init__(self, hearts: Path, output: Path) -> None:
        self.output, self.trained, self.stops = output, [], False
        self.content: dict[str, Any] = {
            "title": "A race",
            "datasets": {"hearts": {"bundle": "acdc_cardiac_segmentation", "dataset_dir": str(hearts)}},
            "methods": {name: {"adapter": name} for name in self.SCORES},
            "seeds": [0, 1],
            "options": {"epochs": 4, "image_size": 32, "device": "cpu", "train#trainer#epoch_length": 1},
        }

    def __call__(self, budget: float | None = None, **changes: Any) -> str:
        lines: list[str] = []
        config = ComparisonConfig.from_dict({**self.content, **changes})
        assert choose_adapter(config, self.output, BUNDLES, macs_budget=budget, report=lines.append) == {}
        return "\n".join(lines)

    def choice(self) -> dict[str, Any]:
        return json.loads((self.output / "choice.json").read_text(encoding="utf-8"))

    def costs(self, cells: Mapping[ComparisonCell, str], *args: object) -> dict[tuple[str, str], dict[str, Any]]:
        names = ["none", "lora", "adaptformer", "lw", "hp"]
        return {cell.place: {"macs": 1e9 * names.index(cell.method), "total_parameters": 1} for cell in cells}

    def run(self, cells: Sequence[ComparisonCell], **options: object) -> dict[ComparisonCell, str]:
        for cell in [cell for cell in cells if cell.result() is None]:
            if self.stops and (cell.seed, cell.start_epoch) == (1, 1):
                raise KeyboardInterrupt
            self.trained.append(f"{cell.method} {cell.seed} {cell.start_epoch}-{cell.epochs}")
            cell.write()
            score = self.SCORES[cell.method][(1, 2, 4).index(cell.epochs)] + 0.1 * cell.seed
            write_json({"score": score, "seconds": 2.0}, cell.result_file)
        return {}


@pytest.fixture
def choose(hearts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chooser:
    chooser = Chooser(hearts, tmp_path)
    monkeypatch.setattr(comparison, "measure_networks", chooser.costs)
    monkeypatch.setattr(comparison, "run_cells", chooser.run)
    return chooser


class TestChooseAdapter:
    def test_writes_the_race_and_the_choice(self, choose: Chooser) -> None:
        out = choose()
        assert choose.trained[:2] == ["hp 0 0-1", "lw 0 0-1"]
        assert [line for line in choose.trained if not line.endswith("0-1")] == [
            *("hp 0 1-2", "lw 0 1-2", "lora 0 1-2", "hp 1 1-2", "lw 1 1-2", "lora 1 1-2"),
            *("hp 0 2-4", "lw 0 2-4", "hp 1 2-4", "lw 1 2-4"),
        ]
        assert choose.choice() == {"adapter": "lw", "adapter_config": {}, "image_size": 32}
        training = json.loads((choose.output / "choice_training.json").read_text(encoding="utf-8"))
        assert training == {"epochs": 4, "train#trainer#epoch_length": 1}
        text = (choose.output / "race.md").read_text(encoding="utf-8")
        assert text.splitlines()[:5] == [
            *("# A race", ""),
            "| method | outcome | GMACs | trained for | validation at epoch 1 | validation at epoch 2 | "
            "validation at epoch 4 |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| lw | chosen | 3.000 | 12 s | 0.4500 | 0.7500 | 0.8500 |",
        ]
        assert "| none | out at epoch 1, place 5 of 5 | 0.000 | 4 s | 0.2500 | - | - |\n\nAny number of MACs.\n" in text
        assert text in out
        assert "choice_training.json']" in out
        with (choose.output / "race.csv").open(newline="", encoding="utf-8") as file:
            assert [row["method"] for row in csv.DictReader(file)] == ["lw", "hp", "lora", "adaptformer", "none"]

    def test_what_is_finished_is_not_run_again(self, choose: Chooser) -> None:
        choose.stops = True
        with pytest.raises(KeyboardInterrupt):
            choose()
        assert not (choose.output / "choice.json").exists()
        assert (choose.trained[-1], len(choose.trained)) == ("lora 0 1-2", 13)
        choose.stops = False
        first = choose()
        assert len(choose.trained) == len(set(choose.trained)) == 20
        assert choose().splitlines()[-1] == first.splitlines()[-1]
        assert len(choose.trained) == 20

    def test_only_candidates_within_the_budget_of_which_one_need_not_run(self, choose: Chooser) -> None:
        choose(0.5)
        assert (choose.choice()["adapter"], choose.trained) == ("none", [])
        choose(2.5)
        assert not [line for line in choose.trained if line[:2] in ("hp", "lw")]
        assert choose.choice()["adapter"] == "lora"
        assert "| hp | over the budget | 4.000 | 0 s | - | - |" in (choose.output / "race.md").read_text(
            encoding="utf-8"
        )

    @pytest.mark.parametrize(
        ("budget", "changes", "message"),
        [
            (0.5, {"methods": {"lw": {"adapter": "lw"}}}, "the cheapest one, lw, needs 3.000; raise --macs_budget"),
            (0.0, {}, "macs_budget must be above 0"),
            (None, {"methods": {"lw": {"epochs": 2}, "hp": {}}}, "all candidates must have the same epochs"),
            (None, {"datasets": {"a": {"bundle": "x"}, "b": {"bundle": "x"}}}, "takes one data set, got a, b"),
        ],
        ids=str,
    )
    def test_ill_arg(self, choose: Chooser, budget: float | None, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            choose(budget, **changes)


def test_candidates_are_all_adapters_and_the_head_alone() -> None:
    methods = adapter_methods()
    assert {"hp", "lw", "adaptformer", "sm_adaptformer", "lora", "conv_lora", "none"} <= methods.keys()
    assert "full" not in methods
    assert methods["hp"] == {"adapter": "hp"}
