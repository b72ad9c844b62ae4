# SPDX-License-Identifier: Apache-2.0
"""What is chosen from anyone's data, and kept with the weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from own_data_folders import V2, change_json, write_folders, write_json, write_nnunet, write_volume
from PIL import Image

from monai_sam2adapter.data import (
    check_volumes,
    describe_pictures,
    describe_volumes,
    format_report,
    keep_description,
    read_description,
    volume_datalist,
)
from monai_sam2adapter.utils import warn_once


def describe(root: Path | None, **options: Any) -> dict[str, Any]:
    return describe_volumes(root, progress=False, **options)


@pytest.fixture
def ct_dir(tmp_path: Path) -> Path:
    return write_nnunet(tmp_path / "ct", channel_names={"0": "CT"})


class TestVolumes:
    def test_percentiles_of_all_foreground_voxels_of_the_training_cases(self, ct_dir: Path) -> None:
        inside = [
            nib.load(case["image"]).get_fdata()[nib.load(case["label"]).get_fdata() > 0]
            for case in volume_datalist(ct_dir, "train", fold=1)
        ]
        voxels = np.concatenate(inside)
        found = describe(ct_dir, fold=1)
        expected = {"mean": voxels.mean(), "std": voxels.std()}
        expected["lower"], expected["upper"] = np.percentile(voxels, (0.5, 99.5))
        assert found["normalization"] == [pytest.approx(expected, rel=1e-5)]
        assert found["fingerprint"]["class_voxels"]["liver"] == len(voxels)
        assert found["class_names"] == ["background", "liver"]

    def test_each_channel_by_its_modality_or_as_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        write_nnunet(tmp_path, channels=2, channel_names={"0": "PET", "1": "CT low dose"})
        first, second = describe(tmp_path)["normalization"]
        assert first == {}
        assert second.keys() == {"lower", "upper", "mean", "std"}
        assert "CT low dose: clipped to" in caplog.text
        assert "PET: mean 0 and standard deviation 1 in each image" in caplog.text
        assert describe(tmp_path, modality="MR")["normalization"] == [{}, {}]
        assert [len(channel) for channel in describe(tmp_path, modality=["CT", "PET"])["normalization"]] == [4, 0]

    @pytest.mark.parametrize(
        ("spacing", "orientation", "slices_by"),
        [
            ((1, 1, 3), "LPS", "both"),
            ((3, 1, 1), "PSL", "both"),
            ((1, 3, 1), "LSP", "both"),
            ((1.02, 1, 1), "LPS", "orientation"),
        ],
    )
    def test_slices_lie_across_the_axis_of_the_largest_spacing(
        self, spacing: tuple[float, ...], orientation: str, slices_by: str, tmp_path: Path
    ) -> None:
        write_nnunet(tmp_path)
        for path in tmp_path.rglob("*.nii.gz"):
            array = np.asanyarray(nib.load(path).dataobj)
            nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1])), path)
        found = describe(tmp_path)
        assert (found["orientation"], found["slices_by"], found["slice_axis"]) == (orientation, slices_by, -1)
        assert found["fingerprint"]["spacing"] == [*sorted(spacing)[:2], max(spacing)] or slices_by == "orientation"

    @pytest.mark.parametrize("order", [(2, 0, 1), (2, 1, 0), (0, 2, 1)])
    def test_volumes_that_are_stored_otherwise_are_described_alike(self, order: Any, tmp_path: Path) -> None:
        write_nnunet(tmp_path, cases=[f"case_{number:03d}" for number in range(7)])
        before = describe(tmp_path)
        for case in volume_datalist(tmp_path, "train")[:2]:
            for path in (case["image"], case["label"]):
                image = nib.load(path)
                array = np.ascontiguousarray(np.asanyarray(image.dataobj).transpose(order))
                nib.save(nib.Nifti1Image(array, image.affine[:, [*order, 3]]), path)
        after = describe(tmp_path)
        before["fingerprint"].pop("key"), after["fingerprint"].pop("key")
        assert after == before
        report = format_report(check_volumes(tmp_path, progress=False))
        codes = "".join(np.array(["R", "A", "S"])[list(order)])
        assert "2 of 7 volumes lie otherwise than the rest" in report
        assert report.count(f": axes {codes}, most have RAS") == 2
        assert sum(line.split()[1:2] == ["RAS"] for line in report.splitlines()) == 5

    def test_labels_beyond_the_classes(self, ct_dir: Path) -> None:
        write_volume(ct_dir / "labelsTr/case_000.nii.gz", 0)
        with pytest.raises(ValueError, match=r"case_000.nii.gz has the labels -.*; expected integers from 0 to 1"):
            describe(ct_dir, fold=1)

    @pytest.mark.parametrize(
        ("low", "high", "is_named"), [(-1000, 1500, False), (0, 200, True), (0, 2500, True), (-125, 275, True)]
    )
    @pytest.mark.parametrize("name", ["CT", "MR"])
    def test_ct_that_is_not_in_hounsfield_units_is_named(
        self, low: float, high: float, is_named: bool, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_nnunet(tmp_path, channels=2, channel_names={"0": "PET", "1": name})
        for path in (tmp_path / "imagesTr").iterdir():
            values = np.random.default_rng(len(path.name)).uniform(low, high, (6, 5, 4)).astype(np.float32)
            nib.save(nib.Nifti1Image(values, np.diag([1, 1, 3, 1])), path)
        expected = [f"case_{number:03d}_0001.nii.gz" for number in range(7)] if is_named and name == "CT" else []
        check_volumes(tmp_path, progress=False)
        named = [text for text in caplog.messages if "is not in Hounsfield units" in text]
        assert sorted(Path(text.split()[0]).name for text in named) == expected
        warn_once.cache_clear()
        caplog.clear()
        describe(tmp_path)
        found = [text for text in caplog.messages if "is not in Hounsfield units" in text]
        assert len(found) == (len(volume_datalist(tmp_path, "train")) if expected else 0)
        assert set(found) <= set(named)

    def test_no_foreground_in_ct(self, ct_dir: Path) -> None:
        for path in (ct_dir / "labelsTr").iterdir():
            nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.uint8), np.diag([1, 1, 3, 1])), path)
        with pytest.raises(ValueError, match="training cases of CT have no foreground"):
            describe(ct_dir)


class TestLabelsThatDoNotCount:
    @pytest.mark.parametrize("labels", [{"background": 0, "liver": 1, "ignore": 2}, None], ids=["named", "unnamed"])
    def test_are_no_class_and_no_foreground(self, labels: dict[str, int] | None, tmp_path: Path) -> None:
        write_nnunet(tmp_path / "plain")
        plain = describe_volumes(tmp_path / "plain", modality="CT", progress=False)
        number = 2 if labels else 255
        write_nnunet(tmp_path / "marked")
        if labels:
            change_json(tmp_path / "marked", labels=labels)
        else:
            (tmp_path / "marked/dataset.json").unlink()
            (tmp_path / "marked/labelsTr").rename(tmp_path / "marked/labels")
            (tmp_path / "marked/images").mkdir()
            for file in (tmp_path / "marked/imagesTr").iterdir():
                file.rename(tmp_path / "marked/images" / file.name.replace("_0000", ""))
        for file in (tmp_path / "marked").glob("labels*/*"):
            image = nib.load(file)
            values = np.asarray(image.dataobj).copy()
            values[values == 0] = number  # so that the foreground is the same
            nib.save(nib.Nifti1Image(values, image.affine), file)
        marked = describe_volumes(tmp_path / "marked", modality="CT", progress=False, ignore_label=number)
        assert marked["class_names"] == (["background", "liver"] if labels else ["background", "class 1"])
        assert next(iter(marked["fingerprint"]["class_voxels"].values())) == 0
        if labels:
            assert marked["normalization"] == plain["normalization"]
            with pytest.raises(ValueError, match="has a label 'ignore', 2, but ignore_label is None; give --ignore_la"):
                describe_volumes(tmp_path / "marked", progress=False)
            assert not check_volumes(tmp_path / "marked", progress=False).problems
        assert not check_volumes(tmp_path / "marked", progress=False, ignore_label=number).problems


class TestPictures:
    def test_colors_and_gray(self, tmp_path: Path) -> None:
        gray = describe_pictures(write_folders(tmp_path / "gray"), progress=False)
        assert (gray["normalization"], gray["black_and_white"]) == ([{}], True)
        colored = describe_pictures(write_folders(tmp_path / "rgb", values=range(3), colored=True), progress=False)
        assert [channel["mean"] for channel in colored["normalization"]] == [123.675, 116.28, 103.53]
        assert (colored["class_names"], colored["black_and_white"]) == (["background", "class 1", "class 2"], False)
        assert len(describe_pictures(tmp_path / "gray", modality="RGB", progress=False)["normalization"]) == 3

    def test_names_and_values_have_to_fit(self, tmp_path: Path) -> None:
        write_folders(tmp_path, values=range(3))
        write_json(tmp_path, {"labels": V2})
        with pytest.raises(ValueError, match=r"has the labels 2 in .* expected integers from 0 to 1"):
            describe_pictures(tmp_path, progress=False)

    @pytest.mark.parametrize("named", [True, False])
    def test_class_numbers_in_a_jpeg(self, named: bool, tmp_path: Path) -> None:
        write_folders(tmp_path, values=(0, 1, 2))
        if named:
            write_json(tmp_path, {"labels": {"background": 0, "a": 1, "b": 2}})
        file = next((tmp_path / "masks").iterdir())
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
        with pytest.raises(
            ValueError, match=r"case_.*jpg is a JPEG, whose compression changes class numbers; expected"
        ):
            describe_pictures(tmp_path, progress=False)

    def test_a_mask_in_colors(self, tmp_path: Path) -> None:
        write_folders(tmp_path)
        for path in (tmp_path / "masks").iterdir():
            Image.merge("RGB", [Image.effect_noise((6, 8), 99) for _ in range(3)]).save(path)
        with pytest.raises(ValueError, match=r"case_.*png cannot be read: it has colors, expected class numbers"):
            describe_pictures(tmp_path, progress=False)


class TestKeptWithTheWeights:
    def test_round_trip_with_what_was_used_instead(self, ct_dir: Path, tmp_path: Path) -> None:
        found = describe(ct_dir)
        keep_description(found, tmp_path / "models", class_names=["background", "spleen"])
        read = read_description(tmp_path / "models/model.pt")
        assert read == {**found, "class_names": ["background", "spleen"]}

    def test_what_was_measured_is_taken_for_the_same_files(
        self, ct_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = describe(ct_dir, output_dir=tmp_path)
        keep_description(found, tmp_path, class_names=["background", "spleen"])
        with monkeypatch.context() as patch:
            patch.setattr("monai_sam2adapter.data.datasets.description._measure_volumes", None)
            assert describe(ct_dir, output_dir=tmp_path) == found
        write_volume(ct_dir / "imagesTr/case_001_0000.nii.gz", 99)
        changed = describe(ct_dir, output_dir=tmp_path)
        assert changed["normalization"] != found["normalization"]

    def test_an_earlier_version_did_not_keep_the_orientation(
        self, ct_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        found = describe(ct_dir)
        earlier = {key: value for key, value in found.items() if key not in ("orientation", "slices_by")}
        keep_description(earlier, tmp_path)
        assert read_description(tmp_path / "model.pt") == earlier
        assert "each is cut along the axis -1 of its array" in caplog.text
        with pytest.raises(ValueError, match=r"had orientation None, now it is 'LPS'; resume with the same"):
            keep_description(found, tmp_path, resume=True)

    def test_a_file_of_the_data_set_is_never_replaced(self, ct_dir: Path, tmp_path: Path) -> None:
        found = describe(ct_dir)
        for text in ('{"labels": {"background": 0, "liver": 1}}', "[]", "no JSON"):
            (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
            with pytest.raises(FileExistsError, match="was not written by a training"):
                describe(ct_dir, output_dir=tmp_path)  # before anything is read
            with pytest.raises(FileExistsError, match="was not written by a training"):
                keep_description(found, tmp_path)
            assert (tmp_path / "dataset.json").read_text(encoding="utf-8") == text

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_channels": "1"}, "num_channels is '1'"),
            ({"num_channels": 2}, "num_channels is 2, but normalization has 1 channels"),
            ({"class_names": ["background", "background"]}, "has a name twice"),
            ({"class_names": ["background", 1]}, "expected texts"),
            ({"normalization": {}}, "expected lower and upper, mean and std"),
            ({"normalization": [{"mean": 1}]}, "expected lower and upper, mean and std"),
            ({"normalization": [{"mean": 1, "std": float("nan")}]}, "expected lower and upper, mean and std"),
            ({"orientation": "LPX"}, "the orientation is 'LPX'"),
            ({"slices_by": "size"}, "slices_by is 'size', expected one of"),
            ({"slice_axis": "last"}, "slice_axis is 'last', expected -3 to 2"),
        ],
    )
    def test_what_was_changed_by_hand_is_named(
        self, change: dict[str, Any], message: str, ct_dir: Path, tmp_path: Path
    ) -> None:
        keep_description(describe(ct_dir), tmp_path)
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
        with pytest.raises(
            ValueError, match=f"{re.escape(str(path))} is not as a training has written it: .*{message}"
        ):
            read_description(tmp_path / "model.pt")

    def test_a_run_goes_on_with_what_it_began_with(self, ct_dir: Path, tmp_path: Path) -> None:
        found = describe(ct_dir)
        keep_description(found, tmp_path)
        keep_description(found, tmp_path, resume=True)
        with pytest.raises(ValueError, match=r"had slice_axis -1, now it is -3; resume with the same"):
            keep_description(found, tmp_path, resume=True, slice_axis=-3)
        keep_description(found, tmp_path, slice_axis=-3)

    def test_default_only_where_there_is_nothing(self, tmp_path: Path) -> None:
        default = {"class_names": ["background", "foreground"], "normalization": [{}]}
        assert describe(None, default=default) == default
        with pytest.raises(FileNotFoundError, match="no folder or file"):
            describe(tmp_path / "absent", default=default)
        with pytest.raises(ValueError, match="there is no dataset_dir; expected a datalist"):
            describe(None)
        with pytest.raises(ValueError, match="no data were described"):
            keep_description(default, tmp_path)
        assert read_description(tmp_path / "model.pt", default) == default
        (tmp_path / "model.pt").touch()
        with pytest.raises(FileNotFoundError, match=r"no .*dataset.json, which says how images are normalized"):
            read_description(tmp_path / "model.pt", default)
        write_json(tmp_path, {"labels": V2})
        with pytest.raises(ValueError, match=r"dataset.json holds no class_names and normalization"):
            read_description(tmp_path / "model.pt")
