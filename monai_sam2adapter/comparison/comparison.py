# SPDX-License-Identifier: Apache-2.0
"""A comparison from its config to its tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..utils.files import atomic_path
from .cell import ComparisonCell
from .checks import check_cells, check_disk, check_earlier_runs, device_of
from .config import ComparisonConfig
from .costs import describe_machine, measure_costs
from .grid import comparison_cells, trunk_cells, write_phantoms
from .plot import write_plot
from .runner import run_cells
from .tables import cell_rows, markdown_tables, method_rows, write_csv

__all__ = ["run_comparison"]

_MAX_JOBS_ON_CPU = 4


def run_comparison(
    config: ComparisonConfig,
    output_dir: str | os.PathLike[str],
    bundles_dir: str | os.PathLike[str] = "bundles",
    jobs: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, str]:
    """
    Train and evaluate all methods on all data sets with all seeds, and write the tables and the plot.

    Everything that can be checked is checked first, and every network is measured. What is finished in ``output_dir``
    is not run again; a cell that fails is reported and the others go on. After each cell these files are written anew:
    ``results.csv`` (a row for each training), ``table.csv`` and ``table.md`` (mean and deviation over seeds,
    parameters, MACs, latency, peak memory), ``plot.png`` and ``plot.svg`` (score over MACs).

    Args:
        config: what is compared.
        output_dir: folder for everything; made when missing.
        bundles_dir: folder of the bundles. Defaults to "bundles".
        jobs: trainings at a time. Defaults to 1 on a GPU, else to one for each core and 4 at most.
        report: takes lines about the progress.

    Returns:
        the reasons of cells that failed, by what they are.

    Raises:
        ValueError: when something is wrong with the comparison, or another one writes to the folder.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}.")
    output_dir = Path(output_dir).resolve()
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output_dir / ".lock", timeout=0):
            return _run(config, output_dir, Path(bundles_dir).resolve(), jobs, report)
    except Timeout:
        raise ValueError(
            f"another comparison writes to {output_dir}; wait for it, or take another --output_dir."
        ) from None


def _run(
    config: ComparisonConfig, output_dir: Path, bundles_dir: Path, jobs: int | None, report: Callable[[str], None]
) -> dict[str, str]:
    cells = comparison_cells(config, output_dir, bundles_dir)
    trunks = trunk_cells(config, output_dir, bundles_dir)
    write_phantoms(config, output_dir)
    numbers = f"{len(config.datasets) * len(config.methods)} networks, {len(config.seeds)} seeds"
    report(f"{config.title}: {len(cells)} trainings ({numbers}). Checking them.")
    trunks, cells = _check(trunks, cells, config.seeds[0])
    check_earlier_runs([*trunks.values(), *cells], output_dir)
    first = [cell for cell in cells if cell.seed == config.seeds[0]]
    on_gpu = any(device_of(cell).type != "cpu" for cell in first)
    jobs = jobs or (1 if on_gpu else min(_num_cores(), _MAX_JOBS_ON_CPU))
    threads = max(1, _num_cores() // jobs)
    costs = measure_costs(first, output_dir, report)
    check_disk(cells, {place: cost["total_parameters"] for place, cost in costs.items()}, output_dir, jobs)

    report(f"Running {jobs} at a time with {threads} threads each; each writes to log.txt in its folder.")
    failed: dict[ComparisonCell, str] = {}
    if trunks:
        failed |= run_cells(list(trunks.values()), output_dir, jobs, threads, report)
    without_trunk = {file: failed[cell] for file, cell in trunks.items() if cell in failed}
    failed |= {cell: f"its trunk failed: {without_trunk[cell.trunk]}" for cell in cells if cell.trunk in without_trunk}

    def write(errors: Mapping[ComparisonCell, str]) -> None:
        _write_tables(config, cells, output_dir, {**failed, **errors}, costs)

    write({})
    failed |= run_cells([cell for cell in cells if cell not in failed], output_dir, jobs, threads, report, write)
    write({})
    report(f"{output_dir}: results.csv, table.csv, table.md, plot.png, plot.svg.")
    return {str(cell): reason for cell, reason in failed.items()}


def _check(
    trunks: Mapping[str, ComparisonCell], cells: Sequence[ComparisonCell], seed: int
) -> tuple[dict[str, ComparisonCell], list[ComparisonCell]]:
    """Check everything, and let every cell know its data and what its trunk depends on."""
    first = [cell for cell in cells if cell.seed == seed]  # seeds differ in nothing that can be checked
    checksums = check_cells([*trunks.values(), *first])
    of_trunks, of_cells = checksums[: len(trunks)], checksums[len(trunks) :]
    known = {file: replace(cell, cases=cases) for (file, cell), cases in zip(trunks.items(), of_trunks, strict=True)}
    by_place = {(cell.dataset, cell.method): cases for cell, cases in zip(first, of_cells, strict=True)}

    def complete(cell: ComparisonCell) -> ComparisonCell:
        trunk = known.get(str(cell.trunk))
        adapts = {} if trunk is None else {"name": trunk.method, "dataset": trunk.dataset, **trunk.identity()}
        return replace(cell, cases=by_place[cell.dataset, cell.method], adapts=adapts)

    return known, [complete(cell) for cell in cells]


def _write_tables(
    config: ComparisonConfig,
    cells: Sequence[ComparisonCell],
    output_dir: Path,
    errors: Mapping[ComparisonCell, str],
    costs: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    per_cell = cell_rows(cells, output_dir, errors)
    per_method = method_rows(per_cell, costs)
    write_csv(per_cell, output_dir / "results.csv")
    write_csv(per_method, output_dir / "table.csv")
    text = markdown_tables(config.title, per_method, _notes(config, per_cell, costs))
    with atomic_path(output_dir / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_plot(config.title, per_method, output_dir)


def _notes(
    config: ComparisonConfig,
    rows: Sequence[Mapping[str, Any]],
    costs: Mapping[tuple[str, str], Mapping[str, Any]],
) -> list[str]:
    """What a reader has to know to compare the numbers with others."""
    notes = []
    for dataset in config.datasets:
        own = [row for row in rows if row["dataset"] == dataset and row["state"] == "finished"]
        shapes = sorted({str(tuple(cost["input_shape"])) for place, cost in costs.items() if place[0] == dataset})
        trunk = config.datasets[dataset].get("trunk")
        options = config.options_of(dataset, next(iter(config.methods)))
        weights = options.get("sam2_checkpoint", "what the bundle names as sam2_checkpoint")
        if trunk:
            weights = f"the trunk {trunk}, trained on {config.trunks[trunk]['dataset']} first"
        cases = f"{own[0]['cases']} test cases" if own else "not evaluated yet"
        notes.append(f"{dataset}: {cases}; costs of one image of {', '.join(shapes)}; adapts {weights}.")
    notes += [f"{dataset}, {method}: {cost['choice']}" for (dataset, method), cost in costs.items() if cost["choice"]]
    missing = sum(row["state"] != "finished" for row in rows)
    if missing:
        notes.append(f"{missing} of {len(rows)} trainings have no score; see results.csv.")
    if len(config.seeds) > 1:
        notes.append("± is the standard deviation over seeds, of a sample. It holds no other source of chance.")
    notes.append(
        "MACs count linear layers, convolutions, deformable ones, attention and resampling; latency and peak memory "
        "are those of a forward pass in float32. All three are those of inference, with LW-Adapters and LoRA fused. "
        f"{describe_machine(costs)}"
    )
    return notes


def _num_cores() -> int:
    """Cores that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
