# SPDX-License-Identifier: Apache-2.0
"""Random transforms of batches, against MONAI's on items with the same random state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai import transforms as mt
from monai.data import DataLoader
from monai.utils import convert_to_tensor
from scipy.stats import ks_2samp

from monai_sam2adapter.data import EpochSampler, SeededCacheDataset, VolumeSliceDataset
from monai_sam2adapter.engines import DeviceTransforms

BOTH = ["image", "label"]
AFFINE: dict[str, Any] = {
    "rotate_range": np.pi,
    "scale_range": (0.2, 0.2),
    "translate_range": (4, 3),
    "mode": ("bilinear", "nearest"),
    "padding_mode": "border",
}
SPATIAL: dict[str, list[Callable]] = {
    "affine": [mt.RandAffined(BOTH, prob=0.7, **AFFINE)],
    "shear": [mt.RandAffined(BOTH, prob=1, shear_range=(0.4, 0.2), mode=("bilinear", "nearest"), padding_mode="zeros")],
    "flips": [mt.RandFlipd(BOTH, prob=0.5, spatial_axis=0), mt.RandFlipd(BOTH, prob=0.5, spatial_axis=1)],
    "any_axis": [mt.RandAxisFlipd(BOTH, prob=0.7)],
    "rotate90": [mt.RandRotate90d(BOTH, prob=0.75, max_k=3)],
    "crop": [mt.RandSpatialCropd(BOTH, (20, 17), random_size=False)],
    "together": [
        mt.RandAffined(BOTH, prob=0.9, **AFFINE),
        mt.RandFlipd(BOTH, prob=0.5, spatial_axis=1),
        mt.RandSpatialCropd(BOTH, (18, 18), random_size=False),
        mt.RandRotate90d(BOTH, prob=0.75, max_k=3),
        mt.RandFlipd(BOTH, prob=0.5, spatial_axis=0),
    ],
}
INTENSITY: dict[str, list[Callable]] = {
    "gamma": [mt.RandAdjustContrastd("image", prob=0.6, gamma=(0.7, 1.5), retain_stats=True)],
    "plain_gamma": [mt.RandAdjustContrastd("image", prob=0.6, gamma=(0.7, 1.5))],
    "scale": [mt.RandScaleIntensityd("image", prob=0.5, factors=0.2)],
    "shift": [mt.RandShiftIntensityd("image", prob=0.5, offsets=0.2)],
}


def make_items(count: int, size: tuple[int, int] = (24, 24), channels: int = 3) -> list[dict[str, torch.Tensor]]:
    """Smooth images in which no direction is like another, and labels with 255 in places."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(count):
        noise = torch.randn(1, channels, 5, 5, generator=generator)
        image = torch.nn.functional.interpolate(noise, size, mode="bicubic", align_corners=True)[0]
        label = (image[:1] > 0).float() + 2 * (image[1:2] > 0.5).float()
        label[:, :4, :6] = 255
        items.append({"image": image, "label": label})
    return items


def seed_each(steps: list[Any], seed: int) -> None:
    """A state for each transform: MONAI's affine one draws more often, the more keys there are."""
    for number, step in enumerate(steps):
        step.set_random_state(100 * seed + number)


