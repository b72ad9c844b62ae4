# SPDX-License-Identifier: Apache-2.0
"""Two discs that overlap, as masks of each class or as regions of a label map, in pictures or volumes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.utils import look_up_option
from PIL import Image

from .folder import check_number, draw_each, write_phantom_folder

__all__ = ["write_disc_phantom"]

_REVISION = 1
_FORMS = ("picture masks", "picture regions", "volume masks", "volume regions")
_NAMES = ("large disc", "small disc")
# 1 where the large disc is alone, 2 where the small one lies on it: the part beside it is in neither
_REGIONS = {"labels": {"background": 0, "large disc": [1, 2], "both": 2}, "regions_class_order": [1, 2]}


def write_disc_phantom(
    output_dir: str | os.PathLike[str],
    form: str = "picture masks",
    num_images: int = 6,
    size: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> bool:
    """
    Write images of a large disc with a small one on its edge, whose classes overlap, in a folder ``images`` and one of
    labels, with a ``dataset.json`` where that names the classes.

    Args:
        output_dir: as in ``write_phantom_folder``.
        form: "picture masks" (``masks/large disc``, ``masks/small disc``, PNG of 0 and 255), "volume masks"
            (``labels``, one 4D NIfTI file a case, of 0 and 1), "picture regions" or "volume regions" (label maps, with
            regions as nnU-Net has them). Defaults to "picture masks".
        num_images: how many, at least 2. Defaults to 6.
        size: pixels of a side, at least 32. Defaults to 64.
        seed: seed of the random numbers, not negative. Defaults to 0.
        progress: whether to show a progress bar. Defaults to True.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when the form is unknown, a number is out of its range, or the folder holds anything else.
    """
    kind, labels_are = look_up_option(form, _FORMS).split()
    check_number("num_images", num_images, 2)
    check_number("size", size, 32)

    def write(folder: Path) -> None:
        for number in draw_each(range(num_images), kind, progress):
            image, masks = _draw(np.random.default_rng([seed, number]), size, depth=1 if kind == "picture" else 4)
            region_map = (masks[0].astype(np.uint8) + (masks[0] & masks[1]))[None]
            labels = region_map if labels_are == "regions" else masks
            if kind == "picture":
                _write_picture(folder, f"{number:03d}", image[..., 0], labels[..., 0])
            else:
                _write_volume(folder, f"{number:03d}", image, labels)
        content = _REGIONS if labels_are == "regions" else {"labels": list(_NAMES)}
        (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")

    request = {"data_set": "discs", "revision": _REVISION, "form": form, "images": num_images, "size": size}
    return write_phantom_folder(output_dir, seed, request, write)


def _draw(rng: np.random.Generator, size: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """A gray image, ``(size, size, depth)``, uint8, and its masks, ``(2, size, size, depth)``, boolean."""
    x, y = np.mgrid[:size, :size][..., None] / size
    center, angle = rng.uniform(0.4, 0.6, 2), rng.uniform(0, 2 * np.pi)
    shrink = 1 - 0.1 * np.arange(depth)
    large = np.hypot(x - center[0], y - center[1]) < rng.uniform(0.25, 0.32) * shrink
    beside = center + 0.25 * np.array([np.cos(angle), np.sin(angle)])
    small = np.hypot(x - beside[0], y - beside[1]) < 0.12 * shrink
    image = 60 + 70 * large + 70 * small + rng.normal(0, 6, large.shape)
    return image.clip(0, 255).astype(np.uint8), np.stack([large, small])


def _write_picture(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    files = {"images": image} | {f"masks/{title}": 255 * mask for title, mask in zip(_NAMES, labels, strict=False)}
    if len(labels) == 1:
        files = {"images": image, "labels": labels[0]}
    for place, values in files.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8).T).save(folder / place / f"{name}.png")


def _write_volume(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    values = labels[0] if len(labels) == 1 else np.moveaxis(labels, 0, -1)
    for place, array in (("images", image), ("labels", values)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array.astype(np.uint8), affine), folder / place / f"{name}.nii.gz")
