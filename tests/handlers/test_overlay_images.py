# SPDX-License-Identifier: Apache-2.0
"""Pictures of the first cases go to files and TensorBoard; how they are drawn is tested in visualize."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from monai_sam2adapter.data import LabelScheme
from monai_sam2adapter.handlers import OverlayImageHandler
from monai_sam2adapter.visualize import PALETTE

CLASSES = ["ventricle", "wall"]
TITLE, GAP = 26, 6  # pixels above and between the panels


@pytest.mark.parametrize(("max_cases", "batch_size"), [(2, 1), (2, 3), (9, 2)])
def test_first_cases_go_to_files_and_tensorboard(
    evaluator_factory, tiny_network, tmp_path, max_cases, batch_size
) -> None:
    writer = SummaryWriter(tmp_path / "events")
    handler = OverlayImageHandler(CLASSES, writer, tmp_path / "pictures", max_cases=max_cases)
    evaluator = evaluator_factory(tiny_network, val_handlers=[handler], batch_size=batch_size)
    for epoch in (1, 2):
        evaluator.run(epoch)
    writer.close()
    names = [f"patient{n:03d}" for n in range(min(max_cases or 3, 3))]
    assert sorted(path.name for path in (tmp_path / "pictures").glob("[!.]*")) == [f"{name}.png" for name in names]
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert events.Tags()["images"] == [f"overlay/{name}" for name in names]
    shown = events.Images("overlay/patient000")
    assert [image.step for image in shown] == [1, 2]

    picture = np.asarray(Image.open(tmp_path / "pictures" / "patient000.png"))
    assert picture.shape == (shown[0].height, shown[0].width, 3)
    width = (picture.shape[1] - 2 * GAP) // 3
    truth = picture[TITLE:, width + GAP :][:, :width]
    assert all((truth == color).all(-1).any() for color in PALETTE[:2])


class SlowlyBrighter(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1)[:, : 2 if x.shape[1] == 1 else None]


@pytest.mark.parametrize("shape", [(1, 8, 6, 4), (1, 8, 6), (3, 8, 6)], ids=["volume", "gray", "color"])
@pytest.mark.parametrize("decollate", [True, False])
def test_inference_without_labels_shows_two_panels(tmp_path, shape, decollate) -> None:
    """Logits of two (gray) or six channels, straight from the network."""
    items = [{"image": torch.rand(shape)} for _ in range(2)]
    SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=SlowlyBrighter(),
        decollate=decollate,
        val_handlers=[OverlayImageHandler(CLASSES, output_dir=tmp_path)],
    ).run()
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["case_0.png", "case_1.png"]
    picture = np.asarray(Image.open(tmp_path / "case_0.png"))
    scale = -(-320 // 6)  # six rows (the second axis) at 320 pixels or more
    assert picture.shape == (TITLE + 6 * scale + TITLE, 2 * 8 * scale + GAP, 3)


def test_ill_arguments_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="needs a summary_writer, an output_dir or both"):
        OverlayImageHandler(CLASSES)
    with pytest.raises(ValueError, match="max_cases must be at least 1, got 0"):
        OverlayImageHandler(CLASSES, output_dir=tmp_path, max_cases=0)
    with pytest.raises(ValueError, match="either class_names or a label_scheme"):
        OverlayImageHandler(output_dir=tmp_path)


def test_names_and_colors_come_from_a_label_scheme(tmp_path) -> None:
    scheme = LabelScheme(("a", "b"), ((1, 2, 3), (4, 5, 6)), ({}, {}))
    handler = OverlayImageHandler(label_scheme=scheme, output_dir=tmp_path)
    assert (handler.class_names, handler.class_colors) == (["a", "b"], scheme.colors)
