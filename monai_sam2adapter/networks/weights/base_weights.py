# SPDX-License-Identifier: Apache-2.0
"""Whether a network has weights to start a training run from."""

from __future__ import annotations

import logging
import os

from .loading import load_sam2_checkpoint
from .sam2_net import SAM2Net

__all__ = ["check_base_weights", "prepare_base_weights"]

logger = logging.getLogger(__name__)

RANDOM = "random"


def prepare_base_weights(
    net: SAM2Net,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool = False,
    dino_checkpoint: str | os.PathLike[str] | None = None,
) -> None:
    """
    Give a network the weights that a training run starts from, or stop the run when it has none.

    Adapters on frozen random weights miss all that SAM 2 has learned, so that has to be asked for by the word "random".

    Args:
        net: network to train, changed in place.
        checkpoint: path or catalog name of SAM 2's weights; "random" to keep all the weights that the network drew;
            None when the network trains all weights from scratch, or has loaded SAM 2's already.
        resume: whether the run goes on from a checkpoint of its own, which holds what was trained: weights that are
            named are loaded as at the start, and none have to be named. Defaults to False.
        dino_checkpoint: for a network with DINOv2, the path of its weights, or "timm" to download them. Defaults to
            None, with the same meaning as above.

    Raises:
        ValueError: when pretrained parts are frozen and there are no weights for them, or ``dino_checkpoint`` is given
            for a network without DINOv2.
        FileNotFoundError: when ``checkpoint`` is neither a file nor a name in the catalog, or ``dino_checkpoint`` no
            file.
        CheckpointError: when a file does not fit, see :func:`load_sam2_checkpoint`.
    """
    load_dinov2 = getattr(net, "load_dinov2", None)
    if dino_checkpoint is not None and load_dinov2 is None:
        raise ValueError(f"{type(net).__name__} has no DINOv2 to load {dino_checkpoint} into; leave it out.")
    frozen = ", ".join(net.config["freeze"])
    if not resume:
        check_base_weights(net, checkpoint, dino_checkpoint)
    if load_dinov2 is not None and dino_checkpoint is not None:
        load_dinov2(dino_checkpoint)
    if checkpoint not in (None, RANDOM):
        load_sam2_checkpoint(net, checkpoint)
    elif net.base_checkpoint is None and not resume:
        logger.warning("Training starts from random weights%s.", f", with {frozen} frozen" if frozen else "")


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
    frozen = net.config["freeze"]
    if checkpoint is None and net.base_checkpoint is None and frozen:
        raise ValueError(
            f"no SAM 2 weights were given, and {', '.join(frozen)} would stay random, since they are frozen. Get the "
            "weights with `python -m monai_sam2adapter download sam2.1_hiera_tiny` (or small, base_plus, large) and "
            "give their name or path as sam2_checkpoint; or train all weights from scratch with adapter 'full'."
        )
    has_dino = dino_checkpoint is not None or getattr(net, "dino_checkpoint", None) is not None
    if "dino" in frozen and checkpoint != RANDOM and not has_dino:
        raise ValueError(
            "no DINOv2 weights were given, and dino would stay random, since it is frozen. Give their path as "
            "dinov2_checkpoint, or 'timm' to download them."
        )
