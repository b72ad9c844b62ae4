# SPDX-License-Identifier: Apache-2.0
"""The multiply-accumulate operations of a forward pass: PyTorch's counter, with rules for what it does not know."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, shape_wrapper

from .layers import ModulatedDeformConv2d

__all__ = ["MAC_KINDS", "NOT_COUNTED", "MacsCount", "count_macs", "parameters_by_part"]

#: the kinds of operations that are counted
MAC_KINDS = ("linear", "convolution", "attention", "deformable convolution", "resampling")
#: what is not counted, in words
NOT_COUNTED = "normalizations, activations, softmax, pooling, elementwise sums and products"
#: the part of what belongs to no part
_OTHER = "other"


@dataclass(frozen=True)
class MacsCount:
    """
    Multiply-accumulate operations (MACs) of one forward pass over a whole batch. One MAC is two floating-point
    operations.

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

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON can hold them: ``total``, ``by_kind``, ``by_part`` and ``by_part_and_kind``."""
        numbers = {name: getattr(self, name) for name in ("total", "by_kind", "by_part")}
        return {**numbers, "by_part_and_kind": {part: dict(kinds) for part, kinds in self.by_part_and_kind.items()}}


def count_macs(model: nn.Module, *inputs: Any) -> MacsCount:
    """
    Count the multiply-accumulate operations (MACs) of one forward pass, operator by operator, as the pass calls them.

    Counted by ``torch.utils.flop_counter``, at two of its operations for one MAC, and by rules of this file are:

    - "linear": linear layers and all other matrix products, also those of an attention that is written out;
    - "convolution": plain, grouped, depthwise and transposed ones, padding included;
    - "attention": both products of ``scaled_dot_product_attention``, for every backend; masked pairs count;
    - "deformable convolution": the product with the weights, and 4 MACs per sampled value, the same for both
      implementations of :class:`~monai_sam2adapter.networks.layers.ModulatedDeformConv2d`. The convolution that
      predicts its offsets is a "convolution". (The function alone, outside of this class, has the same total, but
      its grid_sample implementation counts as "linear" and "resampling".)
    - "resampling": ``interpolate`` and ``grid_sample``, per output value 4 MACs if bilinear, 16 if bicubic, 2 if linear
      in one dimension, 8 in three; 0 if nearest.

    Not counted are normalizations, activations, softmax, pooling, and elementwise sums and products.

    An operation belongs to the part of the network whose module runs innermost. Parts are those of the network's
    ``parameter_groups()``, where it has this, else its children. What runs in no part is "other": the network's own
    ``forward``, and methods that it calls other than a module's ``forward``. A module that runs twice counts twice.

    The pass runs without gradients in the mode in which the network is. The network's fused transformer layers
    (``torch.backends.mha``) run unfused for it, which takes the same products.

    Args:
        model: any network. Built and called on the meta device (``with torch.device("meta"): ...``) it takes neither
            memory nor the time to compute.
        inputs: what its ``forward`` takes.

    Returns:
        the count; parts and kinds without any operation are there with 0, except for "other".

    Raises:
        ValueError: when the network calls an operator that may hold products and is unknown here.
    """
    counting = _Counting(model)
    # Without autograd's kernels, operators arrive whole: attention before its backend is chosen, which has operators of
    # its own, one of them plain matrix products. Inference mode, too, would leave them out, but tensors that a network
    # keeps from it, such as a cached position code, could not be trained through later.
    whole_operators = torch._C._AutoDispatchBelowAutograd()
    with torch.no_grad(), _kept_state(model), counting.running_modules(), whole_operators, counting, counting.counter:
        model(*inputs)
    macs = {part: {kind: flops // 2 for kind, flops in kinds.items()} for part, kinds in counting.flops.items()}
    return MacsCount({part: kinds for part, kinds in macs.items() if part != _OTHER or any(kinds.values())})


def parameters_by_part(model: Any) -> dict[str, list[nn.Parameter]]:
    """
    The parameters by part, each once.

    Args:
        model: any network. One with ``parameter_groups()`` has the parts that this names, any other one its children.

    Returns:
        parameters by name of the part; "other" is there when it has any.
    """
    if hasattr(model, "parameter_groups"):
        groups = model.parameter_groups()
    else:
        groups = {name: list(child.parameters()) for name, child in model.named_children()}
    seen: set[int] = set()
    parts: dict[str, list[nn.Parameter]] = {}
    for part, parameters in (*groups.items(), (_OTHER, list(model.parameters()))):
        new = list({id(p): p for p in parameters if id(p) not in seen}.values())
        seen.update(map(id, new))
        if new or part != _OTHER:
            parts.setdefault(part, []).extend(new)
    return parts


def _rule(flops: Callable[..., int], *names: str) -> dict[Any, Any]:
    """A rule from the shapes of output and arguments; by overload too, so that the operator is not taken apart."""
    operators = [getattr(torch.ops.aten, name) for name in names if hasattr(torch.ops.aten, name)]

    def rule(*shapes: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return 2 * flops(out_shape, *shapes)

    return {key: rule for op in operators for key in (op, *(getattr(op, name) for name in op.overloads()))}


def _product(left: Sequence[int], right: Sequence[int]) -> int:
    """Each value of ``(..., N, M)``, or of a vector, meets one row of ``(..., M, P)``, or one value."""
    return math.prod(left) * (right[-1] if len(right) > 1 else 1)


def _deformable_convolution(*shapes: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """The product with the weights, and what it takes to read the values at each tap of each output position."""
    features, weight = shapes[:2]
    return 2 * out_shape[0] * math.prod(out_shape[2:]) * (math.prod(weight) + 4 * features[1] * math.prod(weight[2:]))


_SUMS = [f"{name}{place}" for name in ("addmm", "baddbmm", "addbmm", "addmv") for place in ("", "_")]
_NEAREST = [f"{name}{n}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)]
_ATTENTION = "scaled_dot_product_attention"
#: what PyTorch's counter has no rule for
_FLOP_RULES = {
    **_rule(lambda out, left, right, *_: _product(left, right), "mv", "dot", "vdot", "_int_mm"),
    **_rule(lambda out, added, left, right, *_: _product(left, right), *_SUMS, "_addmm_activation"),
    **_rule(
        # both products of queries (..., L, E), keys (..., S, E) and values (..., S, E_v); all pairs count
        lambda out, query, key, value, *_: math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]),
        *(_ATTENTION, f"_{_ATTENTION}_math", f"_{_ATTENTION}_math_for_mps"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_fused_attention_overrideable"),
    ),
    **_rule(lambda out, *_: 2 * math.prod(out), "upsample_linear1d"),
    **_rule(lambda out, *_: 4 * math.prod(out), "upsample_bilinear2d", "cudnn_grid_sampler"),
    **_rule(lambda out, *_: 8 * math.prod(out), "upsample_trilinear3d"),
    **_rule(lambda out, *_: 16 * math.prod(out), "upsample_bicubic2d"),
    **_rule(lambda out, *_: 0, *_NEAREST),
    **_rule(  # linear, nearest, cubic
        lambda out, x, grid, mode, *_: (2 ** len(out[2:]), 0, 4 ** len(out[2:]))[mode] * math.prod(out),
        *("grid_sampler_2d", "grid_sampler_3d"),
    ),
}
_KIND_WORDS = {
    "attention": "attention",
    "deform_conv": "deformable convolution",
    "conv": "convolution",
    "upsample": "resampling",
    "grid_sampl": "resampling",
}
_ELEMENTARY_NAMESPACES = ("aten", "prim", "prims", "profiler")
_NAMES_OF_PRODUCTS = re.compile(
    r"(^|_|b|add)mm(_|$)|matmul|linear|conv(?!ert)|attention|transformer|rnn|lstm|gru|cdist|fft|"
    r"sampler|upsample|linalg_(?!vector_norm|cross|diagonal)"
)


class _NoTracker(nullcontext):
    """In place of the counter's own tracker of modules, which hooks into autograd."""

    parents = ("Global",)


