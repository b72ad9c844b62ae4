# SPDX-License-Identifier: Apache-2.0
"""One broken case does not stop the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, LoadImaged

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
    scans: list[dict[str, str]],
    output_dir: Path,
    inferer: Callable[..., Any] | None = None,
    num_workers: int = 0,
    read: Callable[[Any], Any] = lambda image: image,
    write: Callable[[Any], Any] = lambda items: items,
    loader: type[DataLoader] = DataLoader,
) -> CaseEvaluator:
    def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        return torch.cat([image, 1 - image], dim=1)

    load = LoadImaged("image", reader="NibabelReader", ensure_channel_first=True)
    dataset = CaseDataset(scans, Compose([load, Lambdad("image", read)]))
    return CaseEvaluator(
        device="cpu",
        val_data_loader=loader(dataset, batch_size=1, num_workers=num_workers),
        network=torch.nn.Identity(),
        inferer=inferer or infer,
        postprocessing=Compose([SegmentLogitsd("pred"), write]),
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


def test_an_inferer_may_return_a_dictionary(scans: list[dict[str, str]], tmp_path: Path) -> None:
    def infer(image: torch.Tensor, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {"pred": torch.cat([image, 1 - image], dim=1), "uncertainty": image}

    evaluator = evaluate(scans, tmp_path / "out", infer)
    outputs: list[dict[str, Any]] = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output))
    evaluator.run()
    assert [item["uncertainty"].max().item() for item in outputs] == [0, 1, 2]
    assert results(tmp_path / "out") == ["scan0", "scan1", "scan2"]


class TestSideBySide:
    """Each stage waits for what must be going on in the others, so that a run in turn would end in the time limit."""

    LIMIT = 30.0  # seconds

    def test_while_one_case_is_written_the_next_is_in_the_network_and_another_is_read(
        self, scans: list[dict[str, str]], tmp_path: Path
    ) -> None:
        reading, inferring = threading.Event(), threading.Event()

        def read(image: Any) -> Any:
            if image.max() == 2:
                reading.set()
            return image

        def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
            if image.max() == 1:
                inferring.set()
            return torch.cat([image, 1 - image], dim=1)

        def write(items: dict[str, Any]) -> dict[str, Any]:
            assert reading.wait(self.LIMIT)
            assert inferring.wait(self.LIMIT)
            return items

        evaluator = evaluate(scans, tmp_path / "out", infer, read=read, write=write)
        evaluator.run()
        assert results(tmp_path / "out") == ["scan0", "scan1", "scan2"]

    def test_never_more_than_three_cases_at_a_time(self, scans: list[dict[str, str]], tmp_path: Path) -> None:
        many = [{**scan, "case": f"{scan['case']}_{k}"} for k in range(4) for scan in scans]
        n_read, n_written, most = 0, 0, 0

        def read(image: Any) -> Any:
            nonlocal n_read
            n_read += 1
            return image

        def write(items: dict[str, Any]) -> dict[str, Any]:
            nonlocal n_written, most
            time.sleep(0.02)  # the slowest stage: the others have time to run ahead
            most = max(most, n_read - n_written)
            n_written += 1
            return items

        evaluate(many, tmp_path / "out", read=read, write=write).run()
        assert (n_read, n_written) == (12, 12)
        assert most == 3

    def test_failures_of_all_stages_are_told_in_the_order_of_the_cases(
        self, scans: list[dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        many = [{**scan, "case": f"{scan['case']}_{k}"} for k in range(2) for scan in scans]
        written = iter(range(6))

        def read(image: Any) -> Any:
            return 1 / 0 if image.max() == 2 else image

        def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
            if image.max() == 1:
                raise torch.OutOfMemoryError("too large")
            return torch.cat([image, 1 - image], dim=1)

        def write(items: dict[str, Any]) -> dict[str, Any]:
            if next(written) == 1:
                raise OSError("No space left on device")
            return items

        evaluator = evaluate(many, tmp_path / "out", infer, read=read, write=write)
        with pytest.raises(RuntimeError, match="5 of 6 cases failed, 1 are done"):
            evaluator.run()
        assert list(evaluator.failures) == ["scan1_0", "scan2_0", "scan0_1", "scan1_1", "scan2_1"]
        told = [record.getMessage().partition(" ")[0] for record in caplog.records if "failed:" in record.getMessage()]
        assert told == list(evaluator.failures)
        assert results(tmp_path / "out") == ["scan0_0"]

    def test_a_loader_that_breaks_ends_the_run_after_the_cases_before(
        self, scans: list[dict[str, str]], tmp_path: Path
    ) -> None:
        class Breaking(DataLoader):
            def __iter__(self) -> Any:
                batches = super().__iter__()
                yield next(batches)
                yield next(batches)
                raise RuntimeError("DataLoader worker is killed by signal")

        evaluator = evaluate(scans, tmp_path / "out", loader=Breaking)
        with pytest.raises(RuntimeError, match="killed by signal"):
            evaluator.run()
        assert results(tmp_path / "out") == ["scan0", "scan1"]

    def test_no_network_is_waited_for_when_the_run_is_stopped(
        self, scans: list[dict[str, str]], tmp_path: Path
    ) -> None:
        started = threading.Event()
        calls = 0

        def infer(image: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
            nonlocal calls
            if image.max() == 1:
                started.set()
                end = time.monotonic() + self.LIMIT
                while time.monotonic() < end:  # many slices
                    image = network(image)
                    calls += 1
                    time.sleep(0.01)
            return torch.cat([image, 1 - image], dim=1)

        def write(items: dict[str, Any]) -> dict[str, Any]:
            assert started.wait(self.LIMIT)
            raise KeyboardInterrupt

        evaluator = evaluate(scans, tmp_path / "out", infer, write=write)
        with pytest.raises(KeyboardInterrupt):
            evaluator.run()
        assert calls < self.LIMIT / 0.01 / 2
        evaluator = evaluate(scans, tmp_path / "out")
        evaluator.run()
        assert results(tmp_path / "out") == ["scan0", "scan1", "scan2"]


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
