# SPDX-License-Identifier: Apache-2.0
"""All folds of a data set: trained, each evaluated on its own test part, and the cases of all put together."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datasets.kept_description import FIXED_BY_WEIGHTS
from ..reports import evaluation_results, format_results_text, write_report
from ..utils.files import read_json
from .bundle_facts import check_cells, parse, reason_of
from .comparison import locked_folder, require_space
from .config import OWN_KEYS, check_training_options
from .grid import ComparisonCell
from .processes import check_jobs, jobs_and_threads, run_cells
from .tables import cell_rows, write_csv

__all__ = ["train_folds"]

_OF_A_WHOLE_SET = ("e_max", "f_max")  # their threshold is the best one for the cases of one evaluation
_BASE_WEIGHTS = ("sam2_checkpoint", "dinov2_checkpoint")  # a model.pt holds them


def train_folds(
    bundle: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    folds: int = 5,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    jobs: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """
    Train and evaluate a bundle on the folds 0, 1, ... of a data set, and pool the scores of all their cases.

    Everything that can be checked is checked first. Each fold is trained as ``training`` of the bundle does, and its
    ``model.pt`` evaluated on its part ``test``, in ``fold_0``, ``fold_1``, ... A bundle that describes the data
    (classes, normalization, slices) does so once, by the training cases of fold 0: folds with different ones could not
    be an ensemble. What is finished is not run again, a fold that was stopped goes on from its last epoch, and one that
    fails is reported while the others go on. ``folds.csv`` has a row for each fold; ``pooled`` holds, when all are
    finished, the files of an evaluation whose cases are those of all folds.

    Args:
        bundle: folder of the bundle.
        dataset_dir: the data set.
        output_dir: folder for everything; made when missing.
        folds: number of folds, at least 2. Defaults to 5.
        options: keys of the bundle's train.json, "#" included. Defaults to none.
        seed: seed of all trainings. Defaults to 0.
        jobs: trainings at a time. Defaults to 1 on a GPU, else to one for each core and 4 at most.
        report: takes lines about the progress, the pooled table, and the command of inference by all folds.

    Returns:
        the reasons of folds that failed, by what they are.

    Raises:
        ValueError: when the bundle or the data have no such folds, an option is wrong, an earlier run in the folder was
            another one, another one writes to it, or the data or the weights of SAM 2 cannot be used.
    """
    check_jobs(jobs)
    options = dict(options or {})
    check_training_options(options, "--set", (*OWN_KEYS, "fold"))
    with locked_folder(output_dir) as folder:
        cells = _make_cells(Path(bundle), Path(dataset_dir), folder, folds, options, seed)
        report(f"{cells[0].dataset}: {folds} trainings of {Path(bundle).resolve().name}. Checking them.")
        facts = check_cells([], cells)
        described, parameters = _prepare(cells[0])
        cells = [
            replace(cell, options={**described, **cell.options}, cases=facts[cell.place].cases)
            for cell in (replace(cell, epochs=facts[cell.place].epochs) for cell in cells)
        ]
        for cell in cells:
            cell.check_earlier_run()
        jobs, threads = jobs_and_threads(jobs, [fact.device for fact in facts.values()])
        require_space(folder, [parameters for cell in cells if cell.result() is None], jobs)
        report(f"Running {jobs} at a time with {threads} threads each; each writes to log.txt in its folder.")

        def write_table(errors: Mapping[ComparisonCell, str]) -> None:
            write_csv(cell_rows(cells, errors), folder / "folds.csv")

        failed = run_cells(cells, jobs, threads, report, write_table)
        write_table(failed)
        if failed:
            report(f"{folder}: folds.csv. Nothing is pooled before all folds are finished; run the same command again.")
        else:
            pooled = _pool(cells)
            write_report(pooled, folder / "pooled")
            report(f"\n{format_results_text(pooled)}\n\n{folder}: folds.csv, and pooled with report.html.")
            report(f"To segment by the mean of all folds:\n  {_inference_command(cells, options)}")
        return {str(cell): reason for cell, reason in failed.items()}


def _make_cells(
    bundle: Path, dataset_dir: Path, folder: Path, folds: int, options: Mapping[str, Any], seed: int
) -> list[ComparisonCell]:
    bundle, dataset_dir = bundle.expanduser().resolve(), dataset_dir.expanduser().resolve()
    train, evaluate = (read_json(bundle / "configs" / f"{name}.json") for name in ("train", "evaluate"))
    if train is None or evaluate is None:
        raise ValueError(f"there are no configs/train.json and evaluate.json in {bundle}; name the folder of a bundle.")
    if "fold" not in train:
        raise ValueError(
            f"{bundle.name} knows no folds: its train.json has no key 'fold', by which its lists of cases choose one. "
            "Train it by `python -m monai.bundle run training`, or add the key."
        )
    if not dataset_dir.exists():
        raise ValueError(f"there is no {dataset_dir}; give the folder of the data set as --dataset_dir.")
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}; for one, run the bundle's training.")
    return [
        ComparisonCell(
            dataset=dataset_dir.stem,
            method=f"fold {fold}",
            seed=seed,
            bundle=str(bundle),
            dataset_dir=str(dataset_dir),
            metric=evaluate["metrics"][0],
            folder=str(folder / f"fold_{fold}"),
            options={**options, "fold": fold},
        )
        for fold in range(folds)
    ]


def _prepare(cell: ComparisonCell) -> tuple[dict[str, Any], int]:
    """What a fold found out about the data, for all to share, and the number of parameters of its network."""
    parser = parse(cell, "train")
    # not on a GPU, which the trainings may need for themselves; an earlier run has its description kept
    parser.update({"device": "cpu", "output_dir": str(cell.models)})
    keys = [key for key in FIXED_BY_WEIGHTS if "description" in parser and key in parser]
    try:
        described = {key: parser.get_parsed_content(key) for key in keys}
        network = parser.get_parsed_content("network")  # with SAM 2's weights, or an error
    except Exception as error:  # MONAI wraps what a config raises in errors of its own
        raise ValueError(f"{cell}: {reason_of(error)}") from error
    described = {key: value for key, value in described.items() if value is not None}
    return described, sum(parameter.numel() for parameter in network.parameters())


def _pool(cells: Sequence[ComparisonCell]) -> dict[str, Any]:
    """The results of an evaluation whose cases are those of all folds."""
    results: list[Any] = [read_json(Path(cell.folder) / "eval" / "results.json") for cell in cells]
    first, matrices = results[0], [result["confusion_matrix"] for result in results]
    counts = Counter(case for result in results for case in result["cases"])
    cases = [
        case if counts[case] == 1 else f"{case} ({cell.method})"
        for cell, result in zip(cells, results, strict=True)
        for case in result["cases"]
    ]
    scores = {  # JSON has null for NaN
        name: np.concatenate([np.array(result["metrics"][name]["values"], dtype=float) for result in results])
        for name in first["metrics"]
        if name not in _OF_A_WHOLE_SET
    }
    confusions = None if None in matrices else np.concatenate([np.array(matrix["case_counts"]) for matrix in matrices])
    background = first["confusion_matrix"]["class_names"][0] if confusions is not None else "background"
    times = "once" if len(counts) == len(cases) else "some in several folds, by each fold's own network"
    about = {
        **{key: value for key, value in first["about"].items() if key != "fold"},
        "folds": f"{len(cells)}; {len(counts)} cases, tested {times}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": "one for each fold: " + "; ".join(result["about"]["checkpoint"] for result in results),
    }
    left_out = [name for name in first["metrics"] if name in _OF_A_WHOLE_SET]
    if left_out:
        about["left out"] = f"{', '.join(left_out)}, which have one threshold for all cases; see each fold's own"
    pooled = evaluation_results(cases, first["class_names"], scores, confusions, background)
    return {"title": f"{first['title']}, {len(cells)} folds", "about": about, **pooled}


def _inference_command(cells: Sequence[ComparisonCell], options: Mapping[str, Any]) -> str:
    """How to segment by an ensemble of all folds, with those of the options that inference has, too."""
    known: Mapping[str, Any] = read_json(cells[0].config_file("inference")) or {}
    words = {
        "config_file": cells[0].config_file("inference"),
        "logging_file": str(Path(cells[0].bundle) / "configs" / "logging.conf"),
        "bundle_root": cells[0].bundle,
        "checkpoint_file": [str(cell.models / "model.pt") for cell in cells],
        **{k: value for k, value in options.items() if k.partition("#")[0] in known and k not in _BASE_WEIGHTS},
        "dataset_dir": "IMAGES",
        "output_dir": "SEGMENTATIONS",
    }
    written = [f"--{key} {_quoted(str(value))}" for key, value in words.items()]
    return " ".join(["python -m monai.bundle run inference", *written])


def _quoted(text: str) -> str:
    """For a shell, with the double quotes that a list of texts is easier to read in."""
    return f'"{text}"' if text.startswith("[") and not set(text) & set('"$`\\!') else shlex.quote(text)
