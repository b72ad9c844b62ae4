# SPDX-License-Identifier: Apache-2.0
"""TransUNet's arrays come out as the scans that they were made from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, LoadImage, Orientation

from monai_sam2adapter.data import TransUNetArrayReader, synapse_datalist

# TransUNet's label -> the challenge's
CHALLENGE = {0: 0, 1: 8, 2: 4, 3: 3, 4: 2, 5: 6, 6: 11, 7: 1, 8: 7}


def load(path: Any, key: str) -> Any:
    reader = [TransUNetArrayReader(key), "NibabelReader"]
    return LoadImage(reader=reader, ensure_channel_first=True)(path)


def write_slice(folder: Path, name: str = "slice.npz", **arrays: Any) -> Path:
    path = folder / name
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("part", ["val", "test"])
def test_slices_and_volumes_give_the_same_hounsfield_units_and_labels(transunet_dir: Path, part: str) -> None:
    (item,) = synapse_datalist(transunet_dir, part)
    image, label = load(item["image"], "image"), load(item["label"], "label")
    stored = [np.load(transunet_dir / "train_npz" / f"case0005_slice00{k}.npz") for k in range(2)]
    assert image.shape == label.shape == (1, 6, 4, 2)
    if part == "test":
        stored.reverse()
    for k in range(2):
        for x, y in np.ndindex(6, 4):
            assert abs(image[0, x, y, k] - (400 * stored[k]["image"][y, x] - 125)) <= 0.5
            assert label[0, x, y, k] == CHALLENGE[int(stored[k]["label"][y, x])]
    np.testing.assert_array_equal(np.diag(image.affine), [-1, -1, 1, 1])


def test_arrays_made_from_a_scan_are_read_as_that_scan(synapse_phantom_dir: Path, tmp_path: Path) -> None:
    (item,) = synapse_datalist(synapse_phantom_dir, "test")
    upright = Compose([LoadImage(image_only=True, ensure_channel_first=True), Orientation("LPS", labels=None)])
    image, label = (upright(item[key])[0].numpy() for key in ("image", "label"))
    coded = np.zeros_like(label)
    for transunet, challenge in CHALLENGE.items():
        coded[label == challenge] = transunet
    scaled = (np.clip(image, -125, 275) + 125) / 400
    paths = [
        write_slice(tmp_path, f"{k}.npz", image=scaled[..., k].T, label=coded[..., k].T) for k in range(image.shape[2])
    ]
    np.testing.assert_array_equal(load(paths, "image")[0], np.clip(image, -125, 275))
    np.testing.assert_array_equal(load(paths, "label")[0], np.where(np.isin(label, list(CHALLENGE.values())), label, 0))
    np.testing.assert_array_equal(Orientation("LPS", labels=None)(load(paths, "image")), load(paths, "image"))


def test_scans_are_left_to_the_other_reader(synapse_phantom_dir: Path) -> None:
    (item,) = synapse_datalist(synapse_phantom_dir, "test")
    reader = TransUNetArrayReader()
    assert not reader.verify_suffix(item["image"])
    with pytest.raises(ValueError, match=r"reads \.npz and \.h5 files, got .*img0001\.nii\.gz"):
        reader.read(item["image"])
    np.testing.assert_array_equal(load(item["image"], "image")[0], np.asarray(nib.load(item["image"]).dataobj))


GOOD = np.zeros((3, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("key", "arrays", "message"),
    [
        pytest.param("image", {"image": GOOD - 1000}, "values from -1000 to -1000, expected about 0 to 1", id="HU"),
        pytest.param("image", {"image": GOOD + 255}, "values from 255 to 255", id="8-bit"),
        pytest.param("label", {"label": GOOD + 13}, "has the labels 13; expected integers 0 to 8", id="13-organs"),
        pytest.param("label", {"label": GOOD + 0.5}, "has the labels 0.5", id="fraction"),
        pytest.param("label", {"label": GOOD * np.nan}, "has the labels nan", id="nan"),
        pytest.param("label", {"image": GOOD}, r"has no array 'label', only \['image'\]", id="no-label"),
        pytest.param("image", {"image": GOOD[0]}, r"'image' is float32 of shape \(4,\)", id="1D"),
        pytest.param("image", {"image": GOOD.astype(str)}, "'image' is <U", id="text"),
        pytest.param("image", {"image": np.array([None])}, "cannot be read .*allow_pickle", id="pickle"),
    ],
)
def test_arrays_of_another_kind_are_errors(tmp_path: Path, key: str, arrays: Any, message: str) -> None:
    path = write_slice(tmp_path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load(path, key)
    assert str(error.value).startswith(f"{path}: ")


def test_nan_is_passed_on_for_the_transforms_to_name(tmp_path: Path) -> None:
    path = write_slice(tmp_path, image=np.array([[0.5, np.nan]], dtype=np.float32))
    np.testing.assert_array_equal(load(path, "image")[0, :, 0, 0], [75, np.nan])


def test_slices_of_different_size_are_an_error(tmp_path: Path) -> None:
    paths = [write_slice(tmp_path, f"{k}.npz", image=np.zeros((3, 4 + k))) for k in range(2)]
    with pytest.raises(ValueError, match=r"0\.npz to 1\.npz differ in size: \(3, 4\), \(3, 5\)"):
        load(paths, "image")


@pytest.mark.parametrize("name", ["cut.npz", "cut.npy.h5"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=f"{path}: cannot be read"):
        load(path, "image")


def test_a_missing_file_and_a_missing_package_are_told_apart(
    transunet_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = transunet_dir / "test_vol_h5" / "case0001.npy.h5"
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"needs h5py: pip install 'monai-sam2adapter\[h5\]'"):
        load(volume, "image")
    volume.unlink()
    with pytest.raises(FileNotFoundError, match=f"no file {volume}"):
        load(volume, "image")


def test_a_misspelt_key_is_answered_with_the_names() -> None:
    with pytest.raises(ValueError, match="did you mean 'label'"):
        TransUNetArrayReader("lable")
