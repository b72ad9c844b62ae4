# SPDX-License-Identifier: Apache-2.0
"""Writing a network's weights in the layout of SAM 2's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ...utils.files import atomic_path
from .loading import HEAD_BIASES, HEAD_WEIGHTS, MASK_TOKENS, NUM_MASK_TOKENS

__all__ = ["check_sam2_layout", "save_sam2_checkpoint"]


def save_sam2_checkpoint(net: Any, path: str | os.PathLike[str]) -> None:
    """
    Write the weights of a network that was trained as a whole as a file that :func:`load_sam2_checkpoint` takes.

    Another network then starts from it as from one of SAM 2's own files. The head of class 0 stands in for SAM 2's mask
    token and hyper-network; the heads of the other classes are left out.

    Args:
        net: ``PromptFreeSAM2`` with nothing added to SAM 2 but the class head: no adapter, and
            ``positional_encoding="sam2"``.
        path: file to write, usually ``*.pt``. It appears under its name only when it is whole.

    Raises:
        ValueError: when the network has no class head, or holds something that SAM 2's files have no name for.
    """
    check_sam2_layout(net)
    state = net.state_dict()
    tensors = {name: state[name].detach().cpu() for name in sorted(net.sam2_state_names())}
    token, weights, biases = net.export_head()
    tensors[MASK_TOKENS] = token.cpu().repeat(NUM_MASK_TOKENS, 1)
    tensors |= dict(zip(HEAD_WEIGHTS, (weight.cpu() for weight in weights), strict=True))
    tensors |= dict(zip(HEAD_BIASES, (bias.cpu() for bias in biases), strict=True))
    with atomic_path(Path(path)) as temporary:
        torch.save({"model": tensors}, temporary)


def check_sam2_layout(net: Any) -> None:
    """
    Check that :func:`save_sam2_checkpoint` can write a network, before it is trained.

    Args:
        net: as in :func:`save_sam2_checkpoint`.

    Raises:
        ValueError: as in :func:`save_sam2_checkpoint`.
    """
    if not hasattr(net, "export_head"):
        raise ValueError(f"{type(net).__name__} has no class head to write as SAM 2's; give a PromptFreeSAM2.")
    unnamed = ("adapters", "positional_encoding", "input_projection")
    others = [part for part in net.parameter_groups() if part in unnamed]
    if others:
        raise ValueError(
            f"the network has {', '.join(others)}, which SAM 2's files have no names for; train it with adapter "
            "'full', positional_encoding 'sam2' and 1 or 3 input channels."
        )
