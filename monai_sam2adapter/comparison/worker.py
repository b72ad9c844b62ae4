# SPDX-License-Identifier: Apache-2.0
"""One cell of a comparison, in a process of its own: ``python -m monai_sam2adapter.comparison.worker FOLDER``."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.bundle
from filelock import FileLock

from ..handlers import TrainingCheckpoint
from ..networks.weights import load_network_weights, save_sam2_checkpoint
from ..utils.files import read_json, write_json
from .bundle_facts import parse, reason_of
from .grid import ComparisonCell

__all__ = ["main", "run_cell"]


def run_cell(folder: str | Path) -> None:
    """
    Train and evaluate what ``cell.json`` in a folder says, through MONAI's own entry, and write its result.

    A training that was stopped goes on from its last epoch. Of the checkpoints of one that is done only ``model.pt`` is
    kept.
    """
    cell = ComparisonCell.read(folder)
    if cell is None:
        raise FileNotFoundError(f"there is no cell.json in {folder}.")
    # a cell whose comparison was killed may be running still: wait for it, and take its result
    with FileLock(Path(folder) / ".lock"):
        if cell.result() is not None:
            return
        start = time.perf_counter()
        earlier = TrainingCheckpoint.progress(cell.models)
        result = _train(cell, earlier)
        if cell.is_rung:
            result["score"] = result["best_validation"]
        elif cell.metric is None:
            network = parse(cell, "train").get_parsed_content("network_def")
            load_network_weights(network, cell.models / "model.pt")
            save_sam2_checkpoint(network, cell.trunk_file)
        else:
            result |= _evaluate(cell)
        was_cut = (earlier["epoch"] if earlier else 0) != cell.start_epoch
        # those of a part would be taken for the whole
        result["seconds"] = None if was_cut else round(time.perf_counter() - start, 1)
        write_json(result, cell.result_file)
        if not cell.is_rung:
            (cell.models / "last.pt").unlink()  # with the optimizer, several times the weights


def _train(cell: ComparisonCell, progress: dict[str, Any] | None) -> dict[str, Any]:
    """Run ``training``, unless all its epochs are done, given how far it was; returns how far it went."""
    if cell.is_rung and progress is not None and progress["epoch"] > cell.epochs:
        progress = None  # of a race with other rungs
    is_done = progress is not None and (progress["epoch"] >= cell.epochs or progress["stopped"])
    if progress is None or not is_done or not progress["validated"]:
        options: dict[str, Any] = {"overwrite": True} if progress is None else {"resume": True}
        if cell.is_rung:  # the schedule of the learning rate stays that of all epochs
            options["train#trainer#max_epochs"] = cell.epochs
        _run("training", cell, ["train"], {"output_dir": str(cell.models), **options})
        progress = TrainingCheckpoint.progress(cell.models)
    if progress is None:
        raise RuntimeError("the training ended before its first epoch did.")
    if progress["best_metric"] is None and cell.is_rung:
        raise RuntimeError("the validation has given no number.")
    names = {"epochs": "epoch", "iterations": "iteration"}
    names |= {"best_epoch": "best_metric_epoch", "best_validation": "best_metric"}
    return {name: progress[key] for name, key in names.items()}


def _evaluate(cell: ComparisonCell) -> dict[str, Any]:
    """Run ``evaluating`` with the best weights and read the score."""
    results = Path(cell.folder) / "eval"
    options = {"checkpoint_file": str(cell.models / "model.pt"), "output_dir": str(results)}
    _run("evaluating", cell, ["train", "evaluate"], options)
    content = read_json(results / "results.json")
    entry = {**content["pooled"], **content["metrics"]}[cell.metric]
    score = entry["summary"][-1]["mean"]
    if score is None:
        raise RuntimeError(f"{cell.metric} has no value on the test cases; see {results / 'results.json'}.")
    return {"score": score, "larger_is_better": entry["larger_is_better"], "cases": len(content["cases"])}


def _run(run_id: str, cell: ComparisonCell, configs: Sequence[str], options: dict[str, Any]) -> None:
    """Run one of the bundle's ids, and print the command that does the same."""
    files = [cell.config_file(name) for name in configs]
    options = {**cell.common_options(), **options}
    words = [run_id, "--config_file", str(files) if len(files) > 1 else files[0]]
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    print(f"$ python -m monai.bundle run {shlex.join(words)}", flush=True)
    logging_file = str(Path(cell.bundle) / "configs" / "logging.conf")
    monai.bundle.run(run_id, config_file=files, logging_file=logging_file, **options)


def main(argv: Sequence[str]) -> int:
    """Run the cell in a folder; the last line that is printed says why it failed."""
    try:
        run_cell(argv[0])
    except Exception as error:
        traceback.print_exc()
        print(f"error: {reason_of(error)}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
