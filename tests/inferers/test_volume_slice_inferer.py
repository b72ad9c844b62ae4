# SPDX-License-Identifier: Apache-2.0
"""VolumeSliceInferer: shapes, resizing, metadata and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, LoadImaged, SaveImaged

from monai_sam2adapter.data import VolumeSliceDataset
from monai_sam2adapter.inferers import VolumeSliceInferer
from monai_sam2adapter.transforms import ResizeWithLabelsd, SegmentLogitsd


class Recorder(torch.nn.Module):
    """A small network with random weights that remembers what it was called with."""

    def __init__(self, in_channels: int = 1, out_channels: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.calls: list[tuple[int, ...]] = []
        self.extra: list[Any] = []

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert type(x) is torch.Tensor
        self.calls.append(tuple(x.shape))
        self.extra.append((args, kwargs))
        return self.conv(x).sin()


def resized(image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return ResizeWithLabelsd("image", tuple(size))({"image": image})["image"]


def slice_by_slice(volumes: torch.Tensor, network: torch.nn.Module, axis: int, size: tuple[int, int]) -> torch.Tensor:
    """The definition, one slice at a time, with the transform of the data sets in front of the network."""
    cases = []
    for volume in volumes:
        slices = []
        for plane in volume.unbind(1 + axis):
            logits = network(resized(plane, size)[None])[0]
            slices.append(resized(logits, plane.shape[-2:]))
        cases.append(torch.stack(slices, dim=1 + axis))
    return torch.stack(cases)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("shape", "axis", "size"),
    [
        pytest.param((1, 1, 9, 7, 5), -1, (16, 12), id="enlarged"),
        pytest.param((2, 2, 20, 14, 3), 2, (8, 8), id="reduced_two_cases"),
        pytest.param((1, 1, 6, 10, 12), 0, (16, 8), id="first_axis"),
        pytest.param((1, 1, 6, 10, 12), 1, (6, 12), id="second_axis_own_size"),
        pytest.param((1, 1, 1, 1, 1), -1, (8, 8), id="one_voxel"),
    ],
)
def test_equals_network_run_behind_the_transform_of_the_data_sets(shape, axis, size, batch_size) -> None:
    network, volumes = Recorder(shape[1]), torch.rand(shape)
    with torch.no_grad():
        result = VolumeSliceInferer(size, batch_size=batch_size, slice_axis=axis)(volumes, network)
        expected = slice_by_slice(volumes, network, axis % 3, size)
    assert result.shape == (shape[0], 3, *shape[2:])
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-3, 1, 2])
@pytest.mark.parametrize("flips", [[], [[0], [1, 2]]], ids=["plain", "flips"])
def test_postprocessing_by_batches_is_that_of_the_whole_volume(axis: int, flips: Any) -> None:
    volume = MetaTensor(torch.randn(1, 1, 9, 7, 5), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    network, transform = Recorder(), SegmentLogitsd("pred", probabilities=True, uncertainty=True)
    options = {"spatial_size": (16, 12), "batch_size": 2, "slice_axis": axis, "flips": flips}
    with torch.no_grad():
        expected = transform({"pred": VolumeSliceInferer(**options)(volume, network)[0]})
        found = VolumeSliceInferer(**options, postprocessing=transform)(volume, network)
    assert found.keys() == expected.keys() == {"pred", "probabilities", "uncertainty"}
    for name, value in found.items():
        # the last bit of an exponential depends on its place in memory; classes are the same to the bit
        tolerance = 0 if name == "pred" else 1e-6
        torch.testing.assert_close(value[0].as_tensor(), expected[name].as_tensor(), rtol=0, atol=tolerance)
        assert (value.dtype, value.shape[2:]) == (expected[name].dtype, (9, 7, 5))
        assert torch.equal(value.affine, volume.affine)
    assert len(found["pred"].unique()) > 1


def test_with_postprocessing_logits_are_never_there_for_more_than_a_batch_of_slices() -> None:
    shapes = []

    def largest(items: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shapes.append(tuple(items["pred"].shape))
        return {"largest": items["pred"].amax(0, keepdim=True)}

    found = VolumeSliceInferer(16, batch_size=3, postprocessing=largest)(torch.rand(2, 1, 10, 6, 7), Recorder())
    assert shapes == [(3, 3, 10, 6), (3, 3, 10, 6), (3, 1, 10, 6)] * 2
    assert {name: tuple(value.shape) for name, value in found.items()} == {"largest": (2, 1, 10, 6, 7)}


def test_never_runs_more_than_batch_size_slices_at_network_size() -> None:
    network = Recorder()
    VolumeSliceInferer(16, batch_size=3)(torch.rand(2, 1, 10, 6, 7), network)
    assert network.calls == [(3, 1, 16, 16), (3, 1, 16, 16), (1, 1, 16, 16)] * 2


def test_without_spatial_size_slices_keep_theirs() -> None:
    network = Recorder()
    result = VolumeSliceInferer()(torch.rand(1, 1, 5, 1, 9), network)
    assert network.calls == [(8, 1, 5, 1), (1, 1, 5, 1)]
    assert result.shape == (1, 3, 5, 1, 9)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("axis", [-3, -2, -1])
@pytest.mark.parametrize("num_neighbors", [1, 6])
def test_neighbors_are_the_channels_that_the_data_set_gives(axis, num_neighbors, batch_size) -> None:
    volumes = torch.rand(2, 2, 6, 5, 4)
    network = Recorder(2 * (2 * num_neighbors + 1))
    with torch.no_grad():
        inferer = VolumeSliceInferer(8, batch_size=batch_size, slice_axis=axis, num_neighbors=num_neighbors)
        result = inferer(volumes, network)
        data = [{"image": volume} for volume in volumes]
        items = VolumeSliceDataset(data, [], progress=False, slice_axis=axis, num_neighbors=num_neighbors)
        expected = [slice_by_slice(item["image"][None, ..., None], network, 2, (8, 8))[0, ..., 0] for item in items]
    slices = torch.cat([case.unbind(axis)[k][None] for case in result for k in range(case.shape[axis])])
    torch.testing.assert_close(slices, torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_coarser_network_output_is_resized_to_the_slice() -> None:
    assert VolumeSliceInferer(16)(torch.rand(1, 1, 10, 6, 2), Recorder(stride=4)).shape == (1, 3, 10, 6, 2)


def test_extra_arguments_reach_the_network() -> None:
    network = Recorder()
    VolumeSliceInferer()(torch.rand(1, 1, 4, 4, 2), network, 5, mode="x")
    assert network.extra == [((5,), {"mode": "x"})]


def test_autocast_still_gives_float32() -> None:
    network, volume = Recorder(), torch.rand(1, 1, 8, 8, 2)
    with torch.no_grad():
        exact = VolumeSliceInferer(16)(volume, network)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = VolumeSliceInferer(16)(volume, network)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0.02)


def test_integer_volume_is_converted() -> None:
    volume = torch.randint(0, 255, (1, 1, 8, 8, 2), dtype=torch.uint8)
    network = Recorder()
    assert torch.equal(VolumeSliceInferer(16)(volume, network), VolumeSliceInferer(16)(volume.float(), network))


def test_logits_are_collected_on_output_device() -> None:
    result = VolumeSliceInferer(output_device="meta")(torch.rand(1, 1, 4, 4, 2), Recorder())
    assert result.device.type == "meta"
    assert VolumeSliceInferer(output_device="cpu")(torch.rand(1, 1, 4, 4, 2), Recorder()).device.type == "cpu"


def test_progress_is_shown_on_request(capsys) -> None:
    VolumeSliceInferer()(torch.rand(1, 1, 4, 4, 2), Recorder())
    assert capsys.readouterr().err == ""
    VolumeSliceInferer(progress=True)(torch.rand(1, 1, 4, 4, 2), Recorder())
    assert "2/2" in capsys.readouterr().err


def test_metadata_of_the_input_is_kept() -> None:
    affine = torch.diag(torch.tensor([1.5, 2.0, 10.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(1, 1, 4, 4, 2), affine=affine, meta={"filename_or_obj": "a.nii.gz"})
    result = VolumeSliceInferer()(image, Recorder())
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "a.nii.gz"
    assert torch.equal(result.affine, affine)


def test_evaluator_saves_the_prediction_in_the_geometry_of_the_scan(tmp_path: Path) -> None:
    affine = np.array([[0, -1.4, 0, 10], [1.2, 0, 0, -20], [0, 0, 9, 5], [0, 0, 0, 1]], dtype=float)
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((11, 7, 4)), affine), tmp_path / "scan.nii.gz")
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    save = SaveImaged("pred", output_dir=tmp_path, output_postfix="seg", separate_folder=False, print_log=False)
    SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset([{"image": str(tmp_path / "scan.nii.gz")}], load)),
        network=Recorder(),
        inferer=VolumeSliceInferer(16, batch_size=2),
        postprocessing=Compose([AsDiscreted("pred", argmax=True), save]),
    ).run()
    result = nib.load(tmp_path / "scan_seg.nii.gz")
    assert result.shape == (11, 7, 4)
    np.testing.assert_allclose(result.affine, affine, atol=1e-6)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        pytest.param(lambda x: [x, x], TypeError, "returned a list.*one tensor of logits", id="list"),
        pytest.param(lambda x: {"out": x}, TypeError, "returned a dict", id="dictionary"),
        pytest.param(lambda x: x.mean((2, 3)), ValueError, r"output of shape \(2, 1\)", id="no_map"),
        pytest.param(lambda x: x[:1], ValueError, "with N = 2", id="slices_lost"),
    ],
)
def test_unusable_network_output_is_refused(output, error, message) -> None:
    with pytest.raises(error, match=message):
        VolumeSliceInferer()(torch.rand(1, 1, 4, 4, 2), output)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 1, 8, 8, 0), (8, 8, 4)])
def test_input_that_is_no_volume_is_refused(shape) -> None:
    with pytest.raises(ValueError, match=r"volumes of shape \(B, C, H, W, D\).*got \(" + ", ".join(map(str, shape))):
        VolumeSliceInferer()(torch.zeros(shape), Recorder())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1 slice, got 0"),
        ({"num_neighbors": -1}, "num_neighbors must be 0 or more slices on each side, got -1"),
        ({"slice_axis": 3}, "slice_axis must be one of the three spatial axes, -3 to 2, got 3"),
        ({"spatial_size": (8, 0)}, r"spatial_size must be positive, got \(8, 0\)"),
        ({"spatial_size": (8, 8, 8)}, "spatial_size must be one number or two"),
    ],
)
def test_ill_arguments_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        VolumeSliceInferer(**arguments)
