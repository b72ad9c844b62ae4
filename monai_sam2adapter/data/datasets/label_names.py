# SPDX-License-Identifier: Apache-2.0
"""How files of labels are named after their images: ``*_segmentation``, ``mask_*``."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["image_name", "naming_hint", "require_pattern"]


def require_pattern(pattern: str) -> None:
    """
    Check a pattern, the name of a mask with ``*`` in place of its image's, both without extension.

    Raises:
        ValueError: when there is not one ``*`` in it.
    """
    if not isinstance(pattern, str) or pattern.count("*") != 1:
        raise ValueError(
            f"label_pattern is {pattern!r}; expected the name of a mask with * in place of that of its image, such as "
            "'*_mask', or '*' where they are the same"
        )


def image_name(label: str, pattern: str) -> str:
    """The name of the image of a mask, both without extension; empty when the mask is not named so."""
    start, _, end = pattern.partition("*")
    fits = len(label) > len(pattern) - 1 and label.startswith(start) and label.endswith(end)
    return label[len(start) : len(label) - len(end)] if fits else ""


def naming_hint(images: Collection[str], labels: Collection[str], pattern: str) -> str:
    """
    Say which pattern every mask is named by, where it is another one than was given.

    Args:
        images: names of the images, without extension.
        labels: names of the masks, without extension.
        pattern: the pattern that was given.

    Returns:
        what to give; empty when no pattern, or the given one, fits all.
    """
    if not images or len(images) != len(labels):
        return ""
    first = min(labels)
    for image in sorted((image for image in images if image and image in first), key=len, reverse=True):
        found = "*".join(first.split(image, 1))
        if found != pattern and {found.replace("*", name) for name in images} == set(labels):
            return f"every mask is named {found!r} after its image, and not {pattern!r}; give --label_pattern {found!r}"
    return ""
