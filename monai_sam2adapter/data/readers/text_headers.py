# SPDX-License-Identifier: Apache-2.0
"""What the headers of MetaImage and NRRD say that SimpleITK does not read, drops, or makes up."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from ..geometry import LPS_TO_RAS
from .voxel_data import DataFile

__all__ = ["TextHeader", "read_text_header"]

_MM = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 0.001),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
}
_MOST_BYTES = 1 << 24  # of a header; those of sequences and segmentations are long
_MOST_FILES = 100_000  # of a pattern
# what is asked of a header, and what is taken where it does not say
_DISTANCE = ("the distance of its voxels", "1 mm")
_DIRECTIONS = ("the directions of its axes", "to the left, the back and the head")
_ORIGIN = ("where its first voxel lies", "the origin")

# MetaImage: names of one thing, and all that are read here, which ITK knows in this spelling alone
_SYNONYMS = (
    ("Offset", "Position", "Origin", "ImagePosition"),
    ("TransformMatrix", "Orientation", "Rotation"),
    ("ElementByteOrderMSB", "BinaryDataByteOrderMSB"),
)
_SLOPE, _INTERCEPT = "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"
_METAIMAGE = {name.lower(): name for names in _SYNONYMS for name in names} | {
    name.lower(): name
    for name in (
        *("NDims", "DimSize", "ElementSpacing", "ElementSize", "DistanceUnits", "AnatomicalOrientation", _SLOPE),
        *(_INTERCEPT, "ElementType", "ElementNumberOfChannels", "HeaderSize", "BinaryData", "CompressedData"),
        *("CompressedDataSize", "ElementDataFile"),
    )
}
_OPPOSITE = str.maketrans("LRAPSI", "RLPAIS")
_ROUNDING = 0.01  # of the length of a direction

# NRRD: the spaces that ITK converts
_SPACES = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps")
_DOMAIN = ("domain", "space", "none", "???")
_ENCODINGS = {
    **{"raw": "raw", "gzip": "gzip", "gz": "gzip", "hex": "hex"},
    **dict.fromkeys(("text", "txt", "ascii"), "text"),
}


@dataclass(frozen=True)
class TextHeader:
    """
    What a header says beside what SimpleITK reads.

    Args:
        data: where the voxels are.
        unit: millimeters in its unit of length. Defaults to 1.
        slope: by which values are multiplied. Defaults to 1.
        intercept: which is added to them then. Defaults to 0.
        missing: what it does not say of the place, and what is taken for it.
        notes: what it contradicts itself in, to be put behind the file's name.
    """

    data: Sequence[DataFile]
    unit: float = 1.0
    slope: float = 1.0
    intercept: float = 0.0
    missing: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @property
    def is_stated(self) -> bool:
        """Whether it says how the patient lies."""
        return _DIRECTIONS not in self.missing

    def warnings(self) -> list[str]:
        """What a user has to know, to be put behind the file's name."""
        if not self.missing:
            return list(self.notes)
        said = "; nor of ".join(f"{what}, taken: {taken}" for what, taken in self.missing)
        return [f"says nothing of {said}", *self.notes]


def read_text_header(file: Path) -> TextHeader:
    """
    Args:
        file: a MetaImage or NRRD file, by its content.

    Returns:
        what its header says.

    Raises:
        ValueError: when it is neither, or says what cannot be followed: a place, unit or space that is none, data files
            outside of its folder, or values that were quantized.
    """
    with open(file, "rb") as content:
        is_nrrd = content.read(4) == b"NRRD"
        content.seek(0)
        return _nrrd(file, content) if is_nrrd else _metaimage(file, content)


