# SPDX-License-Identifier: Apache-2.0
"""Whether the tensors of a file fit a net, told before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from .errors import CheckpointMismatchError
from .reading import enumerate_some, guess_variant

__all__ = ["check_tensors", "check_variant"]

# BatchNorm's count of batches, the only tensor of a net that is no floating-point number
_COUNTER = "num_batches_tracked"


def check_variant(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: Path) -> None:
    """
    Compare SAM 2's variant in a file and in a net, both under sam2's names; where one has none, nothing is said.

    Raises:
        CheckpointMismatchError: when they differ.
    """
    of_file, of_net = guess_variant(tensors), guess_variant(own)
    if of_file and of_net and of_file != of_net:
        raise CheckpointMismatchError(
            f"{path} is of SAM 2's variant {of_file}, the net is {of_net}. "
            f"Build the net with variant='{of_file}', or load a file of variant {of_net}."
        )


def check_tensors(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, source: str, advice: str
) -> None:
    """
    Compare a file's tensors with the shapes that a net takes; what the file has beside them is not looked at.

    Args:
        tensors: the file's, by name.
        expected: shapes by name.
        path: the file.
        source: whose weights these are, for the message.
        advice: what to do, for the message.

    Raises:
        CheckpointMismatchError: when a tensor is missing, of another shape, or no floating-point number.
    """
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise CheckpointMismatchError(
            f"{path} lacks {len(missing)} of the {len(expected)} tensors that the net takes from {source}: "
            f"{enumerate_some(missing)}. {advice}"
        )
    # a quantized file has the right shapes, and numbers that mean something else
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} {tensors[name].dtype}, expected {shape} of floating point"
        for name, shape in expected.items()
        if tuple(tensors[name].shape) != shape or not (tensors[name].is_floating_point() or name.endswith(_COUNTER))
    ]
    if wrong:
        raise CheckpointMismatchError(
            f"{path} does not fit the net in {len(wrong)} tensors: {enumerate_some(wrong)}. {advice}"
        )
