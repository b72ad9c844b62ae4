# SPDX-License-Identifier: Apache-2.0
"""What each network of a comparison costs."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ..networks.adapter_choice import AUTO_ADAPTER, read_adapter_choice
from ..networks.profiling import device_name, latencies_in_turn, profile_network
from ..networks.utils import reparameterize_model
from ..networks.weights import prepare_base_weights
from ..utils.files import read_json, write_json
from .cell import ComparisonCell
from .checks import device_of, parse, reason_of

__all__ = ["describe_machine", "measure_costs"]

_FILE = "costs.json"
# raised when something is measured in another way, so that older numbers are not taken for the same
_REVISION = 2
_REPEATS = 5


def measure_costs(
    cells: Sequence[ComparisonCell], output_dir: Path, report: Callable[[str], None]
) -> dict[tuple[str, str], dict[str, Any]]:
    """
    Build every network, give it its weights, and measure it: parameters as it is trained, and MACs, latency and peak
    memory of one image as in inference, LW-Adapters and LoRA fused.

    The networks of a data set are timed in turn, so that a slow moment of the machine hits all of them. It is done in a
    process of its own, which leaves the whole GPU to the trainings. What was measured is kept in ``costs.json``, for
    the same networks on the same machine.

    Args:
        cells: one for each method and data set.
        output_dir: folder of the comparison.
        report: takes a line for each data set that is measured.

    Returns:
        by data set and method ``input_shape``, ``trained_parameters``, ``total_parameters``, ``macs``, ``latency`` in
        seconds, ``peak_memory`` in bytes, ``machine``, and ``choice``, what adapter "auto" has chosen and why.

    Raises:
        ValueError: when a network cannot be built, or its weights do not fit; the message names it.
    """
    kept: dict[str, Any] = read_json(output_dir / _FILE) or {}
    costs: dict[tuple[str, str], dict[str, Any]] = {}
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        own = [cell for cell in cells if cell.dataset == dataset]
        keys = {cell: _key_of(cell) for cell in own}
        if any(keys[cell] not in kept for cell in own):
            report(f"Measuring {len(own)} networks on {dataset}.")
            for cell, cost in zip(own, in_own_process(measure, own, output_dir), strict=True):
                kept[keys[cell]] = cost
            write_json(kept, output_dir / _FILE)
        costs |= {(dataset, cell.method): kept[keys[cell]] for cell in own}
    return costs


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a fresh process, which takes all memory with it when it ends, that of a GPU too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_silence) as pool:
        return pool.submit(function, *args).result()


def describe_machine(costs: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Where the costs were measured, as a sentence."""
    return "Measured on " + "; ".join(dict.fromkeys(cost["machine"] for cost in costs.values())) + "."


def measure(cells: Sequence[ComparisonCell], output_dir: Path) -> list[dict[str, Any]]:
    """The costs of the networks of one data set, in the order of the cells."""
    networks: dict[str, torch.nn.Module] = {}
    costs: list[dict[str, Any]] = []
    devices = {str(cell): device_of(cell) for cell in cells}
    for cell in cells:
        device = devices[str(cell)]
        try:
            network, shape, choice = _build(cell, output_dir)
            counts = [(p.numel(), p.requires_grad) for p in network.parameters()]
            networks[str(cell)] = reparameterize_model(network.eval(), inplace=True)
            # one network on the device at a time: on a GPU, all that is there counts as memory
            profile = profile_network(network, shape, repeats=1, device=device)
        except Exception as error:  # MONAI wraps what a config raises in errors of its own
            raise ValueError(f"{cell}: {reason_of(error)}") from error
        cost = {
            "input_shape": list(shape),
            "trained_parameters": sum(count for count, trained in counts if trained),
            "total_parameters": sum(count for count, _ in counts),
            "macs": profile.macs.total,
            "peak_memory": profile.peak_memory,
            "machine": _machine(device),
            "choice": choice,
        }
        costs.append(cost)
    for name, network in networks.items():
        network.to(devices[name])
    shapes = {str(cell): cost["input_shape"] for cell, cost in zip(cells, costs, strict=True)}
    latencies = latencies_in_turn(networks, shapes, _REPEATS)
    return [{**cost, "latency": latencies[str(cell)]} for cell, cost in zip(cells, costs, strict=True)]


def _build(cell: ComparisonCell, output_dir: Path) -> tuple[torch.nn.Module, tuple[int, ...], str]:
    """The network as training starts with it, the shape of one image, and what adapter "auto" has chosen."""
    # a training writes that beside its weights, which are not there yet
    folder = output_dir / "choices" / cell.dataset / cell.method
    parser = parse(cell, "train", output_dir=str(folder))
    is_auto = parser["adapter"] == AUTO_ADAPTER
    if is_auto:
        parser.get_parsed_content("prepare_adapter")
    network = parser.get_parsed_content("network_def")
    if cell.trunk is None:  # else there is no file yet
        options = ("sam2_checkpoint", "dinov2_checkpoint")
        checkpoint, dinov2 = (parser.get_parsed_content(key) if key in parser else None for key in options)
        prepare_base_weights(network, checkpoint, False, dinov2)
    height, width = parser.get_parsed_content("spatial_size")
    choice = str(read_adapter_choice(AUTO_ADAPTER, folder / "model.pt")) if is_auto else ""
    return network, (1, network.in_channels, height, width), " ".join(choice.split())


def _key_of(cell: ComparisonCell) -> str:
    """The network and the machine, as a text. The data, since they may decide on the adapter."""
    machine = f"{platform.node()}, {device_of(cell)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{_REVISION}: {cell.dataset}, {json.dumps(cell.identity())}, {machine}"


def _machine(device: torch.device) -> str:
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    return f"{device_name(device)}{threads}, torch {torch.__version__}"


def _silence() -> None:
    logging.getLogger("monai_sam2adapter").setLevel(logging.ERROR)
