# SPDX-License-Identifier: Apache-2.0
"""The data sets: list, layout and check of each in one file, and anyone's data in common layouts."""

from __future__ import annotations

from .acdc import ACDC_CLASS_NAMES, acdc_datalist, check_acdc
from .check import check_image_and_label, check_images_and_masks
from .description import describe_pictures, describe_volumes
from .isbi2012 import ISBI2012_CLASS_NAMES, check_isbi2012, isbi2012_datalist
from .kept_description import keep_description, read_description
from .kvasir import KVASIR_CLASS_NAMES, check_kvasir, kvasir_datalist
from .layouts import LabeledCases, find_labeled_cases
from .own_data import check_pictures, check_volumes, picture_datalist, volume_datalist
from .pairs import PAIR_CLASS_NAMES, PAIR_TASKS, check_pairs, pair_datalist
from .report import DatasetReport, format_report
from .split import SPLIT_PARTS, name_parts, packaged_split_file, read_folds, read_split
from .synapse import check_synapse, synapse_datalist
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
    "find_labeled_cases",
    "format_report",
    "isbi2012_datalist",
    "keep_description",
    "kvasir_datalist",
    "name_parts",
    "packaged_split_file",
    "pair_datalist",
    "picture_datalist",
    "read_description",
    "read_folds",
    "read_split",
    "synapse_class_names",
    "synapse_datalist",
    "synapse_label_map",
    "volume_datalist",
]
