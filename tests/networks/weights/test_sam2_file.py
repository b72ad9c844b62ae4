# SPDX-License-Identifier: Apache-2.0
"""A network that was trained as a whole becomes a file that others start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2UNet
from monai_sam2adapter.networks.weights import load_sam2_checkpoint, save_sam2_checkpoint


@pytest.fixture(scope="module")
def trained() -> PromptFreeSAM2:
    torch.manual_seed(0)
    return PromptFreeSAM2(adapter="full", positional_encoding="sam2", in_channels=1, out_channels=3)


class TestSaveSAM2Checkpoint:
    def test_another_network_starts_from_it(self, trained: PromptFreeSAM2, tmp_path: Path) -> None:
        save_sam2_checkpoint(trained, tmp_path / "trunk.pt")
        torch.manual_seed(1)
        other = PromptFreeSAM2(adapter="hp", in_channels=3, out_channels=5)
        report = load_sam2_checkpoint(other, tmp_path / "trunk.pt")
        assert report.variant == "tiny"
        before, after = trained.state_dict(), other.state_dict()
        names = other.sam2_state_names()
        assert len(names) > 100
        assert all(torch.equal(before[name], after[name]) for name in names)

    def test_every_class_starts_from_the_first_one(self, trained: PromptFreeSAM2, tmp_path: Path) -> None:
        save_sam2_checkpoint(trained, tmp_path / "trunk.pt")
        other = PromptFreeSAM2(adapter="none", positional_encoding="sam2", in_channels=1, out_channels=2)
        load_sam2_checkpoint(other, tmp_path / "trunk.pt")
        image = torch.randn(1, 1, 64, 64)
        with torch.no_grad():
            # two tokens attend to each other, so that their logits differ from those of three
            logits = other.eval()(image)
        torch.testing.assert_close(logits[:, 0], logits[:, 1])
        own, expected = other.sam_mask_decoder, trained.sam_mask_decoder
        assert torch.equal(own.class_tokens.weight[1], expected.class_tokens.weight[0])
        assert not torch.equal(expected.class_tokens.weight[0], expected.class_tokens.weight[1])

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"adapter": "lw", "positional_encoding": "sam2"}, "adapters"),
            ({"adapter": "full"}, "positional_encoding"),
            ({"adapter": "full", "positional_encoding": "sam2", "in_channels": 4}, "input_projection"),
        ],
        ids=["adapters", "peg", "channels"],
    )
    def test_what_sam2_has_no_name_for_is_refused(self, options: dict, part: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=f"the network has {part}, which SAM 2's files have no names for"):
            save_sam2_checkpoint(PromptFreeSAM2(**options), tmp_path / "trunk.pt")
        assert list(tmp_path.iterdir()) == []

    def test_a_network_without_class_head_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="SAM2UNet has no class head"):
            save_sam2_checkpoint(SAM2UNet(variant="tiny", adapter="full"), tmp_path / "trunk.pt")
