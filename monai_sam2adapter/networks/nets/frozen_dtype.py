# SPDX-License-Identifier: Apache-2.0
"""Computing in the precision of a network's frozen weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

from ..layers import is_autocast

if TYPE_CHECKING:
    from .adapted_sam2 import AdaptedSAM2

__all__ = ["in_frozen_dtype"]


def in_frozen_dtype(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A network's ``forward`` under autocast of the dtype of its frozen weights, see ``cast_frozen``."""

    @wraps(forward)
    def wrapped(self: AdaptedSAM2, x: torch.Tensor) -> Any:
        if self.frozen_dtype is None or is_autocast(x):
            return forward(self, x)
        with torch.autocast(x.device.type, self.frozen_dtype):
            outputs = forward(self, x)
        return [out.to(x.dtype) for out in outputs] if isinstance(outputs, list) else outputs.to(x.dtype)

    return wrapped
