# SPDX-License-Identifier: Apache-2.0
"""What a network costs with other adapters, without a pass through each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from monai.utils import ensure_tuple_rep

from ..adapters import Adapter, get_adapter_class
from ..nets import AdaptedSAM2
from ..profiling import count_macs
from ..utils import reparameterize_model

__all__ = ["AdapterCosts"]


class AdapterCosts:
    """
    Count the multiply-accumulate operations (MACs) for one image of a network with any adapter beside the MLP.

    The network runs once, on the CPU; the adapters of a candidate are then counted one by one at the shapes that this
    pass has met, which gives the same number as the whole network with them. Everything is counted as in inference:
    in eval mode, the branches of the LW-Adapter fused. The state of PyTorch's random number generator is left as it is.

    Args:
        build: builds the network, an :class:`~monai_sam2adapter.networks.nets.AdaptedSAM2`, and takes ``adapter``; a
            :func:`functools.partial` of its class.
        image_size: side or sides of the image, in pixels.
    """

    def __init__(self, build: Callable[..., AdaptedSAM2], image_size: int | Sequence[int]) -> None:
        with torch.random.fork_rng(devices=[]):
            #: the network, without adapters
            self.network = build(adapter="none").eval()
            self._blocks = list(self.network.image_encoder.trunk.blocks)
            self._shapes: dict[int, torch.Size] = {}  # what comes out of a block is what an adapter beside its MLP gets
            hooks = [block.register_forward_hook(partial(self._keep_shape, i)) for i, block in enumerate(self._blocks)]
            size = ensure_tuple_rep(image_size, 2)
            #: its MACs, trunk and head
            self.bare: int = count_macs(self.network, torch.zeros(1, self.network.in_channels, *size)).total
            for hook in hooks:
                hook.remove()
        ends = [0, *(end + 1 for end in self.network.image_encoder.trunk.stage_ends)]
        #: for each stage of the trunk, shallow to deep, the indices of its blocks
        self.stage_blocks = tuple(tuple(range(start, end)) for start, end in pairwise(ends))
        self._counted: dict[tuple[str, str, int, torch.Size], int] = {}

    def total(self, adapter: str, config: Mapping[str, Any] | None = None) -> int:
        """
        MACs of the network with an adapter.

        Args:
            adapter: name of a method with a place beside the MLP.
            config: its settings. Defaults to None: its own.

        Raises:
            ValueError: when the method or a setting is unknown, or the method has another place.
        """
        adapter_class = get_adapter_class(adapter)
        if adapter_class.slot != "mlp":
            raise ValueError(f"adapter {adapter!r} is not beside the MLP; take one that is, such as 'hp' or 'lw'.")
        settings = adapter_class.config_class.from_dict(dict(config or {}))
        blocks = range(len(self._blocks)) if settings.blocks is None else settings.blocks
        return self.bare + sum(self._count(adapter_class, settings, index % len(self._blocks)) for index in blocks)

    def _count(self, adapter_class: type[Adapter], settings: Any, index: int) -> int:
        block, shape = self._blocks[index], self._shapes[index]
        key = (adapter_class.__name__, str(settings), block.slot_channels("mlp"), shape)
        if key not in self._counted:
            with torch.random.fork_rng(devices=[]):
                module = reparameterize_model(adapter_class.for_block(block, settings).eval(), inplace=True)
                self._counted[key] = count_macs(module, torch.zeros(shape)).total
        return self._counted[key]

    def _keep_shape(self, index: int, module: torch.nn.Module, args: Any, out: torch.Tensor) -> None:
        self._shapes[index] = out.shape
