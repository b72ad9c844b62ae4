# SPDX-License-Identifier: Apache-2.0
"""A folder of phantoms is written whole or not at all, known again, and never overwritten; what all data sets share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageSequence

from monai_sam2adapter.data import (
    write_acdc_phantom,
    write_isbi2012_phantom,
    write_kvasir_phantom,
    write_pair_phantom,
    write_phantom_folder,
    write_synapse_phantom,
)

REQUEST = {"data_set": "letters", "numbers": (1, 2)}
NO_CASE = {"num_train": 0, "num_val": 0, "num_test": 0}


def write(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file, of a stack those of each page; without the file that says what was asked for."""
    content = {name: (folder / name).read_bytes() for name in files(folder) if name != "phantom.json"}
    for name in [name for name in content if name.endswith(".tif")]:
        del content[name]
        with Image.open(folder / name) as stack:
            content |= {f"{name}#{k}": page.tobytes() for k, page in enumerate(ImageSequence.Iterator(stack))}
    return content


@pytest.mark.parametrize("there", [True, False], ids=["empty-folder", "no-folder"])
def test_is_written_once(tmp_path: Path, there: bool) -> None:
    output = tmp_path / "deep" / "output"
    if there:
        output.mkdir(parents=True)
    assert write_phantom_folder(output, 0, REQUEST, write)
    assert files(tmp_path / "deep") == ["output/b.txt", "output/in/a.txt", "output/phantom.json"]
    before = os.stat(output / "b.txt").st_mtime_ns
    assert not write_phantom_folder(output, 0, REQUEST, write)
    assert os.stat(output / "b.txt").st_mtime_ns == before


def test_other_phantoms_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    write_phantom_folder(tmp_path, 0, REQUEST, write)
    for seed, request in ((1, REQUEST), (0, {**REQUEST, "numbers": (1, 3)})):
        with pytest.raises(ValueError, match=r"holds other phantoms \(see .*phantom\.json\)"):
            write_phantom_folder(tmp_path, seed, request, write)
    (tmp_path / "in" / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"in/a\.txt is missing in .*; delete that folder"):
        write_phantom_folder(tmp_path, 0, REQUEST, write)


def test_anything_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").touch()
    for output in (tmp_path, tmp_path / "scan.nii"):
        with pytest.raises(ValueError, match="is not empty and was not written as a phantom"):
            write_phantom_folder(output, 0, REQUEST, write)
    assert files(tmp_path) == ["scan.nii"]


def test_a_broken_run_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_phantom_folder(tmp_path / "output", 0, REQUEST, fail)
    assert files(tmp_path) == []
    assert write_phantom_folder(tmp_path / "output", 0, REQUEST, write)


@pytest.mark.parametrize(
    ("write_phantom", "few", "more"),
    [
        pytest.param(write_acdc_phantom, {**NO_CASE, "num_train": 1}, {"num_train": 2}, id="acdc"),
        pytest.param(write_synapse_phantom, {**NO_CASE, "num_train": 1}, {"num_test": 1}, id="synapse"),
        pytest.param(write_isbi2012_phantom, {"num_slices": 5}, {"num_slices": 6}, id="isbi2012"),
        pytest.param(write_kvasir_phantom, {"num_images": 3}, {"num_images": 4}, id="kvasir"),
        pytest.param(
            write_pair_phantom,
            {"num_train": 2, "num_val": 1, "num_test": 1, "task": "custom"},
            {"num_train": 3, "num_val": 2},
            id="pairs",
        ),
    ],
)
def test_a_case_depends_on_seed_and_number_alone(
    write_phantom: Callable[..., bool], few: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    for name, options in {"few": few, "more": {**few, **more}, "other": {**few, "seed": 1}}.items():
        assert write_phantom(tmp_path / name, progress=False, **options)
    first, second, other = (contents(tmp_path / name) for name in ("few", "more", "other"))
    assert first.items() < second.items()
    assert len(set(second.values())) == len(second)  # no case twice
    same_names = first.keys() & other.keys()  # all but the frames of the end of systole, which vary
    assert len(same_names) >= 2
    assert all(other[name] != first[name] for name in same_names)
    assert not write_phantom(tmp_path / "few", progress=False, **few)
    for options in (more, {"seed": 1}):
        with pytest.raises(ValueError, match="holds other phantoms"):
            write_phantom(tmp_path / "few", progress=False, **{**few, **options})


@pytest.mark.parametrize(
    ("write_phantom", "options", "message"),
    [
        (write_acdc_phantom, {"num_train": 71}, "num_train is 71, expected 0 to 70"),
        (write_acdc_phantom, {"num_val": -1}, "num_val is -1, expected 0 to 10"),
        (write_acdc_phantom, NO_CASE, "no patient asked for"),
        (write_acdc_phantom, {"seed": -1}, "seed is -1, expected 0 or more"),
        (write_synapse_phantom, {"num_train": 16}, "num_train is 16, expected 0 to 15"),
        (write_synapse_phantom, {"num_test": -1}, "num_test is -1, expected 0 to 12"),
        (write_synapse_phantom, NO_CASE, "no patient asked for"),
        (write_isbi2012_phantom, {"num_slices": 4}, "num_slices is 4, expected 5 to 30"),
        (write_isbi2012_phantom, {"num_slices": 31}, "num_slices is 31, expected 5 to 30"),
        (write_kvasir_phantom, {"num_images": 2}, "num_images is 2, expected 3 to 1000"),
        (write_kvasir_phantom, {"seed": -1}, "seed is -1, expected 0 or more"),
        (write_pair_phantom, {"num_train": 1}, "num_train is 1, expected 2 or more"),
        (write_pair_phantom, {"num_test": 0}, "num_test is 0, expected 1 or more"),
        (write_pair_phantom, {"task": "medical"}, "'medical'"),
    ],
)
def test_wrong_options_are_errors_and_nothing_is_written(
    write_phantom: Callable[..., bool], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantom(tmp_path / "new", progress=False, **options)
    assert not list(tmp_path.iterdir())
