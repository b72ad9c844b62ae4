# SPDX-License-Identifier: Apache-2.0
"""Synthetic photographs of an object and masks of it, in the layout of one of SAM2-UNeXT's tasks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from monai.utils import look_up_option
from PIL import Image
from scipy.ndimage import gaussian_filter

from ..datasets.pairs import PAIR_TASKS
from .folder import check_number, draw_each, smooth_noise, write_phantom_folder

__all__ = ["write_pair_phantom"]

# to be raised when the drawing changes, so that old phantoms are not taken for new ones
_REVISION = 1


def write_pair_phantom(
    output_dir: str | os.PathLike[str],
    num_train: int = 40,
    num_val: int = 8,
    num_test: int = 8,
    task: str = "dichotomous",
    seed: int = 0,
    progress: bool = True,
) -> bool:
    """
    Write synthetic photographs in the layout of a task: JPEG images and PNG masks with soft edges, of varying size.

    An object is a body with thin arms, of a color near that of what is behind it and of a texture of its own; the light
    falls off to one side. An image depends on the seed, its set and its number alone.

    Args:
        output_dir: as in ``write_phantom_folder``.
        num_train: number of images to train on, at least 2. Defaults to 40.
        num_val: number of images for validation, at least 1, where the task has a set for it. Defaults to 8.
        num_test: number of images in each test set, at least 1. Defaults to 8.
        task: whose layout, a key of ``PAIR_TASKS``. Defaults to "dichotomous".
        seed: seed of the random numbers, not negative. Defaults to 0.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when the task is unknown, a number is out of its range, or the folder holds anything else.
    """
    layout = PAIR_TASKS[look_up_option(task, tuple(PAIR_TASKS))]
    check_number("num_train", num_train, 2)
    check_number("num_val", num_val, 1)
    check_number("num_test", num_test, 1)
    numbers = {part: {"train": num_train, "val": num_val}.get(part, num_test) for part in layout}

    def write(folder: Path) -> None:
        todo = [(index, part, number) for index, part in enumerate(layout) for number in range(numbers[part])]
        for index, part, number in draw_each(todo, "image", progress):
            images, masks = (folder / name for name in layout[part])
            for path in (images, masks):
                path.mkdir(parents=True, exist_ok=True)
            image, mask = _draw(np.random.default_rng([seed, index, number]))
            image.save(images / f"{number + 1:04d}.jpg", quality=92)
            mask.save(masks / f"{number + 1:04d}.png")

    request = {"data_set": "pairs", "revision": _REVISION, "task": task, "images": numbers}
    return write_phantom_folder(output_dir, seed, request, write)


def _draw(rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """An RGB picture and its mask, gray."""
    height, width = (int(side) for side in rng.integers([160, 200], [240, 300]))
    color = rng.uniform(0.25, 0.7, 3)
    shift = rng.normal(size=3)
    object_color = color + 0.25 * shift / np.linalg.norm(shift)
    mask = gaussian_filter(_outline(rng, height, width).astype(float), 0.7)
    behind = (
        color
        * (1 + 0.18 * smooth_noise(rng, (height, width), 12) + 0.08 * smooth_noise(rng, (height, width), 2))[..., None]
    )
    front = object_color * (1 + 0.22 * smooth_noise(rng, (height, width), 4))[..., None]
    slope = rng.uniform(-0.3, 0.3)
    light = 1 + slope * np.linspace(-1, 1, width)[None, :, None]
    pixels = (behind + mask[..., None] * (front - behind)) * light + rng.normal(0, 0.015, (height, width, 3))
    return _to_image(pixels), _to_image(mask)


def _outline(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A body of irregular outline, and arms that end in a point; ``(height, width)``, boolean."""
    side = min(height, width)
    y, x = np.mgrid[:height, :width]
    y = (y - height / 2 - rng.uniform(-0.12, 0.12) * height) / side
    x = (x - width / 2 - rng.uniform(-0.15, 0.15) * width) / side
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    outline = sum(rng.uniform(0, 0.15) / k * np.cos(k * (angle - rng.uniform(0, 2 * np.pi))) for k in (2, 3, 4, 5))
    inside = radius < rng.uniform(0.13, 0.24) * (1 + outline)
    for start in rng.uniform(0, 2 * np.pi, rng.integers(2, 5)):
        length, bend = rng.uniform(0.3, 0.42), rng.uniform(-4, 4)
        across = radius * np.abs(np.angle(np.exp(1j * (angle - start - bend * radius))))
        inside |= (radius < length) & (across < 0.03 * (1 - radius / length))
    return inside


def _to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(255 * values.clip(0, 1)).astype(np.uint8))
