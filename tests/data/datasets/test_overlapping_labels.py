# SPDX-License-Identifier: Apache-2.0
"""Anyone's labels that overlap: masks of each class and regions of nnU-Net, found, checked and described."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_sam2adapter.data import (
    check_pictures,
    check_volumes,
    describe_pictures,
    describe_volumes,
    find_labeled_cases,
    format_report,
    picture_datalist,
    volume_datalist,
    write_disc_phantom,
)
from monai_sam2adapter.data.class_masks import class_masks, region_map

KINDS = {
    "picture": (check_pictures, describe_pictures, picture_datalist),
    "volume": (check_volumes, describe_volumes, volume_datalist),
}
OVERLAPPING = {"label_type": "overlapping", "progress": False}
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}


def overlapping_discs(folder: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One case with two discs, counted by hand: a mask each, in a folder for each class or as channels."""
    x, y = np.mgrid[:40, :40]
    masks = np.stack([np.hypot(x - 16, y - 20) < 12, np.hypot(x - 26, y - 20) < 8])
    image = (50 * masks.sum(axis=0) + x).astype(np.uint8)
    for case in ("a", "b"):
        if kind == "picture":
            for place, values in (("images", image), ("masks/one", 255 * masks[0]), ("masks/two", 255 * masks[1])):
                (folder / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray((values + (case == "b") * (place == "images")).astype(np.uint8)).save(
                    folder / place / f"{case}.png"
                )
        else:
            volumes = np.stack([image + (case == "b"), *masks])[..., None].repeat(2, axis=-1).astype(np.uint8)
            for place, values in (("images", volumes[0]), ("labels", np.moveaxis(volumes[1:], 0, -1))):
                (folder / place).mkdir(exist_ok=True, parents=True)
                nib.save(nib.Nifti1Image(values, np.eye(4)), folder / place / f"{case}.nii.gz")
            (folder / "dataset.json").write_text(json.dumps({"labels": ["one", "two"]}))
    return image, masks


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_counts_each_class_and_what_two_have_in_common(kind: str, tmp_path: Path) -> None:
    _, masks = overlapping_discs(tmp_path, kind)
    report = KINDS[kind][0](tmp_path, **OVERLAPPING)
    assert report.problems == []
    assert report.class_names == ("one", "two")
    factor = 2 if kind == "picture" else 4
    one, two, both = (factor * int(mask.sum()) for mask in (masks[0], masks[1], masks[0] & masks[1]))
    assert 0 < both < two < one
    assert report.voxels.tolist() == [one, two]
    assert report.overlaps.tolist() == [[one, both], [both, two]]
    text = format_report(report)
    line = next(line for line in text.splitlines() if "one and two" in line)
    assert line.split()[-3:] == [str(both), f"{100 * both / one:.1f}", f"{100 * both / two:.1f}"]
    assert "background" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_names_the_labels_alone_and_how_they_are_kept(kind: str, tmp_path: Path) -> None:
    overlapping_discs(tmp_path, kind)
    found = KINDS[kind][1](tmp_path, **OVERLAPPING)
    assert found["class_names"] == ["one", "two"]
    assert found["label_type"] == "overlapping"
    assert "regions" not in found
    case = KINDS[kind][2](tmp_path, "val", label_type="overlapping")[0]
    assert isinstance(case["label"], list) == (kind == "picture")


@pytest.mark.parametrize("kind", KINDS)
def test_regions_are_those_of_nnunet(kind: str, tmp_path: Path) -> None:
    write_disc_phantom(tmp_path, f"{kind} regions", num_images=2, progress=False)
    found = KINDS[kind][1](tmp_path, **OVERLAPPING)
    assert found["class_names"] == ["large disc", "both"]
    assert found["regions"] == [[1, 2], [2]]
    assert found["regions_class_order"] == [1, 2]
    report = KINDS[kind][0](tmp_path, **OVERLAPPING)
    assert report.problems == []
    assert report.overlaps[0, 1] == report.voxels[1] < report.voxels[0]  # the second lies in the first


@pytest.mark.parametrize("form", ["picture masks", "volume masks"])
def test_phantoms_overlap_in_part(form: str, tmp_path: Path) -> None:
    write_disc_phantom(tmp_path, form, num_images=2, progress=False)
    report = KINDS[form.split()[0]][0](tmp_path, **OVERLAPPING)
    assert report.problems == []
    assert 0 < report.overlaps[0, 1] < report.voxels[1] < report.voxels[0]


def test_regions_by_hand_and_back() -> None:
    labels = np.array([[0, 1, 2, 3, 1]])
    masks = class_masks(labels, "x", ["whole", "core", "enhancing"], [[1, 2, 3], [2, 3], [3]])
    assert masks.tolist() == [[0, 1, 1, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(region_map(masks, [1, 2, 3]), labels[0])
    # nnU-Net writes them one after the other, whatever lies in what
    assert region_map(masks, [3, 2, 1]).tolist() == [0, 3, 2, 1, 3]
    assert region_map(np.array([[0, 1], [1, 1]]), [300, 7]).dtype == np.uint16


@pytest.mark.parametrize(
    ("labels", "regions"), [([[0, 1, 9], [1, 1, 0]], None), ([[0, 1, 9]], [[1, 2], [2]])], ids=["masks", "regions"]
)
def test_what_does_not_count_counts_for_no_class(labels: list[Any], regions: list[list[int]] | None) -> None:
    masks = class_masks(np.array(labels), "x.png", ["one", "two"], regions, ignore_label=9)
    assert masks[:, 2].tolist() == [9, 9]
    assert masks[0, :2].tolist() == [0, 1]


def test_masks_of_black_and_white_and_of_jpeg(tmp_path: Path) -> None:
    values = np.array([[0, 255, 255], [0, 0, 0]])
    assert class_masks(values, "x.png", ["a", "b"]).tolist() == [[0, 1, 1], [0, 0, 0]]
    noisy = np.array([[3, 250, 255], [0, 4, 2]])
    assert class_masks(noisy, "x.jpg", ["a", "b"]).tolist() == [[0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("labels", "regions", "problem"),
    [
        ([[0, 1]], None, "has 1 masks, expected 2 for each of one, two"),
        ([[0, 1], [0, 2]], None, "the mask of 'two' has no value above 2"),
        ([[0, 90], [0, 255]], None, "the mask of 'one' has no value above 90"),
        ([[0, 5]], [[1, 2], [2]], "holds the values 5; expected those of the regions, 0, 1, 2"),
        ([[0, 1], [0, 1]], [[1, 2], [2]], "has 2 masks, expected 1 label map"),
        ([[0, float("nan")]], [[1, 2], [2]], "holds the values nan"),
    ],
)
def test_other_values_are_refused_by_name(labels: list[Any], regions: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"file.png.*{problem}"):
        class_masks(np.array(labels), "file.png", ["one", "two"], regions)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"labels": {"background": 0, "a": 1, "b": 2}}, "no region of several numbers"),
        ({"labels": REGIONS}, "regions_class_order is None; expected 3 of the labels"),
        ({"labels": REGIONS, "regions_class_order": [1, 2]}, "expected 3 of the labels"),
        ({"labels": REGIONS, "regions_class_order": [1, 2, 4]}, "expected 3 of the labels"),
        ({"labels": {"whole": [1, 2]}, "regions_class_order": [1]}, "the label 'background' is malformed or missing"),
        ({"labels": {**REGIONS, "all": [0, 1]}, "regions_class_order": [1, 2, 3, 1]}, "without the background"),
        ({"labels": {**REGIONS, "ignore": 2}, "regions_class_order": [1, 2, 3]}, "a label to ignore above all others"),
        ({"labels": ["a", "a"]}, "has a name twice"),
        ({"labels": ["a", "b", "c"]}, "expected one folder for each class"),
    ],
)
def test_a_malformed_json_is_refused(content: dict[str, Any], problem: str, tmp_path: Path) -> None:
    overlapping_discs(tmp_path, "picture")
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=problem):
        find_labeled_cases(tmp_path, "picture", label_type="overlapping")


