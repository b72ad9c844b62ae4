# SPDX-License-Identifier: Apache-2.0
"""What the numbers in a segmentation mean: names, colors and codes of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..utils.logs import escaping_logger

__all__ = ["PALETTE", "LabelScheme"]

logger = escaping_logger(__name__)

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 190, 130),
    (240, 228, 66),
    (220, 60, 40),
    (204, 121, 167),
    (60, 110, 240),
    (160, 110, 210),
    (170, 110, 80),
    (180, 230, 60),
    (0, 210, 220),
    (255, 150, 150),
    (150, 220, 150),
    (200, 180, 240),
)
"""Colors of the classes 1, 2, ...; the first ones stay apart for color-blind readers. Repeats when there are more."""


@dataclass(frozen=True)
class LabelScheme:
    """
    The classes 1, 2, ... of a segmentation (0 is background), or those that overlap, and the model that made it.

    Args:
        names: names of the classes.
        colors: red, green and blue of each class, 0 to 255.
        codes: for each class ``{"category": code, "type": code}``, with codes ``[value, scheme, meaning]`` of a
            terminology, as DICOM names what a segment is; empty for a class without codes.
        model: name of the model. Defaults to "unnamed".
        version: its version. Defaults to "0".
        overlapping: whether a voxel may have several classes, or none. Defaults to False.
        region_order: of classes that are regions of one label map, the number that each is written by, later ones over
            earlier ones, nnU-Net's ``regions_class_order``. Defaults to none: they are no regions.

    Raises:
        ValueError: when there is an order of another number of classes, or of some that do not overlap.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    codes: tuple[Mapping[str, Sequence[str]], ...]
    model: str = "unnamed"
    version: str = "0"
    overlapping: bool = False
    region_order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.region_order and not (self.overlapping and len(self.region_order) == len(self.names)):
            raise ValueError(
                f"region_order is {self.region_order}, expected a number for each of the {len(self.names)} classes, "
                "which must overlap"
            )

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the classes that each need a mask of their own; none where one label map holds them."""
        return self.names if self.overlapping and not self.region_order else ()

    @classmethod
    def from_metadata(
        cls,
        metadata: Mapping[str, Any],
        class_names: Sequence[str] | None = None,
        overlapping: bool = False,
        region_order: Sequence[int] | None = None,
    ) -> LabelScheme:
        """
        Take from a bundle's metadata what is at ``network_data_format/outputs/pred``.

        Names are those of ``channel_def``; its first channel is the background unless it is the only one. Beside it may
        stand ``channel_colors``, as ``{"1": [230, 159, 0]}``, and ``channel_codes``, as ``{"1": {"category":
        ["91723000", "SCT", "Anatomical Structure"], "type": ["87878005", "SCT", "Left ventricle"]}}``, with the
        numbers of ``channel_def`` or the names of classes as keys. A class without a color gets that of
        :py:data:`PALETTE`.

        Args:
            metadata: the content of ``configs/metadata.json``, which a config has as ``@_meta_``, wherever MONAI has
                found it: beside the config, by ``--meta_file``, or in an exported file.
            class_names: names of all classes, background first unless they overlap, where an option of the bundle makes
                them others than those of the metadata, which then gives colors and codes by the name; a name that it
                does not have at all is logged as a warning. Defaults to None.
            overlapping: whether a voxel may have several classes. Defaults to False.
            region_order: see the class. Defaults to None: they are no regions.

        Returns:
            the classes.

        Raises:
            ValueError: when there are no metadata or no classes in it, or a color or code is malformed.
        """
        if not metadata:
            raise ValueError(
                "the config has no metadata, which names the classes; give the bundle's configs/metadata.json by "
                "--meta_file"
            )
        try:
            output = metadata["network_data_format"]["outputs"]["pred"]
            channels = dict(sorted(output["channel_def"].items(), key=lambda item: int(item[0])))
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"the metadata names no classes at network_data_format/outputs/pred/channel_def: {error!r}"
            ) from error
        given = list(channels.values()) if class_names is None else list(class_names)
        names = given if overlapping else (given[1:] or (given if class_names is None else []))
        names = [str(name) for name in names]
        key_of = {name: key for key, name in channels.items()}
        given_colors, given_codes = output.get("channel_colors", {}), output.get("channel_codes", {})
        unknown = [name for name in names if name not in {**key_of, **given_colors, **given_codes}]
        if unknown:
            logger.warning(
                "the metadata has no class %s: the colors are chosen by number, and DICOM calls it tissue; add the "
                "names to channel_colors and channel_codes",
                ", ".join(map(repr, unknown)),
            )
        colors = [
            given_colors.get(name, given_colors.get(key_of.get(name), PALETTE[index % len(PALETTE)]))
            for index, name in enumerate(names)
        ]
        codes = [given_codes.get(name, given_codes.get(key_of.get(name), {})) for name in names]
        for name, color, code in zip(names, colors, codes, strict=True):
            _check(f"the metadata, {name}", color, code)
        return cls(
            tuple(names),
            tuple((color[0], color[1], color[2]) for color in colors),
            tuple(codes),
            str(metadata.get("name", cls.model)),
            str(metadata.get("version", cls.version)),
            overlapping,
            tuple(region_order or ()),
        )


def _check(place: str, color: Any, code: Any) -> None:
    if len(color) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in color):
        raise ValueError(f"{place}: the color is {color}, expected red, green and blue from 0 to 255")
    if code and (set(code) != {"category", "type"} or any(len(parts) != 3 for parts in code.values())):
        raise ValueError(f"{place}: the codes are {code}, expected category and type, each [value, scheme, meaning]")
