# SPDX-License-Identifier: Apache-2.0
"""What MONAI's Auto3DSeg predicts with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage
from monai.utils import ensure_tuple

from ..utils.files import read_json
from .defaults import parse_config

__all__ = ["CaseInferer"]

# what MONAI's EnsembleRunner hands on to inferers beside their options
_OF_ENSEMBLES = {*inspect.signature(SaveImage).parameters, "image_save_func", "rank", "n_best"}


class CaseInferer:
    """
    Predict the probabilities of the classes with a generated bundle, as its ``run inference`` does.

    Args:
        config_file: the bundle's configs, of which ``inference.json`` is taken.
        override: other values of options of inference, such as ``tta_flips``; those of MONAI's ensembles are left out.
    """

    def __init__(self, config_file: str | Sequence[str], **override: Any) -> None:
        self.config_file = Path(ensure_tuple(config_file)[0]).with_name("inference.json")
        self.override = {key: value for key, value in override.items() if key not in _OF_ENSEMBLES}

    def infer(self, image_file: str | Mapping[str, Any]) -> MetaTensor:
        """
        Args:
            image_file: the volume's file, or an entry of a datalist, whose ``image`` is a file or a list with one a
                channel.

        Returns:
            the probabilities, ``(K, *spatial)``, float32, background first, on the CPU, in the place of the file.

        Raises:
            ValueError: when an option is unknown or has a wrong value.
            RuntimeError: when the file cannot be read or segmented.
        """
        image = image_file["image"] if isinstance(image_file, Mapping) else image_file
        config = {**read_json(self.config_file), **_own_device(), **self.override}
        config.update({"dataset_dir": [{"image": image}], "save_probabilities": True, "handlers": []})
        for key in ("output_dir", "scheme"):  # nothing is written
            config["cases"].pop(key, None)
        evaluator = parse_config(config, self.config_file.parents[1]).get_parsed_content("evaluator")
        evaluator.run()
        return evaluator.state.output[0]["probabilities"]


def _own_device() -> dict[str, str]:
    """The GPU of this process, where there is one for each of several."""
    rank = os.environ.get("LOCAL_RANK")
    return {} if rank is None or not torch.cuda.is_available() else {"device": f"cuda:{rank}"}