def _metaimage(file: Path, content: BinaryIO) -> TextHeader:
    fields = _metaimage_fields(content)
    count = int((_numbers(fields, "NDims", 1) or [0])[0]) or len(_numbers(fields, "DimSize"))
    sizes = _numbers(fields, "DimSize", count)
    spacing = _numbers(fields, "ElementSpacing", count) or _numbers(fields, "ElementSize", count)
    if any(side <= 0 for side in spacing):
        raise ValueError(f"its voxels have the sides {spacing}, expected numbers above 0; correct the header")
    origin, matrix = (
        next((_numbers(fields, name, length) for name in names if name in fields), [])
        for names, length in zip(_SYNONYMS, (count, count**2), strict=False)
    )
    directions = np.reshape(matrix, (-1, count))
    if matrix and np.abs(np.linalg.norm(directions, axis=1) - 1).max() > _ROUNDING:
        raise ValueError(f"its TransformMatrix has directions that are not of length 1 ({matrix}); correct the header")
    note = _anatomical_note(fields.get("AnatomicalOrientation", ""), directions)
    slope, intercept = (_numbers(fields, name, 1) for name in (_SLOPE, _INTERCEPT))
    if slope == [0]:
        raise ValueError(f"its {_SLOPE} is 0, which makes all values equal; correct the header")
    asked = ((spacing, _DISTANCE), (matrix, _DIRECTIONS), (origin, _ORIGIN))
    return TextHeader(
        data=_metaimage_data(file, fields, content, sizes),
        unit=_millimeters([fields.get("DistanceUnits", "").strip("?")]),
        slope=(slope or [1.0])[0],
        intercept=(intercept or [0.0])[0],
        missing=[what for said, what in asked if not said],
        notes=[note] if note else [],
    )


