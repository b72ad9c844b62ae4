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

from ..networks.profiling import latencies_in_turn, profile_network
from ..networks.utils import reparameterize_model
from ..networks.weights import prepare_base_weights
from ..utils.files import read_json, write_json
from ..utils.machine import device_name
from .bundle_facts import parse, reason_of
from .grid import ComparisonCell

__all__ = ["measure_networks"]

# raised when something is measured in another way, so that older numbers are not taken for the same
_REVISION = 3
_REPEATS = 5


def measure_networks(
    cells: Mapping[ComparisonCell, str], output_dir: Path, report: Callable[[str], None]
) -> dict[tuple[str, str], dict[str, Any]]:
    """
    Build every network, give it its weights, and measure it: parameters as it is trained, and MACs, latency and peak
    memory of one image as in inference, LW-Adapters and LoRA fused.

    The networks of a data set are timed in turn, so that a slow moment of the machine hits all of them, in a process of
    its own, which leaves the whole GPU to the trainings. What was measured is kept in ``costs.json``.

    Args:
        cells: one for each method and data set, with its device.
        output_dir: folder of the comparison.
        report: takes a line for each data set that is measured.

    Returns:
        by data set and method what ``costs.json`` holds of each network.
    """
    file = output_dir / "costs.json"
    kept: dict[str, Any] = read_json(file) or {}
    keys = {cell: _key_of(cell, device) for cell, device in cells.items()}
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        own = {cell: device for cell, device in cells.items() if cell.dataset == dataset}
        if any(keys[cell] not in kept for cell in own):
            report(f"Measuring {len(own)} networks on {dataset}.")
            # a fresh process takes all memory with it when it ends, that of a GPU too
            context = get_context("spawn")
            with ProcessPoolExecutor(1, context, initializer=logging.disable, initargs=(logging.WARNING,)) as pool:
                measured = pool.submit(measure_in_turn, own).result()
            kept |= {keys[cell]: cost for cell, cost in zip(own, measured, strict=True)}
            write_json(kept, file)
    return {cell.place: kept[keys[cell]] for cell in cells}


def measure_in_turn(cells: Mapping[ComparisonCell, str]) -> list[dict[str, Any]]:
    """The costs of the networks of one data set, in the order of the cells."""
    networks: dict[str, torch.nn.Module] = {}
    costs: dict[str, dict[str, Any]] = {}
    for cell, device in cells.items():
        try:
            network, shape = _build(cell)
            counts = [(p.numel(), p.requires_grad) for p in network.parameters()]
            networks[cell.method] = reparameterize_model(network.eval(), inplace=True)
            # one network on the device at a time: on a GPU, all that is there counts as memory
            profile = profile_network(network, shape, repeats=1, device=device)
        except Exception as error:  # MONAI wraps what a config raises in errors of its own
            raise ValueError(f"{cell}: {reason_of(error)}") from error
        costs[cell.method] = {
            "input_shape": list(shape),
            "trained_parameters": sum(count for count, trained in counts if trained),
            "total_parameters": sum(count for count, _ in counts),
            "macs": profile.macs.total,
            "peak_memory": profile.peak_memory,
            "machine": _machine(torch.device(device)),
        }
    for network, device in zip(networks.values(), cells.values(), strict=True):
        network.to(device)
    latencies = latencies_in_turn(networks, {name: cost["input_shape"] for name, cost in costs.items()}, _REPEATS)
    return [{**cost, "latency": latencies[name]} for name, cost in costs.items()]


def _build(cell: ComparisonCell) -> tuple[torch.nn.Module, Sequence[int]]:
    """The network as training starts with it, and the shape of one image."""
    parser = parse(cell, "train")
    network = parser.get_parsed_content("network_def")
    if cell.trunk is None:  # else there is no file yet
        options = ("sam2_checkpoint", "dinov2_checkpoint")
        checkpoint, dinov2 = (parser.get_parsed_content(key) if key in parser else None for key in options)
        prepare_base_weights(network, checkpoint, False, dinov2)
    in_channels = parser.get_parsed_content("network_def#in_channels")
    return network, (1, in_channels, *parser.get_parsed_content("spatial_size"))


def _key_of(cell: ComparisonCell, device: str) -> str:
    """The network and the machine, as a text."""
    machine = f"{platform.node()}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{_REVISION}: {cell.dataset}, {json.dumps(cell.identity())}, {machine}"


def _machine(device: torch.device) -> str:
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    return f"{device_name(device)}{threads}, torch {torch.__version__}"
