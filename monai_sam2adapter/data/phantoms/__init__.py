# SPDX-License-Identifier: Apache-2.0
"""Synthetic data sets in the layouts of the real ones."""

from __future__ import annotations

from .abdominal import AbdominalPhantom
from .cardiac import CardiacPhantom
from .discs import write_disc_phantom
from .folder import write_phantom_folder
from .isbi2012 import write_isbi2012_phantom
from .kvasir import write_kvasir_phantom
from .pairs import write_pair_phantom
from .volumes import write_acdc_phantom, write_synapse_phantom

__all__ = [
    "AbdominalPhantom",
    "CardiacPhantom",
    "write_acdc_phantom",
    "write_disc_phantom",
    "write_isbi2012_phantom",
    "write_kvasir_phantom",
    "write_pair_phantom",
    "write_phantom_folder",
    "write_synapse_phantom",
]
