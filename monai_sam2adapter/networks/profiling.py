# SPDX-License-Identifier: Apache-2.0
"""What a network costs: parameters, multiply-accumulate operations (PyTorch's counter), time and memory."""

from __future__ import annotations

import platform
import statistics
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .macs import MAC_KINDS, NOT_COUNTED, MacsCount, count_macs, parameters_by_part

__all__ = [
    "MAC_KINDS",
    "NOT_COUNTED",
    "MacsCount",
    "NetworkProfile",
    "count_macs",
    "device_name",
    "latencies_in_turn",
    "measure_peak_memory",
    "profile_network",
    "profile_table",
]


@dataclass(frozen=True)
class NetworkProfile:
    """
    Parameters, operations, time and memory of a network at one input shape, in eval mode.

    Args:
        input_shape: of the input, with the batch.
        device: where it ran, "cpu" or "cuda:0".
        trained_parameters: parameters that get gradients, by part.
        total_parameters: all parameters, by part.
        macs: multiply-accumulate operations of a forward pass.
        latency: median seconds of a forward pass.
        peak_memory: bytes, see :func:`measure_peak_memory`.
    """

    input_shape: tuple[int, ...]
    device: str
    trained_parameters: dict[str, int]
    total_parameters: dict[str, int]
    macs: MacsCount
    latency: float
    peak_memory: int

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON can hold it."""
        return {
            "input_shape": list(self.input_shape),
            "device": self.device,
            "trained_parameters": {"total": sum(self.trained_parameters.values()), "by_part": self.trained_parameters},
            "total_parameters": {"total": sum(self.total_parameters.values()), "by_part": self.total_parameters},
            "macs": self.macs.to_dict(),
            "latency_seconds": self.latency,
            "peak_memory_bytes": self.peak_memory,
        }


def profile_network(
    model: nn.Module, input_shape: Sequence[int], repeats: int = 5, device: torch.device | str | None = None
) -> NetworkProfile:
    """
    Measure what a forward pass of a network costs, in eval mode and on random values.

    Args:
        model: any network that takes one tensor. Its mode and its place are given back.
        input_shape: of the input, with the batch, such as ``(1, 3, 256, 256)``.
        repeats: passes that are timed, of which the median counts. Defaults to 5.
        device: where it runs. None stands for where it is. Defaults to None.

    Returns:
        the profile: parameters and operations by part, time and memory.

    Raises:
        ValueError: when ``repeats`` or a number of ``input_shape`` is below 1, when the network calls an operator whose
            operations cannot be counted, or on the meta device, where nothing takes time or memory.

    Example:
        >>> from monai_sam2adapter.networks.nets import PromptFreeSAM2
        >>> from monai_sam2adapter.networks.profiling import profile_network
        >>> profile = profile_network(PromptFreeSAM2(adapter="lw"), (1, 3, 64, 64), repeats=1)
        >>> round(profile.macs.total / 1e9, 1)
        0.4
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
    before = _device_of(model)
    place = before if device is None else torch.device(device)
    if "meta" in (before.type, place.type):
        raise ValueError("on the meta device nothing takes time or memory; use count_macs, or another device.")
    try:
        model.to(place)
        with _in_eval_mode(model):
            x = _random_input(model, input_shape)
            macs, peak_memory = count_macs(model, x), measure_peak_memory(model, x)
            (latency,) = latencies_in_turn({"model": model}, {"model": input_shape}, repeats).values()
    finally:
        model.to(before)
    parts = parameters_by_part(model)
    return NetworkProfile(
        input_shape=tuple(input_shape),
        device=str(x.device),
        trained_parameters={name: sum(p.numel() for p in part if p.requires_grad) for name, part in parts.items()},
        total_parameters={name: sum(p.numel() for p in part) for name, part in parts.items()},
        macs=macs,
        latency=latency,
        peak_memory=peak_memory,
    )


