# SPDX-License-Identifier: Apache-2.0
"""The official SAM 2 and SAM 2.1 checkpoints: where they are, how large they are, and how to recognize them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SAM2_CATALOG", "CatalogEntry"]

_FILES_URL = "https://dl.fbaipublicfiles.com/segment_anything_2"
# the folders of the two releases, by date of release (MMDDYY)
_RELEASE_FOLDERS = {"2": "072824", "2.1": "092824"}


@dataclass(frozen=True)
class CatalogEntry:
    """
    One official checkpoint file.

    Source: addresses from facebookresearch/sam2, ``checkpoints/download_ckpts.sh`` (Apache-2.0); the repository does
    not publish checksums, so sizes and checksums are those that independent public projects agree on.

    Args:
        variant: ``tiny``, ``small``, ``base_plus`` or ``large``.
        sam_version: ``2`` or ``2.1``.
        size: size of the file, in bytes.
        sha256: checksum of the file, 64 hexadecimal digits.
        license: SPDX name of the weights' license. Defaults to ``Apache-2.0``.
    """

    variant: str
    sam_version: str
    size: int
    sha256: str
    license: str = "Apache-2.0"

    @property
    def name(self) -> str:
        """Name in the catalog: the stem of the file's name, such as ``sam2.1_hiera_tiny``."""
        return f"{self._family}_hiera_{self.variant}"

    @property
    def filename(self) -> str:
        """Name of the file, as officially released."""
        return f"{self.name}.pt"

    @property
    def repo_id(self) -> str:
        """Repository on the Hugging Face Hub that holds the same file."""
        return f"facebook/{self._family}-hiera-{self.variant.replace('_', '-')}"

    @property
    def url(self) -> str:
        """Official address of the file."""
        return f"{_FILES_URL}/{_RELEASE_FOLDERS[self.sam_version]}/{self.filename}"

    @property
    def _family(self) -> str:
        return "sam2" if self.sam_version == "2" else f"sam{self.sam_version}"


_ENTRIES = (
    CatalogEntry("tiny", "2", 155906050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    CatalogEntry("small", "2", 184309650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    CatalogEntry("base_plus", "2", 323493298, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    CatalogEntry("large", "2", 897952466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    CatalogEntry("tiny", "2.1", 156008466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    CatalogEntry("small", "2.1", 184416285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    CatalogEntry("base_plus", "2.1", 323606802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    CatalogEntry("large", "2.1", 898083611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
)

#: the eight official files by their names, such as ``sam2.1_hiera_tiny``
SAM2_CATALOG: Mapping[str, CatalogEntry] = {entry.name: entry for entry in _ENTRIES}
