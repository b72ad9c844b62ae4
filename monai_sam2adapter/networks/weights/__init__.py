# SPDX-License-Identifier: Apache-2.0
"""SAM 2's official weights: catalog, download and loading; and files with the trained part of a net only."""

from __future__ import annotations

from .adapter_file import load_adapter, save_adapter
from .base_weights import check_base_weights, prepare_base_weights
from .catalog import SAM2_CATALOG, CatalogEntry
from .dinov2_weights import load_dinov2_checkpoint
from .download import default_weights_directory, download_sam2_checkpoint, sha256_of_file
from .errors import CheckpointError, CheckpointFormatError, CheckpointMismatchError, UnsafeCheckpointError
from .loading import SAM2LoadReport, load_sam2_checkpoint
from .network_weights import INPUT_CHANNELS, load_network_weights
from .peer_checkpoint import PeerLoadReport, load_peer_checkpoint
from .sam2_file import check_sam2_layout, save_sam2_checkpoint
from .sam2_net import SAM2Net

__all__ = [
    "INPUT_CHANNELS",
    "SAM2_CATALOG",
    "CatalogEntry",
    "CheckpointError",
    "CheckpointFormatError",
    "CheckpointMismatchError",
    "PeerLoadReport",
    "SAM2LoadReport",
    "SAM2Net",
    "UnsafeCheckpointError",
    "check_base_weights",
    "check_sam2_layout",
    "default_weights_directory",
    "download_sam2_checkpoint",
    "load_adapter",
    "load_dinov2_checkpoint",
    "load_network_weights",
    "load_peer_checkpoint",
    "load_sam2_checkpoint",
    "prepare_base_weights",
    "save_adapter",
    "save_sam2_checkpoint",
    "sha256_of_file",
]
