# SPDX-License-Identifier: Apache-2.0
"""The check of ACDC: right counts on good data, and each kind of damage found and named with its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sam2adapter.data import acdc_datalist, check_acdc, format_report


def frame(root: Path) -> Path:
    return root / "training" / "patient001" / "patient001_frame01.nii.gz"


def mask(root: Path) -> Path:
    return root / "training" / "patient001" / "patient001_frame01_gt.nii.gz"


def frames(root: Path) -> list[Path]:
    return sorted(path for path in frame(root).parent.glob("*_frame*.nii.gz") if "_gt" not in path.name)


def second_frame(root: Path) -> np.ndarray:
    return np.asarray(nib.load(frames(root)[1]).dataobj)


def rewrite(
    path: Path, voxels: Callable[[np.ndarray], np.ndarray] | None = None, affine: np.ndarray | None = None
) -> None:
    """Change a file's voxels, or put ``affine`` behind its own."""
    old = nib.load(path)
    array = np.asarray(old.dataobj)
    new = array if voxels is None else voxels(array.copy())
    nib.save(nib.Nifti1Image(new, old.affine if affine is None else old.affine @ affine), path)


def set_voxel(value: float, dtype: str | None = None) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype or array.dtype)
        array[0, 0, 0] = value
        return array

    return change


