# SPDX-License-Identifier: Apache-2.0
"""A synthetic ISBI 2012 in the layout of the real one: slices of tissue as an electron microscope shows them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from .folder import check_number, draw_each, smooth_noise, write_phantom_folder

__all__ = ["write_isbi2012_phantom"]

# to be raised when the drawing changes, so that old phantoms are not taken for new ones
_REVISION = 1
_SIDE = 512  # pixels, as in the real slices
_SLICE_DISTANCE = 12.0  # pixels; 50 nm for pixels of 4 nm
_CELL = 58.0  # pixels from one cell to the next
_MAX_SLICES = 30


def write_isbi2012_phantom(
    output_dir: str | os.PathLike[str], num_slices: int = 12, seed: int = 0, progress: bool = True
) -> bool:
    """
    Write a block of synthetic tissue in the layout of ISBI 2012: ``train-volume.tif`` and ``train-labels.tif``.

    Cells fill the space and shift from slice to slice; dark membranes part them. Mitochondria and vesicles are as dark
    and belong to the cells. A slice depends on the seed and on its number alone.

    Args:
        output_dir: as in ``write_phantom_folder``.
        num_slices: number of slices, 5 to 30; from 5 on, every fold has slices in every part. Defaults to 12.
        seed: seed of the random numbers, not negative. Defaults to 0.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when a number is out of its range, or the folder holds anything else.
    """
    check_number("num_slices", num_slices, 5, _MAX_SLICES)

    def write(folder: Path) -> None:
        tissue = _Tissue(seed)
        pages = [tissue.draw(k) for k in draw_each(range(num_slices), "slice", progress)]
        images, labels = zip(*pages, strict=True)
        _save(images, folder / "train-volume.tif")
        _save(labels, folder / "train-labels.tif")

    request = {"data_set": "isbi2012", "revision": _REVISION, "slices": num_slices}
    return write_phantom_folder(output_dir, seed, request, write)


class _Tissue:
    """Cells of a block of tissue, and its slices."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = np.random.default_rng([seed, 0])
        # in pixels, with a margin, so that there are cells at the border too
        low, high = np.array([-_CELL] * 3), np.array([_SIDE + _CELL] * 2 + [_MAX_SLICES * _SLICE_DISTANCE + _CELL])
        number = int(np.prod((high - low) / _CELL))
        self._centers = rng.uniform(low, high, (number, 3))
        self._tree = cKDTree(self._centers)
        self._brightness = rng.normal(0.68, 0.035, number)
        # cells are neither straight nor round: the plane is bent by smooth fields, in every slice a bit further
        fields = gaussian_filter(rng.normal(size=(4, _SIDE, _SIDE)), (0, 30, 30), mode="wrap")
        self._bends = 12 * fields / fields.std()
        spots = rng.uniform(low, high, (number // 2, 3))
        self._mitochondria = [(spot, rng.uniform(9, 26, 2), rng.uniform(0, np.pi)) for spot in spots]

    def draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and labels (0 membrane, 255 cell) of one slice, ``uint8``, ``(_SIDE, _SIDE)``."""
        rng = np.random.default_rng([self._seed, 1, number])
        depth = number * _SLICE_DISTANCE
        x, y = np.meshgrid(np.arange(_SIDE, dtype=float), np.arange(_SIDE, dtype=float), indexing="xy")
        angle = depth / 90
        x = x + np.cos(angle) * self._bends[0] + np.sin(angle) * self._bends[1]
        y = y + np.cos(angle) * self._bends[2] + np.sin(angle) * self._bends[3]
        points = np.stack([x, y, np.full_like(x, depth)], axis=-1)
        distances, cells = self._tree.query(points, k=2)
        # distance to the plane between the two nearest centers
        gap = np.linalg.norm(self._centers[cells[..., 0]] - self._centers[cells[..., 1]], axis=-1)
        to_membrane = (distances[..., 1] ** 2 - distances[..., 0] ** 2) / (2 * gap)
        thickness = 3.4 * np.exp(0.2 * _noise(rng, 14))
        membrane = to_membrane < thickness

        image = self._brightness[cells[..., 0]] + 0.06 * _noise(rng, 1.5) + 0.03 * _noise(rng, 30)
        self._draw_mitochondria(image, x, y, depth, to_membrane > thickness + 3)
        _draw_vesicles(image, rng)
        image[membrane] = 0.24 + 0.07 * _noise(rng, 4)[membrane]
        return _acquire(image, rng), np.where(membrane, 0, 255).astype(np.uint8)

    def _draw_mitochondria(
        self, image: np.ndarray, x: np.ndarray, y: np.ndarray, depth: float, inside: np.ndarray
    ) -> None:
        """Ellipses with a dark rim and stripes, kept off the membranes."""
        for (left, top, middle), axes, turn in self._mitochondria:
            part = 1 - ((middle - depth) / 40) ** 2
            if part <= 0:
                continue
            # a window that holds it, however the plane is bent there
            near = tuple(slice(max(int(side) - 70, 0), max(int(side) + 70, 0)) for side in (top, left))
            right, down = x[near] - left, y[near] - top
            along = np.cos(turn) * right + np.sin(turn) * down
            across = np.cos(turn) * down - np.sin(turn) * right
            radius = np.hypot(along / axes[0], across / axes[1]) / np.sqrt(part)
            body = (radius < 1) & inside[near]
            image[near][body] = 0.32 + 0.08 * np.sin(1.1 * along[body])
            image[near][body & (radius > 1 - 2.5 / axes.min())] = 0.24


def _draw_vesicles(image: np.ndarray, rng: np.random.Generator) -> None:
    """Small dark rings."""
    radius = np.hypot(*np.mgrid[-6:7, -6:7])
    for top, left in rng.integers(8, _SIDE - 8, (60, 2)):
        ring = abs(radius - rng.uniform(2.5, 4.5)) < 1
        image[top - 6 : top + 7, left - 6 : left + 7][ring] = 0.3


def _acquire(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the microscope makes of the tissue: blur, contrast of the slice, uneven light, noise."""
    image = gaussian_filter(image, rng.uniform(0.7, 1.2))
    image = (image - 0.5) * rng.uniform(0.9, 1.15) + 0.5 + rng.normal(0, 0.03)
    image = image + 0.02 * _noise(rng, 90) + rng.normal(0, 0.055, image.shape)
    return np.round(255 * image.clip(0, 1)).astype(np.uint8)


def _noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    return smooth_noise(rng, (_SIDE, _SIDE), sigma, mode="wrap")


def _save(pages: tuple[np.ndarray, ...], path: Path) -> None:
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others)
