# SPDX-License-Identifier: Apache-2.0
"""Every network with every adapter: rebuilt, its modes, its gradients, on the meta device, compiled."""

from __future__ import annotations

import copy
import itertools
import json
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from monai.networks import copy_model_state
from torch import nn

from monai_sam2adapter.networks.adapters import (
    Adapter,
    adapter_names,
    inject_adapters,
    merge_adapters,
    remove_adapters,
    unmerge_adapters,
)
from monai_sam2adapter.networks.blocks import PositionalEncodingGenerator
from monai_sam2adapter.networks.nets import (
    SAM2_VARIANTS,
    DINOv3Trunk,
    PromptFreeSAM2,
    PromptFreeViT,
    SAM2UNet,
    SAM2UNeXT,
)
from monai_sam2adapter.networks.profiling import count_macs, profile_network
from monai_sam2adapter.networks.utils import reparameterize_model
from monai_sam2adapter.networks.weights import load_adapter, prepare_base_weights, save_adapter

HAS_TIMM = find_spec("timm") is not None
NEEDS_TIMM = pytest.mark.skipif(not HAS_TIMM, reason="timm is missing; install the extra 'unext'")
ADAPTERS = [*adapter_names(), "none", "full"]
NETWORKS = [
    pytest.param(PromptFreeSAM2, {"positional_encoding": "peg", "in_channels": 5}, id="PromptFreeSAM2"),
    pytest.param(PromptFreeSAM2, {"positional_encoding": "sam2"}, id="PromptFreeSAM2-sam2"),
    pytest.param(SAM2UNet, {}, id="SAM2UNet"),
    pytest.param(
        SAM2UNeXT,
        {"dino_variant": "small", "dino_size": 28},
        id="SAM2UNeXT",
        marks=NEEDS_TIMM,
    ),
    pytest.param(PromptFreeViT, {}, id="PromptFreeViT", marks=NEEDS_TIMM),
]


def smallest(net_class):
    return "small" if net_class is PromptFreeViT else "tiny"


def on_meta(net_class, variant=None, **kwargs):
    with torch.device("meta"):
        return net_class(variant or smallest(net_class), **kwargs)


def meta_input(net, batch=1):
    return torch.empty(batch, net.in_channels, 70, 64, device="meta")


def assert_rebuilt(net):
    config = json.loads(json.dumps(net.config))
    with torch.device("meta"):
        other = type(net)(**config)
    assert other.config == config
    assert list(other.state_dict()) == list(net.state_dict())
    assert [t.shape for t in other.state_dict().values()] == [t.shape for t in net.state_dict().values()]


class TestFrozenRandomWeights:
    """Adapters on them miss all that SAM 2 has learned, which must not go unseen."""

    @pytest.mark.parametrize(("net_class", "kwargs"), NETWORKS)
    def test_are_told_once_at_the_first_training_step(self, net_class, kwargs, caplog):
        net = net_class(smallest(net_class), adapter="none", **kwargs)
        image = torch.rand(2, net.in_channels, 32, 32)
        with torch.no_grad():
            net.eval()(image)
        assert not caplog.messages
        net.train()(image)
        net(image)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"{net_class.__name__} is trained with image_encoder" in caplog.messages[0]
        assert "frozen, which never got weights" in caplog.messages[0]

    @pytest.mark.parametrize("case", ["all trained", "loaded", "loaded by MONAI", "asked for"])
    def test_are_not_told_where_there_is_no_reason(self, case, caplog):
        net = PromptFreeSAM2(adapter="full" if case == "all trained" else "none")
        if case == "loaded":
            net.load_state_dict(PromptFreeSAM2(adapter="none").state_dict())
        elif case == "loaded by MONAI":
            copy_model_state(net, PromptFreeSAM2(adapter="none").state_dict())
        elif case == "asked for":
            prepare_base_weights(net, "random")
            assert caplog.messages.pop().startswith("Training starts from random weights, with image_encoder")
        caplog.clear()
        net(torch.rand(1, 3, 32, 32))
        assert not caplog.messages

    def test_are_told_when_only_what_is_added_was_loaded(self, caplog, tmp_path):
        net = PromptFreeSAM2(adapter="none")
        save_adapter(net, tmp_path / "adapter.safetensors")
        load_adapter(net, tmp_path / "adapter.safetensors")
        net.load_state_dict(net.state_dict())
        net(torch.rand(1, 3, 32, 32))
        assert "never got weights" in caplog.text


