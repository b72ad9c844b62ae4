# SPDX-License-Identifier: Apache-2.0
"""Names of the cases in a batch, and what tells them apart."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2adapter.reports import get_case_names, get_case_sources


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("/data/patient001_frame01.nii.gz", "patient001_frame01"),
        ("scan.v2.nii", "scan.v2"),
        ("/dicom/series/", "series"),
        ("image.jpg", "image"),
        (None, "case_7"),
    ],
)
def test_case_is_named_after_its_file(filename, expected) -> None:
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": filename})
    assert get_case_names([{"image": image}], first_index=7) == [expected]


def test_case_entry_goes_before_the_file_and_plain_tensors_are_numbered() -> None:
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "file.nii"})
    assert get_case_names([{"image": image, "case": "patient"}]) == ["patient"]
    assert get_case_names([{"image": torch.zeros(1)}] * 2, first_index=3) == ["case_3", "case_4"]
    assert get_case_names({"image": torch.zeros(2, 1, 4, 4), "case": ["a", "b"]}) == ["a", "b"]
    assert get_case_names([{"image": image, "case": "a/b.c"}]) == ["a/b.c"]


def test_source_tells_files_of_one_name_apart() -> None:
    images = [MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": f"/scans/{n}/ct.nii"}) for n in range(2)]
    items = [*({"image": image} for image in images), {"image": images[0], "case": "a"}, {"image": torch.zeros(1)}]
    assert get_case_sources(items) == ["/scans/0/ct.nii", "/scans/1/ct.nii", "a", None]
