# SPDX-License-Identifier: Apache-2.0
"""A comparison from its config to its tables."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from .bundle_facts import check_cells
from .config import ComparisonConfig
from .grid import ComparisonCell, build_grid, write_phantoms
from .measure import measure_networks
from .plot import write_plot
from .processes import check_jobs, jobs_and_threads, run_cells
from .tables import cell_rows, method_rows, table_values, write_csv, write_markdown

__all__ = ["Comparison", "locked_folder", "require_space", "run_comparison"]


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
    with locked_folder(output_dir) as folder:
        comparison = Comparison(config, folder, bundles_dir, jobs, report)
        comparison.check_disk(comparison.cells, comparison.jobs)
        failed = comparison.run_trunks()
        comparison.write_tables(failed)
        runnable = [cell for cell in comparison.cells if cell not in failed]
        failed |= comparison.run(runnable, ended=lambda errors: comparison.write_tables({**failed, **errors}))
        comparison.write_tables(failed)
        report(f"{folder}: results.csv, table.csv, table.md, plot.png, plot.svg.")
        return {str(cell): reason for cell, reason in failed.items()}


class Comparison:
    """The cells of a comparison, checked and measured; the arguments are those of :func:`run_comparison`."""

    def __init__(
        self,
        config: ComparisonConfig,
        folder: Path,
        bundles_dir: str | os.PathLike[str],
        jobs: int | None,
        report: Callable[[str], None],
    ) -> None:
        check_jobs(jobs)
        self.config, self.folder, self.report = config, folder, report
        trunks, cells = build_grid(config, folder, Path(bundles_dir).resolve())
        write_phantoms(config, folder)
        numbers = f"{len(config.datasets) * len(config.methods)} networks, {len(config.seeds)} seeds"
        report(f"{config.title}: {len(cells)} trainings ({numbers}). Checking them.")

        # seeds differ in nothing that can be checked
        self.facts = check_cells(trunks, [cell for cell in cells if cell.seed == config.seeds[0]])

        def with_facts(cell: ComparisonCell, adapts: Mapping[str, object]) -> ComparisonCell:
            facts = self.facts[cell.place]
            return replace(cell, cases=facts.cases, epochs=facts.epochs, adapts=adapts)

        self.trunks: list[ComparisonCell] = []
        adapts: dict[str, Mapping[str, object]] = {}
        for cell in trunks:
            trunk = with_facts(cell, adapts.get(str(cell.trunk), {}))
            self.trunks.append(trunk)
            adapts[trunk.trunk_file] = {"name": trunk.method, "dataset": trunk.dataset, **trunk.identity()}
        self.cells = [with_facts(cell, adapts.get(str(cell.trunk), {})) for cell in cells]
        for cell in [*self.trunks, *self.cells]:
            cell.check_earlier_run()
        devices = {cell: self.facts[cell.place].device for cell in self.cells if cell.seed == config.seeds[0]}
        self.jobs, self.threads = jobs_and_threads(jobs, devices.values())
        self.run = partial(run_cells, jobs=self.jobs, threads=self.threads, report=report)
        self.costs = measure_networks(devices, folder, report)

    def run_trunks(self) -> dict[ComparisonCell, str]:
        """Train the trunks; returns those that failed, and the cells that cannot be trained without them."""
        numbers = f"{self.jobs} at a time with {self.threads} threads each"
        self.report(f"Running {numbers}; each writes to log.txt in its folder.")
        failed: dict[ComparisonCell, str] = {}
        waiting = self.trunks
        while waiting:
            unfinished = {cell.trunk_file for cell in waiting}
            failed |= self.run([cell for cell in waiting if cell.trunk not in unfinished])
            waiting = [cell for cell in waiting if cell.trunk in unfinished]
            failed |= _without_trunk(waiting, failed)
            waiting = [cell for cell in waiting if cell not in failed]
        return {**failed, **_without_trunk(self.cells, failed)}

    def check_disk(self, cells: Sequence[ComparisonCell], num_checkpoints: int) -> None:
        """Check that there is space for the weights of all cells to be run, and for some checkpoints at a time."""
        left = [cell for cell in cells if cell.result() is None]
        require_space(self.folder, [self.costs[cell.place]["total_parameters"] for cell in left], num_checkpoints)

    def write_tables(self, errors: Mapping[ComparisonCell, str]) -> None:
        """Write all tables and the plot, given what has failed so far."""
        cells = cell_rows(self.cells, errors)
        methods = method_rows(cells, self.costs)
        write_csv(cells, self.folder / "results.csv")
        write_csv(methods, self.folder / "table.csv")
        write_markdown(self.folder / "table.md", **table_values(self.config, cells, methods, self.costs))
        write_plot(self.config.title, methods, self.folder)


def require_space(folder: Path, parameters: Sequence[int], num_checkpoints: int) -> None:
    """Check that a folder has space for the weights of trainings, by their numbers, and some checkpoints at a time."""
    sizes = [4 * number for number in parameters]
    # with an optimizer that keeps two numbers for each weight
    needed, free = sum(sizes) + num_checkpoints * 3 * max(sizes, default=0), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"the weights of {len(sizes)} trainings need {needed / 1e9:.1f} GB in {folder}, there are "
            f"{free / 1e9:.1f} GB; free some, or take another --output_dir."
        )


def _without_trunk(cells: Sequence[ComparisonCell], failed: Mapping[ComparisonCell, str]) -> dict[ComparisonCell, str]:
    """The cells whose trunk failed, and why."""
    reasons = {cell.trunk_file: reason for cell, reason in failed.items()}
    return {cell: f"its trunk failed: {reasons[cell.trunk]}" for cell in cells if cell.trunk in reasons}


@contextmanager
def locked_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder and keep other runs out of it, which get an error."""
    path = Path(folder).resolve()
    path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path / ".lock", timeout=0):
            yield path
    except Timeout:
        raise ValueError(f"another run writes to {path}; wait for it, or take another --output_dir.") from None
