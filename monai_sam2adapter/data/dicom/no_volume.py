# SPDX-License-Identifier: Apache-2.0
"""Which DICOM files are no volume of the patient."""

from __future__ import annotations

import re

import pydicom

from .geometry import has_place, orientations
from .headers import Headers
from .values import GRAY

__all__ = ["why_no_volume", "why_not"]

# modalities whose pixels are not an image of the patient
_NO_IMAGE = ("SEG", "RTDOSE")
# pictures of a screen: dose reports, protocols, drawings, prints
_CAPTURE, _SCREEN = "1.2.840.10008.5.1.4.1.1.7", ("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO")
# scout images of three planes do not say so in their ImageType, but in their name
_SCOUT = re.compile(r"(^|[^a-z])(loc|localizers?|scouts?|survey|topogram|scanogram|surview|3.?planes?)([^a-z]|$)", re.I)


def why_not(header: pydicom.Dataset | None) -> str:
    """Why a file is no image to be segmented; empty when it is one, or is damaged."""
    if header is None:
        return ""
    modality, kind = str(header.get("Modality", "")), header.get("ImageType") or ()
    if "Rows" not in header or modality in _NO_IMAGE:
        return f"without an image ({modality or 'no modality'})"
    if "LOCALIZER" in kind:
        return f"scout images, series {_name(header)}"
    uid = str(header.get("SOPClassUID", ""))
    is_capture = uid == _CAPTURE or uid.startswith(f"{_CAPTURE}.") or any(word in kind for word in _SCREEN)
    if is_capture and not has_place(header):
        return f"pictures of a screen (secondary captures), series {_name(header)}"
    return ""


def why_no_volume(series: Headers) -> str:
    """Why a series cannot be a volume where there are others; empty when it may be one, or is damaged."""
    headers = [header for header in series.values() if header is not None]
    if not headers:
        return ""
    name = f"series {_name(headers[0])}"
    if not any(header.get("PhotometricInterpretation", GRAY[1]) in GRAY for header in headers):
        return f"pictures with colors, {name}"
    if len(headers) == 1 and not has_place(headers[0]):
        return f"pictures without a place in the patient, {name}"
    if _SCOUT.search(_name(headers[0])) and orientations(headers) > 1:
        return f"scout images, {name}"
    return ""


def _name(header: pydicom.Dataset) -> str:
    return str(header.get("SeriesDescription") or "without a name")
