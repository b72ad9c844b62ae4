# SPDX-License-Identifier: Apache-2.0
"""
The choice of an adapter by measuring: candidates race on the user's own data.

Source: successive halving, Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", AISTATS 2016, arXiv:1502.07943, with epochs as the budget.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ..networks.adapters import adapter_names
from ..utils.files import atomic_path, read_json, write_json
from .comparison import Comparison, locked_folder
from .config import ComparisonConfig
from .grid import MACHINE_OPTIONS, ComparisonCell
from .run import format_seconds
from .tables import markdown_table, write_csv

__all__ = ["Candidate", "adapter_methods", "choose_adapter", "race", "rung_epochs"]


@dataclass
class Candidate:
    """
    A method in a race.

    Args:
        method: its name.
        macs: multiply-accumulate operations of one image in inference.
        scores: by the epochs of a rung, the mean of the validation over seeds.
        outcome: where it stands.
    """

    method: str
    macs: float
    scores: dict[int, float] = field(default_factory=dict)
    outcome: str = "waiting"


def adapter_methods() -> dict[str, dict[str, Any]]:
    """The candidates of a race that names none: the head alone, and all adapters."""
    return {name: {"adapter": name} for name in ("none", *adapter_names())}


def rung_epochs(num_candidates: int, epochs: int, val_interval: int = 1) -> list[int]:
    """
    The epochs after which candidates are compared: the last two are trained to the end, twice as many half as long.

    Args:
        num_candidates: how many begin.
        epochs: of a whole training, a multiple of ``val_interval``.
        val_interval: epochs from one validation to the next; rungs are multiples of it. Defaults to 1.

    Returns:
        ascending, the last one ``epochs``; fewer where half of the epochs would be less than one validation.
    """
    num_rungs = max(1, math.ceil(math.log2(num_candidates)))
    return sorted({val_interval * math.ceil(epochs / 2**back / val_interval) for back in range(num_rungs)})


def race(
    candidates: Sequence[Candidate],
    rungs: Sequence[int],
    train: Callable[[Sequence[str], int, int], Mapping[str, float | str]],
    report: Callable[[str], None],
) -> Candidate | None:
    """
    Halve the candidates from rung to rung by their scores; the larger is better, and the cheaper of two equal ones.

    Args:
        candidates: who races; their scores and outcomes are filled in.
        rungs: of :func:`rung_epochs`.
        train: takes names of methods and the epochs from and to which they are trained; gives the score of each, or
            the reason of one that failed, which leaves its place in the better half to another one.
        report: takes a line for each rung, and one where equal scores decided.

    Returns:
        the best one of the last rung; None when all have failed.
    """
    left, start = list(candidates), 0
    for rung in rungs:
        places = 1 if rung == rungs[-1] else math.ceil(len(left) / 2)
        report(f"Epoch {rung} of {rungs[-1]}: {len(left)} candidates, {', '.join(c.method for c in left)}.")
        results = train([candidate.method for candidate in left], start, rung)
        for candidate in left:
            result = results[candidate.method]
            if isinstance(result, str):
                candidate.outcome = f"failed before epoch {rung}: {result}"
            else:
                candidate.scores[rung] = result
        scored = [candidate for candidate in left if rung in candidate.scores]
        ranked = sorted(scored, key=lambda candidate: (-candidate.scores[rung], candidate.macs))
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
    Written are ``race.csv`` and ``race.md``, and ``choice.json``, the options of the winner, which a bundle takes
    behind its own config. What is trained is not trained again when the race is run again, with another budget too.

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
        trainer = _Trainer(comparison, {candidate.method for candidate in racing})
        trainer.failed |= comparison.run_trunks()
        if trainer.failed:
            return {str(cell): reason for cell, reason in trainer.failed.items()}
        winner = race(racing, rungs, trainer.train, report)
        trainer.remove_checkpoints()
        report(_write_table(config.title, candidates, rungs, trainer.seconds, macs_budget, folder))
        if winner is not None:
            cell = next(cell for cell in comparison.cells if cell.method == winner.method)
            write_json(_options_of(cell), folder / "choice.json")
            files = [str(cell.config_file("train")), str(folder / "choice.json")]
            report(f'Chosen: {winner.method}. Take it with --config_file "{files}", and so to evaluate and to predict.')
        return {str(cell): reason for cell, reason in trainer.failed.items()}


class _Trainer:
    """Trains candidates from rung to rung, each in the folders that a comparison has for them."""

    def __init__(self, comparison: Comparison, methods: Collection[str]) -> None:
        self.comparison = comparison
        self.cells = [cell for cell in comparison.cells if cell.method in methods]
        comparison.check_disk(self.cells, len(self.cells))  # each keeps its last checkpoint until it is out
        self.failed: dict[ComparisonCell, str] = {}
        self.seconds: dict[str, float] = dict.fromkeys(methods, 0.0)

    def train(self, methods: Sequence[str], start: int, stop: int) -> dict[str, float | str]:
        """Train methods with all seeds; gives the mean score of each, or why one failed."""
        self.remove_checkpoints(keep=methods)
        cells = [
            replace(cell, start_epoch=start, epochs=stop, is_rung=True) for cell in self.cells if cell.method in methods
        ]
        errors = self.comparison.run(cells)
        self.failed |= errors
        results: dict[str, float | str] = {}
        for method in methods:
            own = [cell for cell in cells if cell.method == method]
            reasons = [errors[cell] for cell in own if cell in errors]
            finished = [result for cell in own if (result := cell.result()) is not None]
            self.seconds[method] += sum(result["seconds"] or 0.0 for result in finished)
            results[method] = reasons[0] if reasons else mean(result["score"] for result in finished)
        return results

    def remove_checkpoints(self, keep: Collection[str] = ()) -> None:
        """Remove what only a longer training needs: optimizers, several times the weights."""
        for cell in self.cells:
            if cell.method not in keep:
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
    found = {(fact.epochs, fact.val_interval) for fact in comparison.facts.values()}
    if len(found) > 1:
        raise ValueError("all candidates must have the same epochs and val_interval; set them for all by --set.")
    return found.pop()


def _write_table(
    title: str,
    candidates: Sequence[Candidate],
    rungs: Sequence[int],
    seconds: Mapping[str, float],
    macs_budget: float | None,
    folder: Path,
) -> str:
    """Write ``race.csv`` and ``race.md``, the longest in the race first; returns the latter's text."""
    order = sorted(
        candidates, key=lambda c: (-len(c.scores), *(-score for score in reversed(c.scores.values())), c.macs)
    )
    rows: list[dict[str, Any]] = [
        {"method": c.method, "outcome": c.outcome, "macs": c.macs, "seconds": seconds.get(c.method, 0.0)}
        | {f"score_epoch_{rung}": c.scores.get(rung, "") for rung in rungs}
        for c in order
    ]
    write_csv(rows, folder / "race.csv")
    cells = [
        [c.method, c.outcome, f"{c.macs / 1e9:.3f}", format_seconds(seconds.get(c.method, 0.0))]
        + [f"{c.scores[rung]:.4f}" if rung in c.scores else "-" for rung in rungs]
        for c in order
    ]
    heads = ["method", "outcome", "GMACs", "trained for", *(f"validation at epoch {rung}" for rung in rungs)]
    budget = "Any number of MACs." if macs_budget is None else f"At most {macs_budget:g} x 10^9 MACs of one image."
    text = "\n".join([f"# {title}", "", *markdown_table(heads, cells), "", budget, ""])
    with atomic_path(folder / "race.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _options_of(cell: ComparisonCell) -> dict[str, Any]:
    """The options that make the network of a cell and train it, for the bundle's configs of training and inference."""
    inference = read_json(cell.config_file("inference")) or {}
    options = cell.common_options()
    if "adapter" in options:
        options = {"adapter": options["adapter"], "adapter_config": {}, **options}
    return {
        key: value
        for key, value in options.items()
        if key not in ("bundle_root", "dataset_dir", "seed", *MACHINE_OPTIONS)
        # a part of an entry can be set only where the entry is
        and ("#" not in key or key.partition("#")[0] in inference)
    }
