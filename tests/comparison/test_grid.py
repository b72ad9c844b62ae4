# SPDX-License-Identifier: Apache-2.0
"""Cells, their files, and the grid of a config."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_sam2adapter.comparison import ComparisonCell, ComparisonConfig
from monai_sam2adapter.comparison.grid import build_grid
from monai_sam2adapter.utils import write_json

BUNDLES = Path(__file__).parents[2] / "bundles"
MakeCell = Callable[..., ComparisonCell]


class TestComparisonCell:
    def test_is_read_as_it_was_written(self, make_cell: MakeCell) -> None:
        cell = make_cell(trunk="somewhere/trunk.pt")
        assert ComparisonCell.read(cell.folder) is None
        cell.write()
        assert ComparisonCell.read(cell.folder) == cell
        assert cell.result() is None
        write_json({"score": 0.5}, cell.result_file)
        assert ComparisonCell.read(cell.folder).result() == {"score": 0.5}

    def test_other_settings_are_refused_but_for_those_of_place_and_machine(self, make_cell: MakeCell) -> None:
        make_cell().check_earlier_run()
        make_cell().write()
        moved = {"dataset_dir": "elsewhere", "bundle": "other/acdc_cardiac_segmentation"}
        make_cell(**moved, options={"device": "cuda", "epochs": 2.0}).check_earlier_run()
        other = {"metric": "dice", "trunk": "t.pt", "adapts": {"name": "membranes"}, "cases": "ab12"}
        for arguments, differences in (
            (
                {**other, "options": {"epochs": 5}},
                'checksum of the cases was "", is "ab12"; epochs was 2, is 5; metric was "miou_pooled", is "dice"; '
                'trunk name was left out, is "membranes"',
            ),
            ({"options": {"learning_rate": 0.1}}, "learning_rate was left out, is 0.1"),
            ({"seed": 1, "folder": make_cell().folder}, "seed was 0, is 1"),
        ):
            with pytest.raises(
                ValueError, match=re.escape(f"with other settings: {differences}. Take another --output")
            ):
                make_cell(**arguments).check_earlier_run()

    def test_a_trunk_takes_the_place_of_sam2s_weights(self, make_cell: MakeCell) -> None:
        assert make_cell(trunk="trunk.pt").common_options()["sam2_checkpoint"] == "trunk.pt"
        assert make_cell().common_options()["sam2_checkpoint"] == "random"


def test_a_cell_for_each_data_set_method_and_seed_and_trunks_before(tmp_path: Path) -> None:
    config = ComparisonConfig(
        title="A grid",
        datasets={
            "hearts": {"bundle": "acdc_cardiac_segmentation", "dataset_dir": str(tmp_path), "trunk": "membranes"},
            "cells": {"bundle": "isbi2012_membrane_segmentation", "phantom": {"kind": "isbi2012"}, "metric": "dice"},
        },
        methods={"hp": {"adapter": "hp"}, "none": {"adapter": "none"}},
        seeds=[0, 3],
        trunks={"membranes": {"dataset": "cells"}},
    )
    (trunk,), cells = build_grid(config, tmp_path / "out", Path("bundles"))
    assert [str(cell) for cell in cells[:4]] == [
        *("hearts, hp, seed 0", "hearts, none, seed 0", "cells, hp, seed 0", "cells, none, seed 0")
    ]
    assert (len(cells), cells[4].seed) == (8, 3)
    assert cells[4].folder == str(tmp_path / "out" / "cells" / "hearts" / "hp" / "seed_3")
    assert (str(trunk), trunk.metric) == ("trunk membranes, on cells", None)
    assert cells[0].trunk == trunk.trunk_file == str(tmp_path / "out" / "trunks" / "membranes" / "trunk.pt")
    assert (cells[0].metric, cells[2].metric, cells[2].trunk) == ("miou_pooled", "dice", None)
    assert cells[2].dataset_dir == trunk.dataset_dir == str(tmp_path / "out" / "phantoms" / "cells")


def test_a_trunk_starts_from_one_before_it(tmp_path: Path) -> None:
    datasets = {name: {"bundle": "acdc_cardiac_segmentation", "dataset_dir": str(tmp_path)} for name in "abc"}
    arguments = {"title": "A chain", "methods": {"none": {"adapter": "none"}}, "seeds": [0]}
    trunks = {"a": {"dataset": "a"}, "ab": {"dataset": "b", "trunk": "a"}, "b": {"dataset": "b"}}
    datasets["c"]["trunk"] = "ab"
    config = ComparisonConfig(datasets=datasets, trunks=trunks, **arguments)
    cells, (*_, last) = build_grid(config, tmp_path / "out", Path("bundles"))
    assert [cell.trunk for cell in cells] == [None, cells[0].trunk_file, None]
    assert last.trunk == cells[1].trunk_file
    assert [config.seen_by(name) for name in trunks] == [["a"], ["a", "b"], ["b"]]
    for wrong in ("ab", "b", "d"):
        trunks["ab"]["trunk"] = wrong
        with pytest.raises(ValueError, match=re.escape(f"trunks#ab#trunk is {wrong!r}, which is none of those before")):
            ComparisonConfig(datasets=datasets, trunks=trunks, **arguments)


def test_a_network_of_its_own_gets_what_it_can_take_and_adapts_no_trunk(tmp_path: Path) -> None:
    unet = {"_target_": "monai.networks.nets.UNet", "spatial_dims": 2, "channels": [8, 16], "strides": [2]}
    config = ComparisonConfig(
        title="Ours and MONAI's",
        datasets={
            "hearts": {
                "bundle": "acdc_cardiac_segmentation",
                "dataset_dir": str(tmp_path),
                "trunk": "cells",
                "options": {"adapter_config#bottleneck_ratio": 0.5, "image_size": 64},
            }
        },
        methods={"lw": {"adapter": "lw"}, "UNet": {"network_def": unet, "learning_rate": 0.01}},
        seeds=[0],
        options={"epochs": 2, "learning_rate": 0.001, "variant": "small"},
        trunks={"cells": {"dataset": "hearts", "options": {"adapter": "full"}}},
        overrides={"frozen_dtype": "bfloat16", "batch_size": 4},
    )
    _, (ours, other) = build_grid(config, tmp_path, BUNDLES)
    assert (ours.trunk is None, ours.options["variant"], ours.options["frozen_dtype"]) == (False, "small", "bfloat16")
    assert other.trunk is None
    channels = {"in_channels": "$1 + 2 * @num_neighbors", "out_channels": "@num_classes"}
    shared = {"epochs": 2, "learning_rate": 0.01, "image_size": 64, "batch_size": 4}
    assert other.options == {**shared, "network_def": {**channels, **unet}}
