# SPDX-License-Identifier: Apache-2.0
"""Whether the tensors of a file fit a network, told before anything is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from .read import CheckpointMismatchError

__all__ = [
    "INPUT_CHANNELS",
    "SAM2Net",
    "check_encoder",
    "check_variant",
    "describe_options",
    "guess_variant",
    "match_tensors",
]

INPUT_CHANNELS = "input_channels"
"""Name in a state dictionary of the number of channels that the network takes."""

# (channels after the patch embedding, number of blocks) of the four Hiera trunks
_TRUNKS = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_PATCH_EMBEDDING = "image_encoder.trunk.patch_embed.proj.weight"
_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
_ADAPTER = re.compile(r"\.adapters\.([a-z0-9_]+)\.")
_PEG = "image_encoder.trunk.positional_encoding.conv.weight"
_DINO = "dino.model.pos_embed"
_DINO_WIDTHS = {384: "small", 768: "base", 1024: "large"}
_DINO_PATCH = 14
_DETAIL = "sam_mask_decoder.refinement.detail.weight"
_CLASS_TOKENS = "sam_mask_decoder.class_tokens.weight"
# what only one of the encoders has, and by the channels of its patch embedding the variant
_ENCODER_MARKS = {
    "sam2": "image_encoder.trunk.pos_embed_window",
    "dinov3": "image_encoder.trunk.reg_token",
    "sam3": "image_encoder.trunk.ln_pre.weight",
}
_WHOSE = {"dinov3": "DINOv3", "sam3": "SAM 3"}
_VIT_WIDTHS = {("dinov3", 384): "small", ("dinov3", 768): "base", ("dinov3", 1024): "large", ("sam3", 1024): "large"}
_LISTED = 5  # tensors written out in a message


class SAM2Net(Protocol):
    """
    A ``torch.nn.Module`` that knows which of its weights are SAM 2's and which were added to it.

    What is neither, such as a second pretrained encoder, is part of the base that an adapter file belongs to.

    A net may also have ``init_head(token, weights, biases)``, which starts its class tokens and hyper-networks from
    SAM 2's mask token ``(256,)`` and the three layers of its hyper-network.
    """

    #: stem of the SAM 2 file that was loaded, None for random weights
    base_checkpoint: str | None

    @property
    def config(self) -> Mapping[str, Any]:
        """Settings that define the net's weights, of types that JSON knows; ``freeze`` lists the parts not trained."""
        ...

    def sam2_state_names(self) -> set[str]:
        """State-dict names kept from SAM 2, exactly as in the official files."""
        ...

    def added_state_names(self) -> set[str]:
        """State-dict names, parameters and buffers, of everything that no pretrained network has."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """As in ``torch.nn.Module``."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """As in ``torch.nn.Module``."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """As in ``torch.nn.Module``."""
        ...


def match_tensors(
    tensors: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    path: Path,
    source: str,
    advice: str,
    others: bool = False,
) -> None:
    """
    Compare names, shapes and kinds of numbers of a file's tensors with those that a network takes; all are finite.

    Args:
        tensors: the file's, under the network's names.
        expected: the network's; on the meta device, shape and type are enough.
        path: the file, for the message.
        source: whose tensors the network takes, for the message.
        advice: what to do, for the message.
        others: whether the file may have tensors beside those. Defaults to False.

    Raises:
        CheckpointMismatchError: when a tensor is missing, unknown, or of another shape or kind of number (a quantized
            file has the right shapes), holds NaN or infinite values, or the number of input channels differs.
    """
    missing = [name for name in expected if name not in tensors]
    unknown = [] if others else sorted(tensors.keys() - expected.keys())
    wrong = [
        f"{name} is {_mark(name, tensors[name])} {tensors[name].dtype}, expected {_mark(name, tensor)}"
        + " of floating point" * tensor.is_floating_point()
        for name, tensor in expected.items()
        if name in tensors
        and (
            _mark(name, tensors[name]) != _mark(name, tensor)
            or tensor.is_floating_point() > tensors[name].is_floating_point()
        )
    ]
    broken = [name for name in expected if name in tensors and not tensors[name].isfinite().all()]
    problems = [
        f"it {verb} {len(names)} {text}: {_some(names)}"
        for verb, names, text in (
            ("lacks", missing, f"of the {len(expected)} tensors that the network takes from {source}"),
            ("has", unknown, "tensors that the network has not"),
            ("differs in", wrong, "tensors"),
            ("has NaN or infinite values in", broken, "tensors"),
        )
        if names
    ]
    if problems:
        raise CheckpointMismatchError(f"{path} does not fit the network: {'; '.join(problems)}. {advice}")


def guess_encoder(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Tell the encoder of a network from its names; None when there is none of ours."""
    return next((encoder for encoder, mark in _ENCODER_MARKS.items() if mark in tensors), None)


