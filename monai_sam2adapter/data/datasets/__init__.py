# SPDX-License-Identifier: Apache-2.0
"""The data sets: their lists, splits and checks."""

from __future__ import annotations

from .acdc import ACDC_CLASS_NAMES, acdc_datalist, acdc_layout_problems, find_acdc_patients
from .check import DatasetReport, check_image_and_label, format_report
from .check_acdc import check_acdc
from .check_images import check_images_and_masks
from .check_isbi2012 import check_isbi2012
from .check_kvasir import check_kvasir
from .check_pairs import check_pairs
from .check_synapse import check_synapse
from .description import describe_pictures, describe_volumes, keep_description, read_description
from .isbi2012 import ISBI2012_CLASS_NAMES, find_isbi2012_slices, isbi2012_datalist
from .kvasir import KVASIR_CLASS_NAMES, find_kvasir_images, kvasir_datalist, kvasir_folds, kvasir_list_problems
from .layouts import LabeledCases, find_labeled_cases
from .own_data import check_pictures, check_volumes, picture_datalist, volume_datalist
from .pairs import PAIR_CLASS_NAMES, PAIR_TASKS, find_pairs, pair_datalist, pair_parts
from .split import SPLIT_PARTS, name_parts, packaged_split_file, read_folds, read_split
from .synapse import find_synapse_cases, synapse_datalist, synapse_layout_problems, synapse_numbering_problems
from .synapse_labels import SYNAPSE_CLASS_NAMES, synapse_class_names, synapse_label_map

__all__ = [
    "ACDC_CLASS_NAMES",
    "ISBI2012_CLASS_NAMES",
    "KVASIR_CLASS_NAMES",
    "PAIR_CLASS_NAMES",
    "PAIR_TASKS",
    "SPLIT_PARTS",
    "SYNAPSE_CLASS_NAMES",
    "DatasetReport",
    "LabeledCases",
    "acdc_datalist",
    "acdc_layout_problems",
    "check_acdc",
    "check_image_and_label",
    "check_images_and_masks",
    "check_isbi2012",
    "check_kvasir",
    "check_pairs",
    "check_pictures",
    "check_synapse",
    "check_volumes",
    "describe_pictures",
    "describe_volumes",
    "find_acdc_patients",
    "find_isbi2012_slices",
    "find_kvasir_images",
    "find_labeled_cases",
    "find_pairs",
    "find_synapse_cases",
    "format_report",
    "isbi2012_datalist",
    "keep_description",
    "kvasir_datalist",
    "kvasir_folds",
    "kvasir_list_problems",
    "name_parts",
    "packaged_split_file",
    "pair_datalist",
    "pair_parts",
    "picture_datalist",
    "read_description",
    "read_folds",
    "read_split",
    "synapse_class_names",
    "synapse_datalist",
    "synapse_label_map",
    "synapse_layout_problems",
    "synapse_numbering_problems",
    "volume_datalist",
]
