# SPDX-License-Identifier: Apache-2.0
"""A synthetic Kvasir-SEG in the layout of the real one: photographs of polyps as an endoscope takes them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from .folder import check_number, draw_each, smooth_noise, write_phantom_folder

__all__ = ["write_kvasir_phantom"]

# to be raised when the drawing changes, so that old phantoms are not taken for new ones
_REVISION = 1
_MUCOSA = np.array([0.74, 0.36, 0.27])
_POLYP = np.array([0.78, 0.30, 0.25])
_LIGHT = np.array([1.0, 0.98, 0.94])  # of highlights


def write_kvasir_phantom(
    output_dir: str | os.PathLike[str], num_images: int = 60, seed: int = 0, progress: bool = True
) -> bool:
    """
    Write synthetic photographs in the layout of Kvasir-SEG: JPEG files in ``images`` and ``masks``, of varying size.

    A polyp is a bulge, lit from the camera, on a wall of folds of nearly its color; highlights, bubbles, stool and a
    green inset are no polyps. An image depends on the seed and on its number alone.

    Args:
        output_dir: as in ``write_phantom_folder``.
        num_images: number of images, 3 to 1000; the split of ``kvasir_datalist`` tests on 12 % of them. Defaults to 60.
        seed: seed of the random numbers, not negative. Defaults to 0.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when a number is out of its range, or the folder holds anything else.
    """
    check_number("num_images", num_images, 3, 1000)

    def write(folder: Path) -> None:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        for number in draw_each(range(num_images), "image", progress):
            photograph = _Photograph(seed, number)
            file = f"phantom{number:04d}.jpg"
            photograph.image.save(folder / "images" / file, quality=92)
            photograph.mask.save(folder / "masks" / file, quality=92)

    request = {"data_set": "kvasir", "revision": _REVISION, "images": num_images}
    return write_phantom_folder(output_dir, seed, request, write)


class _Photograph:
    """One picture; ``image`` and ``mask`` are RGB, as in Kvasir-SEG."""

    def __init__(self, seed: int, number: int) -> None:
        self._rng = np.random.default_rng([seed, number])
        height, width = self._rng.integers([210, 240], [360, 420])
        side = min(height, width) / 2
        # from -1 to 1 along the shorter side
        self._y, self._x = np.mgrid[:height, :width]
        self._y, self._x = (self._y - height / 2) / side, (self._x - width / 2) / side
        self._unit = side / 100  # pixels; structures keep their size in the picture

        self._draw_wall()
        polyp = self._draw_polyp()
        for draw in (self._draw_bubbles, self._draw_stool):
            if self._rng.random() < 0.4:
                draw(polyp)
        self._draw_highlights(polyp)
        view = self._draw_frame()
        noise = self._rng.normal(0, 0.012, self._pixels.shape)
        self.image = Image.fromarray(np.round(255 * (self._pixels + noise).clip(0, 1)).astype(np.uint8))
        mask = np.where(polyp & view, 255, 0).astype(np.uint8)
        self.mask = Image.fromarray(np.stack([mask] * 3, axis=-1))

    def _draw_wall(self) -> None:
        """Folds, each a bright ridge with a shadow behind it, around a dark lumen; vessels; light from the camera."""
        rng = self._rng
        lumen = rng.uniform(-1.1, 1.1, 2)
        radius = np.hypot(self._x - lumen[0], self._y - lumen[1])
        radius = radius + 0.07 * self._noise(26)
        shade = 1 - 0.75 * np.exp(-((radius / rng.uniform(0.3, 0.5)) ** 2))
        for ridge in np.cumsum(rng.uniform(0.28, 0.55, 4)):
            behind = (radius - ridge) / 0.09
            shade = shade * (1 + 0.16 * np.exp(-(behind**2)) - 0.30 * np.exp(-((behind + 1.6) ** 2)))
        light = rng.uniform(-0.3, 0.3, 2)
        self._light = 1.12 - 0.28 * ((self._x - light[0]) ** 2 + (self._y - light[1]) ** 2)
        tint = 1 + rng.normal(0, [0.06, 0.12, 0.14])
        shade = (shade * self._light * (1 + 0.05 * self._noise(9) + 0.025 * self._noise(2)))[..., None]
        vessels = np.exp(-((self._noise(12) / 0.07) ** 2)) * (self._noise(30) > 0.3)
        self._pixels = _MUCOSA * tint * shade * (1 - vessels[..., None] * np.array([0.10, 0.28, 0.24]))
        self._tint = tint

    def _draw_polyp(self) -> np.ndarray:
        rng = self._rng
        center, size = rng.uniform(-0.4, 0.4, 2), rng.uniform(0.22, 0.52)
        x, y = self._x - center[0], self._y - center[1]
        turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.65, 1)
        along = np.cos(turn) * x + np.sin(turn) * y
        across = (np.cos(turn) * y - np.sin(turn) * x) / stretch
        radius, angle = np.hypot(along, across), np.arctan2(across, along)
        outline = sum(
            rng.uniform(0, 0.16) / order * np.cos(order * (angle - rng.uniform(0, 2 * np.pi))) for order in (2, 3, 4, 5)
        )
        radius = radius / (size * (1 + outline))
        polyp = radius < 1
        # a bulge: the higher, the more it turns to the camera
        height = np.sqrt((1 - radius**2).clip(0))
        away = (along * np.cos(turn - 0.8) + across * np.sin(turn - 0.8)) / size
        shade = (0.55 + 0.55 * height) * (1 - 0.12 * away) * self._light
        shade = shade * (1 + 0.05 * self._noise(4) + 0.03 * self._noise(1.5))
        color = _POLYP * self._tint * (1 + rng.normal(0, [0.04, 0.06, 0.06]))
        shadow = np.exp(-(((radius - 1) / 0.22) ** 2)) * (radius >= 1) * 0.42
        self._pixels *= 1 - shadow[..., None]
        self._pixels[polyp] = (color * shade[..., None])[polyp]
        return polyp

    def _draw_bubbles(self, polyp: np.ndarray) -> None:
        for x, y in self._rng.uniform(-1, 1, (12, 2)):
            distance = np.hypot(self._x - x, self._y - y) / self._rng.uniform(0.02, 0.06)
            self._pixels[(abs(distance - 1) < 0.2) & ~polyp] *= 1.3
            self._pixels[distance < 0.25] = _LIGHT * 0.95

    def _draw_stool(self, polyp: np.ndarray) -> None:
        """Flat and yellow, of the size of a small polyp."""
        x, y = self._rng.uniform(-0.9, 0.9, 2)
        spot = np.hypot(self._x - x, self._y - y) + 0.08 * self._noise(6) < self._rng.uniform(0.1, 0.22)
        brightness = 1 + 0.10 * self._noise(2)[..., None]
        self._pixels = np.where((spot & ~polyp)[..., None], np.array([0.66, 0.50, 0.18]) * brightness, self._pixels)

    def _draw_highlights(self, polyp: np.ndarray) -> None:
        """Wet tissue mirrors the lamp: on what bulges more than on the wall."""
        wet = self._noise(3) + 0.5 * self._noise(14)
        white = wet > np.where(polyp, 2.6, 3.0)
        glow = gaussian_filter(white.astype(float), 0.9 * self._unit)[..., None]
        self._pixels = self._pixels * (1 - glow.clip(0, 1)) + _LIGHT * glow.clip(0, 1)

    def _draw_frame(self) -> np.ndarray:
        """The round, dark edge of the optics, and at times the green inset of the endoscope's position."""
        reach = np.abs(self._x / np.abs(self._x).max()) ** 5 + np.abs(self._y / np.abs(self._y).max()) ** 5
        view = reach < self._rng.uniform(0.9, 1.3)
        if self._rng.random() < 0.3:
            height, width = (np.array(view.shape) * 0.3).astype(int)
            self._pixels[-height:, :width] = [0.05, 0.45, 0.25]
            view[-height:, :width] = False
            inside = view.copy()
            inside[-height:, :width] = True
        else:
            inside = view
        self._pixels[~inside] = 0.03
        return view

    def _noise(self, sigma: float) -> np.ndarray:
        """Noise of standard deviation 1 with structures of ``sigma`` hundredths of the picture's shorter half."""
        return smooth_noise(self._rng, self._x.shape, sigma * self._unit)
