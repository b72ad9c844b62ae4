# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a file of weights: one exception for each thing a caller may want to handle by itself."""

from __future__ import annotations

__all__ = ["CheckpointError", "CheckpointFormatError", "CheckpointMismatchError", "UnsafeCheckpointError"]


class CheckpointError(ValueError):
    """A file of weights cannot be used; the net is as it was before."""


class CheckpointFormatError(CheckpointError):
    """The file is damaged, or of another kind than the one asked for."""


class UnsafeCheckpointError(CheckpointError):
    """The file is a pickle of more than tensors and plain containers, so that opening it could run code."""


class CheckpointMismatchError(CheckpointError):
    """The file is sound but made for another net: other variant, names, shapes, configuration or base weights."""
