# SPDX-License-Identifier: Apache-2.0
"""Cells in processes: order, failures, interruption, time left. The worker is replaced by a script of a few lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_sam2adapter.comparison import ComparisonCell, processes
from monai_sam2adapter.comparison.processes import format_seconds, run_cells, seconds_left
from monai_sam2adapter.utils import write_json

MakeCell = Callable[..., ComparisonCell]
WORKER = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
cell = json.loads((folder / "cell.json").read_text())
method, order = cell["method"], folder.parent / "order.txt"
with order.open("a") as file:
    file.write(f"{method} {cell['seed']} {os.environ['OMP_NUM_THREADS']}\\n")
if method == "fails":
    print("error: no luck", file=sys.stderr)
    sys.exit(1)
if method == "killed":
    os.kill(os.getpid(), 9)
if method == "endless":
    print("Epoch 1/8:  50%\\nEpoch 3/8:  50%", flush=True)
    time.sleep(600)
(folder / "result.json").write_text(json.dumps({"score": 0.25, "seconds": 1.0}))
"""


@pytest.fixture(autouse=True)
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "worker.py"
    path.write_text(WORKER, encoding="utf-8")
    monkeypatch.setattr(processes, "_COMMAND", (sys.executable, str(path)))


class TestRunCells:
    def test_all_run_in_order_each_is_reported_and_once_is_enough(self, make_cell: MakeCell, tmp_path: Path) -> None:
        cells = [make_cell("hp", 0), make_cell("lw", 0), make_cell("hp", 1)]
        lines: list[str] = []
        ended: list[int] = []
        assert run_cells(cells, 1, 3, lines.append, lambda errors: ended.append(len(errors))) == {}
        assert (tmp_path / "cells" / "order.txt").read_text().split("\n")[:3] == ["hp 0 3", "lw 0 3", "hp 1 3"]
        assert ended == [0, 0, 0]
        assert lines[0].startswith("[1/3] hearts, hp, seed 0: miou_pooled 0.2500 (")
        assert "left" in lines[0]
        assert "left" not in lines[2]
        run_cells([*cells, make_cell("lw", 1)], 1, 1, lines.append)
        assert (tmp_path / "cells" / "order.txt").read_text().splitlines()[3:] == ["lw 1 1"]
        assert lines[3] == "3 of 4 are finished already."

    def test_a_failed_cell_is_reported_and_the_others_go_on(self, make_cell: MakeCell, tmp_path: Path) -> None:
        cells = [make_cell("fails"), make_cell("killed"), make_cell("hp")]
        lines: list[str] = []
        told: list[int] = []
        errors = run_cells(cells, 2, 1, lines.append, lambda failed: told.append(len(failed)))
        assert told[-1] == 2  # while the others go on, the tables can say so
        assert set(errors) == set(cells[:2])
        assert errors[cells[0]].startswith("no luck (see ")
        assert errors[cells[1]].startswith("ended by signal 9 (9 is often the system's answer to too little memory)")
        assert any("fails, seed 0: FAILED, no luck" in line for line in lines)
        assert cells[2].result() is not None

    def test_a_link_in_the_place_of_the_log_is_not_written_through(self, make_cell: MakeCell, tmp_path: Path) -> None:
        cell, others = make_cell("fails"), tmp_path / "others.txt"
        others.write_text("theirs")
        cell.write()
        (Path(cell.folder) / "log.txt").symlink_to(others)
        assert run_cells([cell], 1, 1, lambda line: None)[cell].startswith("no luck")
        assert others.read_text() == "theirs"

    def test_a_table_that_cannot_be_written_does_not_end_the_others(self, make_cell: MakeCell, tmp_path: Path) -> None:
        def fail(errors: object) -> None:
            raise PermissionError("table.csv is open elsewhere")

        lines: list[str] = []
        assert run_cells([make_cell("hp"), make_cell("lw")], 1, 1, lines.append, fail) == {}
        assert lines.count("Not written: table.csv is open elsewhere") == 2

    def test_long_trainings_tell_their_epoch_and_the_time_left(
        self, make_cell: MakeCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "_STATUS_SECONDS", 1.0)
        lines: list[str] = []

        def stop_at_an_epoch(line: str) -> None:
            lines.append(line)
            if "epoch" in line:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_cells([make_cell("endless")], 1, 1, stop_at_an_epoch)
        assert lines[-1].startswith("Running: hearts, endless, seed 0, epoch 3 of 8; about ")
        assert lines[-1].endswith(" left")

    def test_an_interruption_ends_the_cells_that_run(self, make_cell: MakeCell, tmp_path: Path) -> None:
        def interrupt(line: str) -> None:
            raise KeyboardInterrupt

        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            run_cells([make_cell("endless"), make_cell("hp")], 2, 1, interrupt)
        assert time.perf_counter() - start < 60
        assert make_cell("endless").result() is None


class TestSecondsLeft:
    @pytest.fixture
    def finished(self, make_cell: MakeCell) -> list[ComparisonCell]:
        seconds = {make_cell("hp", 0): 10, make_cell("hp", 1): 30, make_cell("lw", 0): 100}
        seconds[make_cell("far", 0, dataset="cells")] = 1000
        for cell, number in seconds.items():
            write_json({"seconds": number}, cell.result_file)
        return list(seconds)

    def test_the_same_method_counts_first_then_the_data_set_then_all(
        self, make_cell: MakeCell, finished: list[ComparisonCell]
    ) -> None:
        assert seconds_left([make_cell("new")], {}, 1) is None
        for expected, cell in (
            (20, make_cell("hp", 2)),
            (140 / 3, make_cell("none", 0)),
            (285, make_cell("none", 0, dataset="other")),
        ):
            assert seconds_left([*finished, cell], {}, 1) == pytest.approx(expected)

    def test_several_run_at_a_time_and_what_was_spent_counts(
        self, make_cell: MakeCell, finished: list[ComparisonCell]
    ) -> None:
        left = [make_cell("hp", seed) for seed in range(2, 6)]
        assert seconds_left([*finished, *left], {left[0]: (6.0, None)}, 2) == (4 * 20 - 6) / 2
        assert seconds_left([*finished, *left], {left[0]: (6.0, 50.0)}, 2) == (4 * 30 - 6) / 2
        assert seconds_left([*finished, left[0]], {left[0]: (60.0, None)}, 2) == 0
        assert seconds_left(finished, {}, 2) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (65, "1 min 5 s"), (3599.7, "1 h 0 min"), (7380, "2 h 3 min")]
)
def test_format(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