def check_encoder(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: Path) -> None:
    """
    Compare the encoders of a file and of a net, both under our names; where one has none, nothing is said.

    Raises:
        CheckpointMismatchError: when they differ.
    """
    of_file, of_net = guess_encoder(tensors), guess_encoder(own)
    if of_file and of_net and of_file != of_net:
        raise CheckpointMismatchError(
            f"{path} is of a network with encoder {of_file}, this one has {of_net}; give the options that it was "
            f"trained with: {describe_options(tensors)}."
        )


def check_variant(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: Path) -> None:
    """
    Compare encoder and variant in a file and in a net, both under our names; where one has none, nothing is said.

    Raises:
        CheckpointMismatchError: when they differ.
    """
    check_encoder(tensors, own, path)
    of_file, of_net = guess_variant(tensors), guess_variant(own)
    if of_file and of_net and of_file != of_net:
        raise CheckpointMismatchError(
            f"{path} is of {_WHOSE.get(guess_encoder(own) or '', 'SAM 2')}'s variant {of_file}, the net is {of_net}. "
            f"Build the net with variant='{of_file}', or load a file of variant {of_net}."
        )


def guess_variant(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Tell the encoder's variant from the shapes of the trunk; None when they are of no variant."""
    if _PATCH_EMBEDDING not in tensors:
        return None
    encoder, channels = guess_encoder(tensors), tensors[_PATCH_EMBEDDING].shape[0]
    if encoder in _WHOSE:
        return _VIT_WIDTHS.get((encoder, channels))
    blocks = {match.group(1) for match in map(_BLOCK.match, tensors) if match}
    return _TRUNKS.get((channels, len(blocks)))


def describe_options(tensors: Mapping[str, torch.Tensor]) -> str:
    """The options that can be read off a state dictionary, spelled as a bundle's keys."""
    adapters = sorted({match.group(1) for match in map(_ADAPTER.search, tensors) if match})
    encoder = guess_encoder(tensors)
    parts = [
        *([f"encoder {encoder}"] if encoder in _WHOSE else []),
        f"variant {guess_variant(tensors) or 'unknown'}",
        f"adapter {' and '.join(adapters) or 'none or full'}",
    ]
    own = "rope" if encoder in _WHOSE else "sam2"
    if _DINO in tensors:  # an embedding of one class token and a square of patches
        _, count, width = tensors[_DINO].shape
        size = _DINO_PATCH * math.isqrt(max(count - 1, 0))
        parts.append(f"dino_variant {_DINO_WIDTHS.get(width, 'unknown')}, dino_size {size}")
    else:
        parts.append(f"positional_encoding {'peg' if _PEG in tensors else own}")
        parts.append(f"output_stride {tensors[_DETAIL].shape[-1] - 2 if _DETAIL in tensors else 4}")
    if _CLASS_TOKENS in tensors:
        parts.append(f"{len(tensors[_CLASS_TOKENS])} classes")
    if INPUT_CHANNELS in tensors:
        channels = int(tensors[INPUT_CHANNELS])
        neighbors = f" (num_neighbors {channels // 2} in a bundle for volumes)" if channels % 2 else ""
        parts.append(f"in_channels {channels}{neighbors}")
    return ", ".join(parts)


def _mark(name: str, tensor: torch.Tensor) -> tuple[int, ...] | int:
    """What has to be the same in the file and in the network."""
    return int(tensor) if name == INPUT_CHANNELS and tensor.numel() == 1 else tuple(tensor.shape)


def _some(items: Sequence[str]) -> str:
    """Write the first items out and count the rest."""
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
