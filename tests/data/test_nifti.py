# SPDX-License-Identifier: Apache-2.0
"""A segmentation lies where its image lies, in nibabel and in ITK, whatever the header of the image says."""

from __future__ import annotations

import gzip
import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged

from monai_sam2adapter.data import LabelScheme, VolumeReader
from monai_sam2adapter.data.nifti import nifti_header, nifti_place
from monai_sam2adapter.transforms import SaveSegmentationd

SHAPE = (4, 5, 3)
SPACING = np.array([1.2, 0.7, 5.0])
VOXELS = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
SCHEME = LabelScheme(("a",), ((255, 0, 0),), ({},))


def affine_of(directions: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions * SPACING
    affine[:3, 3] = -31.5, 12.25, 801
    return affine


def rotation(x: float, y: float, z: float) -> np.ndarray:
    return nib.eulerangles.euler2mat(z, y, x)


def directions() -> Iterator[tuple[str, np.ndarray]]:
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(3)[:, order] * signs
            yield "".join(nib.aff2axcodes(affine_of(matrix))), matrix
    yield "oblique", rotation(0.1, 0.2, 0.3)
    yield "oblique-flipped", rotation(0.7, -0.4, 0.2) * [1, 1, -1]
    yield "tilted", np.array([[1, 0, 0], [0, 1, 0.342], [0, 0, 0.94]])
    yield "sheared", rotation(0.1, 0.2, 0.3) @ np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]])


DIRECTIONS = dict(directions())


def save_image(path: Path, affine: np.ndarray, qform_code: int, sform_code: int, kind: type = nib.Nifti1Image) -> Path:
    image = kind(VOXELS, affine)
    image.set_qform(affine, qform_code)
    other = affine.copy()
    if qform_code and sform_code > 1:  # as after a registration
        other[:3, 3] += 10, 20, 30
    image.set_sform(other, sform_code)
    nib.save(image, path)
    return path


def segment(path: Path) -> Path:
    """What the inference of the bundles begins and ends with."""
    item = LoadImaged("image", reader=VolumeReader(), ensure_channel_first=True)({"image": str(path), "case": "a"})
    item["pred"] = (item["image"] > 500).to(torch.uint8)
    item["uncertainty"] = item["image"] / 1000
    SaveSegmentationd(path.parent, SCHEME, save_uncertainty=True)(item)
    return path.parent / "a_seg.nii.gz"


