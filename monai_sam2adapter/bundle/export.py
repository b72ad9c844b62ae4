# SPDX-License-Identifier: Apache-2.0
"""Write the trained network of a bundle to a file that runs without this package."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from ..networks.export import CHECKED_SHAPES, EXPORT_FORMATS, export_network, require_export_packages
from ..networks.nets import AdaptedSAM2
from ..utils.files import read_json, require_writable
from ..utils.logs import escaping_logger
from .packing import stage_bundle

__all__ = ["ExportedBundle", "export_bundle"]

logger = escaping_logger(__name__)


@dataclass(frozen=True)
class ExportedBundle:
    """
    What :func:`export_bundle` has written.

    Args:
        path: the file.
        in_channels: channels of the images that it takes.
        class_names: the channels of the logits that it gives.
        errors: for batch, height and width of each comparison the largest difference to the network, over the largest
            absolute logit.
    """

    path: Path
    in_channels: int
    class_names: tuple[str, ...]
    errors: dict[tuple[int, int, int], float]


def export_bundle(
    bundle_root: str | os.PathLike[str],
    file_format: str,
    output: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    int8: bool = False,
) -> ExportedBundle:
    """
    Record a bundle's network with its weights, fused for inference; see
    :func:`~monai_sam2adapter.networks.export.export_network`.

    The bundle's metadata and its inference config go into the file, as "metadata.json" and "inference.json".

    Args:
        bundle_root: folder of the bundle.
        file_format: "onnx", "pt2" or "ts".
        output: the file to write. Defaults to ``models/model.<format>`` in the bundle.
        weights: file of the trained network. Defaults to ``models/model.pt`` in the bundle.
        settings: options that the training was given and that are not the bundle's defaults, as for
            :func:`~monai_sam2adapter.bundle.pack_bundle`. Defaults to none.
        overwrite: whether to replace a file that is there. Defaults to False.
        int8: whether the weights of linear layers become 8 bits, in ONNX. Defaults to False.

    Returns:
        what was written.

    Raises:
        FileNotFoundError: when the bundle's metadata, its inference config or the weights are missing.
        FileExistsError: when the file is there, and ``overwrite`` is False.
        OSError: when nothing can be written to its folder.
        ValueError: when the format is unknown, ``int8`` does not go with it, or the weights do not fit the network.
        ImportError: when a package that the format needs is missing.
        ExportError: when the file does not compute what the network does; it is not kept.
    """
    look_up_option(file_format, EXPORT_FORMATS)
    require_export_packages(file_format, int8)
    root = Path(bundle_root).expanduser().resolve()
    weights = root / "models" / "model.pt" if weights is None else Path(weights).expanduser()
    path = root / "models" / f"model.{file_format}" if output is None else Path(output).expanduser()
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; write elsewhere (--output), or replace it (--overwrite).")
    require_writable(path.parent)
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / root.name
        logger.info("reading %s", weights)
        metadata, _, network, _ = stage_bundle(root, weights, staged, settings)
        inference = read_json(staged / "configs" / "inference.json")
    if not isinstance(network, AdaptedSAM2):
        raise ValueError(
            f"network_def in configs/inference.json is a {type(network).__name__}, expected a network of this package; "
            "export others by `python -m monai.bundle ckpt_export`."
        )
    formats = metadata["network_data_format"]
    shapes = (*CHECKED_SHAPES, (1, *formats["inputs"]["image"]["spatial_shape"]))
    logger.info("recording the network and comparing the file with it, which takes a minute or a few")
    files = {"metadata.json": metadata, "inference.json": inference}
    errors = export_network(network.eval(), path, file_format, files, shapes, int8)
    names = tuple(formats["outputs"]["pred"].get("channel_def", {}).values())
    return ExportedBundle(path, network.in_channels, names, errors)
