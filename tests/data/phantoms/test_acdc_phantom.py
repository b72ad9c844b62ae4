# SPDX-License-Identifier: Apache-2.0
"""Synthetic ACDC: layout, geometry, hearts that beat, variety."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sam2adapter.data import CardiacPhantom, acdc_datalist, write_acdc_phantom

GROUPS = ["NOR", "DCM", "HCM", "MINF", "RV"]


def test_parts_have_as_many_patients_as_asked_for_spread_over_groups(tmp_path: Path) -> None:
    write_acdc_phantom(tmp_path, num_train=6, num_val=2, num_test=3, progress=False)
    items = {part: acdc_datalist(tmp_path, part) for part in ("train", "val", "test")}
    assert {part: len({item["patient"] for item in of}) for part, of in items.items()} == {
        "train": 6,
        "val": 2,
        "test": 3,
    }
    assert {item["group"] for item in items["train"]} == set(GROUPS)
    assert {item["phase"] for of in items.values() for item in of} == {"ED", "ES"}


def test_files_have_the_types_and_the_geometry_of_scans(phantom_dir: Path) -> None:
    for part in ("train", "val", "test"):
        for item in acdc_datalist(phantom_dir, part):
            image, label = nib.load(item["image"]), nib.load(item["label"])
            assert image.get_data_dtype() in (np.int16, np.uint16)
            assert label.get_data_dtype() == np.uint8
            np.testing.assert_array_equal(image.affine, label.affine)
            assert image.shape == label.shape
            assert image.header.get_xyzt_units()[0] == "mm"
            directions = image.affine[:3, :3] / image.header.get_zooms()
            np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-5)
            assert np.abs(directions).max() < 0.999  # oblique


@pytest.mark.parametrize("group", GROUPS)
def test_hearts_beat_and_taper(group: str) -> None:
    for seed in range(3):
        phantom = CardiacPhantom((0, seed), group)
        voxels = {}
        for phase in ("ED", "ES"):
            image, labels = phantom.render(phase)
            assert image.shape == labels.shape == phantom.shape
            assert image.dtype == phantom.dtype
            assert set(np.unique(labels)) == {0, 1, 2, 3}
            areas = np.stack([(labels == k).sum(axis=(0, 1)) for k in range(4)])
            voxels[phase] = areas.sum(axis=1)
            middle = areas[3] > 0
            assert areas[3][middle][0] > areas[3][middle][-1]
            # the ring closes around the cavity: no cavity voxel touches background or the right ventricle
            cavity = np.pad(labels == 3, ((1, 1), (1, 1), (0, 0)))
            grown = cavity[2:, 1:-1] | cavity[:-2, 1:-1] | cavity[1:-1, 2:] | cavity[1:-1, :-2]
            assert set(np.unique(labels[grown])) <= {2, 3}
        assert voxels["ES"][1] < voxels["ED"][1]
        assert voxels["ES"][3] < voxels["ED"][3]


def test_rendering_again_gives_the_same_frame_and_the_frames_share_the_chest() -> None:
    phantom = CardiacPhantom((3, 4))
    first, again, other = phantom.render("ED")[0], phantom.render("ED")[0], phantom.render("ES")[0]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] > 0.8


def test_patients_vary_and_their_tissues_overlap() -> None:
    phantoms = [CardiacPhantom((0, number)) for number in range(12)]
    assert len({phantom.shape for phantom in phantoms}) > 8
    assert len({phantom.spacing for phantom in phantoms}) == 12
    assert any(phantom.shape[0] != phantom.shape[1] for phantom in phantoms)
    assert {phantom.dtype.name for phantom in phantoms} == {"int16", "uint16"}
    for phantom in phantoms:
        assert all(96 <= side <= 160 for side in phantom.shape[:2])
        assert 6 <= phantom.shape[2] <= 10
        assert 1.2 <= phantom.spacing[0] <= 1.9
        assert 5 <= phantom.spacing[2] <= 10
        image, labels = phantom.render("ED")
        # no threshold finds the cavity: much of the background is as bright
        bright = (labels == 0) & (image > np.quantile(image[labels == 3], 0.25))
        assert bright.sum() > 0.2 * (labels == 3).sum()
    # some slices at the ends hold no heart, some patients have it everywhere
    empty = [int((phantom.render("ED")[1].max(axis=(0, 1)) == 0).sum()) for phantom in phantoms]
    assert min(empty) == 0 < max(empty)


def test_misspelt_options_are_answered_with_the_names() -> None:
    with pytest.raises(ValueError, match="'HCM'"):
        CardiacPhantom((0, 1), "HMC")
    with pytest.raises(ValueError, match="'ED'"):
        CardiacPhantom((0, 1)).render("EDD")