def profile_table(profile: NetworkProfile) -> str:
    """
    A profile as text: a line per part and one for the sum, then time, memory and what is not counted.

    Args:
        profile: of :func:`profile_network`.

    Returns:
        the lines; MACs are in 10^9 (G), shares those of all MACs.
    """
    headings = ("  linear", "convolution", "attention", "deformable", "resampling")  # in the order of MAC_KINDS
    columns = "{:<20} {:>12} {:>12}" + "".join(f" {{:>{width}}}" for width in (*map(len, headings), 9, 7))
    lines = [columns.format("part", "trained", "total", *headings, "all MACs", "share")]
    macs = profile.macs.by_part_and_kind
    rows = {
        part: [
            profile.trained_parameters.get(part, 0),
            profile.total_parameters.get(part, 0),
            *(macs.get(part, {}).get(kind, 0) for kind in MAC_KINDS),
        ]
        for part in {**profile.total_parameters, **macs}
    }
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for part, (trained, parameters, *counts) in rows.items():
        giga = [f"{count / 1e9:.3f}" for count in (*counts, sum(counts))]
        share = f"{sum(counts) / max(profile.macs.total, 1):.1%}"
        lines.append(columns.format(part, f"{trained:,}", f"{parameters:,}", *giga, share))
    lines += [
        "",
        f"input {' x '.join(map(str, profile.input_shape))} on {profile.device}: "
        f"{profile.latency:.4f} s in the median, {profile.peak_memory / 1e6:.1f} MB at the peak",
        f"MACs: 10^9 of the whole batch; not counted: {NOT_COUNTED}",
    ]
    if not profile.device.startswith("cuda"):
        lines.append("memory: all tensors that are alive together; what operators take for themselves is not seen")
    return "\n".join(lines)


def measure_peak_memory(model: nn.Module, *inputs: Any) -> int:
    """
    The largest number of bytes in use during a forward pass without gradients, parameters and inputs included.

    On CUDA this is what PyTorch's allocator has given out at most, so it holds everything that is on the device. On
    other devices it is the sum of all tensors of this pass that are alive together; what an operator takes for itself
    while it works is not seen.

    Args:
        model: any network. It runs in the mode in which it is.
        inputs: what its ``forward`` takes, on its device.

    Returns:
        bytes.
    """
    device = _device_of(model)
    if device.type != "cuda":
        memory = _LiveMemory()
        memory.add([*model.parameters(), *model.buffers(), *inputs])
        # not in inference mode, where operators arrive whole and their parts' results would not be seen
        with torch.inference_mode(False), torch.no_grad(), memory:
            model(*inputs)
        return memory.peak
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        model(*inputs)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def latencies_in_turn(
    models: Mapping[str, nn.Module], input_shapes: Mapping[str, Sequence[int]], repeats: int = 5
) -> dict[str, float]:
    """
    Time a forward pass of each network, in eval mode and in inference mode.

    All run once to warm up, then in turn, so that a slow moment of the machine hits all of them.

    Args:
        models: networks by name, each on its device. Their modes are given back.
        input_shapes: of the random input of each, with the batch. For one shape for all:
            ``dict.fromkeys(models, (1, 3, 256, 256))``.
        repeats: passes of each network that are timed. Defaults to 5.

    Returns:
        median seconds by name.

    Raises:
        ValueError: when ``repeats`` is below 1, a shape is not positive or the names differ.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
    if set(models) != set(input_shapes):
        raise ValueError(
            f"input_shapes must have the names of models, {sorted(models)}, got {sorted(input_shapes)}; give one shape "
            "for each."
        )
    inputs = {name: _random_input(model, input_shapes[name]) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}

    def now(x: torch.Tensor) -> float:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter()

    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(_in_eval_mode(model))
        stack.enter_context(torch.inference_mode())
        for _ in range(repeats + 1):
            for name, x in inputs.items():
                start = now(x)
                models[name](x)
                seconds[name].append(now(x) - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}  # without the first, the warm-up


def device_name(device: torch.device) -> str:
    """
    The name of the GPU or of the CPU's model.

    Args:
        device: of this machine.

    Returns:
        a name such as "NVIDIA H100 80GB HBM3".
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class _LiveMemory(TorchDispatchMode):
    """Follows the memory behind every tensor that an operator returns; views share that of their tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._storages: dict[int, weakref.ref] = {}

    def add(self, values: Any) -> None:
        """Count the memory of all tensors in ``values`` that is not counted yet."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, torch.Tensor):
                self._add_storage(tensor.untyped_storage())
        self.peak = max(self.peak, self.alive)

    def _add_storage(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:
            self.alive += size
            self._storages[key] = weakref.ref(storage, lambda _: self._forget(key, size))

    def _forget(self, key: int, size: int) -> None:
        del self._storages[key]
        self.alive -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        self.add(out)
        return out


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _random_input(model: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Values in [0, 1) on the device and in the dtype of the network, always the same."""
    if not shape or min(shape) < 1:
        raise ValueError(f"an input shape must have positive numbers only, such as (1, 3, 256, 256), got {shape}.")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    # its own generator: the caller's random numbers stay what they would have been
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    return values.to(_device_of(model), dtype)


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode, and give every module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
