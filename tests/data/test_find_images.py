# SPDX-License-Identifier: Apache-2.0
"""Finding images for inference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.data import find_images


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def cases(items: list[dict[str, str]]) -> list[str]:
    return [item["case"] for item in items]


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_every_extension_is_taken_as_a_file_and_in_a_folder(tmp_path: Path, extension: str) -> None:
    (path,) = touch(tmp_path, f"scan.v2{extension}")
    assert find_images(path) == find_images(tmp_path) == [{"image": str(path), "case": "scan_v2"}]


def test_a_folder_is_searched_without_masks_series_hidden_files_and_results(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.nii.gz", "b/x_gt.nii.gz", "a/y.mha", "a/y_seg.mha", "z_4d.nii", "._x.nii.gz", "notes.txt")
    touch(tmp_path, "label0001.nii.gz", "y_probabilities.nii.gz", "y_uncertainty.nii.gz", ".hidden/z.nii")
    assert cases(find_images(tmp_path)) == ["y", "x"]


def test_pictures_are_searched_without_masks_and_overlays(tmp_path: Path) -> None:
    touch(
        tmp_path, "images/a.JPG", "images/b.png", "masks/a.jpg", "c_seg.png", "overlays/a.png", "d-labels.tif", "e.nii"
    )
    assert cases(find_images(tmp_path, "picture")) == ["a", "b"]


def test_each_page_of_a_tiff_is_a_picture(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((3, 4), page, np.uint8)) for page in range(11)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    items = find_images(tmp_path, "picture")
    assert items[0] == {"image": str(tmp_path / "one.tif"), "case": "one"}
    assert items[4] == {"image": f"{tmp_path / 'stack.tif'}#page=3", "case": "stack_page03"}
    assert len(items) == 12


def test_a_broken_tiff_is_left_for_the_reader_to_complain_of(tmp_path: Path) -> None:
    (path,) = touch(tmp_path, "broken.tif")
    assert find_images(tmp_path, "picture") == [{"image": str(path), "case": "broken"}]


class TestDicom:
    STACK = ((0, 0, 0), (0, 0, 2), (0, 0, 4))

    def test_a_folder_in_a_tree_is_one_case(self, write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
        write_dicom(tmp_path / "patient 7" / "ct", self.STACK)
        touch(tmp_path, "x.nii.gz")
        folder = str(tmp_path / "patient 7" / "ct")
        scan = {"image": str(tmp_path / "x.nii.gz"), "case": "x"}
        assert find_images(tmp_path) == [{"image": folder, "case": "ct"}, scan]
        assert find_images(folder) == [{"image": folder, "case": "ct"}]

    def test_series_of_a_folder_are_named_by_number_and_description(
        self, write_dicom: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        for number, text, uid in ((2, "Body 3.0/soft", "1.2"), (10, "Lung", "1.3"), (10, "Lung", "1.4")):
            tags = {"SeriesNumber": number, "SeriesDescription": text, "SeriesInstanceUID": uid}
            write_dicom(tmp_path / "ct", self.STACK, prefix=uid, **tags)
        folder = tmp_path / "ct"
        items = find_images(tmp_path)
        assert items[0] == {"image": f"{folder}#series=1.2", "case": "ct_2_Body_3_0_soft"}
        assert cases(items[1:]) == ["ct_10_Lung_1_3", "ct_10_Lung_1_4"]
        assert find_images(items[2]["image"]) == [{"image": f"{folder}#series=1.4", "case": "ct_10_Lung"}]

    def test_equal_folders_of_patients_are_told_apart(
        self, write_dicom: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        for patient in ("a", "b"):
            write_dicom(tmp_path / patient / "ct", self.STACK)
        assert cases(find_images(tmp_path)) == ["a_ct", "b_ct"]

    def test_files_are_taken_one_by_one(self, write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, self.STACK)
        assert find_images(paths[:2]) == [{"image": str(path), "case": path.name} for path in paths[:2]]


class TestDatalist:
    def write(self, folder: Path, content: object) -> Path:
        path = folder / "lists" / "datalist.json"
        path.parent.mkdir()
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    @pytest.mark.parametrize("key", [None, "testing"])
    @pytest.mark.parametrize("entry", ["../scans/a.nii.gz", {"image": "../scans/a.nii.gz", "label": "no"}])
    def test_paths_start_at_its_folder(self, entry: object, key: str | None, tmp_path: Path) -> None:
        touch(tmp_path, "scans/a.nii.gz")
        path = self.write(tmp_path, {"training": ["b.nii.gz"], "testing": [entry], "labels": {"0": "background"}})
        (item,) = find_images(path, datalist_key=key)
        assert item["case"] == "a"
        assert Path(item["image"]).resolve() == (tmp_path / "scans" / "a.nii.gz").resolve()

    def test_plain_lists_and_absolute_paths_are_taken(self, tmp_path: Path) -> None:
        (scan,) = touch(tmp_path, "a.nii")
        assert find_images(str(self.write(tmp_path, [str(scan)]))) == [{"image": str(scan), "case": "a"}]

    def test_the_only_list_is_taken_by_itself(self, tmp_path: Path) -> None:
        (scan,) = touch(tmp_path, "a.nii")
        assert cases(find_images(self.write(tmp_path, {"training": [str(scan)]}))) == ["a"]

    @pytest.mark.parametrize(
        ("content", "key", "message"),
        [
            ({"training": ["a"], "validation": ["b"]}, None, r"has the lists \['training', 'validation'\], got None"),
            ({"training": ["a"]}, "tests", "got 'tests'; name one of them"),
            ("text", None, "must hold a list or a dictionary of lists, got a str"),
            ([{"label": "a"}], None, "no key 'image'"),
        ],
        ids=["several", "misspelt", "text", "no-image"],
    )
    def test_others_are_refused(self, content: object, key: str | None, message: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=message):
            find_images(self.write(tmp_path, content), datalist_key=key)

    def test_what_is_no_json_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("[")
        with pytest.raises(ValueError, match=r"a\.json is no JSON"):
            find_images(tmp_path / "a.json")
        with pytest.raises(FileNotFoundError, match=r"b\.json"):
            find_images(tmp_path / "b.json")


def test_files_that_are_named_are_taken_whatever_they_are_called(tmp_path: Path) -> None:
    paths = touch(tmp_path, "x_gt.nii.gz", "z_4d.nii")
    assert [item["case"] for item in find_images(paths)] == ["x_gt", "z_4d"]


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
    assert find_images(source) == [
        {"image": str(tmp_path / "b.nii.gz"), "case": "b"},
        {"image": str(tmp_path / "a.nii.gz"), "case": "a"},
    ]


def test_equal_names_get_their_folder_and_equal_stems_their_extension(tmp_path: Path) -> None:
    touch(tmp_path, "one/x.nii.gz", "two/in/x.nii.gz", "two/y.nii", "two/y.mha", "z.nii")
    items = find_images(tmp_path)
    found = {str(Path(item["image"]).relative_to(tmp_path)): item["case"] for item in items}
    assert found == {
        "one/x.nii.gz": "one_x",
        "two/in/x.nii.gz": "two_in_x",
        "two/y.mha": "two_y_mha",
        "two/y.nii": "two_y_nii",
        "z.nii": "z",
    }


def test_given_case_names_are_kept(tmp_path: Path) -> None:
    first, second = touch(tmp_path, "one/x.nii", "two/x.nii")
    items = find_images([{"image": first, "case": "x"}, second])
    assert [item["case"] for item in items] == ["x", "two_x"]


@pytest.mark.parametrize(
    ("names", "source", "error", "message"),
    [
        pytest.param([], "", ValueError, "no volume in the folder .*expected files that end in .nii.gz", id="empty"),
        pytest.param(["a_gt.nii"], "", ValueError, r"such as \*_gt, \*_4d and \*_seg, are left out", id="only-masks"),
        pytest.param([], "a.nii", FileNotFoundError, r"no file or folder .*a\.nii", id="missing"),
        pytest.param(["a.png"], "a.png", ValueError, r"cannot read .*a\.png: expected files that end in", id="kind"),
    ],
)
def test_a_source_without_volumes_is_an_error(
    tmp_path: Path, names: list[str], source: str, error: type[Exception], message: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(error, match=message):
        find_images(tmp_path / source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param([], r"no volume in \[\]", id="empty-list"),
        pytest.param("[a.nii.gz, b.nii.gz", "starts like a list but does not read as one", id="broken-list"),
        pytest.param([{"label": "a.nii"}], "no key 'image' in {'label': 'a.nii'}", id="no-image"),
        pytest.param([3], "cannot take 3 for an image", id="number"),
    ],
)
def test_a_wrong_list_is_an_error(source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_images(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["list", "datalist"])
def test_what_is_missing_in_a_list_is_told_with_its_case(
    form: str, write_dicom: Callable[..., list[Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (scan,) = touch(tmp_path, "a.nii.gz")
    write_dicom(tmp_path / "ct", [(0, 0, 0)])
    source: object = [str(tmp_path / "b.nii.gz"), str(scan), {"image": f"{tmp_path / 'ct'}#series=1.2", "case": "old"}]
    if form == "datalist":
        (tmp_path / "list.json").write_text(json.dumps({"testing": source}), encoding="utf-8")
        source = tmp_path / "list.json"
    missing = "there is no such file or folder"
    assert find_images(source) == [  # type: ignore[arg-type]
        {"image": str(tmp_path / "b.nii.gz"), "case": "b", "error": missing},
        {"image": str(scan), "case": "a"},
        {"image": f"{tmp_path / 'ct'}#series=1.2", "case": "old", "error": missing},
    ]
    assert "2 of 3 are missing: " in caplog.text


def test_a_list_of_which_nothing_is_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*a\.nii, .*b\.nii"):
        find_images([tmp_path / "a.nii", tmp_path / "b.nii"])


def test_a_volume_named_twice_is_an_error(tmp_path: Path) -> None:
    (path,) = touch(tmp_path, "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii is there twice"):
        find_images([path, path])
