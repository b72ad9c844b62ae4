# SPDX-License-Identifier: Apache-2.0
"""Data sets: their lists and splits, their checks, slices for training, volumes for inference, and phantoms."""

from __future__ import annotations

from . import datasets, dicom, phantoms, readers
from .caching import CaseCacheDataset, SeededCacheDataset
from .case_dataset import CaseDataset, describe_error
from .datasets import *  # noqa: F403
from .dicom import *  # noqa: F403
from .find_images import find_images
from .label_scheme import LabelScheme
from .orientation import VolumeAxes, choose_orientation
from .phantoms import *  # noqa: F403
from .pixel_values import gray_mask_problem
from .readers import *  # noqa: F403
from .results import ResultFiles
from .sampling import EpochSampler, SeededIndex, derive_seed, seeded_transform
from .slices import VolumeSliceDataset, slices_with_neighbors

__all__ = [
    "CaseCacheDataset",
    "CaseDataset",
    "EpochSampler",
    "LabelScheme",
    "ResultFiles",
    "SeededCacheDataset",
    "SeededIndex",
    "VolumeAxes",
    "VolumeSliceDataset",
    "choose_orientation",
    "derive_seed",
    "describe_error",
    "find_images",
    "gray_mask_problem",
    "seeded_transform",
    "slices_with_neighbors",
]
__all__ += [*datasets.__all__, *dicom.__all__, *phantoms.__all__, *readers.__all__]