def itk_places(path: Path) -> np.ndarray | None:
    """Centres of all corner voxels as ITK has them; None where it refuses the file."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    corners = itertools.product(*[(0, side - 1) for side in SHAPE])
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in corners])


@pytest.mark.parametrize("qform_code", range(5))
@pytest.mark.parametrize("sform_code", range(5))
def test_every_program_sees_the_result_on_its_image(qform_code: int, sform_code: int, tmp_path: Path) -> None:
    refused = []
    for name, matrix in DIRECTIONS.items():
        path = save_image(tmp_path / "image.nii", affine_of(matrix), qform_code, sform_code)
        result = segment(path)
        for file in (result, tmp_path / "a_uncertainty.nii.gz"):
            one, other = nib.load(path), nib.load(file)
            assert np.abs(one.affine - other.affine).max() < 0.01 / max(SHAPE), name
            assert [int(other.header[key]) for key in ("qform_code", "sform_code")] == [qform_code, sform_code]
            for form in ("get_qform", "get_sform"):
                np.testing.assert_allclose(getattr(one, form)(), getattr(other, form)(), atol=1e-4)
            np.testing.assert_allclose(other.header["pixdim"][:4], one.header["pixdim"][:4])
        expected, found = itk_places(path), itk_places(result)
        if expected is None:
            refused.append(name)
            assert found is None, name
        else:
            assert np.abs(found - expected).max() < 0.01, name
        np.testing.assert_array_equal(np.asarray(nib.load(result).dataobj), VOXELS > 500)
    # ITK takes no shear; where there is a qform it takes that, without it, or the file as Analyze
    assert refused == (["tilted", "sheared"] if sform_code and not qform_code else [])


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 0.001), ("meter", 1000), ("unknown", 1)])
def test_kinds_of_files_and_units(name: str, kind: type, unit: str, factor: float, tmp_path: Path) -> None:
    for file, form in ((name, kind), ("first.nii", nib.Nifti1Image)):  # ITK does not read the second
        image = form(VOXELS, affine_of(DIRECTIONS["LPS"]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / file)
    result = segment(tmp_path / name)
    assert nib.load(result).header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(itk_places(result), itk_places(tmp_path / "first.nii"), rtol=1e-6)
    read = VolumeReader()
    _, meta = read.get_data(read.read(str(tmp_path / name)))
    np.testing.assert_allclose(nib.affines.voxel_sizes(meta["affine"]), SPACING * factor, rtol=1e-6)
    np.testing.assert_allclose(sitk.ReadImage(str(result)).GetSpacing(), SPACING * factor, rtol=1e-6)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_images_of_other_formats_get_a_header_that_every_program_takes(name: str, tmp_path: Path) -> None:
    affine = affine_of(DIRECTIONS[name])
    header = nifti_header(affine, tmp_path / "image.mha")
    nib.save(nib.Nifti1Image(VOXELS, None, header), tmp_path / "a.nii")
    saved = nib.load(tmp_path / "a.nii")
    np.testing.assert_allclose(saved.affine, affine, atol=1e-3)
    has_shear = name in ("tilted", "sheared")
    assert [int(saved.header[key]) for key in ("qform_code", "sform_code")] == [int(not has_shear), 1]
    places = itk_places(tmp_path / "a.nii")
    if has_shear:
        assert places is None
    else:
        corners = list(itertools.product(*[(0, side - 1) for side in SHAPE]))
        np.testing.assert_allclose(places * [-1, -1, 1], nib.affines.apply_affine(affine, corners), atol=0.01)


def test_a_volume_that_was_moved_is_not_put_where_its_file_was(tmp_path: Path) -> None:
    path = save_image(tmp_path / "image.nii", affine_of(DIRECTIONS["RAS"]), 1, 1)
    moved = affine_of(DIRECTIONS["LPS"])
    labels = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.from_numpy(moved), meta={"filename_or_obj": str(path)})
    SaveSegmentationd(tmp_path, SCHEME)({"pred": labels, "case": "a"})
    np.testing.assert_allclose(nib.load(tmp_path / "a_seg.nii.gz").affine, moved, atol=1e-4)


# of NIfTI-1 and NIfTI-2: where a field begins, and its type
FIELDS = {
    "vox_offset": ((108, "<f4"), (168, "<i8")),
    "datatype": ((70, "<i2"), (12, "<i2")),
    "bitpix": ((72, "<i2"), (14, "<i2")),
    "qform_code": ((252, "<i2"), (344, "<i4")),
    "sform_code": ((254, "<i2"), (348, "<i4")),
    "xyzt_units": ((123, "u1"), (500, "<i4")),
    "dim": ((40, "<i2"), (16, "<i8")),
    "pixdim": ((80, "<f4"), (112, "<f8")),
}
KINDS = [nib.Nifti1Image, nib.Nifti2Image]


def save_with(path: Path, kind: type, codes: tuple[int, int] = (1, 1), behind: bytes = b"", **fields: Any) -> Path:
    """A sound file with other bytes in its header, packed by its name."""
    save_image(path.with_name("sound.nii"), affine_of(DIRECTIONS["RAS"]), *codes, kind)
    content = bytearray(path.with_name("sound.nii").read_bytes())
    path.with_name("sound.nii").unlink()
    for name, value in fields.items():
        start, form = FIELDS[name][KINDS.index(kind)]
        stored = np.array(value, form).tobytes()
        content[start : start + len(stored)] = stored
    content += behind
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
class TestHeadersThatAreWrong:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"vox_offset": 0}, "a header with vox_offset 0, inside of the header; expected at least"),
            ({"vox_offset": 348}, "vox.offset"),
            ({"vox_offset": -5}, "vox.offset"),
            ({"vox_offset": 10**6}, "it holds 0 bytes of voxels, its header promises 120"),
            ({"datatype": 2}, r"bitpix 16, but uint8 voxels \(datatype\) of 8 bits"),
            ({"datatype": 8}, "bitpix 16, but int32 voxels"),
            ({"datatype": 16}, "bitpix 16, but float32 voxels"),
            ({"datatype": 128}, "bitpix 16, but RGB voxels"),
            ({"bitpix": 32}, "bitpix 32, but int16 voxels"),
            (
                {"datatype": 2, "bitpix": 8},
                "it holds 120 bytes of voxels, its header promises 60: slices would be lost",
            ),
            ({"datatype": 8, "bitpix": 32}, "it holds 120 bytes of voxels, its header promises 240; get it again"),
            ({"datatype": 2, "bitpix": 0}, "it holds 120 bytes of voxels, its header promises 60"),
            ({"dim": [3, 4, 5, 2]}, "it holds 120 bytes of voxels, its header promises 80: slices would be lost"),
            ({"dim": [2, 4, 5, 3]}, "it holds 120 bytes of voxels, its header promises 40"),
            ({"dim": [3, 4, 5, 4]}, "it holds 120 bytes of voxels, its header promises 160"),
            ({"dim": [3, 3, 5, 3]}, "it holds 120 bytes of voxels, its header promises 90"),
            ({"dim": [3, 4, -5, 3]}, "dim .*, expected no number below 0"),
            ({"sform_code": 99}, "sform_code 99, expected 0 to 5"),
            ({"qform_code": -1}, "qform_code -1, expected 0 to 5"),
            ({"qform_code": 6, "sform_code": 0}, "qform_code 6, expected 0 to 5"),
            *[({"xyzt_units": unit}, f"whose unit of length, {unit % 8}, is none") for unit in (4, 5, 6, 7, 15)],
            ({"behind": bytes(40)}, "it holds 160 bytes of voxels, its header promises 120"),
        ],
    )
    def test_are_refused(self, fields: dict[str, Any], message: str, kind: type, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=message) as error:
            VolumeReader().get_data((str(save_with(tmp_path / name, kind, **fields)),))
        assert str(error.value).startswith(f"{tmp_path / name} cannot be read")

    def test_a_few_bytes_behind_the_voxels_are_named(
        self, kind: type, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = save_with(tmp_path / name, kind, behind=b"\n" * 39)
        np.testing.assert_array_equal(VolumeReader().get_data((str(path),))[0], VOXELS)
        assert f"{path} has 39 bytes behind its voxels, which are not read" in caplog.messages

    @pytest.mark.parametrize("fields", [{"xyzt_units": 2 + 56}, {"bitpix": 0}, {"pixdim": [1.2, 0.7, 5]}, {}])
    def test_not_what_says_nothing_of_place_and_voxels(
        self, fields: dict[str, Any], kind: type, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = save_with(tmp_path / name, kind, **fields)
        array, meta = VolumeReader().get_data((str(path),))
        np.testing.assert_array_equal(array, VOXELS)
        np.testing.assert_allclose(meta["affine"], affine_of(DIRECTIONS["RAS"]), rtol=1e-6)
        assert not [text for text in caplog.messages if str(path) in text]
        segment(path)

    @pytest.mark.parametrize("codes", [(1, 0), (0, 0)])
    @pytest.mark.parametrize(
        ("pixdim", "message"),
        [
            ([0, 0.7, 5], r"says nothing of the distance of its voxels along some axis .*; taken: 1 mm"),
            ([0, 0, 0], r"says nothing of the distance of its voxels along some axis .*; taken: 1 mm"),
            ([-1.2, 0.7, 5], r"has negative distances of its voxels .*, which are taken without the sign"),
        ],
    )
    def test_distances_that_are_made_up_are_named(
        self,
        codes: tuple[int, int],
        pixdim: list[float],
        message: str,
        kind: type,
        name: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        path = save_with(tmp_path / name, kind, codes, pixdim=pixdim)
        _, meta = VolumeReader().get_data((str(path),))
        expected = [abs(side) or 1 for side in pixdim]
        np.testing.assert_allclose(nib.affines.voxel_sizes(meta["affine"]), expected, rtol=1e-6)
        assert any(re.fullmatch(f"{re.escape(str(path))} {message}.*", text) for text in caplog.messages)


class TestContradictions:
    @staticmethod
    def problem_of(image: nib.Nifti1Image) -> str:
        return nifti_place(image)[1]

    @pytest.mark.parametrize("codes", [(0, 1), (1, 1), (1, 2), (3, 4)])
    def test_sound_headers_have_none(self, codes: tuple[int, int], tmp_path: Path) -> None:
        for name, matrix in DIRECTIONS.items():
            if name not in ("tilted", "sheared"):
                image = nib.load(save_image(tmp_path / "a.nii", affine_of(matrix), *codes))
                assert self.problem_of(image) == "", name

    def test_no_code(self, tmp_path: Path) -> None:
        image = nib.load(save_image(tmp_path / "a.nii", affine_of(DIRECTIONS["RAS"]), 0, 0))
        assert "does not say how the patient lies" in self.problem_of(image)

    def test_pixdim(self) -> None:
        image = nib.Nifti1Image(VOXELS, affine_of(DIRECTIONS["RAS"]))
        image.header["pixdim"][1:4] = 2, 2, 2
        assert "voxels of 1.2 x 0.7 x 5 by its sform, which is taken, and of 2 x 2 x 2 by" in self.problem_of(image)
        np.testing.assert_allclose(nifti_place(image)[0], image.affine)

    def test_axes(self) -> None:
        image = nib.Nifti1Image(VOXELS, affine_of(DIRECTIONS["RAS"]))
        image.set_qform(affine_of(DIRECTIONS["LPS"]), 1)
        assert "its axes run to RAS by its sform, which is taken, and to LPS by its qform" in self.problem_of(image)

    @pytest.mark.parametrize("column", [[0, 0, 0], [np.nan, 0, 1], [1, 0, 0]])
    def test_no_place_at_all(self, column: list[float], tmp_path: Path) -> None:
        image = nib.Nifti1Image(VOXELS, np.eye(4))
        image.header["srow_z"][:3] = column
        image.header["sform_code"] = 1
        nib.save(nib.Nifti1Image(VOXELS, None, image.header), tmp_path / "a.nii")
        with pytest.raises(ValueError, match=r"a\.nii: its header has the affine .*, expected three directions"):
            nifti_place(nib.load(tmp_path / "a.nii"))

    def test_are_logged_once_a_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = save_image(tmp_path / "a.nii", affine_of(DIRECTIONS["RAS"]), 0, 0)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                LoadImaged("image", reader=VolumeReader())({"image": str(path)})
        assert [str(path) in record.message for record in caplog.records if "patient" in record.message] == [True]
