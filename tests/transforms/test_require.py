# SPDX-License-Identifier: Apache-2.0
"""What does not meet a requirement is named by its file; what does is passed on as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from PIL import Image

from monai_sam2adapter.data import (
    AbdominalPhantom,
    DatasetReport,
    ImageFileReader,
    TransUNetArrayReader,
    check_image_and_label,
)
from monai_sam2adapter.transforms import (
    RequireDimensionsd,
    RequireFinited,
    RequireHounsfieldd,
    RequireLabelsd,
    RequireSameGeometryd,
)


def image_of(values: torch.Tensor, file: str = "a/scan.nii.gz") -> MetaTensor:
    return MetaTensor(values, meta={"filename_or_obj": file})


class TestRequireDimensionsd:
    def test_passes_images_on(self) -> None:
        image = torch.zeros(1, 4, 5, 6)
        assert RequireDimensionsd("image", channels=1, spatial_dims=3)({"image": image})["image"] is image

    def test_a_4d_file_is_named(self, tmp_path: Path) -> None:
        path = str(tmp_path / "4d.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), dtype=np.float32), np.eye(4)), path)
        loaded = LoadImaged("image", ensure_channel_first=True)({"image": path})
        with pytest.raises(ValueError, match=r"4d\.nii\.gz has 2 channels and 3 spatial axes, expected 1 and 3 .*save"):
            RequireDimensionsd("image", channels=1, spatial_dims=3)(loaded)

    def test_a_stack_in_place_of_a_picture_is_named(self, tmp_path: Path) -> None:
        path = str(tmp_path / "stack.tif")
        page = Image.new("L", (4, 5))
        page.save(path, save_all=True, append_images=[page])
        loaded = LoadImaged("image", reader=ImageFileReader(3), ensure_channel_first=True)({"image": path})
        with pytest.raises(ValueError, match=r"stack\.tif has 3 channels and 3 spatial axes, expected 3 and 2"):
            RequireDimensionsd("image", channels=3, spatial_dims=2)(loaded)

    def test_a_picture_in_place_of_a_volume_is_named_by_its_key(self) -> None:
        with pytest.raises(ValueError, match="the item 'image' has 1 channels and 2 spatial axes, expected 1 and 3"):
            RequireDimensionsd("image", channels=1, spatial_dims=3)({"image": np.zeros((1, 4, 5))})

    @pytest.mark.parametrize(("channels", "spatial_dims"), [(0, 3), (1, 4), (1, 1)])
    def test_impossible_numbers_are_errors(self, channels: int, spatial_dims: int) -> None:
        with pytest.raises(ValueError, match="expected"):
            RequireDimensionsd("image", channels, spatial_dims)


class TestRequireFinited:
    @pytest.mark.parametrize("image", [np.zeros((1, 2, 2)), torch.zeros(1, 2, dtype=torch.int16)], ids=["array", "int"])
    def test_passes_finite_images_on(self, image: object) -> None:
        assert RequireFinited("image")({"image": image})["image"] is image

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (torch.tensor([0.0, float("nan"), 1.0]), "has 1 NaN or infinite values"),
            (torch.tensor([0.0, float("inf"), -float("inf")]), "has 2 NaN or infinite values"),
            (torch.zeros(1, 4, 4, 0), r"has no values: its shape is \(1, 4, 4, 0\)"),
        ],
        ids=["nan", "inf", "empty"],
    )
    def test_names_the_file(self, image: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=rf"a/scan\.nii\.gz {message}"):
            RequireFinited("image")({"image": image_of(image)})

    def test_names_the_file_of_a_volume_without_slices(self, tmp_path: Path) -> None:
        path = str(tmp_path / "scan.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 0), dtype=np.int16), np.eye(4)), path)
        load = Compose([LoadImaged("image", ensure_channel_first=True), RequireFinited("image")])
        with pytest.raises(RuntimeError) as error:
            load({"image": path})
        assert f"{path} has no values" in str(error.value.__cause__)


@pytest.fixture(scope="module")
def scan() -> torch.Tensor:
    return torch.tensor(AbdominalPhantom((0, 1)).render()[0][None], dtype=torch.float32)


class TestRequireHounsfieldd:
    def test_passes_scans_on(self, scan: torch.Tensor) -> None:
        resampled = scan + 0.25
        for image in (scan, scan.numpy().astype(np.int16), resampled):
            assert RequireHounsfieldd("image")({"image": image})["image"] is image

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda a: a + 1024, id="not-rescaled"),
            pytest.param(lambda a: a.clip(-125, 275), id="clipped"),
            pytest.param(lambda a: (a.clip(-125, 275) + 125) / 400, id="0-to-1"),
            pytest.param(lambda a: (a - a.mean()) / a.std(), id="standardized"),
            pytest.param(lambda a: a.clip(-2000, 0), id="no-bone"),
            pytest.param(lambda a: a * np.nan, id="nan"),
            pytest.param(lambda a: a[..., :0], id="empty"),
        ],
    )
    def test_names_the_file_of_other_values(self, scan: torch.Tensor, change: Callable) -> None:
        with pytest.raises(ValueError, match=r"^a/scan\.nii\.gz is not in Hounsfield units: .*take the original scan"):
            RequireHounsfieldd("image")({"image": image_of(change(scan))})

    @pytest.mark.parametrize(
        ("change", "refused"),
        [
            (lambda a: a, None),
            (lambda a: a + 1024, False),
            (lambda a: a.clip(-200, 0), False),
            (lambda a: a.clip(-100, 400), False),
            (lambda a: a.clip(-125, 275), True),
            (lambda a: (a.clip(-125, 275) + 125) / 400, True),
            (lambda a: (a + 1000).clip(0, 255), True),
            (lambda a: a + 5000, True),
            (lambda a: a * np.nan, True),
            (lambda a: a[..., :0], True),
        ],
        ids=["whole", "offset", "no-air", "part", "clipped", "0-to-1", "bytes", "elsewhere", "nan", "empty"],
    )
    def test_with_a_window_parts_pass_with_a_warning(
        self, scan: torch.Tensor, change: Callable, refused: bool | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        require, image = RequireHounsfieldd("image", window=(-125, 275)), image_of(change(scan))
        if refused:
            with pytest.raises(ValueError, match=r"^a/scan\.nii\.gz is not in Hounsfield units"):
                require({"image": image})
        else:
            assert require({"image": image})["image"] is image
            assert ("a/scan.nii.gz is not in Hounsfield units" in caplog.text) == (refused is False)

    def test_a_window_has_two_ends(self) -> None:
        with pytest.raises(ValueError, match="expected a low and a high value"):
            RequireHounsfieldd("image", window=(275, -125))

    def test_transunets_arrays_pass(self, tmp_path: Path) -> None:
        paths = [str(tmp_path / f"case0005_slice00{k}.npz") for k in range(2)]
        for path in paths:
            np.savez(path, image=np.linspace(0, 1, 24).reshape(4, 6), label=np.zeros((4, 6)))
        load = LoadImaged("image", reader=[TransUNetArrayReader(), "NibabelReader"], ensure_channel_first=True)
        assert RequireHounsfieldd("image")(load({"image": paths}))["image"].max() == 275

    def test_the_real_sample_passes(self, shared_data: Path) -> None:
        load = LoadImaged("image")
        RequireHounsfieldd("image")(load({"image": str(shared_data / "ct_sample" / "img0001.nii.gz")}))


class TestRequireLabelsd:
    @pytest.mark.parametrize(
        "label",
        [np.array([[0, 1, 2]], dtype=np.uint8), torch.tensor([2.0, 0.0]), torch.zeros(1, 2, dtype=torch.int16)],
        ids=["array", "float", "one-class"],
    )
    def test_passes_classes_on(self, label: object) -> None:
        assert RequireLabelsd("label", 3)({"label": label})["label"] is label

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([0, 3, 3], "holds the values 3 in 2 places; expected integers from 0 to 2"),
            ([0.0, 0.5], "holds the values 0.5 in 1 places"),
            ([-1, 0], "holds the values -1 in 1 places"),
            ([0.0, float("nan")], "holds the values nan in 1 places"),
            (list(range(9)), r"holds the values 3, 4, 5, 6, 7, \.\.\. in 6 places"),
        ],
    )
    def test_names_the_file_and_the_values(self, values: list[float], text: str) -> None:
        with pytest.raises(ValueError, match=rf"a/mask\.png {text}"):
            RequireLabelsd("label", 3)({"label": image_of(torch.tensor(values), "a/mask.png")})

    def test_names_the_key_without_a_file_and_asks_for_a_class(self) -> None:
        with pytest.raises(ValueError, match="the item 'label' holds the values 1"):
            RequireLabelsd("label", 1)({"label": torch.ones(2)})
        with pytest.raises(ValueError, match="num_classes is 0, expected at least 1"):
            RequireLabelsd("label", 0)

    def test_passes_the_label_to_ignore_on_and_no_other(self) -> None:
        label = torch.tensor([0.0, 2, 255])
        assert RequireLabelsd("label", 3, ignore_label=255)({"label": label})["label"] is label
        with pytest.raises(ValueError, match="the values 255 in 1 places; expected integers from 0 to 2 and 3 for pix"):
            RequireLabelsd("label", 3, ignore_label=3)({"label": label})

    @pytest.mark.parametrize("ignore_label", [-1, 0, 2, 65536, 1.5, "255", True])
    def test_the_label_to_ignore_is_no_class_and_fits_16_bits(self, ignore_label: object) -> None:
        with pytest.raises(ValueError, match=r"ignore_label is .*, expected an integer from 3 to 65535"):
            RequireLabelsd("label", 3, ignore_label=ignore_label)


class TestRequireSameGeometryd:
    @staticmethod
    def volume(shape: tuple[int, ...] = (5, 4, 3), shift: float = 0, file: str = "b/label.nii") -> MetaTensor:
        affine = np.diag([2.0, 1.5, 10.0, 1.0])
        affine[1, 3] = shift
        return MetaTensor(torch.zeros(1, *shape), affine=torch.tensor(affine), meta={"filename_or_obj": file})

    @staticmethod
    def check(image: object, label: object) -> dict:
        return RequireSameGeometryd(["image", "label"])({"image": image, "label": label})

    def test_passes_on_what_lies_on_each_other(self) -> None:
        image, label = self.volume(), self.volume(shift=0.0149)  # a hundredth of the smallest side
        items = self.check(image, label)
        assert items["image"] is image
        assert items["label"] is label
        self.check(torch.zeros(3, 5, 4), torch.zeros(1, 5, 4))  # channels do not matter
        self.check(*(MetaTensor(torch.zeros(3, 6, 4), affine=torch.eye(4)) for _ in range(2)))  # pictures

    @pytest.mark.parametrize("kind", [np.zeros, torch.zeros], ids=["array", "tensor"])
    def test_without_an_affine_only_the_shapes_count(self, kind: type) -> None:
        self.check(self.volume(), kind((1, 5, 4, 3)))
        with pytest.raises(ValueError, match=r"the item 'label' has the shape \(5, 4, 2\), its image \(5, 4, 3\)"):
            self.check(self.volume(), kind((1, 5, 4, 2)))

    @pytest.mark.parametrize("shape", [(5, 4, 2), (4, 5, 3), (5, 4)])
    def test_another_shape_is_named_with_both_files(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"^b/label\.nii has the shape .*, its image \(5, 4, 3\)") as error:
            self.check(self.volume(file="a/image.nii.gz"), self.volume(shape))
        assert str(shape) in str(error.value)
        assert "a/image.nii.gz" in str(error.value)

    @pytest.mark.parametrize(
        ("change", "distance"),
        [({"shift": 0.02}, r"0\.02"), ({"shift": float("nan")}, "nan"), ({}, "16")],
        ids=["shift", "nan", "flip, as far as the volume is wide: 4 voxels of 2 mm to either side"],
    )
    def test_another_place_is_named_with_the_distance(self, change: dict[str, float], distance: str) -> None:
        label = self.volume(**change)
        if not change:
            label.affine = torch.diag(torch.tensor([-2.0, 1.5, 10.0, 1.0], dtype=torch.float64))
        with pytest.raises(ValueError, match=rf"^b/label\.nii lies elsewhere than its image: .* up to {distance} mm"):
            self.check(self.volume(), label)

    @pytest.mark.parametrize("shift", [0.0, 0.014, 0.016, 3.0])
    def test_files_are_refused_as_the_check_reports_them(self, tmp_path: Path, shift: float) -> None:
        voxels = (np.arange(60).reshape(5, 4, 3) % 2).astype(np.uint8)
        paths = {key: str(tmp_path / f"{key}.nii.gz") for key in ("image", "label")}
        for key, path in paths.items():
            affine = self.volume(shift=shift if key == "label" else 0).affine.numpy()
            nib.save(nib.Nifti1Image(voxels, affine), path)
        report = DatasetReport("set", str(tmp_path), ("background", "organ"))
        check_image_and_label(**paths, report=report)
        keys = ["image", "label"]
        load = Compose([LoadImaged(keys, ensure_channel_first=True), RequireSameGeometryd(keys)])
        assert (shift > 0.015) == bool(report.problems)
        if not report.problems:
            load(paths)
            return
        with pytest.raises(RuntimeError) as error:
            load(paths)
        assert paths["label"] in str(error.value.__cause__)

    def test_one_key_cannot_be_compared(self) -> None:
        with pytest.raises(ValueError, match=r"needs an image and its labels, got the keys \('image',\)"):
            RequireSameGeometryd("image")
