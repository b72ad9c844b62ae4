# SPDX-License-Identifier: Apache-2.0
"""What pictures in parts refuse before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.transforms import Compose

from monai_sam2adapter.data import LabelScheme
from monai_sam2adapter.engines.pictures_in_parts import PicturesInParts
from monai_sam2adapter.inferers import ResizeInferer
from monai_sam2adapter.transforms import SaveSegmentationd


def test_classes_that_overlap_are_refused(tmp_path: Path) -> None:
    scheme = LabelScheme(("lung", "clavicle"), ((255, 0, 0), (0, 255, 0)), ({}, {}), overlapping=True)
    saver = SaveSegmentationd(tmp_path / "out", scheme, "png")
    in_parts = PicturesInParts(Compose([]), ResizeInferer(tile=32), saver)
    with pytest.raises(ValueError, match=r"classes that overlap are not written in parts, but a\.tif has more pixels"):
        in_parts("a.tif", "a", torch.nn.Identity(), torch.device("cpu"))
