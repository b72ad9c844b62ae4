# SPDX-License-Identifier: Apache-2.0
"""A volume is turned to the same array, however its axes are stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import nibabel as nib
import numpy as np
import pytest

from monai_sam2adapter.data import VolumeAxes, choose_orientation
from monai_sam2adapter.data.orientation import unlike_the_rest

ARRAY = np.arange(2 * 3 * 4).reshape(2, 3, 4)
THICK, EVEN = (0.7, 0.8, 5.0), (1.1, 1.1, 1.1)
ROTATIONS = {
    "none": np.eye(3),
    "oblique": nib.eulerangles.euler2mat(0.1, 0.2, 0.3),
    "halfway": nib.eulerangles.euler2mat(np.pi / 4),
    "halfway of all": nib.eulerangles.euler2mat(np.pi / 4, np.pi / 4, np.pi / 4),
    "tilted": np.array([[1, 0, 0], [0, 1, 0.342], [0, 0, 0.94]]),
}


def affine_of(spacing: tuple[float, ...] = THICK, rotation: np.ndarray = ROTATIONS["none"]) -> np.ndarray:
    return nib.affines.from_matvec(rotation * spacing, [5, 6, 7])


def ways_to_store(affine: np.ndarray, is_stated: bool = True) -> Iterator[tuple[np.ndarray, VolumeAxes]]:
    """The same volume, in every order and direction of its axes."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            ornt = np.stack([order, flips], axis=1)
            stored = nib.apply_orientation(ARRAY, ornt)
            yield stored, VolumeAxes(affine @ nib.orientations.inv_ornt_aff(ornt, ARRAY.shape), is_stated)


def turned(array: np.ndarray, axes: VolumeAxes, axcodes: str, slices_by: str) -> tuple[np.ndarray, str]:
    ornt, note = axes.orient(axcodes, slices_by)
    return nib.apply_orientation(array, ornt), note


class TestStated:
    @pytest.mark.parametrize("rotation", ROTATIONS)
    @pytest.mark.parametrize("spacing", [THICK, EVEN])
    @pytest.mark.parametrize("slices_by", ["orientation", "both", "spacing"])
    @pytest.mark.parametrize("axcodes", ["LPS", "RAS", "ASL", "ILP"])
    def test_every_way_to_store_gives_one_array(
        self, rotation: str, spacing: tuple[float, ...], slices_by: str, axcodes: str
    ) -> None:
        # thick along what the training data have as slices
        along = next(axis for axis, pair in enumerate(("LR", "PA", "IS")) if axcodes[-1] in pair)
        sides = tuple(np.roll(spacing, along - 2))
        found = [turned(*stored, axcodes, slices_by) for stored in ways_to_store(affine_of(sides, ROTATIONS[rotation]))]
        assert len(found) == 48
        for array, note in found:
            np.testing.assert_array_equal(array, found[0][0])
            assert not note or "halfway" in rotation  # where the slices may be nearest to another axis
        if rotation == "none":
            ornt = nib.orientations.ornt_transform(
                nib.io_orientation(affine_of(sides)), nib.orientations.axcodes2ornt(axcodes)
            )
            np.testing.assert_array_equal(found[0][0], nib.apply_orientation(ARRAY, ornt))

    @pytest.mark.parametrize("slices_by", ["spacing", "both"])
    def test_oblique_slices_that_are_nearest_to_another_axis(self, slices_by: str) -> None:
        """A short axis of the heart, nearest to the left: its slices are cut only where the spacing tells them."""
        rotation = nib.eulerangles.euler2mat(0, 0.9, 0.1)
        found = [turned(*stored, "LPS", slices_by) for stored in ways_to_store(affine_of(THICK, rotation))]
        for array, note in found:
            np.testing.assert_array_equal(array, found[0][0])
            assert array.shape[2] == (4 if slices_by == "spacing" else 2)
            assert bool(note) == (slices_by == "both")

    def test_a_known_axis_of_slices(self) -> None:
        """DICOM, and slices of no larger distance than their pixels."""
        axes = VolumeAxes(affine_of(EVEN)[:, [2, 0, 1, 3]], slice_axis=2)
        assert turned(ARRAY, axes, "LPS", "spacing")[0].shape[2] == 4
        assert turned(ARRAY, axes, "LPS", "both")[0].shape[2] == 2  # by the orientation, as trained


