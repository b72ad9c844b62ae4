# SPDX-License-Identifier: Apache-2.0
"""What each network of a comparison costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from monai_sam2adapter import data
from monai_sam2adapter.comparison import ComparisonCell, costs
from monai_sam2adapter.comparison.checks import check_cells
from monai_sam2adapter.comparison.costs import measure_costs
from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.profiling import count_macs
from monai_sam2adapter.networks.utils import reparameterize_model

MakeCell = Callable[..., ComparisonCell]

BUNDLES = Path(__file__).parents[2] / "bundles"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh process takes seconds; the tests of the command have one."""
    monkeypatch.setattr(costs, "in_own_process", lambda function, *args: function(*args))


class TestMeasureCosts:
    def test_measures_once_and_keeps_it(
        self, make_cell: MakeCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cells = [make_cell("head only"), make_cell("lw", options={"adapter": "lw"})]
        lines: list[str] = []
        measured = measure_costs(dict.fromkeys(cells, "cpu"), tmp_path, lines.append)
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

        monkeypatch.setattr(costs, "measure", lambda *args: pytest.fail("measured again"))
        assert measure_costs(dict.fromkeys(cells, "cpu"), tmp_path, lines.append) == measured
        assert len(lines) == 1

    def test_numbers_that_were_measured_otherwise_are_not_kept(
        self, make_cell: MakeCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(costs, "measure", lambda cells, devices: [{"macs": 1}])
        measure_costs({make_cell(): "cpu"}, tmp_path, lambda line: None)
        monkeypatch.setattr(costs, "_REVISION", 99)
        monkeypatch.setattr(costs, "measure", lambda cells, devices: [{"macs": 2}])
        assert measure_costs({make_cell(): "cpu"}, tmp_path, lambda line: None) == {("hearts", "lw"): {"macs": 2}}

    def test_a_network_that_cannot_be_built_is_named(self, make_cell: MakeCell, tmp_path: Path) -> None:
        cell = make_cell("mistaken", options={"adapter": "hpp"})
        with pytest.raises(ValueError, match=r"hearts, mistaken, seed 0: .*hpp"):
            measure_costs({cell: "cpu"}, tmp_path, lambda line: None)
        assert not (tmp_path / "costs.json").exists()

    def test_missing_weights_are_found_before_the_training(self, make_cell: MakeCell, tmp_path: Path) -> None:
        cell = make_cell(options={"sam2_checkpoint": "absent.pt"})
        with pytest.raises(ValueError, match=r"hearts, lw, seed 0: there is no file absent\.pt"):
            measure_costs({cell: "cpu"}, tmp_path, lambda line: None)
        assert measure_costs({make_cell(trunk="not/there/yet.pt"): "cpu"}, tmp_path, lambda line: None)


def test_the_network_of_another_bundle(tmp_path: Path) -> None:
    """SAM2-UNeXT has another network, second weights and other metrics."""
    for package in ("timm", "py_sod_metrics"):
        pytest.importorskip(package)
    data.write_pair_phantom(tmp_path / "pairs", num_train=2, num_val=1, num_test=1, progress=False)
    options = {
        "variant": "tiny",
        "dino_variant": "small",
        "dino_size": 28,
        "image_size": 32,
        "sam2_checkpoint": "random",
    }
    cell = ComparisonCell(
        dataset="pairs",
        method="bottleneck",
        seed=0,
        bundle=str(BUNDLES / "sam2_unext_segmentation"),
        dataset_dir=str(tmp_path / "pairs"),
        metric="s_measure",
        folder=str(tmp_path / "cell"),
        options=options,
    )
    check_cells([], [cell])
    (cost,) = measure_costs({cell: "cpu"}, tmp_path, lambda line: None).values()
    assert cost["input_shape"] == [1, 3, 32, 32]
    assert cost["macs"] > 0
