# SPDX-License-Identifier: Apache-2.0
"""
Inference of volumes from file to file: a bundle's, against MONAI's own parts with one slice at a time.

Both read synthetic CT, run one network with random weights, and write a label of each voxel as .nii.gz, in turn; the
bundle draws its pictures besides. MONAI's way is that of its tutorials and model zoo: ``Resized``, ``SliceInferer``,
``Invertd`` of the logits, ``AsDiscreted``, ``SaveImaged``. Printed are seconds a case (wall clock, and of the processor
in all threads) and their ratios, from the fastest round of each. With ``--only`` the peak of the host's memory is that
of one of them.

    python benchmarks/volumes.py --threads 2
    python benchmarks/volumes.py --threads 2 --only bundle --autocast
"""

from __future__ import annotations

import argparse
import logging
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, decollate_batch
from monai.inferers import SliceInferer
from monai.transforms import (
    AsDiscreted,
    Compose,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    Resized,
    SaveImaged,
)
from timing import add_machine_arguments, machine_header

from monai_sam2adapter.networks.utils import reparameterize_model

BUNDLE = Path(__file__).parents[1] / "bundles" / "volume_segmentation"


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 150), help="of a case (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=3, help="cases of a round (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=14, help="with the background (default: %(default)s)")
    parser.add_argument("--adapter", default="lw", help="adapter of the network (default: %(default)s)")
    parser.add_argument("--image_size", type=int, default=224, help="of the network (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="slices at once (default: %(default)s)")
    parser.add_argument("--autocast", action="store_true", help="run the bundle's network in bfloat16")
    parser.add_argument("--only", choices=("monai", "bundle"), help="one of both")
    add_machine_arguments(parser)
    parser.set_defaults(repeats=2)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(machine_header(device, arguments.threads))
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder) / "scans"
        write_scans(scans, arguments.shape, arguments.cases)
        config = bundle_config(scans, Path(folder) / "bundle", arguments)
        network = reparameterize_model(config.get_parsed_content("network").eval())
        ways: dict[str, Callable[[], None]] = {
            "monai": lambda: run_monai(network, scans, Path(folder) / "monai", device, arguments.image_size),
            "bundle": lambda: run_bundle(config, network, arguments.autocast),
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways if arguments.only in (None, name)}
        for _ in range(arguments.repeats):
            for name, results in seconds.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                ways[name]()
                results.append((time.perf_counter() - start, time.process_time() - start_cpu))
    fastest = {name: np.min(found, axis=0) / arguments.cases for name, found in seconds.items()}
    for name, (wall, cpu) in fastest.items():
        print(f"{name}: {wall:.1f} s a case, {cpu:.1f} s of the processor")
    if not arguments.only:
        wall, cpu = fastest["monai"] / fastest["bundle"]
        print(f"ratio: {wall:.2f}, of the processor {cpu:.2f}")
    print(f"peak memory of the host: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def write_scans(folder: Path, shape: tuple[int, int, int], count: int) -> None:
    """Smooth shapes in noise, int16, as .nii.gz."""
    folder.mkdir()
    axes = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in shape), indexing="ij", sparse=True)
    for number in range(count):
        noise = np.random.default_rng(number).normal(scale=20, size=shape).astype(np.float32)
        values = 800 * np.exp(-3 * sum((axis - 0.1 * number) ** 2 for axis in axes)) - 600
        nib.save(
            nib.Nifti1Image((values + noise).astype(np.int16), np.diag([0.7, 0.7, 3, 1])), folder / f"ct{number}.nii.gz"
        )


def bundle_config(scans: Path, output_dir: Path, arguments: argparse.Namespace) -> ConfigParser:
    """The bundle's inference, with random weights."""
    config = ConfigParser()
    config.read_meta(str(BUNDLE / "configs" / "metadata.json"))
    config.read_config(str(BUNDLE / "configs" / "inference.json"))
    names = ["background", *(f"class{number}" for number in range(1, arguments.classes))]
    config.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(scans),
            "output_dir": str(output_dir),
            "device": f"$torch.device('{arguments.device}')",
            "evaluator#network": "@network",
            "description": {**config["default_description"], "class_names": names},
            "adapter": arguments.adapter,
            "image_size": arguments.image_size,
            "batch_size": arguments.batch_size,
        }
    )
    return config


def run_bundle(config: ConfigParser, network: torch.nn.Module, autocast: bool) -> None:
    """One run over all cases; the results are those of an earlier run, and replaced."""
    evaluator = config.get_parsed_content("evaluator")
    evaluator.network = Autocast(network) if autocast else network
    evaluator.run()


class Autocast(torch.nn.Module):
    """A network in bfloat16, on a CPU too."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, C, H, W)`` to logits, float32 or bfloat16."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.network(images)


def run_monai(network: torch.nn.Module, scans: Path, output_dir: Path, device: torch.device, size: int) -> None:
    """The same by MONAI's parts, one slice at a time."""
    preprocessing = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="LPS", labels=None),
            NormalizeIntensityd("image"),
            Resized("image", spatial_size=(size, size, -1), mode="trilinear"),
        ]
    )
    postprocessing = Compose(
        [
            Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True, device="cpu"),
            AsDiscreted("pred", argmax=True),
            SaveImaged("pred", output_dir=output_dir, output_dtype=np.uint8, separate_folder=False, print_log=False),
        ]
    )
    inferer = SliceInferer(roi_size=(size, size), sw_batch_size=1, spatial_dim=2)
    cases = Dataset([{"image": str(file)} for file in sorted(scans.iterdir())], preprocessing)
    with torch.no_grad():
        for batch in DataLoader(cases, batch_size=1):
            batch["pred"] = inferer(batch["image"].to(device), network)
            for item in decollate_batch(batch):
                postprocessing(item)


if __name__ == "__main__":
    main()
