# SPDX-License-Identifier: Apache-2.0
"""One broken case does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Lambdad, LoadImaged

from monai_sam2adapter.data import CaseDataset, LabelScheme
from monai_sam2adapter.data.case_dataset import describe_error
from monai_sam2adapter.engines import CaseEvaluator
from monai_sam2adapter.handlers import EpochProgressBar, OverlayImageHandler, SegmentationSaver
from monai_sam2adapter.transforms import SegmentLogitsd
from monai_sam2adapter.visualize import OverlayPlanes

SCHEME = LabelScheme(("a",), ((255, 0, 9),), ({},))


@pytest.fixture
def scans(tmp_path: Path) -> list[dict[str, str]]:
    """Three volumes whose voxels are all 0, 1 and 2."""
    for value in range(3):
        image = nib.Nifti1Image(np.full((6, 5, 4), value, np.float32), np.eye(4))
        nib.save(image, tmp_path / f"scan{value}.nii")
    return [{"image": str(tmp_path / f"scan{value}.nii"), "case": f"scan{value}"} for value in range(3)]


def evaluate(
    scans: list[dict[str, str]], output_dir: Path, inferer: Callable[..., Any] | None = None, num_workers: int = 0
) -> CaseEvaluator:
    def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        return torch.cat([image, 1 - image], dim=1)

    dataset = CaseDataset(scans, LoadImaged("image", reader="NibabelReader", ensure_channel_first=True))
    return CaseEvaluator(
        device="cpu",
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=num_workers),
        network=torch.nn.Identity(),
        inferer=inferer or infer,
        postprocessing=SegmentLogitsd("pred"),
        val_handlers=[
            SegmentationSaver(output_dir, SCHEME),
            OverlayImageHandler(SCHEME.names, output_dir=output_dir / "overlays"),
            EpochProgressBar(desc="Cases"),
        ],
    )


def results(output_dir: Path) -> list[str]:
    return sorted(path.name.removesuffix("_seg.nii.gz") for path in output_dir.glob("*_seg.nii.gz"))


def test_all_good_cases_raise_nothing(scans: list[dict[str, str]], tmp_path: Path) -> None:
    evaluate(scans, tmp_path / "out").run()
    assert results(tmp_path / "out") == ["scan0", "scan1", "scan2"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_file_is_named_and_the_others_are_done(
    num_workers: int, scans: list[dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(scans[1]["image"]).write_bytes(b"no NIfTI")
    evaluator = evaluate(scans, tmp_path / "out", num_workers=num_workers)
    with pytest.raises(
        RuntimeError, match=r"1 of 3 cases failed, 2 are done:\n  scan1: .*scan1\.nii: RuntimeError: Load"
    ):
        evaluator.run()
    assert results(tmp_path / "out") == ["scan0", "scan2"]
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").glob("*.png")) == ["scan0.png", "scan2.png"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert any("scan1 failed" in message for message in errors)
    assert list(evaluator.failures) == ["scan1"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "OutOfMemoryError: CUDA out of memory"),
        (MemoryError(), "MemoryError"),
        (ValueError("too small\nand more"), "ValueError: too small and more$"),
    ],
    ids=["gpu", "memory", "value"],
)
def test_a_failing_network_is_a_failed_case(
    error: Exception, reason: str, scans: list[dict[str, str]], tmp_path: Path
) -> None:
    def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        if image.max() == 1:
            raise error
        return torch.cat([image, 1 - image], dim=1)

    with pytest.raises(RuntimeError, match=rf"1 of 3 cases failed(.|\n)*scan1: .*{reason}"):
        evaluate(scans, tmp_path / "out", infer).run()
    assert results(tmp_path / "out") == ["scan0", "scan2"]


def test_nan_is_a_failure_and_all_failures_are_told(scans: list[dict[str, str]], tmp_path: Path) -> None:
    evaluator = evaluate(scans, tmp_path / "out", lambda image, network: torch.cat([image, image * float("nan")], 1))
    with pytest.raises(RuntimeError, match=r"all cases failed, 0 are done:(.*\n)+  scan2: .*NaN or infinite"):
        evaluator.run()
    assert results(tmp_path / "out") == []


def test_a_disk_that_is_full_for_one_case(
    scans: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = nib.save

    def fail_once(image: Any, path: Path) -> None:
        if "scan1" in str(path):
            raise OSError("No space left on device")
        save(image, path)

    monkeypatch.setattr(nib, "save", fail_once)
    with pytest.raises(RuntimeError, match=r"scan1: .*No space left on device"):
        evaluate(scans, tmp_path / "out").run()
    assert results(tmp_path / "out") == ["scan0", "scan2"]


def test_the_user_can_stop_it(scans: list[dict[str, str]], tmp_path: Path) -> None:
    def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(scans, tmp_path / "out", infer).run()


def test_a_second_run_begins_anew(scans: list[dict[str, str]], tmp_path: Path) -> None:
    good = Path(scans[1]["image"]).read_bytes()
    Path(scans[1]["image"]).write_bytes(b"no NIfTI")
    evaluator = evaluate(scans, tmp_path / "out")
    with pytest.raises(RuntimeError, match="1 of 3"):
        evaluator.run()
    Path(scans[1]["image"]).write_bytes(good)
    evaluator.run()
    assert evaluator.failures == {}


def test_the_dataset_tells_where_a_case_came_from(scans: list[dict[str, str]]) -> None:
    def refuse(image: Any) -> Any:
        raise ValueError("too dark\n  second line")

    good, bad = CaseDataset(scans)[0], CaseDataset(scans, Lambdad("image", refuse))[0]
    assert good == {**scans[0], "file": scans[0]["image"]}
    assert bad == {"case": "scan0", "file": scans[0]["image"], "error": "ValueError: too dark second line"}


def test_an_item_with_an_error_is_handed_on() -> None:
    item = {"image": "a.nii", "case": "a", "error": "there is no such file or folder"}
    assert CaseDataset([item])[0] == {"case": "a", "file": "a.nii", "error": "there is no such file or folder"}


def test_told_is_what_this_package_says_around_the_error_of_another(tmp_path: Path) -> None:
    (tmp_path / "im0.dcm").write_bytes(bytes(128) + b"DICM" + bytes(500))
    scans = [{"image": str(tmp_path / "im0.dcm"), "case": "a"}]
    error = CaseDataset(scans, LoadImaged("image", reader="monai_sam2adapter.data.VolumeReader"))[0]["error"]
    assert error.startswith(f"ValueError: {tmp_path / 'im0.dcm'} cannot be read: im0.dcm is damaged")


def test_a_long_reason_is_cut() -> None:
    assert describe_error(ValueError("word " * 100)) == f"ValueError: {'word ' * 57}..."


@pytest.mark.parametrize("text", ["x\n2026-01-01 00:00:00 - INFO - all cases are done", "\x1b[2J", "\r", "\u202e"])
def test_names_and_reasons_stay_in_their_line(text: str, caplog: pytest.LogCaptureFixture) -> None:
    batch = {key: [text] for key in ("case", "file", "error")}
    evaluator = CaseEvaluator(device="cpu", val_data_loader=[batch], network=None, epoch_length=1)
    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="all cases failed") as caught:
        evaluator.run()
    own = [record.getMessage() for record in caplog.records if record.name.startswith("monai_sam2adapter")]
    for message in [*own, str(caught.value)]:
        assert all(line.isprintable() and not line.startswith("2026") for line in message.split("\n"))


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("kind", ["folder", "of_others", "overlays_is_a_file", "drawing"])
def test_a_picture_that_fails_ends_nothing(
    scans: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, broken: int
) -> None:
    overlays = tmp_path / "out" / "overlays"
    failed = {f"scan{broken}"}
    if kind == "folder":
        (overlays / f"scan{broken}.png" / "full").mkdir(parents=True)
    elif kind == "of_others":
        overlays.mkdir(parents=True)
        (overlays / f"scan{broken}.png").write_text("precious")
    elif kind == "overlays_is_a_file":
        overlays.parent.mkdir()
        overlays.write_text("")
        failed = {"scan0", "scan1", "scan2"}
    else:
        draw, calls = OverlayPlanes.draw, iter(range(3))
        monkeypatch.setattr(
            OverlayPlanes, "draw", lambda *args, **kwargs: 1 / 0 if next(calls) == broken else draw(*args, **kwargs)
        )
    evaluator = evaluate(scans, tmp_path / "out")
    with pytest.raises(RuntimeError, match=r"is done, but there is no picture of it: "):
        evaluator.run()
    assert set(evaluator.failures) == failed
    assert results(tmp_path / "out") == ["scan0", "scan1", "scan2"]
    if kind == "of_others":
        assert (overlays / f"scan{broken}.png").read_text() == "precious"
        (overlays / f"scan{broken}.png").unlink()
    drawn = {path.stem for path in overlays.glob("*.png") if path.is_file()} if overlays.is_dir() else set()
    assert drawn == {"scan0", "scan1", "scan2"} - failed