def _metaimage_fields(content: BinaryIO) -> dict[str, str]:
    """All to the line ElementDataFile; the voxels begin behind it."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = content.readline(_MOST_BYTES)
        if not line or content.tell() > _MOST_BYTES:
            raise ValueError("it is neither a MetaImage file, with a line ElementDataFile, nor NRRD; get it again")
        match = re.fullmatch(r"\s*([^\s=:]+)\s*[=:]\s*(.*?)\s*", line.decode("utf-8", "surrogateescape"), re.DOTALL)
        if match is None and line.strip():
            raise ValueError(f"its header has the line {_shown(line)}, expected a key, = and a value; correct it")
        if match is None:
            continue
        key, value = match.groups()
        known = _METAIMAGE.get(key.lower(), key)
        if known != key:
            raise ValueError(f"its header has the key {key}, which is spelled {known}; correct it")
        if key in fields and key.lower() in _METAIMAGE and fields[key] != value:
            raise ValueError(f"its header has the key {key} twice, {fields[key]} and {value}; correct it")
        fields[key] = value
    for names in _SYNONYMS:
        said = {name: fields[name] for name in names if name in fields}
        if len({tuple(value.lower().split()) for value in said.values()}) > 1:
            raise ValueError(f"its header contradicts itself: {said}; correct it")
    return fields


def _metaimage_data(file: Path, fields: dict[str, str], content: BinaryIO, sizes: Sequence[float]) -> list[DataFile]:
    value, skip = fields["ElementDataFile"], int((_numbers(fields, "HeaderSize", 1) or [0])[0])
    is_packed = _is_true(fields.get("CompressedData", ""))
    packed_size = int((_numbers(fields, "CompressedDataSize", 1) or [0])[0]) or None
    is_local = value.lower() == "local"
    encoding = "raw" if _is_true(fields.get("BinaryData", "T")) else "text"
    if is_packed:
        encoding = "zlib"
        if is_local and packed_size is None:
            raise ValueError("it has CompressedData, but no CompressedDataSize, which ITK needs; correct the header")
    if skip < -1 or (skip and (is_packed or encoding == "text")):
        raise ValueError(f"its HeaderSize is {skip}, expected -1 or more, and 0 for voxels that are packed or text")
    start = content.tell() if is_local and skip <= 0 else max(skip, 0)
    of_a_file = int(value.split()[1]) if re.fullmatch(r"LIST\s+[1-9]", value) else len(sizes) - 1
    files = [file] if is_local else _beside(file, value, content, int(math.prod(sizes[of_a_file:])))
    return [DataFile(path, start, encoding, packed_size, is_end=skip == -1) for path in files]


def _anatomical_note(letters: str, directions: np.ndarray) -> str:
    """
    Compare AnatomicalOrientation with the directions of the axes, (3, 3) in LPS.

    ITK ignores it, and writes the letters that an axis comes from; the format's description has them for where it runs.
    """
    letters = letters.upper()
    if sorted(letters.translate(str.maketrans("RPI", "LAS"))) != ["A", "L", "S"]:
        return ""  # not said
    affine = np.eye(4)
    affine[:3, :3] = directions.T if directions.shape == (3, 3) else np.eye(3)
    codes = "".join(nib.aff2axcodes(LPS_TO_RAS @ affine))
    if letters in (codes, codes.translate(_OPPOSITE)):
        return ""
    if not directions.size:
        raise ValueError(
            f"its AnatomicalOrientation is {letters}, of which programs differ in what it means, and there is no "
            "TransformMatrix; add it to the header"
        )
    return (
        f"contradicts itself: its axes run to {codes} by its TransformMatrix, which is taken, and its "
        f"AnatomicalOrientation is {letters}; correct the header"
    )


def _nrrd(file: Path, content: BinaryIO) -> TextHeader:
    fields = _nrrd_fields(content)
    spacing = _nrrd_spacing(fields)
    origin = re.findall(r"[^\s(),]+", fields.get("spaceorigin", fields.get("axismins", "")))
    if not all(map(_is_finite, origin)) and "spaceorigin" in fields:
        raise ValueError(f"its space origin is {fields['spaceorigin']}, expected finite numbers; correct the header")
    space = fields.get("space", "").lower()
    if space and space not in _SPACES:
        raise ValueError(
            f"its space is {space}, which does not say how the patient lies; expected right-anterior-superior, "
            "left-anterior-superior or left-posterior-superior: correct the header"
        )
    old = [fields[name] for name in ("oldmin", "oldmax") if _is_finite(fields.get(name, "nan"))]
    if old:
        raise ValueError(
            f"its values were quantized (old min or old max, {' to '.join(old)}), and are no more those that were "
            "measured; save them unquantized"
        )
    directions = space and "spacedirections" in fields
    asked = ((spacing, _DISTANCE), (directions, _DIRECTIONS), (origin, _ORIGIN))
    return TextHeader(
        data=_nrrd_data(file, fields, content),
        unit=_millimeters(_nrrd_units(fields)),
        missing=[what for said, what in asked if not said],
    )


def _nrrd_fields(content: BinaryIO) -> dict[str, str]:
    """Fields by their names in lower case without spaces, to the empty line; the voxels begin behind it."""
    fields: dict[str, str] = {}
    content.readline(_MOST_BYTES)
    while (line := content.readline(_MOST_BYTES)).strip() and content.tell() <= _MOST_BYTES:
        name, _, value = line.decode("utf-8", "surrogateescape").partition(": ")
        fields.setdefault(name.lower().replace(" ", ""), value.strip())
        if fields.get("datafile", "").startswith("LIST"):
            break
    return fields


def _nrrd_spacing(fields: dict[str, str]) -> list[str]:
    """Of the axes of space; of others, as those of the channels, there is none."""
    along = fields.get("spacedirections", fields.get("spacings"))
    if along is None:
        return []
    given = re.findall(r"\([^)]*\)|[^\s()]+", along)
    spacing = [
        text for text in given if all(map(_is_finite, text.strip("()").split(","))) and ("(" in text or float(text) > 0)
    ]
    kinds = fields.get("kinds", "").split() or ["domain"] * len(given)
    expected = sum(kind in _DOMAIN for kind in kinds)
    if len(spacing) < min(expected, 3):
        raise ValueError(
            f"its {'space directions' if '(' in along else 'spacings'} are {along}, expected finite ones (spacings "
            f"above 0) of {min(expected, 3)} axes; correct the header"
        )
    return spacing


def _nrrd_units(fields: dict[str, str]) -> list[str]:
    """Of the axes of space."""
    if "spaceunits" in fields:
        return _quoted(fields["spaceunits"])[:3]
    units, kinds = _quoted(fields.get("units", "")), fields.get("kinds", "").split()
    if len(kinds) != len(units):
        return units[:3]
    return [unit for unit, kind in zip(units, kinds, strict=True) if kind in _DOMAIN]


def _nrrd_data(file: Path, fields: dict[str, str], content: BinaryIO) -> list[DataFile]:
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in _ENCODINGS:
        raise ValueError(f"its encoding is {encoding}, expected raw, gzip, hex or text; save it as one of these")
    lines, skip = (int((_numbers(fields, name, 1) or [0])[0]) for name in ("lineskip", "byteskip"))
    kind = _ENCODINGS[encoding]
    if lines < 0 or skip < -1 or (skip == -1 and kind != "raw"):
        raise ValueError(f"its line skip is {lines}, its byte skip {skip}; expected 0 or more, or -1 bytes of raw data")
    value = fields.get("datafile")
    begin = content.tell()
    paths = [file] if value is None else _beside(file, value, content, None)
    found = []
    for path in paths:
        start = _behind_lines(path, begin if value is None else 0, lines)
        if kind in ("text", "hex"):
            found.append(DataFile(path, start + skip, kind))
        else:
            found.append(DataFile(path, start, kind, skip=max(skip, 0), is_end=skip == -1))
    return found


def _behind_lines(path: Path, start: int, lines: int) -> int:
    with open(path, "rb") as content:
        content.seek(start)
        for _ in range(lines):
            content.readline()
        return content.tell()


def _beside(header: Path, value: str, content: BinaryIO, count: int | None) -> list[Path]:
    """
    The data files of a header: one, a list in the lines behind (LIST), or a pattern with its first and last number and
    step, of ``count`` files where it has none.
    """
    names = [value]
    if value.startswith("LIST"):
        rest = content.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
        names = [line.strip() for line in rest.splitlines() if line.strip()]
    elif "%" in value:
        names = _numbered(value, count)
    for name in names:
        if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
            raise ValueError(
                f"its header names the data file {name!r}, expected a file of its own folder, without a path; move it "
                "there and correct the header"
            )
        if not (header.parent / name).is_file():
            raise ValueError(f"its data file {name} is not there; put it beside the header")
    if not names or len(names) != (count if count and names != [value] else len(names)):
        raise ValueError(f"its header names {len(names)} data files, expected {count or 'some'}; correct it")
    return [header.parent / name for name in names]


def _numbered(value: str, count: int | None) -> list[str]:
    pattern, *words = value.split()
    is_whole = len(words) == 3 or (count is not None and len(words) < 2)  # with two, ITK divides to get the step
    if not re.fullmatch(r"[^%]*%0?\d?d[^%]*", pattern) or not is_whole or not all(map(_is_finite, words)):
        raise ValueError(
            f"its header names the data files {value!r}, expected a pattern with first and last number and step, such "
            "as slice%03d.raw 1 9 1"
        )
    first = int(words[0]) if words else 1
    last, step = (int(words[1]), int(words[2])) if len(words) == 3 else (first + (count or 1) - 1, 1)
    numbers = range(first, last + (1 if step > 0 else -1), step or 1)
    return [pattern % number for number in numbers[:_MOST_FILES]]


def _millimeters(units: Iterable[str]) -> float:
    said = {unit.strip().lower() for unit in units} - {"", "???"}
    factors = {_MM.get(unit, math.nan) for unit in said} or {1.0}
    if len(factors) > 1 or not all(map(math.isfinite, factors)):
        raise ValueError(
            f"its unit of length is {', '.join(sorted(said))}, expected um, mm, cm or m, the same along all axes; "
            "correct the header"
        )
    return factors.pop()


def _numbers(fields: dict[str, str], name: str, count: int | None = None) -> list[float]:
    """Those of a field, where it is there."""
    if name not in fields:
        return []
    words = fields[name].split()
    if not words or (count is not None and len(words) != count) or not all(map(_is_finite, words)):
        number = "finite numbers" if count is None else f"{count} finite number{'s' * (count > 1)}"
        raise ValueError(f"its {name} is {fields[name]!r}, expected {number}; correct the header")
    return [float(word) for word in words]


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text) or text.split()


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace").strip())