def test_regions_of_nnunet_with_a_label_to_ignore(tmp_path: Path) -> None:
    write_disc_phantom(tmp_path, "volume regions", num_images=2, progress=False)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["labels"]["ignore"] = 3
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = find_labeled_cases(tmp_path, "volume", label_type="overlapping")
    assert found.ignore_label == 3
    assert found.regions == ((1, 2), (2,))
    with pytest.raises(ValueError, match="give --ignore_label 3"):
        describe_volumes(tmp_path, **OVERLAPPING)


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    overlapping_discs(tmp_path, "picture")
    (tmp_path / "masks" / "two" / "b.png").unlink()
    (problem,) = find_labeled_cases(tmp_path, "picture", label_type="overlapping").problems
    assert "b.png: its labels b in" in problem
    assert "two" in problem


def test_without_the_option_folders_of_classes_and_regions_say_which_one_to_give(tmp_path: Path) -> None:
    overlapping_discs(tmp_path / "masks of classes", "picture")
    with pytest.raises(ValueError, match=r"holds no label file, but the folders one, two; .* --label_type overlapping"):
        check_pictures(tmp_path / "masks of classes", progress=False)
    write_disc_phantom(tmp_path / "regions", "volume regions", num_images=2, progress=False)
    with pytest.raises(ValueError, match=r"large disc are regions.* --label_type overlapping"):
        check_volumes(tmp_path / "regions", progress=False)


