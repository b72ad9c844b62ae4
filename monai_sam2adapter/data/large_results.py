# SPDX-License-Identifier: Apache-2.0
"""Writing segmentations of pictures too large for the memory, while they are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

__all__ = ["write_large_labels"]

_TILE = 256  # rows and columns


def write_large_labels(
    path: Path,
    size: tuple[int, int],
    parts: Iterable[Mapping[str, torch.Tensor]],
    colors: Sequence[Sequence[int]],
    maps: Mapping[str, Path],
) -> None:
    """
    Write class numbers as a TIFF of compressed tiles with a palette, of more than 255 classes in 16 bits without one,
    BigTIFF where it has to be, and maps as TIFF files of float32, a page a channel.

    Args:
        path: file for the class numbers.
        size: columns and rows, ``(W, H)``.
        parts: ``"pred"``, ``(1, 1, W, rows)``, uint8, and the maps, ``(1, K, W, rows)``, of bands in their order.
        colors: red, green and blue of the classes 1, 2, ..., 0 to 255.
        maps: the files of maps, by their names.
    """
    form: dict[str, Any] = {"dtype": np.uint16, "photometric": "minisblack"}
    if len(colors) < 256:
        palette = np.zeros((256, 3), np.uint16)
        palette[1 : 1 + len(colors)] = np.asarray(colors, np.uint16).reshape(-1, 3)
        form = {"dtype": np.uint8, "photometric": "palette", "colormap": palette.T * 257}
    tifffile.imwrite(
        path,
        _tiles(_write_maps(size, parts, maps, form["dtype"]), size[0], form["dtype"]),
        shape=size[::-1],
        tile=(_TILE, _TILE),
        compression="zlib",
        metadata=None,
        **form,
    )


def _write_maps(
    size: tuple[int, int], parts: Iterable[Mapping[str, torch.Tensor]], maps: Mapping[str, Path], dtype: Any
) -> Iterator[np.ndarray]:
    """Put maps into their files as bands come; yields the class numbers of each, ``(rows, W)``."""
    files: dict[str, np.ndarray] = {}
    row = 0
    for part in parts:
        labels = part["pred"][0, 0].cpu().numpy().T.astype(dtype)
        for name, path in maps.items():
            values = part[name][0].cpu().float().numpy().swapaxes(1, 2)
            if name not in files:  # how many channels there are is known only now
                shape = (len(values), *size[::-1])
                files[name] = tifffile.memmap(
                    path, shape=shape, dtype=np.float32, photometric="minisblack", metadata=None
                )
            files[name][:, row : row + len(labels)] = values
        yield labels
        row += len(labels)
    for file in files.values():
        file.flush()  # type: ignore[attr-defined]


def _tiles(bands: Iterable[np.ndarray], width: int, dtype: Any) -> Iterator[np.ndarray]:
    """The tiles of class numbers, one row of tiles behind the other; what is beyond the border is 0."""
    rest = np.zeros((0, width), dtype)
    for band in bands:
        rest = np.concatenate([rest, band])
        while len(rest) >= _TILE:
            yield from _row_of_tiles(rest[:_TILE])
            rest = rest[_TILE:]
    if len(rest):
        yield from _row_of_tiles(rest)


def _row_of_tiles(rows: np.ndarray) -> Iterator[np.ndarray]:
    for left in range(0, rows.shape[1], _TILE):
        part = rows[:, left : left + _TILE]
        tile = np.zeros((_TILE, _TILE), rows.dtype)
        tile[: part.shape[0], : part.shape[1]] = part
        yield tile
