# SPDX-License-Identifier: Apache-2.0
"""SAM 2's weights: loaded strictly and with a report, asked for before a training run, and written in its layout."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...utils.files import atomic_path
from ...utils.logs import escaping_logger
from .catalog import SAM2_CATALOG
from .download import download_sam2_checkpoint, sha256_of_file
from .match import SAM2Net, check_variant, guess_variant, match_tensors
from .read import existing_file, read_checkpoint
from .start import read_starting_weights
from .wrappers import unwrap_network

__all__ = [
    "SAM2LoadReport",
    "check_base_weights",
    "check_sam2_layout",
    "load_sam2_checkpoint",
    "prepare_base_weights",
    "save_sam2_checkpoint",
]

logger = escaping_logger(__name__)

_Network = TypeVar("_Network")
_RANDOM = "random"
_ADVICE = "Give the name or path of SAM 2's weights, or train all weights from scratch with adapter 'full'."
# in SAM 2.1 files only
_SAM21_MARK = "no_obj_embed_spatial"

# the mask token and hyper-network of SAM 2's single-mask output, the same in all variants; they start our class heads
_MASK_TOKENS, _NUM_MASK_TOKENS = "sam_mask_decoder.mask_tokens.weight", 4
_HYPERNETWORK = "sam_mask_decoder.output_hypernetworks_mlps.0.layers"
_HEAD_WEIGHTS = {f"{_HYPERNETWORK}.{i}.weight": (width, 256) for i, width in enumerate((256, 256, 32))}
_HEAD_BIASES = {f"{_HYPERNETWORK}.{i}.bias": (width,) for i, width in enumerate((256, 256, 32))}


@dataclass(frozen=True)
class SAM2LoadReport:
    """
    What a checkpoint held and what became of it.

    Args:
        path: the file.
        sha256: checksum of the file.
        variant: ``tiny``, ``small``, ``base_plus`` or ``large`` as read from the tensors' shapes, None when unknown.
        sam_version: ``2`` or ``2.1`` as read from the tensors' names.
        loaded: names of the tensors copied into the net.
        initialized: names of the tensors that the net's head was started from.
        unused: names of the tensors that the net has no use for, such as SAM 2's memory for videos.
    """

    path: Path
    sha256: str
    variant: str | None
    sam_version: str
    loaded: tuple[str, ...]
    initialized: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def official_name(self) -> str | None:
        """The catalog's name of the file, None when its checksum is not that of an official one."""
        return next((name for name, entry in SAM2_CATALOG.items() if entry.sha256 == self.sha256), None)

    def __str__(self) -> str:
        official = f"the official {self.official_name}" if self.official_name else "not an official file"
        groups = Counter(".".join(name.split(".")[:2]) for name in self.unused)
        unused = ", ".join(f"{group} {count}" for group, count in groups.most_common())
        return "\n".join(
            (
                f"SAM {self.sam_version} checkpoint, variant {self.variant or 'unknown'}: {self.path}",
                f"  SHA-256      {self.sha256} ({official})",
                f"  loaded       {len(self.loaded)} tensors",
                f"  initialized  the head, from {len(self.initialized)} tensors",
                f"  unused       {len(self.unused)} tensors" + (f" ({unused})" if unused else ""),
            )
        )


def load_sam2_checkpoint(
    net: SAM2Net, checkpoint: str | os.PathLike[str], directory: str | os.PathLike[str] | None = None
) -> SAM2LoadReport:
    """
    Load SAM 2's weights into a net, start its head from them, and name the file in ``net.base_checkpoint``.

    All checks come first: after an error the net is as it was. Files of SAM 2 and SAM 2.1 serve, wrapped in
    ``{"model": ...}`` or ``{"state_dict": ...}``, bare, and with the prefixes of
    ``torch.compile`` and of a distributed run.

    Args:
        net: net to load into, changed in place.
        checkpoint: path of a file, or a name in ``SAM2_CATALOG`` such as ``sam2.1_hiera_tiny``, which is downloaded
            unless it is in ``directory`` already.
        directory: folder for files named by the catalog. Defaults to PyTorch's folder of downloaded weights.

    Returns:
        which tensors were loaded, used to start the head, and left.

    Raises:
        FileNotFoundError: when ``checkpoint`` is neither a file nor a name in the catalog.
        RuntimeError: when a file named by the catalog cannot be downloaded or has a wrong checksum.
        UnsafeCheckpointError: when the file holds more than tensors and plain containers.
        CheckpointFormatError: when the file is truncated, damaged, or no checkpoint.
        CheckpointMismatchError: when the file is of another variant, or tensors are missing or of another shape.
    """
    net = unwrap_network(net)
    path = _resolve(checkpoint, directory)
    tensors = read_checkpoint(path)
    own = net.state_dict()
    used = sorted(net.sam2_state_names())
    init_head = getattr(net, "init_head", None)
    head: dict[str, tuple[int, ...]] = {}
    if init_head is not None:
        head = {_MASK_TOKENS: (_NUM_MASK_TOKENS, 256), **_HEAD_WEIGHTS, **_HEAD_BIASES}
    check_variant(tensors, own, path)
    expected = {name: own[name] for name in used} | {k: torch.empty(v, device="meta") for k, v in head.items()}
    match_tensors(tensors, expected, path, "SAM 2", "Load an official SAM 2 or SAM 2.1 file.", others=True)

    net.load_state_dict({name: tensors[name] for name in used}, strict=False)
    if init_head is not None:
        init_head(tensors[_MASK_TOKENS][0], [tensors[k] for k in _HEAD_WEIGHTS], [tensors[k] for k in _HEAD_BIASES])
    net.base_checkpoint = path.stem
    report = SAM2LoadReport(
        path=path,
        sha256=sha256_of_file(path),
        variant=guess_variant(tensors),
        sam_version="2.1" if _SAM21_MARK in tensors else "2",
        loaded=tuple(used),
        initialized=tuple(head),
        unused=tuple(sorted(tensors.keys() - set(used) - head.keys())),
    )
    logger.info(str(report))
    return report


