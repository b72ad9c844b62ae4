# SPDX-License-Identifier: Apache-2.0
"""Finding the images to segment, and leaving out those that are done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.data import DicomSeries, ResultFiles, find_images
from monai_sam2adapter.utils import own_path

Write = Callable[..., list[Path]]
STACK = ((0, 0, 0), (0, 0, 2), (0, 0, 4))


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def write_images(folder: Path, *names: str, shape: tuple[int, int, int] = (4, 3, 2)) -> list[Path]:
    for path in (paths := touch(folder, *names)):
        if path.suffix in (".png", ".tif"):
            Image.effect_noise(shape[:2], 50).save(path)
        else:
            nib.save(nib.Nifti1Image(np.random.default_rng(0).random(shape, np.float32), np.eye(4)), path)
    return paths


def cases(*args: Any, **kwargs: Any) -> list[str]:
    return [item["case"] for item in find_images(*args, **kwargs)]


class TestFolder:
    @pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
    def test_every_extension_is_taken_as_a_file_and_in_a_folder(self, tmp_path: Path, extension: str) -> None:
        (path,) = touch(tmp_path, f"scan.v2{extension}")
        assert find_images(path) == find_images(tmp_path) == [{"image": str(path), "case": "scan_v2"}]

    def test_it_is_searched_without_masks_series_hidden_files_and_results(self, tmp_path: Path) -> None:
        touch(tmp_path, "b/x.nii.gz", "b/x_gt.nii.gz", "a/y.mha", "a/y_seg.mha", "z_4d.nii", "._x.nii.gz", "notes.txt")
        touch(tmp_path, "label0001.nii.gz", "y_probabilities.nii.gz", "y_uncertainty.nii.gz", ".hidden/z.nii")
        assert cases(tmp_path) == ["y", "x"]
        assert cases(touch(tmp_path, "x_gt.nii.gz", "z_4d.nii")) == ["x_gt", "z_4d"], "named, they are taken"

    def test_pictures_are_searched_without_masks_and_overlays(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/a.JPG", "images/b.png", "masks/a.jpg", "c_seg.png", "overlays/a.png", "d-labels.tif")
        touch(tmp_path, "e.nii")
        assert cases(tmp_path, "picture") == ["a", "b"]

    @pytest.mark.parametrize("extension", ["nii.gz", "nii", "nrrd", "mha"])
    @pytest.mark.parametrize(
        ("scans", "labels"),
        [
            (["imagesTr/la_003"], ["labelsTr/la_003"]),
            (["imagesTs/x_0000"], ["labelsTs/x", "labelsVal/x"]),
            (["case_00000/imaging"], ["case_00000/segmentation", "case_00000/instances/kidney_annotation-1"]),
            (["s0001/ct"], ["s0001/segmentations/liver"]),
            (["p1"], ["labels/final/p1", "labels/original/p1"]),
            (["CT"], ["Segmentation.seg", "CT-label", "CT-labelmap", "Segmentation"]),
            (["img0001"], ["label0001", "averaged-training-labels/DET0001"]),
            (["volume-1"], ["segmentation-1"]),
            (["BraTS_t1"], ["BraTS_seg", "BraTS_GT"]),
            (["x", "n", "predicted/y"], ["x_lbl", "gt_x", "x_seg (1)", "ground truth/x", "seg masks/x"]),
            (["x"], ["labelsTr_old/x"]),
            (["x"], ["labels_pred/x", "predictions/x", "model predictions/x", "Ground-Truths/x", "masks_2/x"]),
            (["label_free_01", "Labeled_03", "unlabeled", "masked", "gta", "no_segregation", "to_seg/x"], []),
        ],
        ids=[
            *("MSD", "nnU-Net", "KiTS", "TotalSegmentator", "MONAI Label", "Slicer", "BTCV", "LiTS", "BraTS"),
            *("copies", "old", "predictions", "scans"),
        ],
    )
    def test_labels_are_known_by_the_names_of_the_field(
        self, scans: list[str], labels: list[str], extension: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        touch(tmp_path, *(f"{name}.{extension}" for name in (*scans, *labels)))
        found = {str(Path(item["image"]).relative_to(tmp_path)) for item in find_images(tmp_path)}
        assert found == {f"{name}.{extension}" for name in scans}
        lines = [text for text in caplog.messages if "left out" in text]
        assert len(lines) == bool(labels)
        for name in labels:
            parts = Path(f"{name}.{extension}").parts
            assert any("/".join(parts[: n + 1]) in lines[0] for n in range(len(parts)))

    def test_every_file_is_found_or_named_with_its_reason(
        self, tmp_path: Path, write_dicom: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        touch(tmp_path, "x.nii", ".y.nii", "z_4d.nii", "notes.txt", "a.mhd", "a.raw", *(f"{n}.csv" for n in range(9)))
        write_dicom(tmp_path / "ct", STACK)
        (tmp_path / "gone.nii").symlink_to(tmp_path / "absent")
        assert cases(tmp_path) == ["a", "ct", "x"]
        assert [text.partition(": ")[2] for text in caplog.messages if "left out" in text] == [
            "left out 1 files or folders hidden: .y.nii",
            "left out 1 files or folders that are links to nothing: gone.nii",
            "left out 10 files or folders of another kind: 0.csv, 1.csv, 2.csv, 3.csv, 4.csv, ...",
            "left out 1 files or folders named as labels, 4D series or results: z_4d.nii",
        ]

    def test_linked_folders_are_searched_once(
        self, tmp_path: Path, write_dicom: Write, caplog: pytest.LogCaptureFixture
    ) -> None:
        store, scans = tmp_path / "store", tmp_path / "scans"
        touch(store, "p2/in/b.nii", "p3/c.nii")
        touch(scans, "p1/a.nii", ".hidden/d.nii")
        write_dicom(store / "p4" / "ct", STACK)
        links = {"p2": store / "p2", "p3": store / "p3", "p4": store / "p4", "p5": scans / ".hidden"}
        twice = {"again": store / "p3", "aa": scans / "p1", "loop": scans, "up": tmp_path, "p1/back": scans / "p1"}
        for name, target in {**links, **twice}.items():
            (scans / name).symlink_to(target, target_is_directory=True)
        (store / "p2" / "in" / "round").symlink_to(store / "p2", target_is_directory=True)
        found = cases(scans)
        assert sorted(found) == ["a", "b", "c", "ct", "d"]
        (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "left out 6 files or folders that are links to folders which are searched already" in line.getMessage()

    def test_each_page_of_a_tiff_is_a_picture(self, tmp_path: Path) -> None:
        pages = [Image.fromarray(np.full((3, 4), page, np.uint8)) for page in range(11)]
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
        pages[0].save(tmp_path / "one.tif")
        items = find_images(tmp_path, "picture")
        assert items[0] == {"image": str(tmp_path / "one.tif"), "case": "one"}
        assert items[4] == {"image": f"{tmp_path / 'stack.tif'}#page=3", "case": "stack_page03"}
        assert len(items) == 12

    def test_a_broken_tiff_is_left_for_the_reader_to_complain_of(self, tmp_path: Path) -> None:
        (path,) = touch(tmp_path, "broken.tif")
        assert find_images(tmp_path, "picture") == [{"image": str(path), "case": "broken"}]

    @pytest.mark.parametrize(
        ("names", "source", "error", "message"),
        [
            ([], "", ValueError, "no volume in the folder .*expected files that end in .nii.gz"),
            (["a_gt.nii"], "", ValueError, r"such as \*_gt, \*_4d and \*_seg, are left out"),
            ([], "a.nii", FileNotFoundError, r"no file or folder .*a\.nii"),
            (["a.png"], "a.png", ValueError, r"cannot read .*a\.png: expected files that end in"),
        ],
        ids=["empty", "only-masks", "missing", "kind"],
    )
    def test_a_source_without_volumes_is_an_error(
        self, tmp_path: Path, names: list[str], source: str, error: type[Exception], message: str
    ) -> None:
        touch(tmp_path, *names)
        with pytest.raises(error, match=message):
            find_images(tmp_path / source)


class TestDicom:
    def test_a_folder_in_a_tree_is_one_case(self, write_dicom: Write, tmp_path: Path) -> None:
        write_dicom(tmp_path / "patient 7" / "ct", STACK)
        touch(tmp_path, "x.nii.gz")
        folder = str(tmp_path / "patient 7" / "ct")
        scan = {"image": str(tmp_path / "x.nii.gz"), "case": "x"}
        assert find_images(tmp_path) == [{"image": folder, "case": "ct"}, scan]
        (found,) = find_images(folder)
        assert found == {"image": folder, "case": "ct"}
        assert isinstance(found["image"], DicomSeries)
        assert len(found["image"].files) == 3

    def test_series_of_a_folder_are_named_by_number_and_description(self, write_dicom: Write, tmp_path: Path) -> None:
        for number, text, uid in ((2, "Body 3.0/soft", "1.2"), (10, "Lung", "1.3"), (10, "Lung", "1.4")):
            tags = {"SeriesNumber": number, "SeriesDescription": text, "SeriesInstanceUID": uid}
            write_dicom(tmp_path / "ct", STACK, prefix=uid, **tags)
        folder = tmp_path / "ct"
        items = find_images(tmp_path)
        assert items[0] == {"image": f"{folder}#series=1.2", "case": "ct_2_Body_3_0_soft"}
        assert [item["case"] for item in items[1:]] == ["ct_10_Lung_1_3", "ct_10_Lung_1_4"]
        assert find_images(str(items[2]["image"])) == [{"image": f"{folder}#series=1.4", "case": "ct_10_Lung"}]

    def test_pictures_of_a_study_are_left_out_beside_its_volumes(
        self, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        colors = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "SeriesDescription": "Fusion"}
        write_dicom(tmp_path / "study" / "rgb", STACK, **colors)
        assert cases(tmp_path) == ["rgb"], "alone it is for the reader to complain of"
        write_dicom(tmp_path / "study" / "ct", STACK)
        assert cases(tmp_path) == ["ct"]
        line = "left out 3 DICOM files that are no volume: 3 pictures with colors, series Fusion (study/rgb)"
        assert line in caplog.text

    def test_equal_folders_of_patients_are_told_apart(self, write_dicom: Write, tmp_path: Path) -> None:
        for patient in ("a", "b"):
            write_dicom(tmp_path / patient / "ct", STACK)
        assert cases(tmp_path) == ["a_ct", "b_ct"]

    def test_files_are_taken_one_by_one(self, write_dicom: Write, tmp_path: Path) -> None:
        paths = write_dicom(tmp_path, STACK)
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

    @pytest.mark.parametrize("key", [None, "training"], ids=["plain", "the only one of a dictionary"])
    def test_a_single_list_and_absolute_paths_are_taken(self, key: str | None, tmp_path: Path) -> None:
        (scan,) = touch(tmp_path, "a.nii")
        path = self.write(tmp_path, {key: [str(scan)]} if key else [str(scan)])
        assert find_images(str(path)) == [{"image": str(scan), "case": "a"}]

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


class TestList:
    @pytest.mark.parametrize("form", ["paths", "strings", "dictionaries", "python", "json"])
    def test_every_form_gives_the_same(self, tmp_path: Path, form: str) -> None:
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

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ([], r"no volume in \[\]"),
            ("[a.nii.gz, b.nii.gz", "starts like a list but does not read as one"),
            ([{"label": "a.nii"}], "no key 'image' in {'label': 'a.nii'}"),
            ([3], "cannot take 3 for an image"),
        ],
        ids=["empty-list", "broken-list", "no-image", "number"],
    )
    def test_a_wrong_one_is_an_error(self, source: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            find_images(source)

    @pytest.mark.parametrize("form", ["list", "datalist"])
    def test_what_is_missing_is_told_with_its_case(
        self, form: str, write_dicom: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (scan,) = touch(tmp_path, "a.nii.gz")
        write_dicom(tmp_path / "ct", [(0, 0, 0)])
        series = f"{tmp_path / 'ct'}#series=1.2"
        source: Any = [str(tmp_path / "b.nii.gz"), str(scan), {"image": series, "case": "old"}]
        if form == "datalist":
            (tmp_path / "list.json").write_text(json.dumps({"testing": source}), encoding="utf-8")
            source = tmp_path / "list.json"
        missing = {"error": "there is no such file or folder"}
        assert find_images(source) == [
            {"image": str(tmp_path / "b.nii.gz"), "case": "b", **missing},
            {"image": str(scan), "case": "a"},
            {"image": series, "case": "old", **missing},
        ]
        assert "2 of 3 are missing: " in caplog.text

    def test_one_of_which_nothing_is_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no file or folder .*a\.nii, .*b\.nii"):
            find_images([tmp_path / "a.nii", tmp_path / "b.nii"])


class TestNames:
    def test_equal_names_get_their_folder_and_equal_stems_their_extension(self, tmp_path: Path) -> None:
        touch(tmp_path, "one/x.nii.gz", "two/in/x.nii.gz", "two/y.nii", "two/y.mha", "z.nii")
        found = {str(Path(item["image"]).relative_to(tmp_path)): item["case"] for item in find_images(tmp_path)}
        assert found == {
            "one/x.nii.gz": "one_x",
            "two/in/x.nii.gz": "two_in_x",
            "two/y.mha": "two_y_mha",
            "two/y.nii": "two_y_nii",
            "z.nii": "z",
        }

    def test_given_names_are_kept(self, tmp_path: Path) -> None:
        first, second = touch(tmp_path, "one/x.nii", "two/x.nii")
        assert cases([{"image": first, "case": "x"}, second]) == ["x", "two_x"]

    def test_a_volume_named_twice_is_an_error(self, tmp_path: Path) -> None:
        (path,) = touch(tmp_path, "a.nii")
        with pytest.raises(ValueError, match=r"a\.nii is there twice"):
            find_images([path, path])


class TestResults:
    @pytest.mark.parametrize(
        ("kind", "name", "options", "files"),
        [
            ("volume", "x.nii", {"output_format": "nii.gz"}, ["x_seg.nii.gz"]),
            ("picture", "x.png", {"output_format": "png"}, ["x_seg.png"]),
            (
                "volume",
                "x.nii",
                {"output_format": "nii.gz", "save_probabilities": True, "save_uncertainty": True},
                ["x_probabilities.nii.gz", "x_uncertainty.nii.gz", "x_seg.nii.gz"],
            ),
            (
                "picture",
                "x.png",
                {"output_format": "png", "save_uncertainty": True},
                ["x_uncertainty.tif", "x_seg.png"],
            ),
        ],
        ids=["volume", "picture", "maps", "map-of-picture"],
    )
    def test_a_case_is_done_when_all_its_files_are_there(
        self, kind: str, name: str, options: dict[str, Any], files: list[str], tmp_path: Path
    ) -> None:
        sources, out = write_images(tmp_path, name, f"y{name[1:]}"), tmp_path / "out"
        options = {"kind": kind, "output_dir": out, **options}
        for file in files:
            assert cases(sources, **options, skip_existing=True, overwrite=True) == ["x", "y"]
            write_images(out, file)
        assert cases(sources, **options, skip_existing=True) == ["y"]
        write_images(out, *(file.replace("x_", "y_") for file in files))
        assert cases(sources, **options, skip_existing=True) == []
        with pytest.raises(FileExistsError, match=f"replace {2 * len(files)} files that no run has written"):
            cases(sources, **options)
        assert cases(sources, **options, overwrite=True) == ["x", "y"]

    @pytest.mark.parametrize("result", ["x_seg.nii.gz", "x_uncertainty.nii.gz"])
    @pytest.mark.parametrize("own", [False, True])
    @pytest.mark.parametrize("damage", ["empty", "cut", "a byte", "a page", "another size"])
    def test_a_result_that_is_not_whole_is_done_again(
        self, damage: str, own: bool, result: str, tmp_path: Path
    ) -> None:
        """And nothing is lost that was not written by this package."""
        (scan,) = write_images(tmp_path, "x.nii")
        options = {"output_dir": tmp_path, "save_uncertainty": True}
        write_images(tmp_path, "x_seg.nii.gz", "x_uncertainty.nii.gz")
        path = tmp_path / result
        good = path.read_bytes()
        if own:
            with own_path(path, overwrite=True) as temporary:
                temporary.write_bytes(good)
        assert cases(scan, **options, skip_existing=True) == []
        other = write_images(tmp_path / "other", "x.nii.gz", shape=(5, 4, 3))[0].read_bytes()
        middle = len(good) // 2
        contents = {"empty": b"", "cut": good[:-5], "a page": b"<html>", "another size": other}
        contents["a byte"] = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        path.write_bytes(contents[damage])
        with pytest.raises(FileExistsError, match=result) if own else pytest.raises(FileExistsError):
            cases(scan, **options)  # changed since it was written: maybe corrected by hand
        with pytest.raises(FileExistsError):  # the other result is still of others
            cases(scan, **options, skip_existing=True)
        assert cases(scan, **options, skip_existing=True, overwrite=True) == ["x"]
        assert path.with_name(f"{result}.damaged").read_bytes() == contents[damage]
        assert not path.exists()

    @pytest.mark.parametrize("place", [".", "sub/..", "link", "sub", ".."], ids=lambda place: place or "same")
    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("kind", ["volume", "picture"])
    def test_no_input_is_replaced_wherever_the_results_go(
        self, kind: str, overwrite: bool, place: str, tmp_path: Path
    ) -> None:
        folder = tmp_path / "in"
        extension = ".png" if kind == "picture" else ".nii.gz"
        output_format = "png" if kind == "picture" else "nii.gz"
        (folder / "sub" / "overlays").mkdir(parents=True)
        (folder / "link").symlink_to(folder)
        out = folder / place
        sources = [f"in/p1{extension}"]
        target = out.resolve() / f"p1_seg{extension}"
        write_images(target.parent, target.name)
        sources.append(str(target.relative_to(tmp_path)))
        write_images(tmp_path, sources[0])
        options = {"kind": kind, "output_dir": out, "output_format": output_format, "overwrite": overwrite}
        with pytest.raises(ValueError, match=rf"p1_seg{extension} would replace that input; write elsewhere"):
            cases([str(tmp_path / source) for source in sources], **options)
        # by another name of the same file, too
        os.link(target, tmp_path / f"again{extension}")
        with pytest.raises(ValueError, match="would replace that input"):
            cases([str(tmp_path / sources[0]), str(tmp_path / f"again{extension}")], **options)
        # and labels that are no input are replaced when asked for
        if overwrite:
            assert cases(str(tmp_path / sources[0]), **options) == ["p1"]
        else:
            with pytest.raises(FileExistsError, match="p1_seg"):
                cases(str(tmp_path / sources[0]), **options)

    def test_a_picture_over_the_image_replaces_no_input_either(self, tmp_path: Path) -> None:
        sources = write_images(tmp_path, "a.png", "overlays/a.png")
        with pytest.raises(ValueError, match=r"overlays/a\.png would replace that input"):
            cases(sources, "picture", output_dir=tmp_path, output_format="png")
        assert cases(sources[0], "picture", output_dir=tmp_path, output_format="png") == ["a"]

    def test_the_folder_must_take_files(self, tmp_path: Path) -> None:
        sources = write_images(tmp_path, "a.nii")
        with pytest.raises(OSError, match=r"is a file.*a\.nii"):
            cases(sources, output_dir=tmp_path / "a.nii")

    @pytest.mark.parametrize(
        ("kind", "output_format", "message"),
        [
            ("volume", "png", r"png is for pictures, but the inputs are volumes; give nii\.gz for them"),
            ("picture", "nii.gz", r"nii\.gz is for volumes, but the inputs are pictures; give png for them"),
            ("picture", "dicom_seg", "dicom_seg is for volumes"),
            ("volume", "dicom", "dicom_seg"),
        ],
    )
    def test_a_format_for_the_other_kind_is_refused(
        self, kind: str, output_format: str, message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=message):
            find_images(touch(tmp_path, "x.png" if kind == "picture" else "x.nii"), kind, None, tmp_path, output_format)

    @pytest.mark.parametrize("name", ["save_probabilities", "save_uncertainty", "skip_existing"])
    def test_a_flag_is_true_or_false(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=f"{name} must be True or False, got 'false'; write --{name} True or"):
            find_images(tmp_path, output_dir=tmp_path, **{name: "false"})
        with pytest.raises(ValueError, match="skip_existing needs output_dir"):
            find_images(tmp_path, skip_existing=True)

    def test_dicom_needs_its_package(self, tmp_path: Path) -> None:
        with mock.patch.dict("sys.modules", {"highdicom": None}), pytest.raises(ImportError, match=r"\[dicom\]"):
            find_images(tmp_path, output_dir="out", output_format="dicom_seg")

    def test_dicom_needs_series_that_can_be_referred_to(self, write_dicom: Write, tmp_path: Path) -> None:
        pytest.importorskip("highdicom")
        write_dicom(tmp_path / "ct", STACK)
        (scan,) = touch(tmp_path, "b.nii")
        with pytest.raises(ValueError, match=r"1 of 2 inputs are none, such as .*b\.nii"):
            find_images([tmp_path / "ct", scan], output_dir="out", output_format="dicom_seg")
        write_dicom(tmp_path / "ct2", STACK, FrameOfReferenceUID="")
        with pytest.raises(ValueError, match=r"ct2 has no FrameOfReferenceUID.*write nii\.gz instead"):
            find_images(tmp_path / "ct2", output_dir="out", output_format="dicom_seg")

    def test_damaged_and_missing_series_are_left_for_reading(self, write_dicom: Write, tmp_path: Path) -> None:
        pytest.importorskip("highdicom")
        write_dicom(tmp_path / "ct", STACK)[0].write_bytes(b"")
        found = find_images([tmp_path / "ct", tmp_path / "x"], output_dir="out", output_format="dicom_seg")
        assert [item["case"] for item in found] == ["ct", "x"]


@pytest.mark.parametrize(
    "case", ["../x", "/etc/x", "a/../../b", "..", ".", "~", "a\nb", "a\0b", "\x1b[2J", "a\\b", "=1+1"]
)
def test_no_name_of_a_case_leads_out_of_the_folder(case: str, tmp_path: Path) -> None:
    (scan,) = write_images(tmp_path / "in", "a.nii")
    (tmp_path / "list.json").write_text(json.dumps([{"image": str(scan), "case": case}]), encoding="utf-8")
    (item,) = find_images(tmp_path / "list.json", output_dir=tmp_path / "out", save_probabilities=True)
    for path in ResultFiles(tmp_path / "out", save_probabilities=True).paths(item["case"]).values():
        assert path.parent == tmp_path / "out"
        assert path.name.isprintable()
        assert "\\" not in path.name


@pytest.mark.parametrize("image", ["x\ny.nii", "x\0.nii", "\x1b[2J.nii"])
def test_the_name_of_a_missing_image_stays_in_its_line(image: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_images([str(tmp_path / image)])
    assert str(caught.value).isprintable()


def test_a_hash_in_a_path_is_what_monai_makes_two_colons_of(tmp_path: Path) -> None:
    touch(tmp_path, "study #3/a.nii.gz", "b::c/d.nii.gz")
    typed = f"{tmp_path}/study #3".replace("#", "::")
    for source in (typed, [f"{typed}/a.nii.gz"], f"['{typed}/a.nii.gz']", [{"image": f"{typed}/a.nii.gz"}]):
        assert [item["image"] for item in find_images(source)] == [f"{tmp_path}/study #3/a.nii.gz"]
    assert [item["case"] for item in find_images(f"{tmp_path}/b::c")] == ["d"]  # which is there
    touch(tmp_path, "study #3/x_0000.nii.gz", "study #3/x_0001.nii.gz")
    (item,) = find_images([{"image": [f"{typed}/x_0000.nii.gz", f"{typed}/x_0001.nii.gz"]}], channels=2)
    assert [Path(file).parent.name for file in item["image"]] == ["study #3"] * 2


def test_names_that_differ_in_case_only_get_results_of_different_names(tmp_path: Path) -> None:
    touch(tmp_path, "p1/A.nii.gz", "p2/a.nii.gz")
    assert cases(tmp_path) == ["p1_A", "p2_a"]
    touch(tmp_path / "one", "B.nii.gz", "b.nii.gz")
    with pytest.raises(ValueError, match="is there twice, or gets the name"):
        find_images(tmp_path / "one")


def test_an_empty_path_is_not_the_whole_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz")
    for source in ([{"image": ""}], [""]):
        with pytest.raises(ValueError, match="the path of an image is empty"):
            find_images(source)
    (tmp_path / "list.json").write_text('[{"image": ""}]', encoding="utf-8")
    with pytest.raises(ValueError, match="the path of an image is empty"):
        find_images(tmp_path / "list.json")