def test_a_datalist_may_name_a_file_for_each_class(tmp_path: Path) -> None:
    _, masks = overlapping_discs(tmp_path, "picture")
    cases = [
        {"image": f"images/{name}.png", "label": {"one": f"masks/one/{name}.png", "two": f"masks/two/{name}.png"}}
        for name in "ab"
    ]
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": cases}))
    report = check_pictures(path, **OVERLAPPING)
    assert report.problems == []
    assert report.voxels.tolist() == [2 * int(mask.sum()) for mask in masks]
    for case in cases:
        case["label"] = list(case["label"].values())
    path.write_text(json.dumps({"training": cases}))
    assert check_pictures(path, **OVERLAPPING).class_names == ("class 1", "class 2")
    path.write_text(json.dumps({"labels": ["a", "b"], "training": cases}))
    assert check_pictures(path, **OVERLAPPING).class_names == ("a", "b")
    cases[0]["label"] = cases[0]["label"][:1]
    path.write_text(json.dumps({"training": cases}))
    with pytest.raises(ValueError, match=r"labels are of \[1, 2\] files; expected one for each class"):
        check_pictures(path, **OVERLAPPING)
    cases[0]["label"] = {"two": "masks/two/a.png", "one": "masks/one/a.png"}
    cases[1]["label"] = {"one": "masks/one/b.png", "two": "masks/two/b.png"}
    path.write_text(json.dumps({"training": cases}))
    with pytest.raises(ValueError, match="expected two, one, in this order"):
        check_pictures(path, **OVERLAPPING)


def test_masks_of_one_case_must_be_of_one_size(tmp_path: Path) -> None:
    overlapping_discs(tmp_path, "picture")
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / "masks" / "two" / "a.png")
    (problem,) = check_pictures(tmp_path, **OVERLAPPING).problems
    assert "the masks of a differ in size" in problem
    assert "40 x 30" in problem


def test_exclusive_labels_are_read_as_before(tmp_path: Path) -> None:
    _, masks = overlapping_discs(tmp_path, "picture")
    shutil.copytree(tmp_path / "images", tmp_path / "plain" / "images")
    shutil.copytree(tmp_path / "masks" / "one", tmp_path / "plain" / "masks")
    report = check_pictures(tmp_path / "plain", progress=False)
    assert report.class_names == ("background", "foreground")
    assert report.voxels[1] == 2 * masks[0].sum()
    assert "label_type" not in describe_pictures(tmp_path / "plain", progress=False)
