# SPDX-License-Identifier: Apache-2.0
"""``profile``: what a network costs, part by part."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..utils.files import write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..networks.profiling import NetworkProfile

__all__ = ["add_parser"]

_NETWORKS = ("PromptFreeSAM2", "SAM2UNet", "SAM2UNeXT", "SAM3UNet")
# what the networks take, by the same names; where one is left out, the network's own default counts
_NETWORK_OPTIONS = {
    "encoder": (str, "sam2, dinov3 or sam3, of PromptFreeSAM2, which is PromptFreeViT with the last two"),
    "variant": (str, "size of the encoder: of sam2 tiny, small, base_plus or large"),
    "adapter": (str, 'an adapter method, "none" or "full"'),
    "adapter_config": (str, "settings of the adapter, as JSON: '{\"bottleneck_ratio\": 0.5}'"),
    "in_channels": (int, "channels of the images"),
    "out_channels": (int, "number of classes"),
    "positional_encoding": (str, "peg, or the encoder's own: sam2 or rope, of PromptFreeSAM2"),
    "output_stride": (int, "4, 2 or 1, of PromptFreeSAM2"),
    "dino_variant": (str, "size of DINOv2, of SAM2UNeXT: small, base or large"),
    "dino_size": (int, "side of DINOv2's image in pixels, of SAM2UNeXT"),
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "measure a network part by part: parameters, multiply-accumulate operations, time and memory"
    parser = commands.add_parser(
        "profile", help=text, description=f"{text}. An option that is left out has the network's own default."
    )
    parser.add_argument("--network", choices=_NETWORKS, default=_NETWORKS[0], help="which one (%(default)s)")
    for name, (kind, meaning) in _NETWORK_OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=meaning)
    parser.add_argument(
        "--sizes", nargs="+", default=["256"], metavar="SIZE", help="side or HEIGHTxWIDTH in pixels, 32 or more (256)"
    )
    parser.add_argument("--batch_size", type=int, default=1, help="images at a time (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes, the median counts (%(default)s)")
    parser.add_argument("--reparameterize", action="store_true", help="fuse the network for inference first")
    parser.add_argument("--json", metavar="FILE", help="write the numbers to this file, too")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import torch

    from ..networks import nets
    from ..networks.profiling import profile_network
    from ..networks.utils import reparameterize_model

    network_class = nets.build_prompt_free if args.encoder is not None else getattr(nets, args.network)
    sizes = [_read_size(text) for text in args.sizes]
    if args.encoder is not None and args.network != _NETWORKS[0]:
        raise ValueError(f"{args.network} has no option --encoder; leave it out.")
    options = _network_options(args, network_class)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a CUDA device, and PyTorch finds none; take --device cpu.")
    if args.threads is not None:
        torch.set_num_threads(args.threads)

    network = network_class(**options).eval().to(device)
    report: dict[str, Any] = {
        "machine": _machine(device),
        "network": {"class": type(network).__name__, "config": network.config, "reparameterized": args.reparameterize},
        "profiles": [],
    }
    if args.reparameterize:
        reparameterize_model(network, inplace=True)
    print(_header(report))
    for size in sizes:
        profile = profile_network(network, (args.batch_size, network.in_channels, *size), args.repeats)
        report["profiles"].append(_numbers(profile))
        print(f"\n{_table(profile)}", flush=True)
    if args.json is not None:
        write_json(report, args.json)
        print(f"\nwrote {args.json}")
    return 0


def _read_size(text: str) -> tuple[int, int]:
    """``"256"`` or ``"480x360"`` as height and width."""
    from ..networks.nets.adapted_sam2 import MIN_SIZE

    height, separator, width = text.partition("x")
    try:
        size = int(height), int(width if separator else height)
    except ValueError:
        size = (0, 0)
    if min(size) < MIN_SIZE:
        raise ValueError(
            f"--sizes takes sides or HEIGHTxWIDTH of {MIN_SIZE} pixels or more, such as 256 or 480x360, got {text!r}."
        )
    return size


def _network_options(args: argparse.Namespace, network_class: Callable[..., nn.Module]) -> dict[str, Any]:
    """The options that were given, as the network's class takes them."""
    options = {name: getattr(args, name) for name in _NETWORK_OPTIONS if getattr(args, name) is not None}
    known = inspect.signature(network_class).parameters
    for name in options:
        if name not in known:
            raise ValueError(f"{network_class.__name__} has no option --{name}; leave it out.")
    if "adapter_config" in options:
        options["adapter_config"] = _read_settings(options["adapter_config"])
    return options


def _read_settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except json.JSONDecodeError:
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f"--adapter_config must be a JSON object, such as '{{\"scale\": 0.5}}', got {text!r}.")
    return settings


def _machine(device: torch.device) -> dict[str, Any]:
    import platform

    import torch

    from ..utils.machine import device_name

    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _header(report: dict[str, Any]) -> str:
    machine, network = report["machine"], report["network"]
    config = ", ".join(f"{name} {value}" for name, value in network["config"].items() if isinstance(value, str | int))
    fused = ", reparameterized" if network["reparameterized"] else ""
    return (
        f"{network['class']}: {config}{fused}\n"
        f"torch {machine['torch']}, Python {machine['python']}, {machine['threads']} threads, {machine['device']}: "
        f"{machine['device_name']}"
    )


def _numbers(profile: NetworkProfile) -> dict[str, Any]:
    """A profile as JSON can hold it."""
    parameters = {name: getattr(profile, name) for name in ("trained_parameters", "total_parameters")}
    return {
        "input_shape": list(profile.input_shape),
        "device": profile.device,
        **{name: {"total": sum(by_part.values()), "by_part": by_part} for name, by_part in parameters.items()},
        "macs": {name: getattr(profile.macs, name) for name in ("total", "by_kind", "by_part", "by_part_and_kind")},
        "latency_seconds": profile.latency,
        "peak_memory_bytes": profile.peak_memory,
    }


def _table(profile: NetworkProfile) -> str:
    """A profile as text: a line for each part and one for all, MACs in 10^9; time, memory, and what is left out."""
    kinds = list(profile.macs.by_kind)
    headings = ("  linear", "convolution", "attention", "deformable", "resampling")  # in the order of kinds
    columns = "{:<20} {:>12} {:>12}" + "".join(f" {{:>{width}}}" for width in (*map(len, headings), 9, 7))
    macs = profile.macs.by_part_and_kind
    rows = {
        part: [counts.get(part, 0) for counts in (profile.trained_parameters, profile.total_parameters)]
        + [*macs.get(part, dict.fromkeys(kinds, 0)).values()]
        for part in {**profile.total_parameters, **macs}
    }
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines = [columns.format("part", "trained", "total", *headings, "all MACs", "share")]
    for part, (trained, parameters, *counts) in rows.items():
        giga = [f"{count / 1e9:.3f}" for count in (*counts, sum(counts))]
        share = f"{sum(counts) / max(profile.macs.total, 1):.1%}"
        lines.append(columns.format(part, f"{trained:,}", f"{parameters:,}", *giga, share))
    lines += [
        "",
        f"input {' x '.join(map(str, profile.input_shape))} on {profile.device}: "
        f"{profile.latency:.4f} s in the median, {profile.peak_memory / 1e6:.1f} MB at the peak",
        "MACs: 10^9 of the whole batch; not counted: normalizations, activations, softmax, pooling, "
        "elementwise sums and products",
    ]
    if not profile.device.startswith("cuda"):
        lines.append("memory: all tensors that are alive together; what operators take for themselves is not seen")
    return "\n".join(lines)
