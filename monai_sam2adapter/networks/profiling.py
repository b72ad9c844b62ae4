# SPDX-License-Identifier: Apache-2.0
"""What a network costs: parameters, multiply-accumulate operations (PyTorch's counter), time and memory."""

from __future__ import annotations

import math
import re
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, shape_wrapper

from .layers import ModulatedDeformConv2d

__all__ = [
    *("MAC_KINDS", "MacsCount", "NetworkProfile"),
    *("count_macs", "latencies_in_turn", "measure_peak_memory", "profile_network"),
]

#: the kinds of operations that are counted
MAC_KINDS = ("linear", "convolution", "attention", "deformable convolution", "resampling")
#: the part of what belongs to no part
_OTHER = "other"


@dataclass(frozen=True)
class MacsCount:
    """
    Multiply-accumulate operations (MACs) of one forward pass over a whole batch, two floating-point operations each.

    Args:
        by_part_and_kind: MACs by part of the network and, for each part, by all of ``MAC_KINDS``.
    """

    by_part_and_kind: dict[str, dict[str, int]]

    @property
    def total(self) -> int:
        """All MACs."""
        return sum(self.by_part.values())

    @property
    def by_part(self) -> dict[str, int]:
        """MACs of each part, those without any too."""
        return {part: sum(kinds.values()) for part, kinds in self.by_part_and_kind.items()}

    @property
    def by_kind(self) -> dict[str, int]:
        """MACs of each of ``MAC_KINDS``."""
        return {kind: sum(kinds[kind] for kinds in self.by_part_and_kind.values()) for kind in MAC_KINDS}


