# SPDX-License-Identifier: Apache-2.0
"""The check of Synapse: right counts on good data, and each kind of damage found and named with its file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sam2adapter.data import check_synapse, format_report


def scan(root: Path) -> Path:
    return root / "Training" / "img" / "img0006.nii.gz"


def label(root: Path) -> Path:
    return root / "Training" / "label" / "label0006.nii.gz"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], shift: float = 0) -> None:
    old = nib.load(path)
    affine = old.affine.copy()
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(change(np.asarray(old.dataobj)), affine), path)


def with_nan(array: np.ndarray) -> np.ndarray:
    return np.where(np.arange(array.size).reshape(array.shape) == 7, np.nan, array).astype(np.float32)


def copy(source: Path, target: Path) -> None:
    """The same voxels, of another type and elsewhere; its labels go with it."""
    for old, new in ((source, target), (twin(source), twin(target))):
        volume = nib.load(old)
        nib.save(nib.Nifti1Image(np.asarray(volume.dataobj).astype(np.int32), volume.affine), new)


def twin(path: Path) -> Path:
    return path.parents[1] / "label" / path.name.replace("img", "label")


DAMAGES = {
    "label-missing": (lambda root: label(root).unlink(), scan, "its labels label0006.nii.gz are missing"),
    "scan-missing": (lambda root: scan(root).unlink(), label, "labels without their scan img0006.nii.gz"),
    "other-shape": (lambda root: rewrite(label(root), lambda a: a[..., 1:]), label, "has the shape .* its image"),
    "other-place": (lambda root: rewrite(label(root), lambda a: a, shift=5), label, "lies elsewhere"),
    "label-14": (
        lambda root: rewrite(label(root), lambda a: np.where(a == 6, 14, a)),
        label,
        r"voxels of other labels \(14\); expected 0 to 13",
    ),
    "label-empty": (lambda root: rewrite(label(root), np.zeros_like), label, "is empty: no voxel"),
    "nan": (lambda root: rewrite(scan(root), with_nan), scan, "has 1 NaN and 0 infinite"),
    "no-slice": (lambda root: rewrite(scan(root), lambda a: a[..., :0]), scan, "has no voxels: its shape is"),
    "not-rescaled": (
        lambda root: rewrite(scan(root), lambda a: a + 1024),
        scan,
        r"not in Hounsfield units: values from 0 to \d+, expected air near -1000 and bone above 100",
    ),
    "not-rescaled-with-noise": (
        lambda root: rewrite(scan(root), lambda a: np.where(a <= -1024, -1100, a) + 1024),
        scan,
        "not in Hounsfield units: values from -76 to",
    ),
    "clipped": (
        lambda root: rewrite(scan(root), lambda a: np.clip(a, -125, 275)),
        scan,
        "not in Hounsfield units: values from -125 to 275",
    ),
    "fractions": (
        lambda root: rewrite(scan(root), lambda a: a.astype(np.float32) + 0.25),
        scan,
        "has values that are not integers",
    ),
    "copy": (
        lambda root: copy(root / "Training/img/img0005.nii.gz", scan(root)),
        scan,
        r"shows the same as .*img0005\.nii\.gz, voxel by voxel",
    ),
    "0-to-1": (
        lambda root: rewrite(scan(root), lambda a: ((np.clip(a, -125, 275) + 125) / 400).astype(np.float32)),
        scan,
        "not in Hounsfield units: values from 0 to 1,",
    ),
    "standardized": (
        lambda root: rewrite(scan(root), lambda a: ((a - a.mean()) / a.std()).astype(np.float32)),
        scan,
        "not in Hounsfield units: values from -",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_found_once_with_its_file(synapse_dir: Path, name: str) -> None:
    damage, file, message = DAMAGES[name]
    damage(synapse_dir)
    (problem, *others) = check_synapse(synapse_dir, progress=False).problems
    assert len(others) == (name == "no-slice")  # which shows at the labels, too
    with pytest.raises(ValueError, match=f"^{file(synapse_dir)}: .*{message}"):
        raise ValueError(problem)


def test_good_scans_are_counted_and_have_no_problem(synapse_phantom_dir: Path) -> None:
    report = check_synapse(synapse_phantom_dir, progress=False)
    assert report.problems == []
    masks = {path.name[5:9]: np.asarray(nib.load(path).dataobj) for path in synapse_phantom_dir.rglob("label*.nii.gz")}
    depth = {number: mask.shape[2] for number, mask in masks.items()}
    assert sorted(depth) == ["0001", "0005", "0006"]
    assert report.counts["fold 0 train"] == {"cases": 1, "slices": depth["0006"]}
    assert report.counts["fold 1 train"] == {"cases": 1, "slices": depth["0005"]}
    assert report.counts["fold 0 test"] == report.counts["fold 5 test"] == {"cases": 1, "slices": depth["0001"]}
    assert report.counts["fold 5 val"] == {"cases": 0, "slices": 0}
    voxels = sum(np.bincount(mask.ravel(), minlength=14) for mask in masks.values())
    np.testing.assert_array_equal(report.voxels, voxels)
    assert "portal and splenic veins" in format_report(report)


def test_a_part_without_cases_in_all_folds_is_a_problem(synapse_dir: Path) -> None:
    for path in synapse_dir.rglob("*0001.nii.gz"):
        path.unlink()
    assert check_synapse(synapse_dir, progress=False).problems == [
        f"{synapse_dir}: no case of the part 'test' of the split"
    ]


def test_renumbered_copies_are_a_problem_but_with_an_own_split(synapse_dir: Path, tmp_path: Path) -> None:
    for path in synapse_dir.rglob("*0006.nii.gz"):
        path.rename(path.with_name(path.name.replace("0006", "0011")))
    problems = check_synapse(synapse_dir, progress=False).problems
    assert any("the challenge has no labeled cases 0011 to 0020" in problem for problem in problems)
    own = tmp_path / "own.json"
    own.write_text('{"train": ["case0011"], "val": ["case0005"], "test": ["case0001"]}')
    report = check_synapse(synapse_dir, split_file=own, progress=False)
    assert report.problems == []
    assert report.counts["train"]["cases"] == 1


def test_the_real_sample_lacks_only_parts_and_is_said_to_have_no_esophagus(
    shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = check_synapse(shared_data / "ct_sample", progress=False)
    assert [problem.split(": ")[1] for problem in report.problems] == [
        "no case of the part 'train' of the split",
        "no case of the part 'val' of the split",
    ]
    assert report.shapes == [(122, 101, 30)]
    assert np.flatnonzero(report.voxels == 0).tolist() == [5]
    assert "no case has esophagus" in caplog.text


class TestArrays:
    def test_good_arrays_are_counted_in_9_classes(self, transunet_dir: Path) -> None:
        report = check_synapse(transunet_dir, progress=False)
        assert report.problems == []
        assert report.counts["fold 0 val"] == report.counts["fold 0 test"] == {"cases": 1, "slices": 2}
        assert report.shapes == [(6, 4, 2), (6, 4, 2)]
        assert report.spacings == []
        np.testing.assert_array_equal(report.voxels, 2 * np.bincount(np.arange(48) % 9))
        np.testing.assert_array_equal(report.volumes_with_class, 9 * [2])
        assert "aorta" in format_report(report)

    @pytest.mark.parametrize(
        ("image", "label", "message"),
        [
            pytest.param(
                np.linspace(0, 1, 24).reshape(4, 6), 9, "has the labels 9; expected integers 0 to 8", id="label"
            ),
            pytest.param(-1000, 1, "expected about 0 to 1", id="HU"),
            pytest.param(np.nan, 1, "has 24 NaN or infinite voxels", id="nan"),
            pytest.param(0.5, 1, "is empty: all voxels are equal", id="constant"),
        ],
    )
    def test_wrong_values_are_found_in_their_slice(
        self, transunet_dir: Path, image: float | np.ndarray, label: float, message: str
    ) -> None:
        path = transunet_dir / "train_npz" / "case0005_slice001.npz"
        np.savez(path, image=np.full((4, 6), image), label=np.full((4, 6), label))
        (problem,) = check_synapse(transunet_dir, progress=False).problems
        assert problem.startswith(f"{path}: ")
        assert message in problem

    def test_other_sizes_missing_arrays_gaps_and_empty_cases_are_found(self, transunet_dir: Path) -> None:
        folder = transunet_dir / "train_npz"
        np.savez(folder / "case0005_slice001.npz", image=np.zeros((4, 6)), label=np.zeros((6, 4)))
        np.savez(folder / "case0005_slice003.npz", image=np.eye(8, 6))
        np.savez(folder / "case0006_slice000.npz", image=np.zeros((4, 6)), label=np.zeros((4, 6)))
        assert check_synapse(transunet_dir, progress=False).problems == [
            f"{folder}/case0005_slice000.npz: slices 2 of this case are missing",
            f"{folder}/case0005_slice001.npz: is empty: all voxels are equal",
            f"{folder}/case0005_slice001.npz: its labels have the size (4, 6, 1), its image (6, 4, 1)",
            f"{folder}/case0005_slice003.npz: has no array 'label', only ['image']; expected 'image' and 'label'",
            f"{folder}/case0005_slice000.npz: the slices of its case differ in size: [(6, 4), (6, 8)]",
            f"{folder}/case0006_slice000.npz: is empty: all voxels are equal",
            f"{folder}/case0006_slice000.npz: its case is empty: no voxel of any class but background",
        ]

    def test_an_array_without_slices_is_found(self, transunet_dir: Path) -> None:
        path = transunet_dir / "train_npz" / "case0005_slice001.npz"
        np.savez(path, image=np.zeros((0, 4, 6)), label=np.zeros((0, 4, 6)))
        problems = check_synapse(transunet_dir, progress=False).problems
        assert [problem.split(": ")[0] for problem in problems] == [str(path)] * 2

    def test_the_same_case_as_slices_and_as_a_volume_is_found(self, transunet_dir: Path) -> None:
        volume = transunet_dir / "test_vol_h5" / "case0001.npy.h5"
        with pytest.importorskip("h5py").File(volume) as file:
            arrays = {key: file[key][:] for key in ("image", "label")}
        for k in range(2):
            np.savez(
                transunet_dir / "train_npz" / f"case0005_slice{k:03d}.npz",
                **{key: array[k] for key, array in arrays.items()},
            )
        (problem,) = check_synapse(transunet_dir, progress=False).problems
        assert problem == (
            f"{transunet_dir}/train_npz/case0005_slice000.npz: shows the same as {volume}, voxel by voxel"
        )
