# SPDX-License-Identifier: Apache-2.0
"""The organs of the Synapse data set, and the codings of labels that are in use for them."""

from __future__ import annotations

from ..readers.transunet import TRANSUNET_LABELS

__all__ = ["SYNAPSE_CLASS_NAMES", "synapse_class_names", "synapse_label_map"]

#: what the labels 0 to 13 of the challenge stand for
SYNAPSE_CLASS_NAMES = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)

# the challenge's label of each class, for each coding that is in use; labels that are in none become background
_LABELS_OF_CLASSES = {
    14: tuple(range(14)),
    9: TRANSUNET_LABELS,
}


def synapse_class_names(num_classes: int) -> tuple[str, ...]:
    """
    Name the classes of a coding.

    Args:
        num_classes: 14 for the challenge's own coding; 9 for TransUNet's with 8 organs (aorta, gallbladder, left
            kidney, right kidney, liver, pancreas, spleen, stomach).

    Returns:
        the names, background first.

    Raises:
        ValueError: when it is neither.
    """
    return tuple(SYNAPSE_CLASS_NAMES[label] for label in _labels_of_classes(num_classes))


def synapse_label_map(num_classes: int) -> tuple[list[int], list[int]]:
    """
    Say which class each label of the challenge becomes, for ``monai.transforms.MapLabelValued``.

    Args:
        num_classes: as in ``synapse_class_names``.

    Returns:
        the labels 0 to 13 (``orig_labels``) and the class of each (``target_labels``); organs that the coding lacks
        become 0.

    Raises:
        ValueError: as in ``synapse_class_names``.
    """
    labels = _labels_of_classes(num_classes)
    originals = list(range(len(SYNAPSE_CLASS_NAMES)))
    return originals, [labels.index(label) if label in labels else 0 for label in originals]


def _labels_of_classes(num_classes: int) -> tuple[int, ...]:
    if num_classes not in _LABELS_OF_CLASSES:
        raise ValueError(
            f"num_classes is {num_classes!r}, expected 9 (the 8 organs of TransUNet) or 14 (all 13 of the challenge)"
        )
    return _LABELS_OF_CLASSES[num_classes]