@dataclass(frozen=True)
class NetworkProfile:
    """
    What a network costs at one input shape, in eval mode.

    Args:
        input_shape: of the input, with the batch.
        device: where it ran, "cpu" or "cuda:0".
        trained_parameters: number of parameters that get gradients, by part.
        total_parameters: number of all parameters, by part.
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
    before = _device_of(model)
    place = before if device is None else torch.device(device)
    if "meta" in (before.type, place.type):
        raise ValueError("on the meta device nothing takes time or memory; use count_macs, or another device.")
    try:
        model.to(place)
        (latency,) = latencies_in_turn({"model": model}, {"model": input_shape}, repeats).values()
        with _in_eval_mode(model):
            x = _random_input(model, input_shape)
            macs, peak_memory = count_macs(model, x), measure_peak_memory(model, x)
    finally:
        model.to(before)
    names, part_of = _parts_of(model)
    trained, total = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for parameter in model.parameters():
        part = part_of.get(id(parameter), _OTHER)
        total[part] = total.get(part, 0) + parameter.numel()
        trained[part] = trained.get(part, 0) + parameter.numel() * parameter.requires_grad
    return NetworkProfile(tuple(input_shape), str(x.device), trained, total, macs, latency, peak_memory)


def count_macs(model: nn.Module, *inputs: Any) -> MacsCount:
    """
    Count the multiply-accumulate operations (MACs) of one forward pass, operator by operator, as the pass calls them.

    - "linear": all matrix products, also those of an attention that is written out;
    - "convolution": plain, grouped, depthwise and transposed ones, padding included;
    - "attention": both products of ``scaled_dot_product_attention``, for every backend; masked pairs count;
    - "deformable convolution": the product with the weights, and 4 MACs per sampled value, in both implementations; the
      convolution that predicts the offsets is a "convolution";
    - "resampling": ``interpolate`` and ``grid_sample``, per output value 4 MACs if bilinear, 16 if bicubic, 2 if linear
      in one dimension, 8 in three; 0 if nearest.

    An operation belongs to the part of the innermost running module that has parameters. Parts are the network's
    ``parameter_groups()``, else its children; what runs in none of them is "other". What runs twice counts twice. The
    pass runs without gradients, in the network's mode; buffers and random numbers stay.

    Args:
        model: any network, also on the meta device, where it takes neither memory nor the time to compute.
        inputs: what its ``forward`` takes.

    Returns:
        the count; parts and kinds without any operation are there with 0, except for "other".

    Raises:
        ValueError: when the network calls an operator that may hold products and is unknown here.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_FLOP_RULES)
    counter.mod_tracker = _RunningPart(model)  # type: ignore[assignment]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}  # a pass changes those of BatchNorm
    fused = torch.backends.mha.get_fastpath_enabled()
    gpus = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    torch.backends.mha.set_fastpath_enabled(False)  # a fused layer would be one operator without shapes inside
    # Below autograd operators arrive whole: attention before its backend is chosen, one of which is plain products. So
    # they do in inference mode, but what a network keeps from it, a cached position code, could not be trained through.
    below_autograd, guard = torch._C._AutoDispatchBelowAutograd(), _OperatorGuard(counter.flop_registry)
    try:
        with torch.random.fork_rng(gpus), torch.no_grad(), below_autograd, guard, counter:
            functional_call(model, buffers, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    macs = {part: dict.fromkeys(MAC_KINDS, 0) for part in (*_parts_of(model)[0], _OTHER)}
    found: Any = counter.flop_counts  # by what _RunningPart gives
    for (part, in_deformable), flops in found.items():
        for operator, number in flops.items():
            kind = next((kind for word, kind in _KINDS.items() if word in str(operator)), "linear")
            if in_deformable and kind != "convolution":  # but for the one that predicts the offsets
                kind = "deformable convolution"
            macs[part][kind] += number // 2
    return MacsCount({part: kinds for part, kinds in macs.items() if part != _OTHER or any(kinds.values())})


def measure_peak_memory(model: nn.Module, *inputs: Any) -> int:
    """
    The most bytes in use at a time in a forward pass without gradients, parameters and inputs included.

    On CUDA this is what PyTorch's allocator has given out, so it holds everything that is on the device. Elsewhere it
    is all tensors of this pass that are alive together; what an operator takes for itself while it works is not seen.

    Args: as of :func:`count_macs`; inputs on the device of the network.
    """
    device = _device_of(model)
    if device.type != "cuda":
        memory = _LiveMemory([*model.parameters(), *model.buffers(), *inputs])
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
        input_shapes: of the random input of each, with the batch, by the same names.
        repeats: passes of each network that are timed. Defaults to 5.

    Returns:
        median seconds by name.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
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


def _rule(macs: Callable[..., int], *names: str) -> dict[Any, Any]:
    """A rule from the shapes of output and arguments; by overload too, so that the operator is not taken apart."""
    operators = [getattr(torch.ops.aten, name) for name in names if hasattr(torch.ops.aten, name)]

    def flops(*shapes: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return 2 * macs(out_shape, *shapes)

    return {key: flops for op in operators for key in (op, *(getattr(op, name) for name in op.overloads()))}


def _product(out: Any, left: Sequence[int], right: Sequence[int], *_: Any) -> int:
    """Each value of ``(..., N, M)``, or of a vector, meets one row of ``(..., M, P)``, or one value."""
    return math.prod(left) * (right[-1] if len(right) > 1 else 1)


def _deformable_convolution(features: Any, weight: Any, *_: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """The product with the weights, and what it takes to read the values at each tap of each output position."""
    return 2 * out_shape[0] * math.prod(out_shape[2:]) * (math.prod(weight) + 4 * features[1] * math.prod(weight[2:]))


_SUMS = [f"{name}{place}" for name in ("addmm", "baddbmm", "addbmm", "addmv") for place in ("", "_")]
_SUMS += ["_addmm_activation"]
_LINEAR_RESAMPLINGS = ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "cudnn_grid_sampler")
#: what PyTorch's counter has no rule for
_FLOP_RULES = {
    **_rule(_product, "mv", "dot", "vdot", "_int_mm"),
    **_rule(lambda out, added, *factors: _product(out, *factors), *_SUMS),
    **_rule(
        # both products of queries (..., L, E), keys (..., S, E) and values (..., S, E_v); all pairs count
        lambda out, query, key, value, *_: math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]),
        *(f"{name}scaled_dot_product_attention" for name in ("", "_")),
        *(f"_scaled_dot_product_attention_math{name}" for name in ("", "_for_mps")),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable"),
    ),
    **_rule(lambda out, *_: 2 ** len(out[2:]) * math.prod(out), *_LINEAR_RESAMPLINGS),
    **_rule(lambda out, *_: 16 * math.prod(out), "upsample_bicubic2d"),
    **_rule(  # linear, nearest, cubic
        lambda out, x, grid, mode, *_: (2, 0, 4)[mode] ** len(out[2:]) * math.prod(out),
        *("grid_sampler_2d", "grid_sampler_3d"),
    ),
}
# by a word in the name of the operator; the first one that is there counts, else it is "linear"
_KINDS = {"attention": "attention", "deform_conv": "deformable convolution", "conv": "convolution"}
_KINDS |= {"upsample": "resampling", "grid_sampl": "resampling"}
# operators that may hold products: not PyTorch's own, or those whose name says so
_MAY_HOLD_PRODUCTS = re.compile(
    r"^(?!aten::|prims?::|profiler::)|(:|_|b|add)mm(_|$)|matmul|linear|conv(?!ert)|attention|transformer|rnn|lstm|gru|"
    r"cdist|fft|sampler|upsample_(?!nearest)|linalg_(?!vector_norm|cross|diagonal)"
)


