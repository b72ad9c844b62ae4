# SPDX-License-Identifier: Apache-2.0
"""
Memory that ``VolumeSliceDataset`` takes on volumes of the size of Synapse's CT (512 x 512 x 150, int16), as a table.

One synthetic volume with its label is written to a temporary folder as .nii.gz and listed as often as asked: the cache
does not know that they are equal. Each row is measured in a process of its own. "peak" is the highest resident memory
of the main process, "total" that of main process and workers while they run, shared pages counted once. Linux only.

    python benchmarks/slice_memory.py --volumes 30
    python benchmarks/slice_memory.py --volumes 4 --context spawn
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import DataLoader
from monai.transforms import CastToTyped, LoadImaged, RandFlipd, ScaleIntensityRanged

from monai_sam2adapter.data import EpochSampler, VolumeSliceDataset
from monai_sam2adapter.transforms import ResizeWithLabelsd

KEYS = ("image", "label")
COLUMNS = "{:<22} {:>10} {:>7} {:>9} {:>9} {:>9} {:>12}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=30, help="how many (default: %(default)s)")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 150), help="of each (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=200, help="to load at the end, cached (default: %(default)s)")
    parser.add_argument(
        "--context", default="fork", choices=("fork", "spawn"), help="of workers (default: %(default)s)"
    )
    parser.add_argument(
        "--float32", action="store_true", help="also measure what LoadImaged makes unless told otherwise"
    )
    arguments = parser.parse_args()
    print(f"{arguments.volumes} volumes of {arguments.shape}, workers by {arguments.context}")
    print(COLUMNS.format("in memory", "cache_rate", "workers", "fill s", "peak GB", "total GB", "ms a slice"))
    rows = [("int16 + uint8", 1.0, 0), ("int16 + uint8", 1.0, 2), ("int16 + uint8", 0.0, 0), ("int16 + uint8", 0.0, 2)]
    if arguments.float32:
        rows.append(("float32 + float32", 1.0, 0))
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder), arguments.shape)
        for name, cache_rate, workers in rows:
            # a fresh process for each row, since the peak of a process never falls
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                row = pool.submit(measure, folder, name.startswith("int16"), cache_rate, workers, arguments).result()
            fill, peak, total, each = row
            print(
                COLUMNS.format(
                    name, cache_rate, workers, f"{fill:.0f}", f"{peak:.2f}", f"{total:.2f}", f"{1000 * each:.1f}"
                ),
                flush=True,
            )


def write_volume(folder: Path, shape: tuple[int, int, int]) -> None:
    """Air with a block of noisy tissue, and a label in it."""
    image = np.full(shape, -1000, dtype=np.int16)
    label = np.zeros(shape, dtype=np.uint8)
    inside = tuple(slice(side // 4, 3 * side // 4) for side in shape)
    image[inside] = np.random.default_rng(0).integers(-200, 300, image[inside].shape)
    label[inside] = 1
    for name, array in zip(KEYS, (image, label), strict=True):
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")


def measure(
    folder: str, small: bool, cache_rate: float, workers: int, arguments: argparse.Namespace
) -> tuple[float, float, float, float]:
    """Seconds to fill the cache, GB of the peak and in total, and seconds a slice."""
    torch.set_num_threads(1)
    load: list[Callable] = [LoadImaged(KEYS, ensure_channel_first=True, dtype=np.int16 if small else np.float32)]
    if small:
        load.append(CastToTyped("label", np.uint8))
    start = time.perf_counter()
    dataset = VolumeSliceDataset(
        [{key: f"{folder}/{key}.nii.gz" for key in KEYS}] * arguments.volumes,
        load,
        [
            ScaleIntensityRanged("image", a_min=-125, a_max=275, b_min=0, b_max=1, clip=True),
            ResizeWithLabelsd("image", 224, label_keys="label"),
            RandFlipd(KEYS, prob=0.5),
        ],
        cache_rate=cache_rate,
        progress=False,
    )
    fill = time.perf_counter() - start
    loader = DataLoader(
        dataset,
        batch_size=8 if cache_rate else 1,
        sampler=EpochSampler(dataset),
        num_workers=workers,
        multiprocessing_context=arguments.context if workers else None,
    )
    batches = max(1, arguments.slices // 8) if cache_rate else 4
    iterator = iter(loader)
    next(iterator)  # workers have started
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    seconds = (time.perf_counter() - start) / (batches * loader.batch_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return fill, peak, resident_gb(), seconds


def resident_gb() -> float:
    """Resident memory of this process and its children in GB; a page that n of them share counts 1/n in each."""
    pids = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) / 1e6


if __name__ == "__main__":
    main()