class TestConfig:
    @pytest.mark.parametrize(("net_class", "kwargs"), NETWORKS)
    @pytest.mark.parametrize("adapter", ADAPTERS)
    def test_every_adapter(self, net_class, kwargs, adapter):
        net = on_meta(net_class, adapter=adapter, **kwargs)
        assert net.config["adapter"] == adapter
        assert_rebuilt(net)
        remove_adapters(net)
        assert_rebuilt(net)

    @pytest.mark.parametrize(("first", "second"), [*itertools.permutations(adapter_names(), 2)])
    def test_every_pair_however_it_came_about(self, first, second):
        net = on_meta(PromptFreeSAM2, adapter=first, freeze=["mask_decoder"])
        inject_adapters(net, second, {"blocks": [0, -1]})
        inject_adapters(net, second, {"blocks": [3], "scale": 0.25})
        # the second one is injected twice, with different settings
        assert sorted(net.config["adapter"]) == sorted([first, second, second])
        assert_rebuilt(net)
        assert_rebuilt(on_meta(SAM2UNet, adapter=[first, second], adapter_config={second: {"scale": 0.25}}))

    def test_order_in_each_block_is_kept(self):
        net = on_meta(PromptFreeSAM2, adapter="none")
        for name, blocks in (("hp", [1]), ("lw", None), ("hp", [0])):
            inject_adapters(net, name, {"blocks": blocks})
        orders = [list(block.adapters) for block in net.image_encoder.trunk.blocks]
        assert orders[:3] == [["lw", "hp"], ["hp", "lw"], ["lw"]]
        assert_rebuilt(net)

    def test_blocks_that_lost_their_adapter_and_merged_ones(self):
        net = PromptFreeSAM2("tiny", ["lora", "lora"], adapter_config=[{"blocks": [1]}, {"blocks": [2, 3], "rank": 2}])
        assert_rebuilt(net)
        net.image_encoder.trunk.blocks[3].remove_adapters()
        assert net.config["adapter_config"][1]["blocks"] == [2]
        assert_rebuilt(net)
        merge_adapters(net)
        assert net.config["adapter"] == "none"
        assert_rebuilt(net)
        unmerge_adapters(net)
        assert_rebuilt(net)

    @pytest.mark.parametrize(
        ("kwargs", "text"),
        [
            ({"adapter": []}, "the list of adapters is empty"),
            ({"adapter": ["hp", "none"]}, "'none' is not a valid value"),
            ({"adapter": ["hp", "hp"]}, "have an adapter 'hp' already"),
            (
                {"adapter": ["hp", "lw"], "adapter_config": {"hpp": {}}},
                r"settings for \['hpp'\], the adapters are \['hp'",
            ),
            (
                {"adapter": ["hp", "lw"], "adapter_config": [{}]},
                r"must be a list of settings, one for each of \['hp', 'lw'",
            ),
            ({"adapter": "hp", "adapter_config": [{}]}, "adapter_config must be a dictionary"),
        ],
        ids=str,
    )
    def test_ill_arg(self, kwargs, text):
        with pytest.raises(ValueError, match=text):
            on_meta(PromptFreeSAM2, **kwargs)


