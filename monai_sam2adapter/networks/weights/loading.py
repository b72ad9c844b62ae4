# SPDX-License-Identifier: Apache-2.0
"""Loading the weights of SAM 2 into a net, strictly and with a report."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .catalog import SAM2_CATALOG
from .checks import check_tensors, check_variant
from .download import download_sam2_checkpoint, sha256_of_file
from .reading import guess_variant, read_checkpoint
from .sam2_net import SAM2Net

__all__ = ["SAM2LoadReport", "load_sam2_checkpoint"]

logger = logging.getLogger(__name__)

# in SAM 2.1 files only
_SAM21_MARK = "no_obj_embed_spatial"

# the mask token and hyper-network of SAM 2's single-mask output, the same in all variants; they start our class heads
MASK_TOKENS, NUM_MASK_TOKENS = "sam_mask_decoder.mask_tokens.weight", 4
_HYPERNETWORK = "sam_mask_decoder.output_hypernetworks_mlps.0.layers"
HEAD_WEIGHTS = {f"{_HYPERNETWORK}.{i}.weight": (width, 256) for i, width in enumerate((256, 256, 32))}
HEAD_BIASES = {f"{_HYPERNETWORK}.{i}.bias": (width,) for i, width in enumerate((256, 256, 32))}


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
    ``{"model": ...}`` or ``{"state_dict": ...}``, bare, and with the ``module.`` prefix of a distributed run.

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
    path = _resolve(checkpoint, directory)
    tensors = read_checkpoint(path)
    own = net.state_dict()
    used = sorted(net.sam2_state_names())
    init_head = getattr(net, "init_head", None)
    head: dict[str, tuple[int, ...]] = {}
    if init_head is not None:
        head = {MASK_TOKENS: (NUM_MASK_TOKENS, 256), **HEAD_WEIGHTS, **HEAD_BIASES}
    check_variant(tensors, own, path)
    expected = {name: tuple(own[name].shape) for name in used} | head
    check_tensors(tensors, expected, path, "SAM 2", "Load an official SAM 2 or SAM 2.1 file.")

    net.load_state_dict({name: tensors[name] for name in used}, strict=False)
    if init_head is not None:
        init_head(tensors[MASK_TOKENS][0], [tensors[k] for k in HEAD_WEIGHTS], [tensors[k] for k in HEAD_BIASES])
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


def _resolve(checkpoint: str | os.PathLike[str], directory: str | os.PathLike[str] | None) -> Path:
    if checkpoint in SAM2_CATALOG:
        return download_sam2_checkpoint(str(checkpoint), directory)
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}, and it is no name in the catalog either. "
            f"Pass the path of a SAM 2 checkpoint, or one of the names {', '.join(SAM2_CATALOG)}."
        )
    return path
