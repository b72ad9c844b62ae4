# SPDX-License-Identifier: Apache-2.0
"""Whether a network has weights to start a training run from."""

from __future__ import annotations

import logging
import os

from .loading import load_sam2_checkpoint
from .sam2_net import SAM2Net

__all__ = ["prepare_base_weights"]

logger = logging.getLogger(__name__)

RANDOM = "random"


def prepare_base_weights(net: SAM2Net, checkpoint: str | os.PathLike[str] | None, resume: bool = False) -> None:
    """
    Give a network the weights that a training run starts from, or stop the run when it has none.

    Adapters on frozen random weights miss all that SAM 2 has learned, so that has to be asked for by the word "random".

    Args:
        net: network to train, changed in place.
        checkpoint: path or catalog name of SAM 2's weights; "random" to keep the weights that the network drew; None
            when the network trains all weights from scratch, or has loaded SAM 2's already.
        resume: whether the run goes on from a checkpoint of its own, which holds all weights. Defaults to False.

    Raises:
        ValueError: when parts of SAM 2 are frozen and there are no weights for them.
        FileNotFoundError: when ``checkpoint`` is neither a file nor a name in the catalog.
        CheckpointError: when the file does not fit, see :func:`load_sam2_checkpoint`.
    """
    if resume:
        return
    if checkpoint != RANDOM and "dino" in net.config["freeze"] and getattr(net, "dino_checkpoint", None) is None:
        raise ValueError(
            "no DINOv2 weights were given, and dino would stay random, since it is frozen. Give their path as "
            "dino_checkpoint, or 'timm' to download them."
        )
    if checkpoint is None and net.base_checkpoint is not None:
        return
    frozen = ", ".join(net.config["freeze"])
    if checkpoint is None and frozen:
        raise ValueError(
            f"no SAM 2 weights were given, and {frozen} would stay random, since they are frozen. Get the weights with "
            "`python -m monai_sam2adapter download sam2.1_hiera_tiny` (or small, base_plus, large) and give their "
            "name or path as sam2_checkpoint; or train all weights from scratch with adapter 'full'."
        )
    if checkpoint is None or checkpoint == RANDOM:
        logger.warning("Training starts from random weights%s.", f", with {frozen} frozen" if frozen else "")
        return
    load_sam2_checkpoint(net, checkpoint)
