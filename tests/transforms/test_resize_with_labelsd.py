# SPDX-License-Identifier: Apache-2.0
"""ResizeWithLabelsd: images as Pillow and SAM 2 resize them, labels that lie on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from sam2.utils.transforms import SAM2Transforms

from monai_sam2adapter.inferers import ResizeInferer
from monai_sam2adapter.transforms import ResizeWithLabelsd

BUNDLES = Path(__file__).parents[2] / "bundles"
# even and odd factors, one side only, larger, and odd sides
SIZES = [((512, 512), 256), ((512, 512), 224), ((1250, 1250), 224), ((375, 500), (224, 224)), ((61, 90), (128, 90))]


def disk(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    row, column = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    center = torch.tensor(shape) * (0.3 + 0.4 * torch.rand(2, generator=generator))
    radius = min(shape) * (0.1 + 0.1 * torch.rand(1, generator=generator))
    return (((row - center[0]) ** 2 + (column - center[1]) ** 2).sqrt() < radius)[None].to(torch.uint8)


def centroid(mask: torch.Tensor) -> torch.Tensor:
    weights = mask[0].double()
    axes = torch.meshgrid(*map(torch.arange, weights.shape), indexing="ij")
    return torch.stack([(weights * axis).sum() / weights.sum() for axis in axes])


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_labels_lie_on_their_images(shape, size) -> None:
    resize, generator, offsets = ResizeWithLabelsd("image", size, "label"), torch.Generator().manual_seed(0), []
    for _ in range(20):
        mask = disk(shape, generator)
        item = resize({"image": mask.float(), "label": mask})
        offsets.append(centroid(item["label"]) - centroid(item["image"]))
        assert item["label"].dtype == torch.uint8
    assert torch.stack(offsets).mean(dim=0).abs().max() < 0.05


@pytest.mark.parametrize(("shape", "size"), [*SIZES, ((9, 7), (16, 12)), ((1, 5), (8, 3))])
def test_labels_are_the_classes_with_the_largest_interpolated_share(shape, size) -> None:
    labels = torch.randint(0, 4, (1, *shape), generator=torch.Generator().manual_seed(0))
    resized = ResizeWithLabelsd((), size, "label")({"label": labels})["label"]
    one_hot = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).double()
    shares = torch.nn.functional.interpolate(one_hot, size=resized.shape[1:], mode="bilinear")[0]
    order = shares + 1e-9 * torch.arange(4)[:, None, None]  # the higher of equal ones
    assert torch.equal(resized[0], order.argmax(dim=0))


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_images_equal_those_of_pillow_and_of_the_inferer(shape, size) -> None:
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    resized = ResizeWithLabelsd("image", size)({"image": image})["image"]
    height, width = resized.shape[1:]
    pillow = Image.fromarray(image[0].numpy()).resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resized[0].numpy(), np.asarray(pillow), rtol=0, atol=2e-5)
    seen = []
    ResizeInferer(size)(image[None], lambda x: seen.append(x) or x)
    torch.testing.assert_close(seen[0][0], resized, rtol=0, atol=1e-6)


def test_images_equal_those_of_sam2() -> None:
    image = torch.rand(3, 375, 500, generator=torch.Generator().manual_seed(0))
    sam2 = SAM2Transforms(resolution=224, mask_threshold=0.0)
    resized = ResizeWithLabelsd("image", 224)({"image": image})["image"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (sam2.mean, sam2.std))
    torch.testing.assert_close((resized - mean) / std, sam2.transforms(image), rtol=0, atol=1e-5)


def test_fine_texture_becomes_gray_and_a_line_is_seen_wherever_it_is() -> None:
    stripes = (torch.arange(1250) // 7 % 2).float().expand(1, 1250, 1250)
    resize = ResizeWithLabelsd("image", 112)
    assert resize({"image": stripes})["image"].std() < 0.05  # 0.23 without the filter
    sums = []
    for start in range(600, 612):
        line = torch.zeros(1, 1250, 1250)
        line[:, :, start : start + 3] = 1
        sums.append(resize({"image": line})["image"].sum())
    assert max(sums) < 1.02 * min(sums)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_labels_hold_no_other_classes_and_ties_go_to_the_higher(dtype) -> None:
    labels = torch.zeros(1, 8, 8, dtype=dtype)
    labels[:, :, 3], labels[:, 5:, 5:] = 2, 255
    resized = ResizeWithLabelsd((), 4, "label")({"label": labels})["label"]
    assert resized.dtype == dtype
    assert resized[0].tolist() == [[0, 2, 0, 0], [0, 2, 0, 0], [0, 2, 0, 255], [0, 2, 255, 255]]


def test_the_right_size_is_left_alone_and_types_are_kept() -> None:
    image, labels = torch.rand(3, 9, 7), torch.randint(0, 4, (1, 9, 7))
    item = ResizeWithLabelsd("image", (9, 7), "label")({"image": image, "label": labels, "case": "a"})
    assert torch.equal(item["image"], image)
    assert torch.equal(item["label"], labels)
    assert item["case"] == "a"
    half = ResizeWithLabelsd("image", 4)({"image": image.half()})["image"]
    assert half.dtype == torch.float16
    exact = ResizeWithLabelsd("image", 4)({"image": image.half().float()})["image"]
    torch.testing.assert_close(half, exact.half(), rtol=0, atol=0)


@pytest.mark.parametrize("side", [3, 4])
def test_the_affine_follows(side: int) -> None:
    affine = torch.eye(side, dtype=torch.float64)
    affine[0, 0], affine[1, 1], affine[0, -1] = -2, 3, 10
    image = MetaTensor(torch.rand(1, 8, 6), affine=affine, meta={"filename_or_obj": "a.png"})
    resized = ResizeWithLabelsd("image", (4, 12))({"image": image})["image"]
    assert resized.meta["filename_or_obj"] == "a.png"
    for new, old in (((-0.5, -0.5), (-0.5, -0.5)), ((3.5, 11.5), (7.5, 5.5))):  # outer corners stay
        rest = [0.0] * (side - 3) + [1.0]
        place = [a @ torch.tensor([*p, *rest], dtype=a.dtype) for a, p in ((resized.affine, new), (affine, old))]
        torch.testing.assert_close(*place)


@pytest.mark.parametrize("size", [0, (8, 0), (8, 8, 8), "8", 8.5])
def test_ill_sizes_are_refused(size) -> None:
    with pytest.raises(ValueError, match="spatial_size must be one or two positive numbers of pixels, got"):
        ResizeWithLabelsd("image", size)


def test_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'image' has the shape \(1, 8, 8, 4\), expected one image \(C, h, w\)"):
        ResizeWithLabelsd("image", 8)({"image": torch.zeros(1, 8, 8, 4)})


@pytest.mark.parametrize("file", sorted(BUNDLES.glob("*/configs/train.json")), ids=lambda file: file.parts[-3])
def test_every_bundle_resizes_by_it(file: Path) -> None:
    transforms = json.loads(file.read_text())["train"]["preprocessing"]["transforms"]
    names = [transform["_target_"] for transform in transforms if isinstance(transform, dict)]
    assert [name.split(".")[-1] for name in names if "resize" in name.lower()] == ["resize_or_draw_tile"]


def test_a_network_trained_behind_it_gives_segmentations_in_their_place() -> None:
    shape, size, generator = (256, 256), (112, 112), torch.Generator().manual_seed(0)
    masks = [disk(shape, generator) for _ in range(24)]
    pairs = [ResizeWithLabelsd("image", size, "label")({"image": mask.float(), "label": mask}) for mask in masks]
    images, labels = (torch.stack([pair[key] for pair in pairs]) for key in ("image", "label"))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 5, padding=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels[:, 0].long()).backward()
        optimizer.step()
    with torch.no_grad():
        found = [ResizeInferer(size)(mask[None].float(), network).argmax(1) for mask in masks]
    offsets = torch.stack([centroid(pred) - centroid(mask) for pred, mask in zip(found, masks, strict=True)])
    dice = [2 * (pred * mask).sum() / (pred.sum() + mask.sum()) for pred, mask in zip(found, masks, strict=True)]
    assert offsets.mean(dim=0).abs().max() < 0.1
    assert torch.stack(dice).mean() > 0.985  # 0.948 where labels lay beside the images
