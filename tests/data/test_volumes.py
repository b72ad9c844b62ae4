# SPDX-License-Identifier: Apache-2.0
"""Finding volumes for inference."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_sam2adapter.data import find_volumes


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_every_extension_is_taken_as_a_file_and_in_a_folder(tmp_path: Path, extension: str) -> None:
    (path,) = touch(tmp_path, f"scan.v2{extension}")
    assert find_volumes(path) == find_volumes(tmp_path) == [{"image": str(path), "case": "scan_v2"}]


def test_a_folder_is_searched_without_masks_series_and_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.nii.gz", "b/x_gt.nii.gz", "a/y.mha", "a/y_seg.mha", "z_4d.nii", "._x.nii.gz", "notes.txt")
    assert [item["case"] for item in find_volumes(tmp_path)] == ["y", "x"]


def test_files_that_are_named_are_taken_whatever_they_are_called(tmp_path: Path) -> None:
    paths = touch(tmp_path, "x_gt.nii.gz", "z_4d.nii")
    assert [item["case"] for item in find_volumes(paths)] == ["x_gt", "z_4d"]


@pytest.mark.parametrize("form", ["paths", "strings", "dictionaries", "python", "json"])
def test_every_form_of_a_list_gives_the_same(tmp_path: Path, form: str) -> None:
    paths = touch(tmp_path, "b.nii.gz", "a.nii.gz")
    source = {
        "paths": paths,
        "strings": [str(path) for path in paths],
        "dictionaries": [{"image": path, "label": "none"} for path in paths],
        "python": str([str(path) for path in paths]),
        "json": "[" + ", ".join(f'"{path.as_posix()}"' for path in paths) + "]",
    }[form]
    assert find_volumes(source) == [
        {"image": str(tmp_path / "b.nii.gz"), "case": "b"},
        {"image": str(tmp_path / "a.nii.gz"), "case": "a"},
    ]


def test_equal_names_get_their_folder_and_equal_stems_their_extension(tmp_path: Path) -> None:
    touch(tmp_path, "one/x.nii.gz", "two/in/x.nii.gz", "two/y.nii", "two/y.mha", "z.nii")
    items = find_volumes(tmp_path)
    cases = {str(Path(item["image"]).relative_to(tmp_path)): item["case"] for item in items}
    assert cases == {
        "one/x.nii.gz": "one_x",
        "two/in/x.nii.gz": "two_in_x",
        "two/y.mha": "two_y_mha",
        "two/y.nii": "two_y_nii",
        "z.nii": "z",
    }


def test_given_case_names_are_kept(tmp_path: Path) -> None:
    first, second = touch(tmp_path, "one/x.nii", "two/x.nii")
    items = find_volumes([{"image": first, "case": "x"}, second])
    assert [item["case"] for item in items] == ["x", "two_x"]


@pytest.mark.parametrize(
    ("names", "source", "error", "message"),
    [
        pytest.param([], "", ValueError, "no volume in the folder .*expected files that end in .nii.gz", id="empty"),
        pytest.param(["a_gt.nii"], "", ValueError, r"\*_gt, \*_seg and \*_4d are left out", id="only-masks"),
        pytest.param([], "a.nii", FileNotFoundError, r"no file or folder .*a\.nii", id="missing"),
        pytest.param(["a.png"], "a.png", ValueError, r"cannot read .*a\.png: expected a file that ends in", id="kind"),
    ],
)
def test_a_source_without_volumes_is_an_error(
    tmp_path: Path, names: list[str], source: str, error: type[Exception], message: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(error, match=message):
        find_volumes(tmp_path / source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param([], r"no volume in \[\]", id="empty-list"),
        pytest.param("[a.nii.gz, b.nii.gz", "starts like a list but does not read as one", id="broken-list"),
        pytest.param([{"label": "a.nii"}], "no key 'image' in {'label': 'a.nii'}", id="no-image"),
        pytest.param([3], "cannot take 3 for a volume", id="number"),
    ],
)
def test_a_wrong_list_is_an_error(source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_volumes(source)  # type: ignore[arg-type]


def test_a_volume_named_twice_is_an_error(tmp_path: Path) -> None:
    (path,) = touch(tmp_path, "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii is there twice"):
        find_volumes([path, path])
