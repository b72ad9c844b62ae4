# SPDX-License-Identifier: Apache-2.0
"""How much memory a forward pass takes."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .keeping import device_of

__all__ = ["measure_peak_memory"]


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
    device = device_of(model)
    if device.type != "cuda":
        return _peak_of_tensors(model, inputs)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        model(*inputs)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def _peak_of_tensors(model: nn.Module, inputs: tuple[Any, ...]) -> int:
    mode = _StorageMode()
    mode.add([*model.parameters(), *model.buffers(), *inputs])
    # not in inference mode, where operators arrive whole and their parts' results would not be seen
    with torch.inference_mode(False), torch.no_grad(), mode:
        model(*inputs)
    return mode.peak


class _StorageMode(TorchDispatchMode):
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