class TestTrain:
    @staticmethod
    def expected_modes(net):
        """By three walks: all in training mode, frozen parts out of it, what is added into it again."""
        nn.Module.train(net, True)
        for part in net.frozen_parts:
            for module in net._pretrained_parts()[part]:
                nn.Module.eval(module)
        heads = [net.input_projection, *net._head_modules()]
        for module in list(net.modules()):
            if isinstance(module, Adapter | PositionalEncodingGenerator) or any(module is head for head in heads):
                nn.Module.train(module, True)
        return {name: module.training for name, module in net.named_modules()}

    @pytest.mark.parametrize(("net_class", "kwargs"), NETWORKS)
    @pytest.mark.parametrize("freeze", [None, [], ["image_encoder"]], ids=str)
    def test_modes(self, net_class, kwargs, freeze):
        net = on_meta(net_class, adapter=["lw", "lora"], freeze=freeze, **kwargs)
        expected = self.expected_modes(net)
        net.eval()
        assert not any(module.training for module in net.modules())
        assert net.train() is net
        assert {name: module.training for name, module in net.named_modules()} == expected
        assert freeze == [] or False in expected.values()
        # a user's changes do not outlive the next call, and what is injected or removed later is seen
        net.image_encoder.trunk.train()
        net.image_encoder.trunk.blocks[0].adapters.eval()
        remove_adapters(net)
        inject_adapters(net, "hp", {"blocks": [0]})
        expected = self.expected_modes(net)
        net.image_encoder.trunk.train()
        net.train()
        assert {name: module.training for name, module in net.named_modules()} == expected

    def test_a_module_with_its_own_train_is_asked(self):
        class AlwaysEval(nn.BatchNorm2d):
            def train(self, mode=True):
                return super().train(False)

        net = on_meta(SAM2UNet, adapter="none")
        net.rfb1.extra = AlwaysEval(3)
        net.train()
        assert net.rfb1.training
        assert not net.rfb1.extra.training
        with pytest.raises(ValueError, match="must be True or False, got 'eval'"):
            net.train("eval")


@pytest.fixture(scope="module", params=[pytest.param(p.values, id=p.id, marks=p.marks) for p in NETWORKS])
def net(request, randomize):
    """All weights random, in eval mode; tests must leave it as it is."""
    net_class, kwargs = request.param
    return randomize(net_class(smallest(net_class), out_channels=3, **kwargs)).eval()


