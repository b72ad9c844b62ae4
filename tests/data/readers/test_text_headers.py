# SPDX-License-Identifier: Apache-2.0
"""MetaImage and NRRD are read as their headers say, or refused or warned about by name; SimpleITK reads the voxels."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage

from monai_sam2adapter.data import VolumeAxes, VolumeReader

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 4)).astype("<i2")  # (Z, Y, X)
RAW = VOXELS.tobytes()
SLICE = RAW[: len(RAW) // 5]
AFFINE = np.array([[-1.5, 0, 0, 30], [0, -2, 0, 40], [0, 0, 8, 50], [0, 0, 0, 1]])
# of a sound file; a key that is None is left out
MHA = {
    **{"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False"},
    **{"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "-30 -40 50", "ElementSpacing": "1.5 2 8"},
    **{"DimSize": "4 6 5", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"},
}
NRRD = {
    **{"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 6 5"},
    **{"space directions": "(1.5,0,0) (0,2,0) (0,0,8)", "kinds": "domain domain domain", "endian": "little"},
    **{"encoding": "raw", "space origin": "(-30,-40,50)"},
}
NO_PLACE = {"Offset": None, "TransformMatrix": None, "ElementSpacing": None}
NO_SPACE = {"space": None, "space directions": None, "space origin": None}


def write_mha(path: Path, changes: dict[str, str | None], body: bytes = RAW) -> Path:
    fields = {**MHA, **changes, "ElementDataFile": changes.get("ElementDataFile", "LOCAL")}
    lines = [f"{key} = {value}\n" for key, value in fields.items() if value is not None and key != "ElementDataFile"]
    path.write_bytes("".join([*lines, f"ElementDataFile = {fields['ElementDataFile']}\n"]).encode() + body)
    return path


def write_nrrd(path: Path, changes: dict[str, str | None], body: bytes = RAW) -> Path:
    lines = [f"{key}: {value}\n" for key, value in {**NRRD, **changes}.items() if value is not None]
    end = "" if str(changes.get("data file", "")).startswith("LIST") else "\n"
    path.write_bytes(("NRRD0005\n" + "".join(lines) + end).encode() + body)
    return path


def write(folder: Path, extension: str, changes: dict[str, Any], body: bytes = RAW, name: str = "scan") -> Path:
    path = folder / f"{name}.{extension}"
    return write_nrrd(path, changes, body) if extension == "nrrd" else write_mha(path, changes, body)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    array, meta = VolumeReader().get_data((str(path),))
    return array, meta["affine"], meta


def warnings_of(path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    read(path)
    return [text.removeprefix(f"{path} ") for text in caplog.messages if text.startswith(str(path))]


def packed(changes: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    return {"CompressedData": "True", "CompressedDataSize": str(len(body)), **changes}, body


TEXT = " ".join(map(str, VOXELS.ravel())).encode() + b"\n"
SOUND = [
    ("mha", {}, RAW),
    ("mha", *packed({}, zlib.compress(RAW))),
    ("mha", *packed({}, gzip.compress(RAW))),
    ("mha", {"BinaryDataByteOrderMSB": "True"}, VOXELS.byteswap().tobytes()),
    ("mha", {"BinaryData": "False"}, TEXT),
    ("mha", {"HeaderSize": "-1"}, b"something in front" + RAW),
    ("mha", {"AnatomicalOrientation": "RAI", "DistanceUnits": "mm"}, RAW),
    ("mha", {"AnatomicalOrientation": "LPS", "DistanceUnits": "?"}, RAW),
    ("mha", {"Offset": None, "Position": "-30 -40 50"}, RAW),
    ("mha", {"TransformMatrix": None, "Orientation": "1 0 0 0 1 0 0 0 1"}, RAW),
    ("mha", {"ElementSpacing": None, "ElementSize": "1.5 2 8"}, RAW),
    ("mha", {"ElementSize": "1 1 1", "Comment": "a = b: c", "Comment2": "DimSize = 1"}, RAW),
    ("nrrd", {}, RAW),
    ("nrrd", {"encoding": "gzip"}, gzip.compress(RAW)),
    ("nrrd", {"endian": "big"}, VOXELS.byteswap().tobytes()),
    ("nrrd", {"encoding": "ascii"}, TEXT),
    ("nrrd", {"encoding": "hex"}, RAW.hex().encode()),
    ("nrrd", {"byte skip": "-1"}, b"something in front" + RAW),
    ("nrrd", {"line skip": "2", "byte skip": "3"}, b"one\ntwo\nabc" + RAW),
    ("nrrd", {"encoding": "gzip", "byte skip": "3"}, gzip.compress(b"abc" + RAW)),
    ("nrrd", {"space": "LPS", "space units": '"mm" "mm" "mm"', "# a comment": "", "key:=a": ""}, RAW),
    ("nrrd", {"space": "RAS", "space directions": "(-1.5,0,0) (0,-2,0) (0,0,8)", "space origin": "(30,40,50)"}, RAW),
]


@pytest.mark.parametrize(("extension", "changes", "body"), SOUND)
def test_a_sound_file_is_read_without_a_word(
    extension: str, changes: dict[str, Any], body: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, extension, changes, body)
    array, affine, _ = read(path)
    np.testing.assert_array_equal(array, VOXELS.T)
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T)
    np.testing.assert_allclose(affine, AFFINE)
    assert not [text for text in caplog.messages if str(path) in text]


@pytest.mark.parametrize("extension", ["mha", "mhd", "nrrd"])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compress", [False, True])
def test_what_simpleitk_writes_is_read_without_a_word(
    extension: str, kind: type, channels: int, compress: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).integers(0, 100, (5, 6, 4, channels)).astype(kind)
    image = sitk.GetImageFromArray(values.squeeze(), isVector=channels > 1)
    image.SetSpacing((1.5, 2, 8))
    image.SetDirection((0, 1, 0, 0.6, 0, 0.8, 0.8, 0, -0.6))
    path = tmp_path / f"scan.{extension}"
    sitk.WriteImage(image, str(path), useCompression=compress)
    array, _ = VolumeReader(None).get_data((str(path),))
    np.testing.assert_array_equal(array, values.transpose(2, 1, 0, 3).squeeze())
    assert not [text for text in caplog.messages if str(path) in text]


def test_every_damage_of_packed_voxels_is_noticed(tmp_path: Path) -> None:
    noticed = []
    for extension, pack in (("mha", zlib.compress), ("nrrd", gzip.compress)):
        for level in (0, 6):  # stored, where no code is broken, and packed
            whole = pack(RAW, level)
            changes = packed({}, whole)[0] if extension == "mha" else {"encoding": "gzip"}
            for place in range(10, len(whole)):
                for body in (whole[:place], whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]):
                    path = write(tmp_path, extension, changes, body)
                    try:
                        np.testing.assert_array_equal(read(path)[0], VOXELS.T)
                        noticed.append(0)  # a bit that is not used
                    except ValueError as error:
                        noticed.append(str(error).startswith(f"{path} cannot be read"))
    assert len(noticed) > 1500
    assert sum(noticed) > len(noticed) - 5


class TestSizes:
    @pytest.mark.parametrize("extension", ["mha", "nrrd"])
    @pytest.mark.parametrize("encoding", ["raw", "packed", "text"])
    @pytest.mark.parametrize("count", [0, 119, 121, 143, 144, 240])
    def test_all_voxels_and_nothing_else(
        self, extension: str, encoding: str, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        raw = np.resize(VOXELS, count).tobytes()
        text = " ".join(map(str, np.resize(VOXELS, count))).encode() + b"\n"
        if extension == "mha":
            options = {"raw": ({}, raw), "packed": packed({}, zlib.compress(raw)), "text": ({"BinaryData": "F"}, text)}
        else:
            packs = {"raw": ("raw", raw), "packed": ("gzip", gzip.compress(raw)), "text": ("ascii", text)}
            options = {name: ({"encoding": value}, body) for name, (value, body) in packs.items()}
        path = write(tmp_path, extension, *options[encoding])
        if count < 120 or count >= 144:
            with pytest.raises(ValueError, match=rf"it holds {2 * count} bytes of voxels, its header promises 240"):
                read(path)
        else:
            assert warnings_of(path, caplog) == [f"has {2 * count - 240} bytes behind its voxels, which are not read"]

    @pytest.mark.parametrize("kind", ["MET_UCHAR", "MET_CHAR", "MET_INT", "MET_FLOAT", "MET_DOUBLE", "MET_LONG_LONG"])
    def test_another_type(self, kind: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="it holds 240 bytes of voxels, its header promises"):
            read(write(tmp_path, "mha", {"ElementType": kind}))

    @pytest.mark.parametrize("size", ["4 6 4", "4 5 5", "3 6 5", "4 6 6", "8 6 5"])
    def test_another_shape(self, size: str, tmp_path: Path) -> None:
        for extension, key in (("mha", "DimSize"), ("nrrd", "sizes")):
            with pytest.raises(ValueError, match="it holds 240 bytes of voxels, its header promises"):
                read(write(tmp_path, extension, {key: size}))

    def test_compressed_data_without_their_size(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="CompressedData, but no CompressedDataSize"):
            read(write(tmp_path, "mha", {"CompressedData": "True"}, zlib.compress(RAW)))


@pytest.mark.parametrize(("unit", "factor"), [("um", 0.001), ("mm", 1), ("cm", 10), ("m", 1000), ("Micron", 0.001)])
@pytest.mark.parametrize(
    ("extension", "changes"),
    [
        ("mha", {"DistanceUnits": "{}"}),
        ("nrrd", {"space units": '"{0}" "{0}" "{0}"'}),
        ("nrrd", {"units": '"{0}" "{0}" "{0}"', **NO_SPACE, "spacings": "1.5 2 8"}),
    ],
)
def test_lengths_are_in_millimeters_whatever_their_unit(
    extension: str, changes: dict[str, Any], unit: str, factor: float, tmp_path: Path
) -> None:
    said = {key: value and value.format(unit) for key, value in changes.items()}
    affine = read(write(tmp_path, extension, said))[1]
    np.testing.assert_allclose(affine[:3, :3], AFFINE[:3, :3] * factor)
    if "spacings" not in changes:
        np.testing.assert_allclose(affine[:3, 3], AFFINE[:3, 3] * factor)


@pytest.mark.parametrize(
    ("extension", "changes"),
    [
        ("mha", {"DistanceUnits": "inch"}),
        ("nrrd", {"space units": '"furlong" "furlong" "furlong"'}),
        ("nrrd", {"space units": '"mm" "mm" "cm"'}),
    ],
)
def test_a_unit_that_is_none_is_refused(extension: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"its unit of length is .*, expected um, mm, cm or m, the same"):
        read(write(tmp_path, extension, changes))


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, None), (0.5, 3.25), (None, -1000), (-1, 0)])
def test_slope_and_offset_of_metaimage_are_applied(
    slope: float | None, intercept: float | None, tmp_path: Path
) -> None:
    said = {"ElementToIntensityFunctionSlope": slope, "ElementToIntensityFunctionOffset": intercept}
    path = write(tmp_path, "mha", {key: None if value is None else str(value) for key, value in said.items()})
    expected = VOXELS.T.astype(float) * (1 if slope is None else slope) + (intercept or 0)
    np.testing.assert_allclose(read(path)[0], expected)
    np.testing.assert_allclose(LoadImage(reader=VolumeReader())(path), expected)


@pytest.mark.parametrize("changes", [{"old min": "-1024"}, {"old max": "3071"}, {"old min": "0", "oldmax": "1"}])
def test_quantized_values_are_refused(changes: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its values were quantized"):
        read(write(tmp_path, "nrrd", changes))


DISTANCE, DIRECTIONS, ORIGIN = "the distance of its voxels", "the directions of its axes", "where its first voxel lies"


@pytest.mark.parametrize(
    ("extension", "changes", "missing", "diagonal"),
    [
        ("mha", {"ElementSpacing": None}, [DISTANCE], (-1, -1, 1)),
        ("mha", {"TransformMatrix": None}, [DIRECTIONS], (-1.5, -2, 8)),
        ("mha", {"TransformMatrix": None, "AnatomicalOrientation": "RAI"}, [DIRECTIONS], (-1.5, -2, 8)),
        ("mha", {"TransformMatrix": None, "AnatomicalOrientation": "???"}, [DIRECTIONS], (-1.5, -2, 8)),
        ("mha", {"Offset": None}, [ORIGIN], (-1.5, -2, 8)),
        ("mha", NO_PLACE, [DISTANCE, DIRECTIONS, ORIGIN], (-1, -1, 1)),
        ("nrrd", NO_SPACE, [DISTANCE, DIRECTIONS, ORIGIN], (-1, -1, 1)),
        ("nrrd", {**NO_SPACE, "spacings": "1.5 2 8"}, [DIRECTIONS, ORIGIN], (-1.5, -2, 8)),
        ("nrrd", {**NO_SPACE, "spacings": "1.5 2 8", "axis mins": "0 0 0"}, [DIRECTIONS], (-1.5, -2, 8)),
        ("nrrd", {"space origin": None}, [ORIGIN], (-1.5, -2, 8)),
    ],
)
def test_what_is_not_said_is_taken_with_a_word(
    extension: str,
    changes: dict[str, Any],
    missing: list[str],
    diagonal: tuple[float, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write(tmp_path, extension, changes)
    (text,) = warnings_of(path, caplog)
    assert text.startswith("says nothing of ")
    assert [what in text for what in (DISTANCE, DIRECTIONS, ORIGIN)] == [
        what in missing for what in (DISTANCE, DIRECTIONS, ORIGIN)
    ]
    assert text.count("taken: ") == len(missing)
    _, affine, meta = read(path)
    np.testing.assert_allclose(np.diag(affine)[:3], diagonal)
    assert VolumeAxes.of(meta).is_stated == (DIRECTIONS not in missing)


def test_a_nrrd_file_of_a_nameless_space_is_taken_as_lps_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scan.nrrd"
    fields = {"space dimension": "3", **{key: value for key, value in NRRD.items() if key != "space"}}
    path.write_bytes(("NRRD0005\n" + "".join(f"{k}: {v}\n" for k, v in fields.items()) + "\n").encode() + RAW)
    assert warnings_of(path, caplog) == [f"says nothing of {DIRECTIONS}, taken: to the left, the back and the head"]


@pytest.mark.parametrize(
    ("extension", "changes", "message"),
    [
        ("mha", {"ElementSpacing": "nan 2 8"}, "ElementSpacing is 'nan 2 8', expected 3 finite numbers"),
        ("mha", {"ElementSpacing": "1,5 2,0 8,0"}, "expected 3 finite numbers"),
        ("mha", {"ElementSpacing": "1.5 2"}, "expected 3 finite numbers"),
        ("mha", {"ElementSpacing": "1.5 0 8"}, "expected numbers above 0"),
        ("mha", {"ElementSpacing": "-1.5 2 8"}, "expected numbers above 0"),
        ("mha", {"Offset": "nan 0 0"}, "Offset is 'nan 0 0', expected 3 finite numbers"),
        ("mha", {"Offset": "0 0 inf"}, "expected 3 finite numbers"),
        ("mha", {"Offset": ""}, "expected 3 finite numbers"),
        ("mha", {"Position": "0 0 0"}, "its header contradicts itself"),
        ("mha", {"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}, "expected 9 finite numbers"),
        ("mha", {"TransformMatrix": "1 0 0 1"}, "expected 9 finite numbers"),
        ("mha", {"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, "not of length 1"),
        ("mha", {"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "not of length 1"),
        ("mha", {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "cannot be read"),
        ("mha", {"TransformMatrix": None, "AnatomicalOrientation": "RAS"}, "there is no TransformMatrix"),
        ("mha", {"elementspacing": "1 1 1"}, "the key elementspacing, which is spelled ElementSpacing"),
        ("mha", {"ElementSpacing": "1.5 2 8\nElementSpacing = 3 3 3"}, "the key ElementSpacing twice"),
        ("mha", {"Comment": "a\nnothing of the kind"}, "the line 'nothing of the kind', expected a key"),
        ("mha", {"DimSize": "4 6 5 1"}, "DimSize is '4 6 5 1', expected 3"),
        ("mha", {"ElementToIntensityFunctionSlope": "0"}, "Slope is 0"),
        ("mha", {"ElementToIntensityFunctionSlope": "nan"}, "Slope is 'nan', expected 1 finite number"),
        ("mha", {"ElementToIntensityFunctionOffset": "a"}, "Offset is 'a', expected 1 finite number"),
        ("nrrd", {"space": "scanner-xyz"}, "its space is scanner-xyz, which does not say how the patient lies"),
        ("nrrd", {"space": "3D-right-handed"}, "does not say how the patient lies"),
        ("nrrd", {"space": "3D-left-handed"}, "does not say how the patient lies"),
        ("nrrd", {"space": "nowhere"}, "does not say how the patient lies"),
        ("nrrd", {"space directions": "(1.5,0,0) (0,2,0) none"}, "expected finite ones .* of 3 axes"),
        ("nrrd", {"space directions": "(1.5,0,0) (0,2,0) (0,nan,8)"}, "expected finite ones .* of 3 axes"),
        ("nrrd", {**NO_SPACE, "spacings": "1.5 2 nan"}, "its spacings are 1.5 2 nan, expected finite ones"),
        ("nrrd", {**NO_SPACE, "spacings": "1.5 -2 8"}, "its spacings are 1.5 -2 8, expected finite ones"),
        ("nrrd", {"space origin": "(nan,nan,nan)"}, "its space origin is .*, expected finite numbers"),
        ("nrrd", {"encoding": "zrl"}, "its encoding is zrl, expected raw"),
    ],
)
def test_what_places_the_voxels_nowhere_is_refused(
    extension: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(write(tmp_path, extension, changes))
    assert f"scan.{extension} cannot be read" in str(error.value)


def test_axes_that_contradict_their_letters_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (text,) = warnings_of(write(tmp_path, "mha", {"AnatomicalOrientation": "RAS"}), caplog)
    assert "its axes run to LPS by its TransformMatrix, which is taken, and its AnatomicalOrientation is RAS" in text


DATA_FILE = {"mhd": "ElementDataFile", "nrrd": "data file"}


def write_detached(folder: Path, extension: str, value: str, rest: str = "") -> Path:
    return write(folder, extension, {DATA_FILE[extension]: value}, rest.encode())


@pytest.mark.parametrize("extension", ["mhd", "nrrd"])
class TestDataFiles:
    @pytest.mark.parametrize("name", ["voxels.raw", "with a blank.raw", "LOCALE.raw"])
    def test_one_beside_the_header(self, name: str, extension: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(RAW)
        np.testing.assert_array_equal(read(write_detached(tmp_path, extension, name))[0], VOXELS.T)

    @pytest.mark.parametrize("is_pattern", [True, False])
    def test_one_a_slice(self, is_pattern: bool, extension: str, tmp_path: Path) -> None:
        for index in range(5):
            (tmp_path / f"slice{index + 1:02d}.raw").write_bytes(VOXELS[index].tobytes())
        rest = "".join(f"slice{index + 1:02d}.raw\n" for index in range(5))
        value, rest = ("slice%02d.raw 1 5 1", "") if is_pattern else ("LIST", rest)
        path = write_detached(tmp_path, extension, value, rest)
        np.testing.assert_array_equal(read(path)[0], VOXELS.T)
        (tmp_path / "slice03.raw").write_bytes(b"short")
        with pytest.raises(ValueError, match="it holds 5 bytes of voxels, its header promises 48"):
            read(path)
        (tmp_path / "slice03.raw").unlink()
        with pytest.raises(ValueError, match=r"its data file slice03\.raw is not there"):
            read(path)

    @pytest.mark.parametrize("place", ["/etc/passwd", "../voxels.raw", "sub/voxels.raw", "..", "sub\\voxels.raw", "."])
    @pytest.mark.parametrize("is_list", [True, False])
    def test_elsewhere_is_refused(self, is_list: bool, place: str, extension: str, tmp_path: Path) -> None:
        (tmp_path / "sub/sub").mkdir(parents=True)
        for folder in ("", "sub", "sub/sub"):
            (tmp_path / folder / "voxels.raw").write_bytes(RAW)
        value, rest = ("LIST", f"{place}\n" * 5) if is_list else (place, "")
        with pytest.raises(ValueError, match=r"its header names the data file .*, expected a file of its own folder"):
            read(write_detached(tmp_path / "sub", extension, value, rest))

    @pytest.mark.parametrize(
        "value", ["../slice%02d.raw 1 5 1", "/tmp/slice%d.raw 1 5 1", "s%s.raw 1 5 1", "s%n%d.raw 1 5 1", "s%d.raw 1 5"]
    )
    def test_patterns_of_another_kind_are_refused(self, value: str, extension: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"its header names the data files? "):
            read(write_detached(tmp_path, extension, value))

    def test_a_list_of_another_number_is_refused(self, extension: str, tmp_path: Path) -> None:
        (tmp_path / "slice.raw").write_bytes(SLICE)
        for count in (0, 3, 4, 6, 7):
            with pytest.raises(ValueError, match=r"scan\.\w+ cannot be read"):
                read(write_detached(tmp_path, extension, "LIST", "slice.raw\n" * count))

    def test_that_is_too_long_or_not_there(self, extension: str, tmp_path: Path) -> None:
        path = write_detached(tmp_path, extension, "voxels.raw")
        with pytest.raises(ValueError, match=r"its data file voxels\.raw is not there; put it beside the header"):
            read(path)
        (tmp_path / "voxels.raw").write_bytes(RAW + SLICE)
        with pytest.raises(ValueError, match="it holds 288 bytes of voxels, its header promises 240"):
            read(path)