def prepare_base_weights(
    net: _Network,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool = False,
    dino_checkpoint: str | os.PathLike[str] | None = None,
    init_checkpoint: str | os.PathLike[str] | None = None,
) -> _Network:
    """
    Give a network the weights that a training run starts from, or stop the run when it has none.

    It is what builds a bundle's id ``network``, so that whoever trains or validates it (MONAI's ``ConfigWorkflow``,
    ``MonaiAlgo``, MONAI Label) gets these weights, too.

    Adapters on frozen random weights miss all that the encoder has learned, so that has to be asked for by the word
    "random".

    Args:
        net: network to train, changed in place. One of another package has no base, and starts from what it drew or
            from ``init_checkpoint``.
        checkpoint: path or catalog name of SAM 2's weights, or those of the encoder in its place, see ``load_base`` of
            the network; "random" to keep all the weights that the network drew; None when the network trains all
            weights from scratch, or has loaded them already.
        resume: whether the run goes on from a checkpoint of its own, which holds what was trained: weights that are
            named are loaded as at the start, and none have to be named. Defaults to False.
        dino_checkpoint: for a network with DINOv2, the path of its weights, or "timm" to download them. Defaults to
            None, with the same meaning as above.
        init_checkpoint: ``model.pt``, ``last.pt`` or adapter file of an earlier training, also one of other classes,
            channels or size, whose weights take the place of the others where they fit. When it holds all that is
            frozen, ``checkpoint`` can be None; where ``checkpoint`` is given too, the heads of new classes start from
            SAM 2's. Defaults to None.

    Returns:
        the same network.

    Raises:
        ValueError: when pretrained parts are frozen and there are no weights for them, or ``dino_checkpoint`` is given
            for a network without DINOv2.
        FileNotFoundError: when ``checkpoint`` is neither a file nor a name in the catalog, or ``dino_checkpoint`` no
            file.
        CheckpointError: when a file does not fit, see :func:`load_sam2_checkpoint`.
    """
    bare: Any = unwrap_network(net)
    if not hasattr(bare, "base_checkpoint"):
        _prepare_other_network(bare, checkpoint, dino_checkpoint, init_checkpoint)
        return net
    load_dinov2 = getattr(bare, "load_dinov2", None)
    if dino_checkpoint is not None and load_dinov2 is None:
        raise ValueError(f"{type(bare).__name__} has no DINOv2 to load {dino_checkpoint} into; leave it out.")
    frozen = ", ".join(bare.config["freeze"])
    start = None if init_checkpoint is None else read_starting_weights(bare, init_checkpoint)
    given = start.tensors.keys() if start is not None else set()
    needs_base = any(name not in given for name, parameter in bare.named_parameters() if not parameter.requires_grad)
    if needs_base and not resume:
        check_base_weights(bare, checkpoint, dino_checkpoint)
    if load_dinov2 is not None and dino_checkpoint is not None:
        load_dinov2(dino_checkpoint)
    if checkpoint not in (None, _RANDOM):
        _load_base(bare, checkpoint)
    elif bare.base_checkpoint is None and not resume and start is None:
        logger.warning("Training starts from random weights%s.", f", with {frozen} frozen" if frozen else "")
        bare.accept_random()
    if start is not None:
        start.load_into(bare)
    return net


