# SPDX-License-Identifier: Apache-2.0
"""Synthetic Synapse: layout, anatomy and Hounsfield units."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sam2adapter.data import SYNAPSE_CLASS_NAMES, AbdominalPhantom, synapse_datalist, write_synapse_phantom

ORGANS = SYNAPSE_CLASS_NAMES[1:]
PHANTOMS = [AbdominalPhantom((0, number)) for number in range(4)]


@pytest.fixture(scope="module")
def rendered() -> list[tuple[np.ndarray, np.ndarray]]:
    return [phantom.render() for phantom in PHANTOMS]


def places(phantom: AbdominalPhantom, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Middle of each organ in mm: to the right, to the front, to the head."""
    return {
        name: nib.affines.apply_affine(phantom.affine, np.argwhere(labels == k).mean(axis=0))
        for k, name in enumerate(SYNAPSE_CLASS_NAMES)
        if (labels == k).any()
    }


def test_parts_have_as_many_patients_as_asked_for(tmp_path: Path) -> None:
    assert write_synapse_phantom(tmp_path, num_train=1, num_val=0, num_test=1, progress=False)
    assert [item["case"] for item in synapse_datalist(tmp_path, "train")] == ["case0006"]
    assert [item["case"] for item in synapse_datalist(tmp_path, "test")] == ["case0001"]
    with pytest.raises(ValueError, match="in the part 'val'"):
        synapse_datalist(tmp_path, "val")


def test_files_hold_what_the_phantom_of_seed_and_number_renders(synapse_phantom_dir: Path) -> None:
    (item,) = synapse_datalist(synapse_phantom_dir, "train")
    phantom = AbdominalPhantom((0, 6))
    for key, expected, dtype in zip(("image", "label"), phantom.render(), (np.int16, np.uint8), strict=True):
        volume = nib.load(item[key])
        assert volume.get_data_dtype() == dtype
        assert volume.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_array_equal(np.asarray(volume.dataobj), expected)
        np.testing.assert_allclose(volume.affine, phantom.affine, atol=1e-4)
        np.testing.assert_allclose(volume.header.get_zooms(), phantom.spacing, rtol=1e-6)


def test_all_organs_are_where_they_belong_in_every_orientation(rendered: list) -> None:
    codes = set()
    for phantom, (image, labels) in zip(PHANTOMS, rendered, strict=True):
        assert image.shape == labels.shape == phantom.shape
        assert set(np.unique(labels)) >= set(range(14)) - {4}
        place = places(phantom, labels)
        right_to_left = ["liver", "right kidney", "inferior vena cava", "aorta", "left kidney", "spleen"]
        x = [place[organ][0] for organ in right_to_left]
        assert x[0] > x[2] > x[3] > x[4] > x[5]
        assert x[1] > x[2]
        assert place["right adrenal gland"][0] > place["left adrenal gland"][0]
        for side in ("right", "left"):
            assert place[f"{side} adrenal gland"][2] > place[f"{side} kidney"][2]
            assert place[f"{side} kidney"][1] < place["pancreas"][1]
        assert place["esophagus"][2] > place["stomach"][2] > place["pancreas"][2]
        codes.add("".join(nib.aff2axcodes(phantom.affine)))
    assert codes == {"LPS", "LAS", "RAS"}


def test_volumes_and_hounsfield_units_are_those_of_organs(rendered: list) -> None:
    milliliters: dict[str, list[float]] = {organ: [] for organ in ORGANS}
    for phantom, (image, labels) in zip(PHANTOMS, rendered, strict=True):
        assert image.dtype == np.int16
        assert labels.dtype == np.uint8
        assert -1024 <= image.min() < -950
        assert 250 < image.max() < 2000
        for k, organ in enumerate(ORGANS, start=1):
            milliliters[organ].append((labels == k).sum() * np.prod(phantom.spacing) / 1000)
        for organ in ("liver", "spleen", "pancreas", "aorta", "left kidney"):
            assert 40 < np.median(image[labels == SYNAPSE_CLASS_NAMES.index(organ)]) < 220
    mean = {organ: np.mean(volumes) for organ, volumes in milliliters.items()}
    assert 900 < mean["liver"] < 2200
    assert 100 < mean["spleen"] < 350
    assert 90 < mean["right kidney"] < 250
    assert 30 < mean["pancreas"] < 120
    assert 1 < mean["left adrenal gland"] < 8


def test_patients_vary_and_no_threshold_finds_an_organ(rendered: list) -> None:
    assert (
        len({phantom.shape for phantom in PHANTOMS}) == len({phantom.spacing for phantom in PHANTOMS}) == len(PHANTOMS)
    )
    for phantom, (image, labels) in zip(PHANTOMS, rendered, strict=True):
        assert all(90 <= side <= 160 for side in phantom.shape[:2])
        assert 24 <= phantom.shape[2] <= 40
        assert phantom.spacing[2] > 1.3 * phantom.spacing[0]
        spleen = image[labels == 1]
        low, high = np.quantile(spleen, [0.05, 0.95])
        assert ((image > low) & (image < high) & (labels != 1)).sum() > spleen.size


def test_rendering_again_gives_the_same(rendered: list) -> None:
    for first, again in zip(rendered[0], PHANTOMS[0].render(), strict=True):
        np.testing.assert_array_equal(first, again)
