# SPDX-License-Identifier: Apache-2.0
"""What several tests need."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: SAM2ADAPTER_DATA, else ../shared/data beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("SAM2ADAPTER_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real data: set SAM2ADAPTER_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    torch.manual_seed(0)
    logging.getLogger("monai_sam2adapter").setLevel(logging.NOTSET)  # `compare` silences the rest of the package


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., list[Path]]:
    """Write a CT series of one file a slice; its pixels are of 4 rows and 6 columns, different everywhere."""

    def write(
        folder: Path, positions: Sequence[Sequence[float]], start: int = 0, prefix: str = "im", **tags: Any
    ) -> list[Path]:
        common = {
            **{"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "SeriesNumber": 3},
            **{"FrameOfReferenceUID": generate_uid(), "SeriesDescription": "Body 3.0", "Modality": "CT"},
            **{"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2.0, 3.0], "SliceThickness": 7},
            **{"RescaleSlope": 2, "RescaleIntercept": -1000, "SamplesPerPixel": 1, "BitsAllocated": 16},
            **{"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"},
            **tags,
        }
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for index, position in enumerate(positions, start=start):
            image = pydicom.Dataset()
            image.file_meta = pydicom.dataset.FileMetaDataset()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.InstanceNumber = index
            image.ImagePositionPatient = list(position)
            for keyword, value in common.items():
                setattr(image, keyword, value)
            pixels = np.arange(24, dtype=np.uint16).reshape(4, 6) + 100 * index
            image.Rows, image.Columns = pixels.shape
            image.PixelData = pixels.tobytes()
            paths.append(folder / f"{prefix}{index}")
            image.save_as(paths[-1], enforce_file_format=True)
        return paths

    return write