class TestNotStated:
    @pytest.mark.parametrize("axcodes", ["LPS", "RAS", "ASL"])
    @pytest.mark.parametrize("slices_by", ["orientation", "both", "spacing"])
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_the_largest_spacing_tells(self, place: int, slices_by: str, axcodes: str) -> None:
        """Without codes in the header (the affine is that of Analyze), or with what numpy and ITK write by default."""
        stored = np.moveaxis(ARRAY, 2, place)
        spacing = np.insert(THICK[:2], place, THICK[2])
        last = turned(ARRAY, VolumeAxes(np.diag([-0.7, 0.8, 5, 1]), is_stated=False), axcodes, slices_by)
        found = turned(stored, VolumeAxes(np.diag([-1, 1, 1, 1] * np.append(spacing, 1)), False), axcodes, slices_by)
        np.testing.assert_array_equal(found[0], last[0])
        assert not found[1]

    @pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)], ids=["nibabel", "ITK"])
    @pytest.mark.parametrize("place", [0, 1])
    def test_axes_that_a_program_writes_by_default(self, place: int, signs: tuple[int, ...]) -> None:
        stored, spacing = np.moveaxis(ARRAY, 2, place), np.insert(THICK[:2], place, THICK[2])
        expected = turned(ARRAY, VolumeAxes(affine_of(THICK, np.diag(signs))), "LPS", "both")[0]
        axes = VolumeAxes(affine_of(tuple(spacing), np.diag(signs)))
        array, note = turned(stored, axes, "LPS", "both")
        np.testing.assert_array_equal(array, expected)
        assert f"has thick slices along its axis {place}" in note
        np.testing.assert_array_equal(turned(stored, axes, "LPS", "spacing")[0], expected)

    @pytest.mark.parametrize("spacing", [EVEN, (5, 5, 1), (1.02, 1, 1)])
    def test_where_nothing_tells_it_is_the_last_and_said(self, spacing: tuple[float, ...]) -> None:
        array, note = turned(ARRAY, VolumeAxes(affine_of(spacing), is_stated=False), "RAS", "both")
        np.testing.assert_array_equal(array, ARRAY)
        assert "does not say along which axis its slices lie" in note
        assert not turned(ARRAY, VolumeAxes(affine_of(spacing), False, slice_axis=2), "RAS", "both")[1]

    @pytest.mark.parametrize(
        ("meta", "is_stated"),
        [
            ({"qform_code": 0, "sform_code": 0}, False),
            ({"qform_code": 0, "sform_code": 2}, True),
            ({}, True),
            ({"affine": np.eye(4), "sform_code": 2}, False),
            ({"affine": np.diag([-1, -1, 1, 1])}, False),
        ],
    )
    def test_what_metadata_say(self, meta: dict, is_stated: bool) -> None:
        assert VolumeAxes.of({"affine": affine_of(), **meta}).is_stated == is_stated


class TestTrainingData:
    @pytest.mark.parametrize(
        ("volumes", "expected"),
        [
            ([(THICK, "LPS")], ("LPS", "both")),
            ([((5, 0.7, 0.8), "SLP")], ("LPS", "both")),
            ([((0.7, 5, 0.8), "RAS")], ("LSP", "both")),
            ([(EVEN, "RAS")], ("LPS", "orientation")),
            ([(EVEN, "SRA")], ("LSP", "orientation")),
            ([((1.2, 1, 1), "RAS")], ("PSL", "orientation")),
            ([(THICK, "LPS"), (EVEN, "LPS")], ("LPS", "both")),
            ([(THICK, "LPS"), (THICK, "LPS"), ((0.7, 5, 0.8), "LPS")], ("LPS", "spacing")),
            ([(THICK, "LPS")] * 19 + [((0.7, 5, 0.8), "LPS")], ("LPS", "both")),
            ([(THICK, None), ((5, 1, 1), None)], ("LPS", "both")),
            ([((5, 1, 1), None), (THICK, "RPI")], ("LPS", "both")),
        ],
    )
    def test_choice(self, volumes: list, expected: tuple[str, str]) -> None:
        axes = []
        for spacing, codes in volumes:
            directions = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes or "LAS"), (1, 1, 1))[:3, :3]
            axes.append(VolumeAxes(affine_of(spacing, np.linalg.inv(directions)), codes is not None))
            assert codes in (None, axes[-1].codes)
        assert choose_orientation(axes) == expected

    @pytest.mark.parametrize("axcodes", ["LP", "LPSS", "LRS", "lps", "", "ABC", -1])
    def test_no_axis_codes(self, axcodes: str) -> None:
        with pytest.raises(ValueError, match=r"expected three letters, one of L and R, one of A and P"):
            VolumeAxes(np.eye(4)).orient(axcodes)


def test_those_unlike_the_rest() -> None:
    volumes = {f"{number}.nii": VolumeAxes(affine_of()) for number in range(5)}
    assert unlike_the_rest(volumes) == {}
    volumes["turned"] = VolumeAxes(affine_of()[:, [2, 0, 1, 3]])
    volumes["silent"] = VolumeAxes(affine_of(), is_stated=False)
    volumes["even"] = VolumeAxes(affine_of(EVEN))
    volumes["thick"] = VolumeAxes(affine_of((0.7, 0.8, 20)))
    assert unlike_the_rest(volumes) == {
        "turned": "axes SRA, most have RAS",
        "silent": "axes that its header does not tell, most have RAS; thick slices along the axis 2, most have thick "
        "slices from feet to head",
        "even": "no thick slices, most have thick slices from feet to head; voxels of 1.1 x 1.1 x 1.1 mm along "
        "left-right, back-front, feet-head, most 0.7 x 0.8 x 5",
        "thick": "voxels of 0.7 x 0.8 x 20 mm along left-right, back-front, feet-head, most 0.7 x 0.8 x 5",
    }
