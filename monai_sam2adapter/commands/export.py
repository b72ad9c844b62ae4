# SPDX-License-Identifier: Apache-2.0
"""``export``: a bundle's network as a file that runs without this package."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .settings import add_set_option, read_setting

if TYPE_CHECKING:
    from ..bundle import ExportedBundle

__all__ = ["add_parser"]

_FORMATS = ("onnx", "pt2", "ts")  # those of networks.export, which is imported when the command runs
_USES = {
    "onnx": 'onnxruntime.InferenceSession({path!r}).run(["logits"], {{"image": images}})',
    "pt2": "torch.export.load({path!r}).module()(images)",
    "ts": "torch.jit.load({path!r})(images)",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser of the command line."""
    text = "write the trained network of a bundle to a file that runs without this package, for every image size"
    parser = commands.add_parser("export", help=text, description=text)
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument(
        "--format", required=True, choices=_FORMATS, help="ONNX, pt2 (torch.export) or ts (TorchScript)"
    )
    parser.add_argument("--output", metavar="FILE", help="the file to write (models/model.FORMAT in the bundle)")
    parser.add_argument("--weights", metavar="FILE", help="what training wrote (models/model.pt in the bundle)")
    add_set_option(parser, "a value that the training was given, such as variant=small; a packed bundle needs none")
    parser.add_argument("--int8", action="store_true", help="8 bits for linear layers: smaller, faster on a CPU; ONNX")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..bundle import export_bundle

    settings = dict(map(read_setting, args.settings))
    exported = export_bundle(args.bundle, args.format, args.output, args.weights, settings, args.overwrite, args.int8)
    print(_describe(exported, args.format))
    return 0


def _describe(exported: ExportedBundle, file_format: str) -> str:
    """What was written, how it compares, and how it is used."""
    path, channels, names = exported.path, exported.in_channels, exported.class_names
    lines = [f"{path}: {path.stat().st_size / 1e6:.1f} MB", "", "largest difference to PyTorch, of the largest logit:"]
    for (batch, height, width), error in exported.errors.items():
        lines.append(f"  {f'{batch} x {channels} x {height} x {width}':<20} {error:.0e}")
    lines += [
        "",
        f"images: float32, (batch, {channels}, height, width), any batch, any size from 32 x 32, preprocessed as the "
        "inference.json in the file says",
        f"logits: (batch, {len(names)}, height, width): {', '.join(names)}",
        f"use:    {_USES[file_format].format(path=str(path))}",
    ]
    return "\n".join(lines)
