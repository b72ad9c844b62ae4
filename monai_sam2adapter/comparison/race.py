# SPDX-License-Identifier: Apache-2.0
"""
The choice of an adapter by measuring: candidates race on the user's own data.

Source: successive halving, Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", AISTATS 2016, arXiv:1502.07943, with epochs as the budget.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ..networks.adapters import adapter_names
from ..utils.files import read_json, write_json
from .comparison import Comparison, locked_folder
from .config import ComparisonConfig
from .grid import MACHINE_OPTIONS, ComparisonCell
from .processes import format_seconds
from .tables import write_csv, write_markdown

__all__ = ["Candidate", "adapter_methods", "choose_adapter", "race", "rung_epochs"]


@dataclass
class Candidate:
    """A method in a race, with the mean scores of its validation by the epochs of rungs; the larger are better."""

    method: str
    macs: float
    scores: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    outcome: str = "waiting"


def adapter_methods() -> dict[str, dict[str, Any]]:
    """The candidates of a race that names none: the head alone, and all adapters."""
    return {name: {"adapter": name} for name in ("none", *adapter_names())}


def rung_epochs(num_candidates: int, epochs: int, val_interval: int = 1) -> list[int]:
    """
    The epochs after which candidates are compared: the last two are trained to the end, twice as many half as long.

    Rungs are multiples of ``val_interval``; there are fewer where half of the epochs would be less than that.
    """
    num_rungs = max(1, math.ceil(math.log2(num_candidates)))
    return sorted({val_interval * math.ceil(epochs / 2**back / val_interval) for back in range(num_rungs)})


def race(
    candidates: Sequence[Candidate],
    rungs: Sequence[int],
    train: Callable[[Sequence[Candidate], int, int], None],
    report: Callable[[str], None],
) -> Candidate | None:
    """
    Halve the candidates from rung to rung by their scores, the cheaper first of two equal ones.

    ``train`` takes candidates from one number of epochs to another and notes the score of each, or as its outcome why
    it failed, which leaves its place in the better half to another one. Returns the best one of the last rung; None
    when all have failed.
    """
    left, start = list(candidates), 0
    for rung in rungs:
        places = 1 if rung == rungs[-1] else math.ceil(len(left) / 2)
        report(f"Epoch {rung} of {rungs[-1]}: {len(left)} candidates, {', '.join(c.method for c in left)}.")
        train(left, start, rung)
        ranked = sorted((c for c in left if rung in c.scores), key=lambda c: (-c.scores[rung], c.macs))
        for rank, candidate in enumerate(ranked, start=1):
            candidate.outcome = f"out at epoch {rung}, place {rank} of {len(ranked)}"
        if len(ranked) > places and ranked[places - 1].scores[rung] == ranked[places].scores[rung]:
            report(f"Equal scores at epoch {rung}: their MACs decided. More epochs would tell them apart.")
        # in the order they came in, so that the same race is told in the same order
        left, start = [candidate for candidate in left if candidate in ranked[:places]], rung
    for candidate in left:
        candidate.outcome = "chosen"
    return left[0] if left else None


def choose_adapter(
    config: ComparisonConfig,
    output_dir: str | os.PathLike[str],
    bundles_dir: str | os.PathLike[str] = "bundles",
    jobs: int | None = None,
    macs_budget: float | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """
    Race the methods of a comparison on its one data set by successive halving, and write the winner.

    All candidates within the budget are trained for a part of the epochs, the better half by the validation goes on
    from its checkpoints to twice as many, and so on until two are trained to the end. The learning rate follows the
    schedule of the whole from the start, so that a rung is what it is in a whole training. No test case is scored.
    Written are ``race.csv`` and ``race.md``, and the options of the winner, which a bundle takes behind its own config:
    ``choice.json``, and ``choice_training.json`` for those that inference has not. What is trained is not trained again
    when the race is run again, with another budget too.

    Args:
        config: the race: one data set, the candidates as methods; scores are means over its seeds.
        output_dir: folder for everything; made when missing.
        bundles_dir: folder of the bundles. Defaults to "bundles".
        jobs: trainings at a time. Defaults to 1 on a GPU, else to one for each core and 4 at most.
        macs_budget: most multiply-accumulate operations of one image in inference, in 10^9. Defaults to None: any.
        report: takes lines about the progress.

    Returns:
        the reasons of trainings that failed, by what they are.

    Raises:
        ValueError: when something is wrong with the race, or no candidate is within the budget.
    """
    if len(config.datasets) != 1:
        raise ValueError(f"--choose takes one data set, got {', '.join(config.datasets)}; leave one in the config.")
    if macs_budget is not None and not macs_budget > 0:
        raise ValueError(f"macs_budget must be above 0, in 10^9 MACs of one image, got {macs_budget}.")
    with locked_folder(output_dir) as folder:
        comparison = Comparison(config, folder, bundles_dir, jobs, report)
        candidates = [Candidate(method, cost["macs"]) for (_, method), cost in comparison.costs.items()]
        racing = _within_budget(candidates, macs_budget)
        report(f"{len(racing)} of {len(candidates)} candidates are within the budget.")
        rungs = rung_epochs(len(racing), *_shared_epochs(comparison)) if len(racing) > 1 else []
        cells = [cell for cell in comparison.cells if cell.method in {candidate.method for candidate in racing}]
        comparison.check_disk(cells, len(cells))  # each keeps its last checkpoint until it is out
        failed = comparison.run_trunks()
        if failed:
            return {str(cell): reason for cell, reason in failed.items()}

        def train(left: Sequence[Candidate], start: int, stop: int) -> None:
            failed.update(_train(comparison, cells, left, start, stop))

        winner = race(racing, rungs, train, report)
        _remove_checkpoints(cells)
        report(_write_tables(candidates, folder, title=config.title, rungs=rungs, macs_budget=macs_budget))
        if winner is not None:
            chosen = next(cell for cell in cells if cell.method == winner.method)
            choice, training = folder / "choice.json", folder / "choice_training.json"
            for file, options in zip((choice, training), _options_of(chosen), strict=True):
                write_json(options, file)
            files = [chosen.config_file("train"), str(choice), str(training)]
            report(
                f'Chosen: {winner.method}. Train with --config_file "{files}"; evaluation takes the last two files '
                f"behind its own, inference {choice} alone."
            )
        return {str(cell): reason for cell, reason in failed.items()}


def _train(
    comparison: Comparison, all_cells: Sequence[ComparisonCell], candidates: Sequence[Candidate], start: int, stop: int
) -> dict[ComparisonCell, str]:
    """Train candidates with all seeds, and note their scores, or why they failed; returns the cells that failed."""
    methods = [candidate.method for candidate in candidates]
    _remove_checkpoints([cell for cell in all_cells if cell.method not in methods])
    of_rung = [cell for cell in all_cells if cell.method in methods]
    cells = [replace(cell, start_epoch=start, epochs=stop, is_rung=True) for cell in of_rung]
    errors = comparison.run(cells)
    for candidate in candidates:
        own = [cell for cell in cells if cell.method == candidate.method]
        results = [result for cell in own if (result := cell.result()) is not None]
        candidate.seconds += sum(result["seconds"] or 0.0 for result in results)
        reasons = [errors[cell] for cell in own if cell in errors]
        if reasons:
            candidate.outcome = f"failed before epoch {stop}: {reasons[0]}"
        else:
            candidate.scores[stop] = mean(result["score"] for result in results)
    return errors


def _remove_checkpoints(cells: Sequence[ComparisonCell]) -> None:
    """Remove what only a longer training needs: optimizers, several times the weights."""
    for cell in cells:
        (cell.models / "last.pt").unlink(missing_ok=True)


def _within_budget(candidates: Sequence[Candidate], macs_budget: float | None) -> list[Candidate]:
    within = [candidate for candidate in candidates if macs_budget is None or candidate.macs <= macs_budget * 1e9]
    for candidate in candidates:
        if candidate not in within:
            candidate.outcome = "over the budget"
    if not within:
        cheapest = min(candidates, key=lambda candidate: candidate.macs)
        raise ValueError(
            f"no candidate is within {macs_budget:g} x 10^9 MACs: the cheapest one, {cheapest.method}, needs "
            f"{cheapest.macs / 1e9:.3f}; raise --macs_budget, or take a smaller variant or image_size."
        )
    return within


def _shared_epochs(comparison: Comparison) -> tuple[int, int]:
    """Epochs and validation interval, which have to be those of all candidates."""
    found = {(fact.epochs, fact.val_interval) for fact in (comparison.facts[place] for place in comparison.costs)}
    if len(found) > 1:
        raise ValueError("all candidates must have the same epochs and val_interval; set them for all by --set.")
    return found.pop()


def _write_tables(candidates: Sequence[Candidate], folder: Path, **values: Any) -> str:
    """Write ``race.csv`` and ``race.md``, the longest in the race first; returns the latter's text."""
    order = sorted(candidates, key=lambda c: (-len(c.scores), *(-s for s in reversed(c.scores.values())), c.macs))
    rows = [
        {"method": c.method, "outcome": c.outcome, "macs": c.macs, "seconds": c.seconds}
        | {f"score_epoch_{rung}": c.scores.get(rung, "") for rung in values["rungs"]}
        for c in order
    ]
    write_csv(rows, folder / "race.csv")
    return write_markdown(folder / "race.md", candidates=order, format_seconds=format_seconds, **values)


def _options_of(cell: ComparisonCell) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that make the network of a cell, which inference has, too, and those that training alone has."""
    inference: Mapping[str, Any] = read_json(cell.config_file("inference")) or {}
    options = cell.common_options()
    if "adapter" in options:
        options = {"adapter": options["adapter"], "adapter_config": {}, **options}
    own = ("bundle_root", "dataset_dir", "seed", *MACHINE_OPTIONS)
    options = {key: value for key, value in options.items() if key not in own}
    shared = {key: value for key, value in options.items() if key.partition("#")[0] in inference}
    return shared, {key: value for key, value in options.items() if key not in shared}
