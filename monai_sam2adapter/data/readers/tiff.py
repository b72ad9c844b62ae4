# SPDX-License-Identifier: Apache-2.0
"""What a TIFF file holds beyond what Pillow reads of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from monai.utils import ensure_tuple
from PIL import Image

__all__ = ["tiff_problem"]

# numbers of tags
_BITS, _PHOTOMETRIC, _DESCRIPTION, _ORIENTATION, _SAMPLES, _EXTRA, _SAMPLE_FORMAT = 258, 262, 270, 274, 277, 338, 339
_DEPTH, _METAMORPH = 32997, 33629
_COLORS = {2: 3, 6: 3}  # RGB and YCbCr; any other is of one channel
_ALPHA = ((1,), (2,))


def tiff_problem(image: Image.Image) -> str:
    """
    Say what of a page Pillow would read with other values than those of the file, or not at all, without a word.

    Args:
        image: an open picture of any format, at the page.

    Returns:
        what is wrong and what to do; empty when all is well, and for other formats.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.format != "TIFF":
        return ""
    left = image.n_frames - image.tell()  # type: ignore[attr-defined]
    planes = _planes(tags, image.width * image.height)
    if planes > left:
        return f"it holds {planes} planes, of which only {left} would be read; save it with one page a plane"
    photometric, samples = tags.get(_PHOTOMETRIC), tags.get(_SAMPLES, 1)
    extra = samples - _COLORS.get(photometric, 1)  # type: ignore[arg-type]
    if extra > 0 and ensure_tuple(tags.get(_EXTRA, ())) not in _ALPHA:
        return f"it has {samples} channels, {extra} of which would not be read; save each as a file"
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not is_deep and max(ensure_tuple(tags.get(_BITS, 1))) > 8:
        return "its colors have 16 bits, of which only 8 would be read; convert it to 8 bits"
    if is_deep and photometric == 0:
        return "it stores white as 0 and would be read inverted; save it with black as 0"
    if tags.get(_ORIENTATION, 1) > 4:
        return "it lies on its side (orientation tag), which is read wrongly in TIFF files; save it upright"
    if image.mode == "L" and 2 in ensure_tuple(tags.get(_SAMPLE_FORMAT, 1)):
        return "it stores negative numbers in 8 bits, which would be read as large ones; save it as 16 bits"
    if image.mode == "I" and ensure_tuple(tags.get(_SAMPLE_FORMAT, 1)) == (1,) and image.getextrema()[0] < 0:  # type: ignore[operator]
        return "it has numbers above 2147483647, which would be read as negative; save it with less bits"
    return ""


def _planes(tags: Mapping[int, Any], size: int) -> int:
    """
    How many planes start at a page, as far as it says so: in tags for volumes, or in the description of ImageJ,
    tifffile and OME, who write one page for many planes where a file is large.
    """
    text = str(tags.get(_DESCRIPTION, ""))
    planes = [1, int(tags.get(_DEPTH, 1)), len(ensure_tuple(tags.get(_METAMORPH, ())))]
    if text.startswith("ImageJ="):
        planes += [int(number) for number in re.findall(r"^images=(\d+)", text, re.MULTILINE)]
    elif text.startswith("{"):
        try:
            values = math.prod(json.loads(text).get("shape", ()))
        except (ValueError, TypeError, AttributeError):  # another's text that begins like that of tifffile
            values = 0
        planes.append(values // (size * tags.get(_SAMPLES, 1)))
    elif "<OME" in text:
        sides = re.findall(r"\bSize[ZCT]\s*=\s*\"(\d+)\"", text)[:3]
        planes.append(math.prod(map(int, sides)) // tags.get(_SAMPLES, 1))
    return max(planes)
