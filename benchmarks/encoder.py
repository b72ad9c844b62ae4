# SPDX-License-Identifier: Apache-2.0
"""
Time and MACs of our image encoder against sam2's own, in turn in one process, as a table.

Both have the same weights. ``ratio`` is sam2's time over ours: above 1, ours is faster. sam2's encoder runs with its
sine position encoding, as it always does. MACs are counted per image: "layers" are all linear layers and convolutions,
"attention" the two matrix products of every attention.

    python benchmarks/encoder.py --threads 2
    python benchmarks/encoder.py --variants base_plus --sizes 256 1024 --modes inference
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from timing import add_machine_arguments, machine_header, medians_in_turn, ratio_or_dash
from torch import nn

from monai_sam2adapter.networks.nets import SAM2_VARIANTS, SAM2ImageEncoder, sam2_encoder_config
from monai_sam2adapter.networks.profiling import count_macs

MODES = ("inference", "training")
COLUMNS = "{:<10} {:>10} {:<10} {:>9} {:>9} {:>6} {:>16} {:>20}"


def main() -> None:
    """Print the table."""
    args = parse_arguments()
    device = torch.device(args.device)
    print(machine_header(device, args.threads))
    print(f"batch {args.batch}, float32, median of {args.repeats} rounds; MACs in 10^9 per image, sam2 -> ours\n")
    print(COLUMNS.format("variant", "size", "mode", "sam2 [s]", "ours [s]", "ratio", "layers", "layers + attention"))
    for variant in args.variants:
        sam2, ours = make_encoders(variant, device)
        for height, width in args.sizes:
            x = torch.rand(args.batch, 3, height, width, device=device)
            counts = [layers_and_attention(encoder, x[:1]) for encoder in (sam2, ours)]
            layers = " -> ".join(f"{layer / 1e9:.1f}" for layer, _ in counts)
            all_macs = " -> ".join(f"{(layer + attention) / 1e9:.1f}" for layer, attention in counts)
            for mode in args.modes:
                functions = {"sam2": make_step(sam2, mode, x), "ours": make_step(ours, mode, x)}
                seconds = medians_in_turn(functions, args.repeats, device)
                times = ["no memory" if s is None else f"{s:.4f}" for s in (seconds["sam2"], seconds["ours"])]
                ratio = ratio_or_dash(seconds["sam2"], seconds["ours"])
                print(COLUMNS.format(variant, f"{height}x{width}", mode, *times, ratio, layers, all_macs), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command-line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_machine_arguments(parser)
    parser.add_argument("--variants", nargs="+", choices=SAM2_VARIANTS, default=list(SAM2_VARIANTS))
    default_sizes = [(256, 256), (256, 224), (512, 512)]
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=parse_size,
        default=default_sizes,
        help="side or HEIGHTxWIDTH in pixels, multiples of 32 (default: 256 256x224 512)",
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--batch", type=int, default=1)
    return parser.parse_args()


def parse_size(text: str) -> tuple[int, int]:
    """``"256"`` or ``"256x224"`` as height and width."""
    height, _, width = text.partition("x")
    size = int(height), int(width or height)
    if min(size) < 32 or any(side % 32 for side in size):
        raise argparse.ArgumentTypeError(f"size {text} must have positive multiples of 32")
    return size


def make_encoders(variant: str, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """sam2's image encoder and ours with the same weights."""
    config = sam2_encoder_config(variant)
    neck = FpnNeck(position_encoding=PositionEmbeddingSine(256), **config["neck"])
    ours = SAM2ImageEncoder(variant, positional_encoding="sam2")
    sam2 = ImageEncoder(Hiera(**config["trunk"]), neck, scalp=1)
    sam2.load_state_dict(ours.state_dict())
    return sam2.to(device), ours.to(device)


def features_of(encoder: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The three maps of either encoder."""
    out = encoder(x)
    return out["backbone_fpn"] if isinstance(out, dict) else out


def make_step(encoder: nn.Module, mode: str, x: torch.Tensor) -> Callable[[], None]:
    """One forward pass, followed by a backward pass to all weights in training."""

    def infer() -> None:
        with torch.inference_mode():
            features_of(encoder.eval(), x)

    def train() -> None:
        encoder.train().zero_grad(set_to_none=True)
        sum(feature.square().mean() for feature in features_of(encoder, x)).backward()

    return {"inference": infer, "training": train}[mode]


def layers_and_attention(encoder: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """MACs of the layers and of the attention."""
    macs = count_macs(encoder, x).by_kind
    return macs["linear"] + macs["convolution"], macs["attention"]


if __name__ == "__main__":
    main()