class _OperatorGuard(TorchDispatchMode):
    """Stands below the counter, where it sees the operators that this does not take apart, and refuses unknown ones."""

    def __init__(self, rules: dict[Any, Any]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        operator, name = function._overloadpacket, function._schema.name
        if name == "torchvision::deform_conv2d":  # exists only after its package was imported
            self.rules[operator] = shape_wrapper(_deformable_convolution)
        is_known = operator in self.rules or not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out))
        if not is_known and _MAY_HOLD_PRODUCTS.search(name):
            raise ValueError(
                f"cannot count the operations of {name}, which may hold products; add a rule to "
                "monai_sam2adapter/networks/profiling.py."
            )
        return out


class _RunningPart:
    """In place of the counter's tracker, which hooks into autograd: the part, and whether it deforms, is the parent."""

    def __init__(self, model: nn.Module) -> None:
        _, self.part_of = _parts_of(model)
        self.running: list[nn.Module] = []

    @property
    def parents(self) -> set[tuple[str, bool]]:
        part = next((self.part_of[id(m)] for m in reversed(self.running) if id(m) in self.part_of), _OTHER)
        return {(part, bool(self.running) and isinstance(self.running[-1], ModulatedDeformConv2d))}

    def __enter__(self) -> None:
        def leave(module: nn.Module, args: Any, out: Any) -> None:
            if self.running and self.running[-1] is module:  # else it has failed before it was noted
                self.running.pop()

        enter = register_module_forward_pre_hook(lambda module, args: self.running.append(module))
        self.hooks = (enter, register_module_forward_hook(leave, always_call=True))

    def __exit__(self) -> None:
        for hook in self.hooks:
            hook.remove()


class _LiveMemory(TorchDispatchMode):
    """Follows the memory behind every tensor that an operator returns; views share that of their tensor."""

    def __init__(self, values: Any) -> None:
        super().__init__()
        self.peak = 0
        self.alive: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()
        self.add(values)

    def add(self, values: Any) -> None:
        storages = [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
        self.alive.update({storage._cdata: storage for storage in storages})
        self.peak = max(self.peak, sum(storage.nbytes() for storage in self.alive.values()))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        self.add(out)
        return out


def _parts_of(model: Any) -> tuple[list[str], dict[int, str]]:
    """The names of the parts, and the part of parameters and of modules that have any, by their ``id``."""
    children = {name: child.parameters() for name, child in model.named_children()}
    groups = model.parameter_groups() if hasattr(model, "parameter_groups") else children
    # reversed, so that what two parts share belongs to the first of them
    part_of = {id(p): part for part, parameters in reversed(groups.items()) for p in parameters}
    # What is added to a module, such as the adapters in a block, stands behind the module's own parameters.
    first = [(module, next(module.parameters(), None)) for module in model.modules() if module is not model]
    return list(groups), part_of | {id(module): part_of[id(p)] for module, p in first if id(p) in part_of}


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
