# SPDX-License-Identifier: Apache-2.0
"""An injection happens as a whole, and the network knows what it holds."""

from __future__ import annotations

import pytest
from torch import nn

from monai_sam2adapter.networks.adapters import MLPAdapter, inject_adapters, registry, remove_adapters
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2ImageEncoder


def test_a_method_that_fails_on_one_block_leaves_none_adapted():
    class Fussy(MLPAdapter):
        def _spatial_layer(self, width):
            if width > 30:
                raise RuntimeError("too wide")
            return nn.Identity()

    registry._ADAPTERS["fussy"] = Fussy
    try:
        encoder = SAM2ImageEncoder("tiny")
        with pytest.raises(RuntimeError, match="too wide"):
            inject_adapters(encoder, "fussy")
        assert not any(block.adapters for block in encoder.trunk.blocks)
    finally:
        del registry._ADAPTERS["fussy"]


def test_config_follows_injection_and_removal():
    net = PromptFreeSAM2("tiny", "none")
    assert net.config["adapter"] == "none"
    inject_adapters(net, "lw", {"scale": 0.1})
    assert net.config["adapter"] == "lw"
    assert net.config["adapter_config"]["scale"] == 0.1
    assert all(adapter.training for block in net.image_encoder.trunk.blocks for adapter in block.adapters.values())
    remove_adapters(net)
    assert net.config["adapter"] == "none"
