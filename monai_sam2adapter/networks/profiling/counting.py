# SPDX-License-Identifier: Apache-2.0
"""Counting the multiply-accumulate operations of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..layers import ModulatedDeformConv2d
from .keeping import with_kept_state
from .mac_rules import MAC_RULES, may_hold_products
from .macs_count import MAC_KINDS, MacsCount
from .parts import OTHER_PART, parameters_by_part, part_of_modules

__all__ = ["count_macs"]


def count_macs(model: nn.Module, *inputs: Any) -> MacsCount:
    """
    Count the multiply-accumulate operations (MACs) of one forward pass, operator by operator, as the pass calls them.

    Counted are, with the name of the kind:

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
        model: any network.
        inputs: what its ``forward`` takes.

    Returns:
        the count; parts and kinds without any operation are there with 0, except for "other".

    Raises:
        ValueError: when the network calls an operator that may hold products and is unknown here.
    """
    running = _RunningModules(part_of_modules(model))
    mode = _CountingMode(running, [*parameters_by_part(model), OTHER_PART])
    # Without autograd's kernels, operators arrive whole: attention before its backend is chosen, which has operators of
    # its own, one of them plain matrix products. Inference mode, too, would leave them out, but tensors that a network
    # keeps from it, such as a cached position code, could not be trained through later.
    whole_operators = torch._C._AutoDispatchBelowAutograd()
    with torch.no_grad(), with_kept_state(model), _unfused_transformer_layers(), running, whole_operators, mode:
        model(*inputs)
    counted = {part: kinds for part, kinds in mode.macs.items() if part != OTHER_PART or any(kinds.values())}
    return MacsCount(counted)


class _RunningModules:
    """Knows which modules are in their ``forward``."""

    def __init__(self, part_of: Mapping[int, str]) -> None:
        self.part_of = part_of
        self.stack: list[nn.Module] = []

    def __enter__(self) -> _RunningModules:
        # Global hooks leave the modules as they are.
        self._handles = [
            register_module_forward_pre_hook(lambda module, args: self.stack.append(module)),
            register_module_forward_hook(lambda module, args, out: self._leave(module), always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _leave(self, module: nn.Module) -> None:
        if self.stack and self.stack[-1] is module:  # else it has failed before it was noted
            self.stack.pop()

    @property
    def part(self) -> str:
        """The part of the innermost module that has any."""
        return next((self.part_of[id(m)] for m in reversed(self.stack) if id(m) in self.part_of), OTHER_PART)

    def kind_of(self, kind: str) -> str:
        """The kind of an operation, given the kind of its operator."""
        # The grid_sample implementation: all but the convolution that predicts the offsets.
        inside = bool(self.stack) and isinstance(self.stack[-1], ModulatedDeformConv2d)
        return "deformable convolution" if inside and kind in ("linear", "resampling") else kind


class _CountingMode(TorchDispatchMode):
    """Counts every operator, whoever calls it."""

    def __init__(self, running: _RunningModules, parts: list[str]) -> None:
        super().__init__()
        self.running = running
        self.macs = {part: dict.fromkeys(MAC_KINDS, 0) for part in parts}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        name = function._schema.name
        kind_and_rule = MAC_RULES.get(name) or MAC_RULES.get(name.removesuffix("_"))  # in place: the same products
        if kind_and_rule is None:
            return self._run_in_parts(function, args, kwargs)
        out = function(*args, **kwargs)
        kind, rule = kind_and_rule
        macs = rule(args, out[0] if isinstance(out, tuple | list) else out)
        self.macs[self.running.part][self.running.kind_of(kind)] += macs
        return out

    def _run_in_parts(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator that has no rule as the operators that it is made of, if it is."""
        with self:
            out = function.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = function(*args, **kwargs)
        namespace, _, name = function._schema.name.partition("::")
        if may_hold_products(namespace, name) and any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out)):
            raise ValueError(
                f"cannot count the operations of {namespace}::{name}, which may hold products; known operators are in "
                "monai_sam2adapter/networks/profiling/mac_rules.py; add a rule there."
            )
        return out


@contextmanager
def _unfused_transformer_layers() -> Iterator[None]:
    """A fused layer would be one operator without shapes inside."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
