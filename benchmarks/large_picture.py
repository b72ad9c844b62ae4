# SPDX-License-Identifier: Apache-2.0
"""
Memory and time of a picture too large to be read as a whole: the Kvasir-SEG bundle's inference from file to file.

A synthetic RGB picture is written as a BigTIFF of compressed tiles and segmented in windows, in parts or, with
``--whole``, as one array. "peak" is the highest resident memory of the process; what it has after its imports is
printed beside it. The network is a convolution of one pixel, unless ``--network lw``: tiny with fused LW-Adapters, of
random weights.

    python benchmarks/large_picture.py --size 20000
    python benchmarks/large_picture.py --size 2000 --network lw
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from monai.bundle import ConfigParser

from monai_sam2adapter.networks.utils import reparameterize_model

BUNDLE = Path(__file__).parents[1] / "bundles" / "kvasir_polyp_segmentation"
TILE = 256


def main() -> None:
    """Write the picture, segment it, and print memory and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20000, help="side in pixels (default: %(default)s)")
    parser.add_argument("--tile", type=int, default=512, help="side of the windows (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="windows at a time (default: %(default)s)")
    parser.add_argument("--network", choices=("pixel", "lw"), default="pixel", help="default: %(default)s")
    parser.add_argument("--whole", action="store_true", help="read the picture as a whole")
    parser.add_argument("--maps", action="store_true", help="write maps of probabilities and uncertainty, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        write_picture(Path(folder) / "picture.tif", arguments.size)
        config = configure(Path(folder), arguments)
        evaluator = config.get_parsed_content("evaluator")
        before, start, used = peak_gb(), time.perf_counter(), time.process_time()
        evaluator.run()
        how = "as a whole" if arguments.whole else "in parts"
        print(
            f"{arguments.size} x {arguments.size} pixels {how}, windows of {arguments.tile}, {arguments.network}: "
            f"peak {peak_gb():.2f} GB ({before:.2f} GB before), {time.perf_counter() - start:.0f} s "
            f"({time.process_time() - used:.0f} s of the processor)"
        )
        for path in sorted(Path(folder, "out").glob("*.*")):
            print(f"  {path.name}: {path.stat().st_size / 1e6:.1f} MB")


def configure(folder: Path, arguments: argparse.Namespace) -> ConfigParser:
    """The bundle's inference of the picture by a network of random weights."""
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / "inference.json", BUNDLE / "configs" / "metadata.json"])
    parser.read_meta(BUNDLE / "configs" / "metadata.json")
    options: dict[str, Any] = {"dataset_dir": str(folder / "picture.tif"), "output_dir": str(folder / "out")}
    if arguments.maps:
        options |= {"save_probabilities": True, "save_uncertainty": True}
    options |= {"tile": arguments.tile, "batch_size": arguments.batch_size, "adapter": "lw", "device": "cpu"}
    options["max_pixels"] = arguments.size**2 if arguments.whole else arguments.size**2 - 1
    parser.update({"bundle_root": str(BUNDLE), **options})
    torch.manual_seed(0)
    if arguments.network == "pixel":
        network: torch.nn.Module = torch.nn.Conv2d(3, 2, 1)
    else:
        network = reparameterize_model(parser.get_parsed_content("network_def").eval(), inplace=True)
    parser["evaluator"]["network"] = network
    parser.parse(True)
    return parser


def write_picture(path: Path, size: int) -> None:
    """A picture with structures of all sizes and some noise, tile by tile."""

    def tiles() -> Iterator[np.ndarray]:
        noise = np.random.default_rng(0).integers(0, 8, (TILE, TILE, 3))
        for top in range(0, size, TILE):
            for left in range(0, size, TILE):
                rows, columns = np.ogrid[top : top + TILE, left : left + TILE]
                waves = [np.sin(rows / length) * np.cos(columns / length) for length in (9, 71, 997)]
                yield (np.stack(waves, axis=-1) * 110 + 120 + noise).astype(np.uint8)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(size, size, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="zlib",
        compressionargs={"level": 1},
        bigtiff=True,
        metadata=None,
    )


def peak_gb() -> float:
    """The highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
