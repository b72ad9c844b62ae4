# SPDX-License-Identifier: Apache-2.0
"""
Time of the two implementations of modulated deformable convolution, in turn in one process, as a table.

A 3 x 3 kernel with random offsets of one pixel standard deviation, as many output channels as input channels. ``ratio``
is torchvision's time over grid_sample's: above 1, grid_sample is faster. The rule in
``monai_sam2adapter.networks.layers.deform_conv.default_implementation`` follows from it.

    python benchmarks/deform_conv.py --threads 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from timing import add_machine_arguments, machine_header, medians_in_turn, ratio_or_dash

from monai_sam2adapter.networks.layers import modulated_deform_conv2d

IMPLEMENTATIONS = ("torchvision", "grid_sample")
MODES = ("forward", "forward + backward")
COLUMNS = "{:>6} {:>9} {:<19} {:>17} {:>17} {:>6}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_machine_arguments(parser)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 32, 64], help="sides of the map, in pixels")
    parser.add_argument("--channels", nargs="+", type=int, default=[32, 64, 128])
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()

    device = torch.device(args.device)
    print(machine_header(device, args.threads))
    print(f"batch {args.batch}, float32, median of {args.repeats} rounds\n")
    names = [f"{name} [ms]" for name in IMPLEMENTATIONS]
    print(COLUMNS.format("size", "channels", "mode", *names, "ratio"))
    for size in args.sizes:
        for channels in args.channels:
            for mode in MODES:
                tensors = make_tensors(args.batch, channels, size, device, requires_grad=mode != MODES[0])
                functions = {name: make_step(tensors, name) for name in IMPLEMENTATIONS}
                seconds = medians_in_turn(functions, args.repeats, device)
                times = [f"{1000 * value:.3f}" if value is not None else "no memory" for value in seconds.values()]
                ratio = ratio_or_dash(*seconds.values())
                print(COLUMNS.format(size, channels, mode, *times, ratio), flush=True)


def make_tensors(
    batch: int, channels: int, size: int, device: torch.device, requires_grad: bool
) -> tuple[torch.Tensor, ...]:
    """Features, offsets, masks, weight and bias."""
    shapes = [
        (batch, channels, size, size),
        (batch, 18, size, size),
        (batch, 9, size, size),
        (channels, channels, 3, 3),
        (channels,),
    ]
    return tuple(torch.randn(shape, device=device, requires_grad=requires_grad) for shape in shapes)


def make_step(tensors: tuple[torch.Tensor, ...], implementation: str) -> Callable[[], None]:
    """One forward pass, followed by a backward pass to all tensors when they ask for gradients."""

    def step() -> None:
        out = modulated_deform_conv2d(*tensors, padding=1, implementation=implementation)
        if out.requires_grad:
            torch.autograd.grad(out.sum(), tensors)

    return step


if __name__ == "__main__":
    main()
