# SPDX-License-Identifier: Apache-2.0
"""Losses that MONAI does not have. For a list of outputs, wrap one into ``monai.losses.DeepSupervisionLoss``."""

from __future__ import annotations

from .ignore_index_dice_ce_loss import IgnoreIndexDiceCELoss
from .structure_loss import StructureLoss

__all__ = ["IgnoreIndexDiceCELoss", "StructureLoss"]
