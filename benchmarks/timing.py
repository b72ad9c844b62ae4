# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share: a header that names the machine, and timing in turn."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch

from monai_sam2adapter.networks.profiling import _LiveMemory
from monai_sam2adapter.utils import device_name

__all__ = [
    *("add_machine_arguments", "machine_header", "medians_in_turn", "minima_in_turn"),
    *("peak_memory", "ratio_or_dash"),
]


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--threads`` and ``--repeats``."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the median counts (default: 7)")


def machine_header(device: torch.device, threads: int) -> str:
    """Set the number of threads and say what runs where."""
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "sam2"))
    lines = [packages, f"Python {platform.python_version()}, {threads} threads on {device_name(cpu)}"]
    if device.type == "cuda":
        lines.append(device_name(device))
    return "\n".join(lines)


def medians_in_turn(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float | None]:
    """
    Median seconds of each function. All run once to warm up, then in turn, so that a slow moment of the machine hits
    all of them.

    Returns:
        seconds by name; None for all when the device's memory does not suffice.
    """
    seconds = _seconds_in_turn(functions, repeats, device)
    return {name: statistics.median(values) if values else None for name, values in seconds.items()}


def minima_in_turn(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float | None]:
    """
    As :func:`medians_in_turn`, but the least seconds of each, which a busy machine disturbs less; with one thread on a
    CPU the seconds in which this process ran.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    seconds = _seconds_in_turn(functions, repeats, device, time.process_time if alone else time.perf_counter)
    return {name: min(values, default=None) for name, values in seconds.items()}


def peak_memory(function: Callable[[], object], net: torch.nn.Module, device: torch.device) -> int:
    """
    The most bytes that tensors take at a time while a function runs, those of the network included.

    On CUDA what PyTorch's allocator has given out; elsewhere the tensors that PyTorch's operators return.
    """
    if device.type != "cuda":
        memory = _LiveMemory([*net.parameters(), *net.buffers()])
        with memory:
            function()
        return memory.peak
    torch.cuda.synchronize(device)
    others = torch.cuda.memory_allocated(device) - sum(t.nbytes for t in (*net.parameters(), *net.buffers()))
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - others


def _seconds_in_turn(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    try:
        for repeat in range(repeats + 1):
            for name, function in functions.items():
                start = _now(device, clock)
                function()
                if repeat > 0:
                    seconds[name].append(_now(device, clock) - start)
    except torch.OutOfMemoryError:
        return {name: [] for name in functions}
    return seconds


def ratio_or_dash(theirs: float | None, ours: float | None) -> str:
    """How many times as fast ours is."""
    return "-" if theirs is None or ours is None else f"{theirs / ours:.2f}"


def _now(device: torch.device, clock: Callable[[], float]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()