def rgb(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


def unpack(path: Path) -> None:
    """Put the unpacked file beside the packed one."""
    nib.save(nib.load(path), path.with_suffix(""))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "mask-missing": (lambda root: mask(root).unlink(), frame, "its mask patient001_frame01_gt.nii.gz is missing"),
    "image-missing": (lambda root: frame(root).unlink(), mask, "a mask without its image patient001_frame01.nii.gz"),
    "packed-and-not": (lambda root: unpack(frame(root)), frame, "is there twice, also as .*frame01.nii; keep one"),
    "other-shape": (lambda root: rewrite(mask(root), lambda a: a[:, :, 1:]), mask, "has the shape .* its image"),
    "other-spacing": (
        lambda root: rewrite(mask(root), affine=np.diag([1.1, 1, 1, 1])),
        mask,
        r"voxels are up to .* mm apart \(spacing",
    ),
    "other-place": (lambda root: rewrite(mask(root), affine=np.eye(4) + np.eye(4, k=3)), mask, "lies elsewhere"),
    "label-4": (
        lambda root: rewrite(mask(root), set_voxel(4)),
        mask,
        r"1 voxels of other labels \(4\); expected 0 to 3",
    ),
    "label-below-0": (lambda root: rewrite(mask(root), set_voxel(-1, "int16")), mask, r"other labels \(-1\)"),
    "label-fraction": (
        lambda root: rewrite(mask(root), set_voxel(0.5, "float32")),
        mask,
        r"1 voxels that are not integers \(0\.5\)",
    ),
    "label-nan": (lambda root: rewrite(mask(root), set_voxel(np.nan, "float32")), mask, r"not integers \(nan\)"),
    "mask-empty": (lambda root: rewrite(mask(root), np.zeros_like), mask, "no voxel of any class but background"),
    "nan": (lambda root: rewrite(frame(root), set_voxel(np.nan, "float32")), frame, "has 1 NaN and 0 infinite voxels"),
    "inf": (lambda root: rewrite(frame(root), set_voxel(np.inf, "float32")), frame, "has 0 NaN and 1 infinite voxels"),
    "constant": (
        lambda root: rewrite(frame(root), lambda a: np.full_like(a, 7)),
        frame,
        "is empty: all voxels are equal",
    ),
    "no-slice": (lambda root: rewrite(frame(root), lambda a: a[..., :0]), frame, "has no voxels: its shape is"),
    "copy": (
        lambda root: rewrite(frame(root), lambda a: second_frame(root)),
        lambda root: frames(root)[1],
        r"shows the same as .*patient001_frame01\.nii\.gz, voxel by voxel",
    ),
    "4d": (lambda root: rewrite(frame(root), lambda a: a[..., None].repeat(2, -1)), frame, "has 4 dimensions"),
    "color": (lambda root: rewrite(frame(root), rgb), frame, "expected one real number a voxel"),
    "truncated": (lambda root: cut(frame(root), 20000), frame, r"cannot be read \(20000 bytes\)"),
    "no-byte": (lambda root: cut(mask(root), 0), mask, r"cannot be read \(0 bytes\)"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_found_and_named_with_its_file(acdc_dir: Path, name: str) -> None:
    damage, file, message = DAMAGES[name]
    damage(acdc_dir)
    report = check_acdc(acdc_dir, progress=False)
    found = [problem for problem in report.problems if problem.startswith(f"{file(acdc_dir)}: ")]
    assert len(found) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(found[0])
    # a changed shape shows at the mask as well; nothing else may be reported
    assert {Path(problem.split(": ")[0]) for problem in report.problems} <= {
        file(acdc_dir),
        frame(acdc_dir),
        mask(acdc_dir),
    }
    assert found[0] in format_report(report)


def test_a_zero_spacing_is_a_problem(acdc_dir: Path) -> None:
    for path in (frame(acdc_dir), mask(acdc_dir)):
        volume = nib.load(path)
        volume.header.set_sform(np.diag([0.0, 1, 1, 1]), code=1)
        nib.save(nib.Nifti1Image(np.asarray(volume.dataobj), None, volume.header), path)
    report = check_acdc(acdc_dir, progress=False)
    assert any(f"{frame(acdc_dir)}: has the voxel spacing 0, 1, 1 mm" in problem for problem in report.problems)


def test_good_data_are_counted_and_have_no_problem(phantom_dir: Path) -> None:
    report = check_acdc(phantom_dir, progress=False)
    assert report.problems == []
    voxels = np.zeros(4, dtype=int)
    for part in ("train", "val", "test"):
        masks = [np.asarray(nib.load(item["label"]).dataobj) for item in acdc_datalist(phantom_dir, part)]
        slices = sum(array.shape[2] for array in masks)
        assert report.counts[part] == {"patients": 1, "volumes": 2, "slices": slices}
        voxels += sum(np.bincount(array.ravel(), minlength=4) for array in masks)
    np.testing.assert_array_equal(report.voxels, voxels)
    np.testing.assert_array_equal(report.volumes_with_class, [6, 6, 6, 6])


def test_a_tiny_rounding_of_the_affine_is_no_problem(acdc_dir: Path) -> None:
    rewrite(mask(acdc_dir), affine=np.diag([1 + 1e-6, 1, 1, 1]))
    assert check_acdc(acdc_dir, progress=False).problems == []


def test_every_fold_of_an_own_split_is_counted(acdc_dir: Path, tmp_path: Path) -> None:
    names = [f"patient{number}" for number in ("001", "015", "017")]
    folds = [{"train": names[:k] + names[k + 1 :], "val": [], "test": [names[k]]} for k in range(2)]
    path = tmp_path / "folds.json"
    path.write_text(json.dumps({"folds": folds}))
    report = check_acdc(acdc_dir, path, progress=False)
    assert {part: row["patients"] for part, row in report.counts.items()} == {
        "fold 0 train": 2,
        "fold 0 val": 0,
        "fold 0 test": 1,
        "fold 1 train": 2,
        "fold 1 val": 0,
        "fold 1 test": 1,
    }
    assert [problem.split(": ", 1)[1] for problem in report.problems] == [
        "no patient of the part 'fold 0 val' of the split",
        "no patient of the part 'fold 1 val' of the split",
    ]
    assert {item["patient"] for item in acdc_datalist(acdc_dir, "test", 1, path)} == {"patient015"}


def test_patients_without_frames_and_parts_without_patients_are_problems(acdc_dir: Path) -> None:
    training = acdc_dir / "training"
    (training / "patient015").rename(training / "patient101")
    for path in (training / "patient017").iterdir():
        path.unlink()
    report = check_acdc(acdc_dir, progress=False)
    assert report.counts["in no part"]["patients"] == 1
    assert [problem.split(": ", 1)[1] for problem in report.problems] == [
        "no patient of the part 'val' of the split",
        "no frame; expected patient017_frameNN.nii.gz and patient017_frameNN_gt.nii.gz",
        "no frame; expected patient101_frameNN.nii.gz and patient101_frameNN_gt.nii.gz",
    ]


def test_the_printed_report_has_counts_sizes_and_the_histogram(phantom_dir: Path) -> None:
    report = check_acdc(phantom_dir, progress=False)
    lines = format_report(report).splitlines()
    assert lines[0] == f"ACDC in {phantom_dir}"
    assert lines[2].split() == ["patients", "volumes", "slices"]
    assert lines[3].split() == ["train", "1", "2", str(report.counts["train"]["slices"])]
    assert any(line.startswith("size ") and line.endswith(" voxels") for line in lines)
    assert any(line.startswith("spacing ") and line.endswith(" mm") for line in lines)
    share = 100 * report.voxels[3] / report.voxels.sum()
    row = next(line for line in lines if "left ventricle" in line)
    assert row.split() == ["3", "left", "ventricle", str(report.voxels[3]), f"{share:.2f}", "6"]
    assert lines[-1] == "no problems found"


def test_the_real_sample_has_no_problem(shared_data: Path) -> None:
    report = check_acdc(shared_data / "acdc", progress=False)
    patients = len(list((shared_data / "acdc" / "training").glob("patient*")))
    assert report.problems == []
    assert sum(row["patients"] for row in report.counts.values()) == patients
    assert len(report.shapes) == sum(row["volumes"] for row in report.counts.values()) == 2 * patients
    assert {spacing[2] for spacing in report.spacings} == {10.0}