class TestForward:
    def test_pads_with_zeros_at_the_right_and_the_bottom_and_crops(self, net):
        x = torch.rand(2, net.in_channels, 100, 75)
        rows, columns = (-side % net.size_divisor for side in (100, 75))
        assert min(rows, columns) > 0
        assert torch.equal(net(x), net(F.pad(x, (0, columns, 0, rows)))[..., :100, :75])

    @pytest.mark.parametrize(
        ("shape", "text"),
        [
            ((31, 64), "below 32 pixels"),
            ((64, 31), "below 32 pixels"),
            ((64, 64, 8), "slice by slice"),
            ((64,), "must be"),
        ],
        ids=["low", "narrow", "volume", "flat"],
    )
    def test_ill_input(self, net, shape, text):
        with pytest.raises(ValueError, match=text):
            net(torch.rand(1, net.in_channels, *shape))
        with pytest.raises(ValueError, match=rf"\(1, 4, 64, 64\) must be \(batch, {net.in_channels}, height, width\)"):
            net(torch.rand(1, 4, 64, 64))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_autocast_and_modules_of_a_dtype_are_finite(self, net, dtype):
        x = torch.rand(1, net.in_channels, 64, 64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert net(x).isfinite().all()
        out = copy.deepcopy(net).to(dtype)(x.to(dtype))
        assert out.dtype == dtype
        assert out.isfinite().all()

    def test_all_that_is_added_gets_a_gradient_and_nothing_else(self, net):
        net = copy.deepcopy(net).train()
        outputs = net(torch.rand(2, net.in_channels, 64, 96))
        loss = sum(out.square().mean() for out in (outputs if isinstance(outputs, list) else [outputs]))
        loss.backward()
        added = net.added_state_names()
        for name, parameter in net.named_parameters():
            assert parameter.requires_grad == (name in added), name
            # the bias of keys shifts all logits of a query by one number, which softmax ignores
            if not name.endswith("k_proj.bias"):
                assert (parameter.grad is not None and bool(parameter.grad.any())) == (name in added), name

    def test_state_and_adapter_file_go_into_a_net_of_the_same_config(self, net, tmp_path):
        x = torch.rand(1, net.in_channels, 64, 64)
        other = type(net)(**net.config).eval()
        assert not torch.equal(other(x), net(x))
        other.load_state_dict(net.state_dict())
        assert torch.equal(other(x), net(x))
        save_adapter(net, tmp_path / "a.safetensors")
        with torch.no_grad():
            for name in other.added_state_names() & dict(other.named_parameters()).keys():
                other.get_parameter(name).zero_()
        load_adapter(other, tmp_path / "a.safetensors")
        assert torch.equal(other(x), net(x))

    def test_every_parameter_and_name_has_one_part(self, net):
        ids = [id(parameter) for group in net.parameter_groups().values() for parameter in group]
        assert sorted(ids) == sorted(id(parameter) for parameter in net.parameters())
        assert not net.sam2_state_names() & net.added_state_names()


class TestMetaDevice:
    @pytest.mark.parametrize(
        ("net_class", "kwargs", "variant"),
        [
            pytest.param(*network.values, variant, marks=network.marks, id=f"{network.id}-{variant}")
            for network in NETWORKS
            for variant in (DINOv3Trunk.variants if network.values[0] is PromptFreeViT else SAM2_VARIANTS)
        ],
    )
    def test_every_variant_is_built_and_counted(self, net_class, kwargs, variant):
        net = on_meta(net_class, variant, adapter="lw", **kwargs)
        assert all(tensor.is_meta for tensor in (*net.parameters(), *net.buffers()))
        macs = [count_macs(net.train(training), meta_input(net)).by_part["adapters"] for training in (True, False)]
        assert macs[0] == macs[1] > 0

    @pytest.mark.parametrize("adapter", ADAPTERS)
    def test_counts_are_those_of_the_cpu_fused_too(self, adapter):
        net, other = PromptFreeSAM2("tiny", adapter).eval(), on_meta(PromptFreeSAM2, adapter=adapter).eval()
        for _ in range(2):
            expected = count_macs(net, torch.rand(1, 3, 70, 64))
            assert count_macs(other, meta_input(other)) == expected
            assert expected.total > 0
            net, other = reparameterize_model(net, inplace=True), reparameterize_model(other, inplace=True)

    def test_time_is_not_measured_there(self):
        with pytest.raises(ValueError, match="on the meta device nothing takes time or memory; use count_macs"):
            profile_network(on_meta(PromptFreeSAM2), (1, 3, 32, 32))


def graphs_of(net, x):
    """Compile, run, and return how many graphs it took; breaks are errors."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(net, fullgraph=True, backend=backend)(x)
    return len(graphs)


# the others are like these: every network with one adapter, and every adapter in one network
FAST = {("PromptFreeSAM2", adapter, training) for adapter in ("hp", "lw") for training in (True, False)}
FAST |= {("SAM2UNet", "bottleneck", False), ("SAM2UNeXT", "bottleneck", False), ("PromptFreeViT", "hp", True)}


class TestCompile:
    @pytest.mark.parametrize(
        ("network", "adapter", "training"),
        [
            pytest.param(
                network.values,
                *(adapter, training),
                marks=[*network.marks, *([] if (network.id, adapter, training) in FAST else [pytest.mark.slow])],
                id=f"{network.id}-{adapter}-{'training' if training else 'inference'}",
            )
            for network, adapter, training in itertools.product(NETWORKS, ADAPTERS, (True, False))
        ],
    )
    def test_one_graph(self, network, adapter, training):
        net_class, kwargs = network
        net = net_class(smallest(net_class), adapter, **kwargs).train(training)
        with torch.set_grad_enabled(training):
            assert graphs_of(net, torch.rand(2, net.in_channels, 64, 64)) == 1

    @pytest.mark.parametrize("kwargs", [{"pad_windows": True}, {"activation_checkpointing": True}], ids=str)
    def test_one_graph_of_other_ways(self, kwargs):
        net = PromptFreeSAM2("tiny", "lw", **kwargs).train()
        assert graphs_of(net, torch.rand(2, 3, 64, 64)) == 1

    def test_one_graph_under_autocast(self):
        net = PromptFreeSAM2("tiny", "hp").train()
        with torch.autocast("cpu", torch.bfloat16):
            assert graphs_of(net, torch.rand(2, 3, 64, 64)) == 1

    def test_one_graph_with_frozen_weights_in_bfloat16(self):
        net = PromptFreeSAM2("tiny", "hp").train()
        net.cast_frozen(torch.bfloat16)
        assert graphs_of(net, torch.rand(2, 3, 64, 64)) == 1