def by_batch(steps: list[Callable], items: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    transforms = DeviceTransforms(mt.Compose(steps))
    drawn = []
    for seed, item in enumerate(items):
        draw = transforms.item_transform.transforms[-1]
        draw.set_random_state(seed)  # for the noise
        seed_each([*draw.spatial, *draw.intensity], seed)
        drawn.append(transforms.item_transform(item))
    return transforms(torch.utils.data.default_collate(drawn), "cpu")


def by_item(steps: list[Callable], items: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    done, whole = [], mt.Compose(steps)
    for seed, item in enumerate(items):
        seed_each(steps, seed)
        done.append(whole(item))
    return tuple(torch.stack([convert_to_tensor(item[key], track_meta=False) for item in done]) for key in BOTH)


@pytest.mark.parametrize("size", [(24, 24), (26, 31)], ids=["square", "oblong"])
@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_positions_are_those_of_monai(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    if name == "rotate90" and size[0] != size[1]:
        pytest.skip("items of turned and other images are of different size")
    items = [{**item, "label": item["label"].to(dtype)} for item in make_items(24, size)]
    (image, label), (expected, expected_label) = by_batch(SPATIAL[name], items), by_item(SPATIAL[name], items)
    assert image.shape == expected.shape
    torch.testing.assert_close(image, expected, atol=2e-4, rtol=0)
    # where a pixel lies halfway between two others, rounding decides
    assert (label != expected_label).float().mean() < 1e-3
    assert set(label.unique().tolist()) <= {0, 1, 2, 3, 255}
    assert (image.dtype, label.dtype) == (expected.dtype, expected_label.dtype)
    changed = [not torch.equal(found, item["image"]) for found, item in zip(image, items, strict=True)]
    assert any(changed)


@pytest.mark.parametrize("name", INTENSITY)
def test_intensities_are_those_of_monai(name: str) -> None:
    items = make_items(24)
    (image, label), (expected, expected_label) = by_batch(INTENSITY[name], items), by_item(INTENSITY[name], items)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(label, expected_label)
    unchanged = [torch.equal(found, item["image"]) for found, item in zip(image, items, strict=True)]
    assert 0 < sum(unchanged) < len(items)


def test_noise_has_the_distribution_of_monai_and_the_number_of_noisy_images() -> None:
    steps = [mt.RandGaussianNoised("image", prob=0.3, mean=0.5, std=0.4)]
    items = [{key: torch.zeros(1, 24, 24) for key in BOTH} for _ in range(400)]
    found, expected = by_batch(steps, items)[0], by_item(steps, items)[0]
    is_noisy = found.flatten(1).any(1)
    assert torch.equal(is_noisy, expected.flatten(1).any(1))
    torch.testing.assert_close(found.std((1, 2, 3)), expected.std((1, 2, 3)), rtol=0.2, atol=0)
    assert ks_2samp(found[is_noisy].flatten(), expected[is_noisy].flatten()).pvalue > 1e-3
    assert found[is_noisy].flatten(1).unique(dim=0).shape[0] == is_noisy.sum()


@pytest.mark.parametrize("dataset", ["volumes", "pictures"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_depends_on_its_number_alone(dataset: str, num_workers: int) -> None:
    steps = [*SPATIAL["affine"], *INTENSITY["gamma"], mt.RandGaussianNoised("image", prob=0.9)]

    def epoch(number: int, workers: int) -> torch.Tensor:
        transforms = DeviceTransforms(mt.Compose([mt.Lambdad("image", lambda image: image * 2), *steps]))
        if dataset == "volumes":
            data = [{key: torch.stack([item[key] for item in make_items(6)], dim=-1) for key in BOTH}]
            items: Any = VolumeSliceDataset(data, [], transforms.item_transform, progress=False)
        else:
            items = SeededCacheDataset(make_items(6), transforms.item_transform, progress=False)
        sampler = EpochSampler(items, seed=3)
        sampler.set_epoch(number)
        loader = DataLoader(items, batch_size=2, sampler=sampler, num_workers=workers)
        return torch.cat([transforms(batch, "cpu")[0] for batch in loader])

    assert torch.equal(epoch(1, num_workers), epoch(1, 0))
    assert not torch.equal(epoch(2, num_workers), epoch(1, 0))


def test_deterministic_transforms_run_on_items_and_types_stay() -> None:
    transforms = DeviceTransforms(
        mt.Compose(
            [
                mt.Lambdad("image", lambda image: 2 * image),
                mt.RandFlipd(BOTH, prob=1.0, spatial_axis=0),
                mt.EnsureTyped(BOTH, track_meta=False),
            ]
        )
    )
    item = make_items(1)[0] | {"case": "a"}
    label = item["label"].byte()
    batch = torch.utils.data.default_collate([transforms.item_transform({**item, "label": label})])
    assert batch["case"] == ["a"]
    image, flipped = transforms(batch, "cpu")
    torch.testing.assert_close(image[0], 2 * item["image"].flip(1))
    assert torch.equal(flipped[0], label.flip(1))


def test_disabled_nothing_changes() -> None:
    whole = mt.Compose(SPATIAL["flips"])
    transforms = DeviceTransforms(whole, enabled=False)
    assert transforms.item_transform is whole
    image, label = transforms({"image": torch.ones(2, 1, 3, 3), "label": torch.zeros(2, 1, 3, 3)}, "meta")
    assert image.device.type == label.device.type == "meta"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [mt.RandGaussianSmoothd("image")],
            "RandGaussianSmoothd has no batched form. Expected are, in this order",
        ),
        ([mt.RandFlipd("image")], r"RandFlipd has the keys \('image',\), not \('image', 'label'\)"),
        ([mt.RandScaleIntensityd(BOTH, factors=1)], "RandScaleIntensityd has the keys"),
        ([mt.RandScaleIntensityd("image", factors=1, channel_wise=True)], "RandScaleIntensityd has channel_wise"),
        ([mt.RandAdjustContrastd("image", invert_image=True)], "RandAdjustContrastd has invert_image"),
        ([*INTENSITY["scale"], *SPATIAL["flips"]], "they are in another order"),
        ([*SPATIAL["crop"], *SPATIAL["affine"]], "RandAffined is not the first"),
        ([*SPATIAL["flips"], mt.EnsureTyped(BOTH, dtype=torch.float16)], "EnsureTyped has a dtype"),
        ([*SPATIAL["flips"], lambda item: item], "function has no batched form"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value[0]).__name__,
)
def test_what_has_no_batched_form_is_refused(steps: list[Callable], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeviceTransforms(mt.Compose(steps))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_positions_and_intensities_are_the_same() -> None:
    steps = [*SPATIAL["together"], *INTENSITY["gamma"], *INTENSITY["scale"], *INTENSITY["shift"]]
    transforms = DeviceTransforms(mt.Compose(steps))
    batch = torch.utils.data.default_collate([transforms.item_transform(item) for item in make_items(8)])
    image, label = transforms(batch, "cuda")
    expected, expected_label = transforms(batch, "cpu")
    torch.testing.assert_close(image.cpu(), expected, atol=1e-3, rtol=0)
    assert (label.cpu() != expected_label).float().mean() < 1e-2