def _load_base(net: Any, checkpoint: str | os.PathLike[str]) -> None:
    """A network knows how its weights are read, where they are not SAM 2's."""
    load = getattr(net, "load_base", None)
    if load is None:
        load_sam2_checkpoint(net, checkpoint)
    else:
        load(checkpoint)


def _prepare_other_network(net: Any, checkpoint: Any, dino_checkpoint: Any, init_checkpoint: Any) -> None:
    for part, given in (("SAM 2", checkpoint), ("DINOv2", dino_checkpoint)):
        if given not in (None, _RANDOM):
            raise ValueError(f"{type(net).__name__} has no {part} to load {given} into; leave it out.")
    if init_checkpoint is not None:
        read_starting_weights(net, init_checkpoint).load_into(net)


def check_base_weights(
    net: SAM2Net,
    checkpoint: str | os.PathLike[str] | None,
    dino_checkpoint: str | os.PathLike[str] | None = None,
) -> None:
    """
    Stop a new training run when a frozen part would stay random without having been asked for; no file is opened.

    Args:
        net: as in :func:`prepare_base_weights`.
        checkpoint: as in :func:`prepare_base_weights`.
        dino_checkpoint: as in :func:`prepare_base_weights`.

    Raises:
        ValueError: when pretrained parts are frozen and no weights are named for them.
    """
    net = unwrap_network(net)
    frozen = net.config["freeze"]
    if checkpoint is None and net.base_checkpoint is None and frozen:
        raise ValueError(
            f"no {getattr(net, 'base_name', 'SAM 2')} weights were given, and {', '.join(frozen)} would stay random, "
            f"since they are frozen. {getattr(net, 'base_advice', _ADVICE)}"
        )
    has_dino = dino_checkpoint is not None or getattr(net, "dino_checkpoint", None) is not None
    if "dino" in frozen and checkpoint != _RANDOM and not has_dino:
        raise ValueError(
            "no DINOv2 weights were given, and dino would stay random, since it is frozen. Give their path as "
            "dinov2_checkpoint, or 'timm' to download them."
        )


def save_sam2_checkpoint(net: Any, path: str | os.PathLike[str]) -> None:
    """
    Write the weights of a network that was trained as a whole as a file that :func:`load_sam2_checkpoint` takes.

    Another network then starts from it as from one of SAM 2's own files. The head of class 0 stands in for SAM 2's mask
    token and hyper-network; the heads of the other classes are left out.

    Args:
        net: ``PromptFreeSAM2`` with nothing added to SAM 2 but the class head: no adapter, and
            ``positional_encoding="sam2"``.
        path: file to write, usually ``*.pt``. It appears under its name only when it is whole.

    Raises:
        ValueError: when the network has no class head, or holds something that SAM 2's files have no name for.
    """
    net = unwrap_network(net)
    check_sam2_layout(net)
    state = net.state_dict()
    tensors = {name: state[name].detach().cpu() for name in sorted(net.sam2_state_names())}
    token, weights, biases = net.export_head()
    tensors[_MASK_TOKENS] = token.cpu().repeat(_NUM_MASK_TOKENS, 1)
    tensors |= dict(zip(_HEAD_WEIGHTS, (weight.cpu() for weight in weights), strict=True))
    tensors |= dict(zip(_HEAD_BIASES, (bias.cpu() for bias in biases), strict=True))
    with atomic_path(Path(path)) as temporary:
        torch.save({"model": tensors}, temporary)


def check_sam2_layout(net: Any) -> None:
    """
    Check that :func:`save_sam2_checkpoint` can write a network, before it is trained.

    Args:
        net: as in :func:`save_sam2_checkpoint`.

    Raises:
        ValueError: as in :func:`save_sam2_checkpoint`.
    """
    net = unwrap_network(net)
    if not hasattr(net, "export_head"):
        raise ValueError(f"{type(net).__name__} has no class head to write as SAM 2's; give a PromptFreeSAM2.")
    unnamed = ("adapters", "positional_encoding", "input_projection")
    others = [part for part in net.parameter_groups() if part in unnamed]
    if others:
        raise ValueError(
            f"the network has {', '.join(others)}, which SAM 2's files have no names for; train it with adapter "
            "'full', positional_encoding 'sam2' and 1 or 3 input channels."
        )


def _resolve(checkpoint: str | os.PathLike[str], directory: str | os.PathLike[str] | None) -> Path:
    if checkpoint in SAM2_CATALOG:
        return download_sam2_checkpoint(str(checkpoint), directory)
    advice = f"Pass the path of a SAM 2 checkpoint, or one of the names {', '.join(SAM2_CATALOG)}."
    return existing_file(checkpoint, "there is no file {}, and it is no name in the catalog either. " + advice)
