# SPDX-License-Identifier: Apache-2.0
"""The catalog of official SAM 2 files."""

from __future__ import annotations

import dataclasses
import re

import pytest
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

from monai_sam2adapter.networks.nets import SAM2_VARIANTS
from monai_sam2adapter.networks.weights import SAM2_CATALOG


class TestSAM2Catalog:
    def test_repositories_and_files_are_those_that_sam2_names(self):
        ours = {entry.repo_id: entry.filename for entry in SAM2_CATALOG.values()}
        assert ours == {repo_id: filename for repo_id, (_, filename) in HF_MODEL_ID_TO_FILENAMES.items()}

    def test_each_version_has_every_variant(self):
        pairs = sorted((entry.sam_version, entry.variant) for entry in SAM2_CATALOG.values())
        assert pairs == sorted((version, variant) for version in ("2", "2.1") for variant in SAM2_VARIANTS)

    @pytest.mark.parametrize("name", SAM2_CATALOG)
    def test_name_is_the_stem_of_the_official_address(self, name):
        folder = "092824" if name.startswith("sam2.1") else "072824"
        assert SAM2_CATALOG[name].url == f"https://dl.fbaipublicfiles.com/segment_anything_2/{folder}/{name}.pt"

    def test_checksums_are_whole_and_differ(self):
        checksums = {entry.sha256 for entry in SAM2_CATALOG.values()}
        assert len(checksums) == 8
        assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in checksums)

    def test_larger_variants_have_larger_files(self):
        for version in ("2", "2.1"):
            sizes = {entry.variant: entry.size for entry in SAM2_CATALOG.values() if entry.sam_version == version}
            assert sizes["tiny"] < sizes["small"] < sizes["base_plus"] < sizes["large"]

    def test_entries_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            SAM2_CATALOG["sam2.1_hiera_tiny"].sha256 = ""

    def test_license_is_apache(self):
        assert {entry.license for entry in SAM2_CATALOG.values()} == {"Apache-2.0"}
