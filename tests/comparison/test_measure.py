# SPDX-License-Identifier: Apache-2.0
"""What each network of a comparison costs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from monai_sam2adapter import data
from monai_sam2adapter.comparison import ComparisonCell, measure
from monai_sam2adapter.comparison.bundle_facts import check_cells
from monai_sam2adapter.comparison.measure import measure_networks
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.profiling import count_macs
from monai_sam2adapter.networks.utils import reparameterize_model

MakeCell = Callable[..., ComparisonCell]

BUNDLES = Path(__file__).parents[2] / "bundles"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh process takes seconds; the tests of the command have one."""
    monkeypatch.setattr(measure, "ProcessPoolExecutor", lambda *args, **kwargs: ThreadPoolExecutor(1))


class TestMeasureNetworks:
    def test_measures_once_and_keeps_it(
        self, make_cell: MakeCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cells = [make_cell("head only"), make_cell("lw", options={"adapter": "lw"})]
        lines: list[str] = []
        measured = measure_networks(dict.fromkeys(cells, "cpu"), tmp_path, lines.append)
        assert lines == ["Measuring 2 networks on hearts."]
        network = PromptFreeSAM2(adapter="lw", in_channels=1, out_channels=4).eval()
        fused = reparameterize_model(network)
        found = measured["hearts", "lw"]
        assert found["input_shape"] == [1, 1, 32, 32]
        assert found["macs"] == count_macs(fused, torch.rand(1, 1, 32, 32)).total
        assert found["total_parameters"] == sum(p.numel() for p in network.parameters())
        assert found["trained_parameters"] == sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert found["peak_memory"] > 4 * found["total_parameters"]
        assert 0 < measured["hearts", "head only"]["macs"] < found["macs"]
        assert found["macs"] < count_macs(network, torch.rand(1, 1, 32, 32)).total
        assert found["latency"] > 0
        assert f"torch {torch.__version__}" in found["machine"]

        monkeypatch.setattr(measure, "measure_in_turn", lambda cells: [{"macs": 2}] * 2)
        assert measure_networks(dict.fromkeys(cells, "cpu"), tmp_path, lines.append) == measured
        assert len(lines) == 1
        monkeypatch.setattr(measure, "_REVISION", 99)  # what was measured otherwise does not count
        again = measure_networks(dict.fromkeys(cells, "cpu"), tmp_path, lines.append)
        assert again["hearts", "lw"] == {"macs": 2}

    def test_networks_and_weights_that_cannot_be_had_are_named(self, make_cell: MakeCell, tmp_path: Path) -> None:
        for options, message in (
            ({"adapter": "hpp"}, ".*hpp"),
            ({"sam2_checkpoint": "no.pt"}, r"there is no file no\.pt"),
        ):
            with pytest.raises(ValueError, match=f"hearts, lw, seed 0: {message}"):
                measure_networks({make_cell(options=options): "cpu"}, tmp_path, lambda line: None)
        assert not (tmp_path / "costs.json").exists()
        assert measure_networks({make_cell(trunk="not/there/yet.pt"): "cpu"}, tmp_path, lambda line: None)


def test_the_network_of_another_bundle(make_cell: MakeCell, tmp_path: Path) -> None:
    """SAM2-UNeXT has another network, second weights and other metrics."""
    for package in ("timm", "py_sod_metrics"):
        pytest.importorskip(package)
    data.write_pair_phantom(tmp_path / "pairs", num_train=2, num_val=1, num_test=1, progress=False)
    cell = make_cell("bottleneck", dataset="pairs", dataset_dir=str(tmp_path / "pairs"), metric="s_measure")
    options = {"variant": "tiny", "dino_variant": "small", "dino_size": 28, "image_size": 32}
    options["sam2_checkpoint"] = "random"
    cell = replace(cell, bundle=str(BUNDLES / "sam2_unext_segmentation"), options=options)
    check_cells([], [cell])
    (cost,) = measure_networks({cell: "cpu"}, tmp_path, lambda line: None).values()
    assert cost["input_shape"] == [1, 3, 32, 32]
    assert cost["macs"] > 0
