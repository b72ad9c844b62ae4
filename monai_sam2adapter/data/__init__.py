# SPDX-License-Identifier: Apache-2.0
"""Data sets: their lists and splits, their checks, slices for training, volumes for inference, and phantoms."""

from __future__ import annotations

from .abdominal_phantom import AbdominalPhantom
from .acdc import ACDC_CLASS_NAMES, acdc_datalist, acdc_layout_problems, find_acdc_patients
from .acdc_phantom import write_acdc_phantom
from .cardiac_phantom import CardiacPhantom
from .case_dataset import CaseDataset, describe_error
from .check import DatasetReport, check_image_and_label, format_report
from .check_acdc import check_acdc
from .check_images import check_images_and_masks
from .check_isbi2012 import check_isbi2012
from .check_kvasir import check_kvasir
from .check_pairs import check_pairs
from .check_synapse import check_synapse
from .dicom_geometry import DicomGeometry
from .dicom_reader import DicomReader
from .dicom_seg import require_highdicom, write_dicom_seg
from .dicom_series import DicomSeries
from .epoch_sampler import EpochSampler
from .find_images import find_images
from .gray_mask import gray_mask_problem
from .image_file_reader import ImageFileReader
from .isbi2012 import ISBI2012_CLASS_NAMES, find_isbi2012_slices, isbi2012_datalist
from .isbi2012_phantom import write_isbi2012_phantom
from .kvasir import KVASIR_CLASS_NAMES, find_kvasir_images, kvasir_datalist, kvasir_folds, kvasir_list_problems
from .kvasir_phantom import write_kvasir_phantom
from .label_profile import LabelProfile, profile_labels
from .label_scheme import LabelScheme
from .neighbors import slices_with_neighbors
from .pair_phantom import write_pair_phantom
from .pairs import PAIR_CLASS_NAMES, PAIR_TASKS, find_pairs, pair_datalist, pair_parts
from .phantom_folder import write_phantom_folder
from .seeded_cache_dataset import SeededCacheDataset
from .seeded_index import SeededIndex, derive_seed, seeded_transform
from .sitk_reader import SimpleITKReader
from .slice_dataset import VolumeSliceDataset
from .split import SPLIT_PARTS, name_parts, packaged_split_file, read_folds, read_split
from .synapse import find_synapse_cases, synapse_datalist, synapse_layout_problems, synapse_numbering_problems
from .synapse_labels import SYNAPSE_CLASS_NAMES, synapse_class_names, synapse_label_map
from .synapse_phantom import write_synapse_phantom
from .transunet_reader import TransUNetArrayReader
from .volume_reader import VolumeReader

__all__ = [
    "ACDC_CLASS_NAMES",
    "ISBI2012_CLASS_NAMES",
    "KVASIR_CLASS_NAMES",
    "PAIR_CLASS_NAMES",
    "PAIR_TASKS",
    "SPLIT_PARTS",
    "SYNAPSE_CLASS_NAMES",
    "AbdominalPhantom",
    "CardiacPhantom",
    "CaseDataset",
    "DatasetReport",
    "DicomGeometry",
    "DicomReader",
    "DicomSeries",
    "EpochSampler",
    "ImageFileReader",
    "LabelProfile",
    "LabelScheme",
    "SeededCacheDataset",
    "SeededIndex",
    "SimpleITKReader",
    "TransUNetArrayReader",
    "VolumeReader",
    "VolumeSliceDataset",
    "acdc_datalist",
    "acdc_layout_problems",
    "check_acdc",
    "check_image_and_label",
    "check_images_and_masks",
    "check_isbi2012",
    "check_kvasir",
    "check_pairs",
    "check_synapse",
    "derive_seed",
    "describe_error",
    "find_acdc_patients",
    "find_images",
    "find_isbi2012_slices",
    "find_kvasir_images",
    "find_pairs",
    "find_synapse_cases",
    "format_report",
    "gray_mask_problem",
    "isbi2012_datalist",
    "kvasir_datalist",
    "kvasir_folds",
    "kvasir_list_problems",
    "name_parts",
    "packaged_split_file",
    "pair_datalist",
    "pair_parts",
    "profile_labels",
    "read_folds",
    "read_split",
    "require_highdicom",
    "seeded_transform",
    "slices_with_neighbors",
    "synapse_class_names",
    "synapse_datalist",
    "synapse_label_map",
    "synapse_layout_problems",
    "synapse_numbering_problems",
    "write_acdc_phantom",
    "write_dicom_seg",
    "write_isbi2012_phantom",
    "write_kvasir_phantom",
    "write_pair_phantom",
    "write_phantom_folder",
    "write_synapse_phantom",
]
