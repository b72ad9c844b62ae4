# SPDX-License-Identifier: Apache-2.0
"""
Time and memory of training and inference with adapters, against a plain loop over sam2's padded encoder.

The peer is the same network, adapters and head included, with sam2's own code in the blocks of the trunk, without
compiling, checkpointing or cast weights. Three tables:

- a training step: seconds and peak memory of the peer, ours, and ours with activation checkpointing;
- what adapters cost: time over that of the network without them, in inference (``lw`` fused) and in training;
- what a user does: an epoch of ACDC at 224 (the network's part of it), 10 slices at 224, a picture at 1024.

    python benchmarks/adapted_network.py --threads 2
    python benchmarks/adapted_network.py --device cuda --amp --compile --frozen_dtype bfloat16 --repeats 30
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import do_pool
from sam2.modeling.backbones.utils import window_partition, window_unpartition
from timing import add_machine_arguments, machine_header, minima_in_turn, peak_memory, ratio_or_dash
from torch import nn

from monai_sam2adapter.networks.blocks import HieraBlock
from monai_sam2adapter.networks.compiling import compile_options
from monai_sam2adapter.networks.nets import SAM2_VARIANTS, PromptFreeSAM2
from monai_sam2adapter.networks.utils import FROZEN_DTYPES, cast_frozen_weights, reparameterize_model

#: slices of the 70 patients that ACDC's bundle trains on, end-diastole and end-systole
ACDC_SLICES = 1312


class Sam2Block(nn.Module):
    """The forward pass of sam2's own block on the layers of ours, with the adapters that stand beside its MLP."""

    def __init__(self, block: HieraBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As sam2's: ``(B, H, W, C)`` to ``(B, H / s, W / s, C_out)``."""
        block = self.block
        size, normalized = block.window_size, block.norm1(x)
        shortcut = x if block.dim == block.dim_out else do_pool(block.proj(normalized), block.pool)
        (height, width), padded = shortcut.shape[1:3], None
        if size > 0:
            normalized, padded = window_partition(normalized, size)
        x = block.attn(normalized)
        if block.q_stride:
            size //= block.q_stride[0]
            padded = (-(-height // size) * size, -(-width // size) * size) if size > 0 else None
        if size > 0:
            x = window_unpartition(x, size, padded, (height, width))
        x = shortcut + x
        normalized = block.norm2(x)
        x = x + block.mlp(normalized)
        for adapter in block.adapters.values():
            x = x + adapter(normalized)
        return x


def main() -> None:
    """Print the three tables."""
    args = parse_arguments()
    print(machine_header(torch.device(args.device), args.threads))
    ways = [name for name in ("amp", "compile") if getattr(args, name)] + [f"frozen weights {args.frozen_dtype}"]
    print(f"ours: {', '.join(ways)}; least of {args.repeats} rounds in turn, random weights\n")
    if "step" in args.tables:
        print_steps(args)
    if "overhead" in args.tables:
        print_overheads(args)
    if "user" in args.tables:
        print_user_rows(args)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_machine_arguments(parser)
    tables = ["step", "overhead", "user"]
    parser.add_argument("--tables", nargs="+", default=tables, choices=tables)
    parser.add_argument("--variants", nargs="+", choices=SAM2_VARIANTS, default=["tiny", "base_plus"])
    parser.add_argument("--adapters", nargs="+", choices=["hp", "lw", "adaptformer"], default=["hp", "lw"])
    parser.add_argument("--size", type=int, default=256, help="of the first two tables (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="of the first two tables (default: %(default)s)")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast, of ours and of the peer")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--frozen_dtype", choices=FROZEN_DTYPES, default="float32")
    return parser.parse_args()


def networks(variant: str, adapter: str, args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """The peer and ours, with the same weights, in training mode."""
    torch.manual_seed(0)
    ours = PromptFreeSAM2(variant, adapter, out_channels=4)
    peer = copy.deepcopy(ours)
    peer.image_encoder.trunk.blocks = nn.ModuleList(map(Sam2Block, peer.image_encoder.trunk.blocks))
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(peer.eval()(x), ours.eval()(x), rtol=1e-3, atol=1e-4)
    return peer.train().to(args.device), prepared(ours, args)


def prepared(net: nn.Module, args: argparse.Namespace) -> nn.Module:
    """On its device, with what the options ask for."""
    cast_frozen_weights(net, args.frozen_dtype)
    net = net.train().to(args.device)
    return torch.compile(net, **compile_options(args.device)) if args.compile else net


def in_precision(args: argparse.Namespace) -> AbstractContextManager[Any]:
    """Autocast, if asked for."""
    return torch.autocast(torch.device(args.device).type, torch.bfloat16) if args.amp else nullcontext()


def training_step(net: nn.Module, shape: Sequence[int], args: argparse.Namespace) -> Callable[[], None]:
    """Forward and backward pass and the optimizer's step; frozen weights have no gradients."""
    fused = torch.device(args.device).type == "cuda"
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-4, fused=fused)
    x, label = torch.rand(*shape).to(args.device), torch.randint(0, 4, (shape[0], *shape[2:])).to(args.device)

    def step() -> None:
        net.train()
        optimizer.zero_grad(set_to_none=True)
        with in_precision(args):
            loss = F.cross_entropy(net(x), label)
        loss.backward()
        optimizer.step()

    return step


def inference(net: nn.Module, shape: Sequence[int], args: argparse.Namespace) -> Callable[[], None]:
    """A forward pass in eval mode."""
    x = torch.rand(*shape).to(args.device)

    def infer() -> None:
        net.eval()
        with torch.inference_mode(), in_precision(args):
            net(x)

    return infer


def print_steps(args: argparse.Namespace) -> None:
    """A training step of the peer and of ours."""
    device, shape = torch.device(args.device), (args.batch, 3, args.size, args.size)
    print(f"Training step, {args.batch} x {args.size} x {args.size}: seconds; peak memory in MB")
    row = "{:<10} {:<12} {:>8} {:>8} {:>12} {:>8} | {:>8} {:>8} {:>12} {:>8}"
    print(row.format("variant", "adapter", *(2 * ("peer", "ours", "checkpointed", "ratio"))))
    for variant in args.variants:
        for adapter in args.adapters:
            peer, ours = networks(variant, adapter, args)
            sparing = prepared(PromptFreeSAM2(variant, adapter, out_channels=4, activation_checkpointing=True), args)
            nets = {"peer": peer, "ours": ours, "checkpointed": sparing}
            steps = {name: training_step(net, shape, args) for name, net in nets.items()}
            seconds = minima_in_turn(steps, args.repeats, device)
            memory = {name: peak_memory(steps[name], nets[name], device) / 2**20 for name in nets}
            times = ["-" if value is None else f"{value:.3f}" for value in seconds.values()]
            sizes = [f"{value:.0f}" for value in memory.values()]
            faster = ratio_or_dash(seconds["peer"], seconds["ours"])
            smaller = f"{memory['checkpointed'] / memory['peer']:.2f}"
            print(row.format(variant, adapter, *times, faster, *sizes, smaller), flush=True)
    print("ratio: time of the peer over ours; memory of ours, checkpointed, over the peer's\n")


def print_overheads(args: argparse.Namespace) -> None:
    """Adapters against none."""
    device, shape = torch.device(args.device), (args.batch, 3, args.size, args.size)
    print(f"Time over that without adapters, {args.batch} x {args.size} x {args.size}")
    print("{:<10} {:<12} {:>10} {:>10}".format("variant", "adapter", "inference", "training"))
    for variant in args.variants:
        nets = {name: PromptFreeSAM2(variant, name, out_channels=4) for name in ("none", *args.adapters)}
        fused = {name: prepared(reparameterize_model(net.eval()), args) for name, net in nets.items()}
        whole = {name: prepared(net, args) for name, net in nets.items()}
        passes = minima_in_turn({n: inference(net, shape, args) for n, net in fused.items()}, args.repeats, device)
        steps = minima_in_turn({n: training_step(net, shape, args) for n, net in whole.items()}, args.repeats, device)
        for name in args.adapters:
            ratios = [ratio_or_dash(seconds[name], seconds["none"]) for seconds in (passes, steps)]
            print("{:<10} {:<12} {:>10} {:>10}".format(variant, name, *ratios), flush=True)
    print()


def print_user_rows(args: argparse.Namespace) -> None:
    """What a user does."""
    device = torch.device(args.device)
    row = "{:<42} {:<10} {:>9} {:>9} {:>6}"
    print(row.format("what", "variant", "peer [s]", "ours [s]", "ratio"))
    tasks = (
        ("an epoch of ACDC at 224, network only", training_step, (8, 3, 224, 224), -(-ACDC_SLICES // 8)),
        ("a volume of 10 slices at 224, network only", inference, (10, 3, 224, 224), 1),
        ("a picture at 1024, network only", inference, (1, 3, 1024, 1024), 1),
    )
    for variant in args.variants:
        for what, make, shape, times in tasks:
            peer, ours = networks(variant, "hp", args)
            functions = {"peer": make(peer, shape, args), "ours": make(ours, shape, args)}
            seconds = minima_in_turn(functions, args.repeats, device)
            printed = ["no memory" if value is None else f"{times * value:.2f}" for value in seconds.values()]
            print(row.format(what, variant, *printed, ratio_or_dash(seconds["peer"], seconds["ours"])), flush=True)


if __name__ == "__main__":
    main()
