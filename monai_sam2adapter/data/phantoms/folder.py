# SPDX-License-Identifier: Apache-2.0
"""What the synthetic data sets share: writing a folder whole or not at all, and knowing it again; noise."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

__all__ = ["check_number", "draw_each", "smooth_noise", "write_phantom_folder"]

Item = TypeVar("Item")

# says what was written; the last file to come into the folder
_MARKER = "phantom.json"


def write_phantom_folder(
    output_dir: str | os.PathLike[str], seed: int, request: Mapping[str, Any], write: Callable[[Path], None]
) -> bool:
    """
    Fill a folder with phantoms, unless the same ones are there.

    Everything is written beside ``output_dir`` first, so that a broken run leaves nothing in it. ``phantom.json`` in
    the folder says what was asked for and which files belong to it.

    Args:
        output_dir: folder for the data set, absent or empty; where it holds the same phantoms, they stay as they are.
        seed: seed of the random numbers, not negative.
        request: what else determines the phantoms, fit for JSON: name of the data set, revision of the drawing (to be
            raised when it changes, so that old phantoms are not taken for new ones), numbers of cases.
        write: draws the phantoms into the folder that it is given, which exists and is empty.

    Returns:
        whether anything was written; False when the same phantoms were there.

    Raises:
        ValueError: when the seed is negative, or the folder holds anything else.
    """
    check_number("seed", seed, 0)
    output = Path(output_dir).expanduser()
    request = json.loads(json.dumps({**request, "seed": seed}))  # as it will be read from the file
    if _is_there(output, request):
        return False
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.resolve().name}_", dir=output.resolve().parent) as temporary:
        folder = Path(temporary)
        write(folder)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        entries = sorted(path.name for path in folder.iterdir())
        (folder / _MARKER).write_text(
            json.dumps({"request": request, "files": files}, indent=2) + "\n", encoding="utf-8"
        )
        for name in [*entries, _MARKER]:
            os.replace(folder / name, output / name)
    return True


def check_number(name: str, number: int, low: int, high: int | None = None, note: str = "") -> None:
    """A ValueError unless a number is in its range, ends included; ``note`` is put behind it."""
    if number < low or (high is not None and number > high):
        expected = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} is {number}, expected {expected}{note}")


def draw_each(items: Sequence[Item], unit: str, progress: bool) -> Iterator[Item]:
    """The items, with a progress bar if asked for."""
    return iter(tqdm(items, desc="Drawing phantoms", unit=unit, disable=not progress))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float, mode: str = "reflect") -> np.ndarray:
    """Noise of standard deviation 1 with structures of ``sigma`` pixels; the mode is that of SciPy at the border."""
    noise = gaussian_filter(rng.normal(size=shape), sigma, mode=mode)
    return noise / noise.std()


def _is_there(output: Path, request: Mapping[str, Any]) -> bool:
    """Whether the same phantoms are there; an error when something else is."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    marker = output / _MARKER
    if not marker.is_file():
        raise ValueError(f"{output} is not empty and was not written as a phantom; give another folder")
    content = json.loads(marker.read_text(encoding="utf-8"))
    if content["request"] != request:
        raise ValueError(f"{output} holds other phantoms (see {marker}); delete that folder or give another one")
    missing = [name for name in content["files"] if not (output / name).is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing in {output}; delete that folder to write it anew")
    return True
