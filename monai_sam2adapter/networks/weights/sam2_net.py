# SPDX-License-Identifier: Apache-2.0
"""What the functions of this folder ask of a net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

__all__ = ["SAM2Net"]


class SAM2Net(Protocol):
    """
    A ``torch.nn.Module`` that knows which of its weights are SAM 2's and which were added to it.

    What is neither, such as a second pretrained encoder, is part of the base that an adapter file belongs to.

    A net may also have ``init_head(token, weights, biases)``, which starts its class tokens and hyper-networks from
    SAM 2's mask token ``(256,)`` and the three layers of its hyper-network.
    """

    #: stem of the SAM 2 file that was loaded, None for random weights
    base_checkpoint: str | None

    @property
    def config(self) -> Mapping[str, Any]:
        """Settings that define the net's weights, of types that JSON knows; ``freeze`` lists the parts not trained."""
        ...

    def sam2_state_names(self) -> set[str]:
        """State-dict names kept from SAM 2, exactly as in the official files."""
        ...

    def added_state_names(self) -> set[str]:
        """State-dict names, parameters and buffers, of everything that no pretrained network has."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """As in ``torch.nn.Module``."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """As in ``torch.nn.Module``."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """As in ``torch.nn.Module``."""
        ...
