# SPDX-License-Identifier: Apache-2.0
"""Files, texts, the machine, the size of images, and probabilities."""

from __future__ import annotations

from .files import atomic_path, is_same_file, read_json, require_writable, sha256_of_file, write_json
from .flags import require_flags
from .logs import escaping_logger, warn_once
from .machine import device_name, num_cores
from .own_files import is_own, own_path, require_own
from .probabilities import class_probabilities, entropy_of, logits_of
from .resizing import resize_images
from .text import nearest_name, printable, spreadsheet_cell

__all__ = [
    "atomic_path",
    "class_probabilities",
    "device_name",
    "entropy_of",
    "escaping_logger",
    "is_own",
    "is_same_file",
    "logits_of",
    "nearest_name",
    "num_cores",
    "own_path",
    "printable",
    "read_json",
    "require_flags",
    "require_own",
    "require_writable",
    "resize_images",
    "sha256_of_file",
    "spreadsheet_cell",
    "warn_once",
    "write_json",
]
