# SPDX-License-Identifier: Apache-2.0
"""Anyone's data in each layout: lists, splits, what is refused, and the check."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImaged
from own_data_folders import (
    CASES,
    V1,
    V2,
    change_json,
    write_folders,
    write_json,
    write_msd,
    write_nnunet,
    write_volume,
)
from PIL import Image

from monai_sam2adapter.__main__ import main
from monai_sam2adapter.data import (
    ImageFileReader,
    VolumeReader,
    check_pairs,
    check_pictures,
    check_volumes,
    describe_pictures,
    describe_volumes,
    find_images,
    pair_datalist,
    picture_datalist,
    volume_datalist,
)
from monai_sam2adapter.transforms import RequireSameGeometryd


def names(root: Path, split: str, **options: Any) -> list[str]:
    return [case["case"] for case in volume_datalist(root, split, **options)]


class TestLayouts:
    @pytest.mark.parametrize("labels", [V1, V2])
    @pytest.mark.parametrize("write", [write_nnunet, write_msd, lambda root, **kw: write_msd(root, "_0000", **kw)])
    def test_both_dictionaries_of_labels_in_folders_of_nnunet_and_msd(
        self, write: Callable[..., Path], labels: dict[str, Any], tmp_path: Path
    ) -> None:
        write(tmp_path, labels=labels)
        (tmp_path / "imagesTr/._case_000.nii.gz").write_bytes(b"macOS")
        assert sorted(names(tmp_path, "train") + names(tmp_path, "val")) == CASES
        assert all(Path(case["image"]).is_file() for case in volume_datalist(tmp_path, "train"))
        report = check_volumes(tmp_path, progress=False)
        assert report.class_names == ("background", "liver")
        assert report.problems == []
        assert report.counts["fold 0 val"] == {"volumes": 2}

    def test_channels_are_files_in_their_order(self, tmp_path: Path) -> None:
        write_nnunet(tmp_path, channels=3)
        image = volume_datalist(tmp_path, "train")[0]["image"]
        assert [Path(file).name[-11:] for file in image] == [f"{channel:04d}.nii.gz" for channel in range(3)]
        assert check_volumes(tmp_path, progress=False).problems == []

    def test_one_file_may_hold_all_channels(self, tmp_path: Path) -> None:
        write_msd(tmp_path, modality={"0": "FLAIR", "1": "T1w"})
        for seed, case in enumerate(CASES):
            write_volume(tmp_path / f"imagesTr/{case}.nii.gz", seed, shape=(6, 5, 4, 2))
        assert check_volumes(tmp_path, progress=False).problems == []

    def test_a_datalist_with_lists_of_its_own(self, tmp_path: Path) -> None:
        write_nnunet(tmp_path, channels=2)
        entries = [
            {"image": [f"imagesTr/{case}_{c:04d}.nii.gz" for c in range(2)], "label": f"labelsTr/{case}.nii.gz"}
            for case in CASES
        ]
        testing = [{"image": "elsewhere.nii.gz"}, "elsewhere.nii.gz"]
        path = write_json(tmp_path, {"training": entries[:4], "validation": entries[4:], "testing": testing}, "my.json")
        assert (names(path, "train"), names(path, "val")) == (CASES[:4], CASES[4:])
        assert names(path, "test") == CASES[4:]
        write_json(tmp_path, {"training": entries[:4], "validation": entries[4:6], "testing": entries[6:]}, "my.json")
        assert names(path, "test") == CASES[6:]
        with pytest.raises(ValueError, match="there is no fold 1"):
            names(path, "val", fold=1)

    def test_folds_of_a_datalist(self, tmp_path: Path) -> None:
        write_msd(tmp_path)
        listed = json.loads((tmp_path / "dataset.json").read_text())["training"]
        change_json(tmp_path, training=[{**entry, "fold": number % 3} for number, entry in enumerate(listed)])
        assert names(tmp_path, "val", fold=1) == [CASES[1], CASES[4]]
        assert set(names(tmp_path, "train", fold=1)) == set(CASES) - {CASES[1], CASES[4]}

    def test_files_of_one_name_are_told_apart_by_their_folders(self, tmp_path: Path) -> None:
        for seed, patient in enumerate("ab"):
            write_volume(tmp_path / patient / "t1.nii.gz", seed)
            write_volume(tmp_path / patient / "seg.nii.gz", seed, is_label=True)
        listed = [{"image": f"{patient}/t1.nii.gz", "label": f"{patient}/seg.nii.gz"} for patient in "ab"]
        path = write_json(tmp_path, {"training": listed}, "my.json")
        assert sorted(names(path, "train") + names(path, "val")) == ["a_t1", "b_t1"]

    def test_labels_of_imagests_are_for_testing(self, tmp_path: Path) -> None:
        write_nnunet(tmp_path)
        write_volume(tmp_path / "imagesTs/new_0000.nii.gz", 70)
        write_volume(tmp_path / "labelsTs/new.nii.gz", 7, is_label=True)
        assert names(tmp_path, "test") == ["new"]

    @pytest.mark.parametrize("masks", ["masks", "labels"])
    def test_two_folders(self, masks: str, tmp_path: Path) -> None:
        write_folders(tmp_path, masks)
        found = picture_datalist(tmp_path, "train")
        assert found[0].keys() == {"image", "label", "case"}
        assert check_pictures(tmp_path, progress=False).class_names == ("background", "foreground")

    def test_class_numbers_in_pictures_with_names_beside_them(self, tmp_path: Path) -> None:
        write_folders(tmp_path, values=range(4), colored=True)
        report = check_pictures(tmp_path, progress=False)
        assert report.class_names == ("background", "class 1", "class 2", "class 3")
        assert (report.problems, report.voxels.sum()) == ([], 7 * 48)
        write_json(tmp_path, {"labels": {"sky": 0, "sea": 1, "land": 2, "ship": 3}})
        assert check_pictures(tmp_path, progress=False).class_names == ("sky", "sea", "land", "ship")


def write_scan(scan: sitk.Image, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(scan, str(path))


class TestFormats:
    """Training and the check read what inference reads."""

    @pytest.mark.parametrize("listed", [False, True], ids=["folders", "datalist"])
    @pytest.mark.parametrize("extension", ["nii", "nii.gz", "nrrd", "mha", "mhd"])
    def test_volumes_of_every_format(self, extension: str, listed: bool, tmp_path: Path) -> None:
        for number in range(3):
            voxels = np.random.default_rng(number).normal(size=(4, 5, 6)).astype(np.float32)
            write_scan(sitk.GetImageFromArray(voxels), tmp_path / f"images/c{number}.{extension}")
            write_scan(sitk.GetImageFromArray((voxels > 0) * 1), tmp_path / f"labels/c{number}.{extension}")
        self.check(tmp_path, extension if listed else None, extension)

    @pytest.mark.parametrize("listed", [False, True], ids=["folders", "datalist"])
    def test_series_of_dicom(self, listed: bool, write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
        for number in range(3):
            write_dicom(tmp_path / f"images/c{number}", [[0, 0, 2.5 * k] for k in range(3)], start=10 * number)
            labels = sitk.GetImageFromArray(np.arange(3 * 4 * 6).reshape(3, 4, 6) % 2)
            labels.SetSpacing((3, 2, 2.5))
            write_scan(labels, tmp_path / f"labels/c{number}.mha")
        self.check(tmp_path, "" if listed else None, "mha")

    def check(self, root: Path, listed: str | None, label: str) -> None:
        if listed is not None:
            ending = f".{listed}" if listed else ""
            entries = [{"image": f"images/c{n}{ending}", "label": f"labels/c{n}.{label}"} for n in range(3)]
            root = write_json(root, {"training": entries})
        assert check_volumes(root, progress=False).problems == []
        load = LoadImaged(["image", "label"], VolumeReader, ensure_channel_first=True, expanduser=False)
        cases = [*volume_datalist(root, "train"), *volume_datalist(root, "val")]
        assert sorted(case["case"] for case in cases) == ["c0", "c1", "c2"]
        for case in cases:
            item = RequireSameGeometryd(["image", "label"])(load(case))
            (found,) = find_images(case["image"])
            np.testing.assert_array_equal(item["image"], load({**case, "image": found["image"]})["image"])

    def test_one_series_of_a_folder_is_named(self, write_dicom: Callable[..., list[Path]], tmp_path: Path) -> None:
        for uid in ("1.2", "1.3"):
            write_dicom(tmp_path / "ct", [[0, 0, k] for k in range(3)], prefix=uid, SeriesInstanceUID=uid)
        for name in "ab":
            write_volume(tmp_path / f"{name}.nii", 0, is_label=True, shape=(6, 4, 3))
        entries = [{"image": f"ct#series=1.{k}", "label": f"{'ab'[k - 2]}.nii"} for k in (2, 3)]
        root = write_json(tmp_path, {"training": entries})
        (case,) = volume_datalist(root, "train")
        assert case["image"] in {f"{tmp_path}/ct#series=1.{k}" for k in "23"}
        describe_volumes(root, progress=False)
        root = write_json(tmp_path, {"training": [{**entries[0], "image": "ct"}, entries[1]]})
        with pytest.raises(ValueError, match=r"ct: is no volume: .* must hold one DICOM series .*#series=1\.2"):
            volume_datalist(root, "train")

    def test_what_is_of_another_kind_is_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_folders(tmp_path)
        (tmp_path / "images" / "notes.txt").touch()
        check_pictures(tmp_path, progress=False)
        assert "1 files or folders in" in caplog.text
        assert "of another kind and are left out: notes.txt" in caplog.text


PATTERNS = ["*_segmentation", "*_mask", "mask_*", "*-label", "seg_*_v2", "*_1", "0*"]


class TestNamesOfLabels:
    @pytest.fixture(params=PATTERNS)
    def named(self, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
        write_folders(tmp_path)
        for path in sorted((tmp_path / "masks").iterdir()):
            path.rename(path.with_stem(request.param.replace("*", path.stem)))
        return tmp_path, request.param

    def test_pictures(self, named: tuple[Path, str]) -> None:
        root, pattern = named
        cases = [case for part in ("train", "val") for case in picture_datalist(root, part, label_pattern=pattern)]
        assert sorted(case["case"] for case in cases) == CASES
        assert all(pattern.replace("*", Path(case["image"]).stem) == Path(case["label"]).stem for case in cases)
        assert check_pictures(root, progress=False, label_pattern=pattern).problems == []
        described = describe_pictures(root, progress=False, label_pattern=pattern)
        assert described["fingerprint"]["cases"] + 2 == len(CASES)

    def test_pairs(self, named: tuple[Path, str]) -> None:
        root, pattern = named
        folders = {"train": ["images", "masks"]}
        assert check_pairs(root, progress=False, folders=folders, label_pattern=pattern).problems == []
        pairs = pair_datalist(root, "train", folders=folders, label_pattern=pattern)
        assert all(pattern.replace("*", Path(pair["image"]).stem) == Path(pair["label"]).stem for pair in pairs)

    def test_the_pattern_that_fits_is_named(self, named: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
        root, pattern = named
        hint = re.escape(
            f"every mask is named {pattern!r} after its image, and not '*'; give --label_pattern {pattern!r}"
        )
        with pytest.raises(ValueError, match=hint):
            picture_datalist(root, "train")
        folders = ["--folders", '{"train": ["images", "masks"]}']
        assert main(["check", "pairs", str(root), *folders]) == 1
        (problem,) = [line for line in capsys.readouterr().out.splitlines() if str(root / "masks") in line]
        assert re.search(hint, problem)
        assert main(["check", "pairs", str(root), *folders, "--label_pattern", pattern]) == 0
        assert main(["check", "pictures", str(root), "--label_pattern", pattern]) == 0

    def test_one_that_does_not_fit_is_told_by_file(self, tmp_path: Path) -> None:
        write_folders(tmp_path)
        for path in sorted((tmp_path / "masks").iterdir())[1:]:
            path.rename(path.with_stem(f"{path.stem}_mask"))
        problems = check_pictures(tmp_path, progress=False, label_pattern="*_mask").problems
        assert len(problems) == 2
        assert problems[0].endswith(f"{CASES[0]}.png: is not named '*_mask', as label_pattern says")

    @pytest.mark.parametrize("pattern", ["", "mask", "*_*", None])
    def test_a_pattern_has_one_star(self, pattern: Any, tmp_path: Path) -> None:
        write_folders(tmp_path)
        with pytest.raises(ValueError, match=r"label_pattern is .*; expected the name of a mask with \*"):
            picture_datalist(tmp_path, "train", label_pattern=pattern)

    def test_data_that_name_their_labels_take_none(self, tmp_path: Path) -> None:
        write_nnunet(tmp_path)
        with pytest.raises(ValueError, match="lists its labels by itself; leave it out"):
            volume_datalist(tmp_path, "train", label_pattern="*_mask")


class TestSplits:
    def test_folds_are_disjoint_stable_and_hold_all(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_nnunet(tmp_path)
        folds = [names(tmp_path, "val", fold=fold) for fold in range(5)]
        assert sorted(name for fold in folds for name in fold) == CASES
        # by sha256sum of the names
        assert folds[0] == ["case_003", "case_004"]
        assert all(not set(names(tmp_path, "train", fold=k)) & set(fold) for k, fold in enumerate(folds))
        with caplog.at_level(logging.WARNING):
            assert names(tmp_path, "test") == folds[0]
        assert "no labeled cases for testing: the part for validation stands in" in caplog.text

    def test_an_own_split(self, tmp_path: Path) -> None:
        write_nnunet(tmp_path)
        split = write_json(tmp_path, {"train": CASES[:2], "val": CASES[2:3], "test": CASES[3:]}, "split.json")
        assert names(tmp_path, "test", split_file=split) == CASES[3:]

    def test_one_case_cannot_be_split(self, tmp_path: Path) -> None:
        write_nnunet(tmp_path, cases=CASES[:1])
        with pytest.raises(ValueError, match="has 1 case to train on and none for validation; add cases, or give a"):
            volume_datalist(tmp_path, "train")


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def add(name: str) -> Callable[[Path], None]:
    return lambda root: write_volume(root / name, 99)


def change(**changes: Any) -> Callable[[Path], None]:
    return lambda root: change_json(root, **changes)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("write", "damage", "message"),
        [
            (write_nnunet, remove("labelsTr/case_003.nii.gz"), "case_003_0000.nii.gz: its labels case_003 in"),
            (write_nnunet, remove("imagesTr/case_003_0000.nii.gz"), "labels without their image case_003_0000 in"),
            (write_nnunet, add("imagesTr/extra.nii.gz"), "extra.nii.gz: has no number of its channel"),
            (
                write_nnunet,
                add("imagesTr/case_003_0001.nii.gz"),
                "case_003.nii.gz: its image is of 2 files; expected 1",
            ),
            (write_nnunet, add("imagesTr/case_003_0002.nii.gz"), r"has the channels \[0, 2\]"),
            (write_nnunet, add("imagesTr/case_009_0000.nii"), "case_009_0000.nii: does not end in .nii.gz"),
            (write_nnunet, change(numTraining=8), "numTraining is 8, but 7 cases are there"),
            (write_msd, change(numTraining=8), "numTraining is 8, but training lists 7"),
            (write_msd, remove("labelsTr/case_003.nii.gz"), "case_003.nii.gz: is not there, listed in"),
        ],
    )
    def test_incomplete_folders(
        self, write: Callable[..., Path], damage: Callable[[Path], None], message: str, tmp_path: Path
    ) -> None:
        write(tmp_path)
        damage(tmp_path)
        with pytest.raises(ValueError, match=message):
            volume_datalist(tmp_path, "train")
        assert message.split(":")[-1].strip().replace("\\", "") in "; ".join(
            check_volumes(tmp_path, progress=False).problems
        )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels": {"background": 0, "whole": [1, 2]}}, "the labels whole are regions"),
            ({"labels": {"background": 0, "a": 2}}, r"have the numbers \[0, 2\]; expected 0 \(background\), 1, 2"),
            ({"labels": {"background": 0, "a": "1"}}, "the label 'background': 0|the label 'a': '1' is malformed"),
            ({"labels": ["background", "a"]}, 'labels is .*; expected {"0": "background"'),
            ({"channel_names": {"1": "CT"}}, 'channel_names is .*; expected {"0": "CT"}'),
            ({"labels": V2, "training": {"image": "x"}}, "training is a dict, expected a list"),
            (
                {"labels": V2, "training": [{"image": "x"}]},
                "training, entry 0: got .*; expected an object with 'image'",
            ),
            ({"labels": V2, "training": [{"image": 3, "label": "x"}]}, "entry 0: got .*'image' \\(a path"),
            ({"labels": V2, "training": []}, "no volume with labels in"),
        ],
    )
    def test_malformed_json(self, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
        write_nnunet(tmp_path)
        change_json(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            volume_datalist(tmp_path, "train")

    def test_an_image_in_two_lists(self, tmp_path: Path) -> None:
        write_msd(tmp_path)
        listed = json.loads((tmp_path / "dataset.json").read_text())["training"]
        change_json(tmp_path, validation=listed[:1])
        with pytest.raises(ValueError, match=r"case_000.*is listed 2 times|are called 'case_000"):
            volume_datalist(tmp_path, "train")

    def test_another_layout(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no folder or file .*absent; expected a datalist in JSON"):
            volume_datalist(tmp_path / "absent", "train")
        (tmp_path / "scans").mkdir()
        with pytest.raises(ValueError, match="holds scans; expected a datalist in JSON"):
            volume_datalist(tmp_path, "train")

    def test_labels_with_a_gap_that_nobody_names(self, tmp_path: Path) -> None:
        write_folders(tmp_path, values=(0, 1, 2, 255))
        with pytest.raises(ValueError, match=r"labels have the values 0, 1, 2, 255; expected 0 .* without a gap"):
            check_pictures(tmp_path, progress=False)


class TestCheck:
    def test_what_is_wrong_in_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_nnunet(tmp_path)
        write_volume(tmp_path / "labelsTr/case_000.nii.gz", 1, is_label=True, shape=(6, 5, 3))
        (tmp_path / "imagesTr/case_001_0000.nii.gz").write_bytes(b"damaged")
        nib.save(
            nib.Nifti1Image(np.full((6, 5, 4), 7, np.uint8), np.diag([1, 1, 3, 1])),
            tmp_path / "labelsTr/case_002.nii.gz",
        )
        image = nib.load(tmp_path / "imagesTr/case_003_0000.nii.gz")
        nib.save(nib.Nifti1Image(image.get_fdata() * np.nan, image.affine), tmp_path / "imagesTr/case_003_0000.nii.gz")
        assert main(["check", "volumes", str(tmp_path)]) == 1
        out = capsys.readouterr().out
        assert "4 problems:" in out
        for text in (
            "case_000.nii.gz: has the shape (6, 5, 3), its image (6, 5, 4)",
            "case_001_0000.nii.gz cannot be read",
            "case_002.nii.gz has the labels 7 in 120 places; expected integers from 0 to 1",
            "case_003_0000.nii.gz: has NaN or infinite voxels",
        ):
            assert text in out

    def test_a_mask_of_another_size(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_folders(tmp_path)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "masks/case_000.png")
        assert main(["check", "pictures", str(tmp_path)]) == 1
        assert "masks/case_000.png: has the shape (4, 4), its image (8, 6)" in capsys.readouterr().out


def in_color(numbers: np.ndarray, colors: list[tuple[int, int, int]], by_palette: bool) -> Image.Image:
    if not by_palette:
        return Image.fromarray(np.array(colors, np.uint8)[numbers])
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette([value for color in colors for value in color])
    return image


@pytest.mark.parametrize(
    ("first", "other", "by_palette", "same"),
    [
        ([(0, 0, 0), (255, 0, 0), (0, 255, 0)], [(0, 0, 0), (255, 0, 0), (0, 255, 0)], True, True),
        ([(0, 0, 0), (255, 0, 0), (0, 255, 0)], [(0, 0, 0), (0, 255, 0), (255, 0, 0)], True, False),
        ([(0, 0, 0), (255, 0, 0), (0, 255, 0)], [(9, 0, 0), (255, 0, 0), (0, 255, 0)], True, False),
        ([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [(0, 0, 0), (1, 0, 0), (2, 0, 0)], False, True),
        ([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [(0, 0, 0), (0, 1, 0), (0, 2, 0)], False, False),
    ],
)
def test_a_class_number_has_one_color_in_all_masks(
    tmp_path: Path,
    first: list[tuple[int, int, int]],
    other: list[tuple[int, int, int]],
    by_palette: bool,
    same: bool,
) -> None:
    write_folders(tmp_path, values=range(3), colored=True)
    for number, path in enumerate(sorted((tmp_path / "masks").iterdir())):
        colors = other if number == 2 else first
        in_color(np.array(Image.open(path)), colors, by_palette).save(path)
    report = check_pictures(tmp_path, progress=False)
    if same:
        assert report.problems == []
        describe_pictures(tmp_path, progress=False)
        return
    (problem,) = report.problems
    assert "case_002.png shows the class" in problem
    assert "expected one color for each class in all masks" in problem
    with pytest.raises(ValueError, match=r"case_00\d.png shows the class \d in the color"):
        describe_pictures(tmp_path, progress=False)


def test_channels_of_images_to_segment_are_one_case(tmp_path: Path) -> None:
    write_nnunet(tmp_path, channels=2, cases=CASES[:2])
    (tmp_path / "imagesTr/case_001_0001.nii.gz").unlink()
    write_volume(tmp_path / "imagesTr/whole.nii.gz", 1, shape=(6, 5, 4, 2))
    first, second, third = find_images(tmp_path / "imagesTr", channels=2)
    assert [Path(file).name for file in first["image"]] == ["case_000_0000.nii.gz", "case_000_0001.nii.gz"]
    assert first["case"] == "case_000"
    assert second["error"] == "it has the channels 0000; expected 2, from 0000 on"
    assert (third["case"], Path(third["image"]).name) == ("whole", "whole.nii.gz")
    listed = [f"imagesTr/case_000_{channel:04d}.nii.gz" for channel in range(2)]
    path = write_json(tmp_path, {"testing": [{"image": listed}, {"image": ["absent.nii.gz", listed[1]]}]}, "my.json")
    good, bad = find_images(path, channels=2)
    assert (good["image"], good["case"]) == (first["image"], "case_000")
    assert bad["error"] == f"there is no file {tmp_path / 'absent.nii.gz'}"
    (tmp_path / "out").mkdir()
    write_volume(tmp_path / "out/case_000_seg.nii.gz", 0, is_label=True)
    left = find_images(tmp_path / "imagesTr", output_dir=tmp_path / "out", skip_existing=True, channels=2)
    assert [item["case"] for item in left] == ["case_001", "whole"]


@pytest.mark.parametrize("colored", [True, False])
def test_a_deep_picture_among_colored_ones_is_a_problem_as_in_training(colored: bool, tmp_path: Path) -> None:
    write_folders(tmp_path, colored=colored)
    deep = tmp_path / f"images/{CASES[2]}.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 65535, (8, 6)).astype(np.uint16)).save(deep)
    problems = check_pictures(tmp_path, progress=False).problems
    channels = describe_pictures(tmp_path, progress=False)["num_channels"]
    reader = ImageFileReader(channels, max_bits=8 if channels == 3 else None)  # as in the bundle
    if colored:
        with pytest.raises(ValueError, match="cannot be read: its values have 16 bits") as error:
            reader.read_pages(str(deep))
        assert problems == [f"{deep}: {str(error.value).split('cannot be read: ')[1]}"]
    else:
        assert problems == []
        reader.read_pages(str(deep))
