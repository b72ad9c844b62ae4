# SPDX-License-Identifier: Apache-2.0
"""SAM 2's official weights: catalog, download and loading; and files and messages with the trained part only."""

from __future__ import annotations

from .adapters import load_adapter, save_adapter
from .catalog import SAM2_CATALOG, CatalogEntry
from .download import default_weights_directory, download_sam2_checkpoint, sha256_of_file
from .federated import TrainedWeightsFilter
from .match import INPUT_CHANNELS, SAM2Net
from .peers import PeerLoadReport, load_dinov2_checkpoint, load_peer_checkpoint
from .read import CheckpointError, CheckpointFormatError, CheckpointMismatchError, UnsafeCheckpointError
from .sam2 import (
    SAM2LoadReport,
    check_base_weights,
    check_sam2_layout,
    load_sam2_checkpoint,
    prepare_base_weights,
    save_sam2_checkpoint,
)
from .trained import load_network_weights
from .vits import load_dinov3_checkpoint, load_sam3_checkpoint
from .wrappers import unwrap_names, unwrap_network

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
    "TrainedWeightsFilter",
    "UnsafeCheckpointError",
    "check_base_weights",
    "check_sam2_layout",
    "default_weights_directory",
    "download_sam2_checkpoint",
    "load_adapter",
    "load_dinov2_checkpoint",
    "load_dinov3_checkpoint",
    "load_network_weights",
    "load_peer_checkpoint",
    "load_sam2_checkpoint",
    "load_sam3_checkpoint",
    "prepare_base_weights",
    "save_adapter",
    "save_sam2_checkpoint",
    "sha256_of_file",
    "unwrap_names",
    "unwrap_network",
]