class _Counting(TorchDispatchMode):
    """
    Puts what PyTorch's counter counts to the part of the network that runs innermost, and to the kind of operator.

    It stands below the counter, so that it sees the operators that this does not take apart, and refuses unknown ones.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.part_of = _part_of_modules(model)
        self.flops = {part: dict.fromkeys(MAC_KINDS, 0) for part in [*parameters_by_part(model), _OTHER]}
        self.stack: list[nn.Module] = []
        self.counter = FlopCounterMode(display=False, custom_mapping=_FLOP_RULES)
        self.counter.mod_tracker = _NoTracker()  # type: ignore[assignment]
        self.rules = self.counter.flop_registry
        for operator, rule in list(self.rules.items()):
            self.rules[operator] = self._noting(operator, rule)

    def _noting(self, operator: Any, rule: Any) -> Any:
        """A rule that also notes what it finds."""
        kind = next((kind for word, kind in _KIND_WORDS.items() if word in str(operator)), "linear")

        def note(*args: Any, **kwargs: Any) -> int:
            flops = rule(*args, **kwargs)
            part = next((self.part_of[id(m)] for m in reversed(self.stack) if id(m) in self.part_of), _OTHER)
            # The grid_sample implementation: all but the convolution that predicts the offsets.
            deformable = bool(self.stack) and isinstance(self.stack[-1], ModulatedDeformConv2d)
            inside = deformable and kind in ("linear", "resampling")
            self.flops[part]["deformable convolution" if inside else kind] += flops
            return flops

        return note

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        operator, name = function._overloadpacket, function._schema.name
        if operator in self.rules:
            return out
        if name == "torchvision::deform_conv2d":  # exists only after its package was imported
            self.rules[operator] = self._noting(operator, shape_wrapper(_deformable_convolution))
        elif _may_hold_products(name) and any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out)):
            raise ValueError(
                f"cannot count the operations of {name}, which may hold products; add a rule to "
                "monai_sam2adapter/networks/macs.py."
            )
        return out

    @contextmanager
    def running_modules(self) -> Iterator[None]:
        """Follow which modules are in their ``forward``, by global hooks, which leave the modules as they are."""

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            if self.stack and self.stack[-1] is module:  # else it has failed before it was noted
                self.stack.pop()

        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(lambda module, args: self.stack.append(module)).remove)
            stack.callback(register_module_forward_hook(leave, always_call=True).remove)
            yield


def _may_hold_products(operator: str) -> bool:
    """Whether an operator without a rule may multiply and add: not PyTorch's own, or one whose name says so."""
    namespace, _, name = operator.partition("::")
    return namespace not in _ELEMENTARY_NAMESPACES or _NAMES_OF_PRODUCTS.search(name) is not None


def _part_of_modules(model: Any) -> dict[int, str]:
    """The part of each module, by its ``id``; one that is missing belongs to the part of the one that calls it."""
    if not hasattr(model, "parameter_groups"):
        # reversed, so that a module of two children belongs to the first of them
        children = reversed(list(model.named_children()))
        return {id(module): name for name, child in children for module in child.modules()}
    part_of = {id(p): part for part, parameters in model.parameter_groups().items() for p in parameters}
    # What is added to a module, such as the adapters in a block, stands behind the module's own parameters.
    first = ((module, next(module.parameters(), None)) for module in model.modules() if module is not model)
    return {id(module): part_of[id(parameter)] for module, parameter in first if id(parameter) in part_of}


@contextmanager
def _kept_state(model: nn.Module) -> Iterator[None]:
    """Run transformer layers unfused; give buffers (BatchNorm's statistics) and random numbers their state back."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused layer would be one operator without shapes inside
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_meta]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for buffer, before in buffers:
            if not torch.equal(buffer, before):  # writing makes a pending backward pass invalid
                buffer.copy_(before)
