# SPDX-License-Identifier: Apache-2.0
"""Counted operations against numbers found by hand, and against another counter."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from monai_sam2adapter.networks.adapters import AdapterConfig, HPAdapter, LWAdapter
from monai_sam2adapter.networks.layers import ModulatedDeformConv2d, modulated_deform_conv2d
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2UNet, SAM2UNeXT
from monai_sam2adapter.networks.profiling import MAC_KINDS, count_macs
from monai_sam2adapter.networks.utils import reparameterize_model


class Call(nn.Module):
    """A function as a network."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def kinds_of(model: nn.Module, *inputs: torch.Tensor) -> dict[str, int]:
    """What is counted of each kind, without zeros."""
    count = count_macs(model, *inputs)
    assert sum(count.by_kind.values()) == sum(count.by_part.values()) == count.total
    assert tuple(count.by_kind) == MAC_KINDS
    return {kind: macs for kind, macs in count.by_kind.items() if macs}


X4 = torch.rand(2, 4, 6, 5)  # (B, C, H, W)
A, B, C = torch.rand(2, 3, 4), torch.rand(2, 4, 5), torch.rand(2, 3, 3)
MATRICES = {
    # rows x inner x columns, for each matrix of a batch
    "linear": (nn.Linear(4, 5), [A], 6 * 4 * 5),
    "linear without bias": (nn.Linear(4, 5, bias=False), [A[0]], 3 * 4 * 5),
    "linear of a vector": (nn.Linear(4, 5), [A[0, 0]], 4 * 5),
    "matmul": (Call(torch.matmul), [A, B[0]], 2 * 3 * 4 * 5),
    "matmul broadcast": (Call(torch.matmul), [A[0], B], 2 * 3 * 4 * 5),
    "matrix and vector": (Call(torch.matmul), [A[0], B[0, :, 0]], 3 * 4),
    "dot": (Call(torch.dot), [A[0, 0], B[0, :, 0]], 4),
    "bmm": (Call(torch.bmm), [A, B], 2 * 3 * 4 * 5),
    "addmm": (Call(torch.addmm), [torch.rand(5), A[0], B[0]], 3 * 4 * 5),
    "baddbmm": (Call(torch.baddbmm), [torch.rand(2, 1, 5), A, B], 2 * 3 * 4 * 5),
    "in place": (Call(lambda x, y: torch.zeros(3, 5).addmm_(x, y)), [A[0], B[0]], 3 * 4 * 5),
    "einsum": (Call(lambda x: torch.einsum("bij,bjk->bik", x, x)), [C], 2 * 3 * 3 * 3),
}
CONVOLUTIONS = {
    # positions x weights; 6 x 5 pixels in
    "plain": (nn.Conv2d(4, 6, 3), 2 * (4 * 3) * (6 * 4 * 9)),
    "stride": (nn.Conv2d(4, 6, 3, stride=2, padding=1), 2 * (3 * 3) * (6 * 4 * 9)),
    "groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), 2 * (6 * 5) * (6 * 2 * 9)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), 2 * (6 * 5) * (4 * 9)),
    "dilation": (nn.Conv2d(4, 6, 3, dilation=2), 2 * (2 * 1) * (6 * 4 * 9)),
    # each input pixel meets all weights
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2), 2 * (6 * 5) * (4 * 6 * 4)),
    "transposed groups": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), 2 * (6 * 5) * (4 * 3 * 9)),
}
RESAMPLINGS = {
    # values out x values that are read for each
    "bilinear": (X4, 2 * 4 * 120 * 4),
    "bicubic": (X4, 2 * 4 * 120 * 16),
    "nearest": (X4, 0),
    "nearest-exact": (X4, 0),
    "linear": (torch.rand(2, 4, 6), 2 * 4 * 12 * 2),
    "trilinear": (torch.rand(2, 4, 2, 3, 5), 2 * 4 * 240 * 8),
}


class TestOperators:
    @pytest.mark.parametrize("name", MATRICES)
    def test_matrix_products(self, name):
        model, inputs, expected = MATRICES[name]
        assert kinds_of(model, *inputs) == {"linear": expected}

    @pytest.mark.parametrize("name", CONVOLUTIONS)
    def test_convolutions(self, name):
        model, expected = CONVOLUTIONS[name]
        assert kinds_of(model, X4) == {"convolution": expected}

    @pytest.mark.parametrize("mode", RESAMPLINGS)
    def test_interpolate(self, mode):
        x, expected = RESAMPLINGS[mode]
        count = kinds_of(Call(lambda x: F.interpolate(x, scale_factor=2, mode=mode)), x)
        assert count == ({"resampling": expected} if expected else {})

    @pytest.mark.parametrize(("mode", "taps"), [("bilinear", 4), ("bicubic", 16), ("nearest", 0)])
    def test_grid_sample(self, mode, taps):
        grid = torch.zeros(2, 7, 3, 2)
        count = count_macs(Call(lambda x: F.grid_sample(x, grid, mode=mode, align_corners=False)), X4)
        assert count.by_kind["resampling"] == count.total == 2 * 4 * 21 * taps

    def test_other_operations_are_not_counted(self):
        layers = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Softmax(1), nn.GELU(), nn.Dropout())
        assert kinds_of(layers, X4) == {}
        assert kinds_of(Call(lambda x: (x * x + x).sum() / x.norm()), X4) == {}

    def test_an_operator_that_may_hide_products_is_refused(self):
        library = torch.library.Library("monai_sam2adapter_test", "DEF")
        library.define("own(Tensor x) -> Tensor")
        library.impl("own", lambda x: x.clone(), "CPU")

        def smaller(x: torch.Tensor) -> torch.Tensor:
            return F.interpolate(x, size=3, mode="bilinear", antialias=True)

        for name, model, x in (
            ("aten::mkldnn_rnn_layer", nn.LSTM(3, 4), torch.rand(5, 1, 3)),
            ("aten::_trilinear", Call(lambda x: nn.Bilinear(3, 3, 2)(x, x)), torch.rand(5, 3)),
            (
                "aten::_upsample_bilinear2d_aa",
                Call(lambda x: F.interpolate(x, 3, None, "bilinear", antialias=True)),
                X4,
            ),
            ("monai_sam2adapter_test::own", Call(torch.ops.monai_sam2adapter_test.own), X4),
        ):
            with pytest.raises(ValueError, match=f"cannot count the operations of {name}, which may hold"):
                count_macs(model, x)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
    def test_every_precision(self, dtype):
        model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(2), nn.Linear(12, 3)).to(dtype)
        expected = {"convolution": 2 * 12 * 6 * 4 * 9, "linear": 2 * 6 * 12 * 3}
        assert kinds_of(model, X4.to(dtype)) == expected
        with torch.inference_mode():
            assert kinds_of(model, X4.to(dtype)) == expected
        with torch.autocast("cpu"):
            assert kinds_of(model, X4.to(dtype)) == expected


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=["math", "flash"])
class TestAttention:
    @pytest.mark.parametrize("causal", [False, True])
    def test_both_products_count_in_every_backend(self, backend, causal):
        # 2 images x 3 heads, 4 queries and 5 keys: each pair takes 8 MACs for its weight and 8 for its value
        query, key = torch.rand(2, 3, 4, 8), torch.rand(2, 3, 5, 8)
        for inference in (False, True):
            with sdpa_kernel(backend), torch.inference_mode(inference):
                net = Call(lambda q, k: F.scaled_dot_product_attention(q, k, value=k, is_causal=causal))
                assert kinds_of(net, query, key) == {"attention": 2 * 3 * (4 * 5) * (8 + 8)}

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_a_fused_transformer_layer_counts_as_its_parts(self, backend, training, dtype):
        layer = nn.TransformerEncoderLayer(16, nhead=2, dim_feedforward=32, dropout=0, batch_first=True, dtype=dtype)
        with sdpa_kernel(backend):
            count = count_macs(layer.train(training), torch.rand(3, 5, 16, dtype=dtype))
        # 15 tokens, 75 pairs; queries, keys, values and the projection of 16 x 16; the MLP's two matrices of 16 x 32
        assert count.by_kind["linear"] == 15 * (4 * 16 * 16 + 2 * 16 * 32)
        assert count.by_kind["attention"] == 75 * (16 + 16)
        assert count.by_part["linear1"] == 15 * 16 * 32

    def test_attention_that_is_written_out_is_linear(self, backend):
        layer, x = nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.rand(3, 5, 16)
        with sdpa_kernel(backend):
            assert kinds_of(layer, x, x, x) == {"linear": 15 * 4 * 16 * 16 + 75 * (16 + 16)}


def test_a_value_of_another_width_than_the_key():
    inputs = (torch.rand(2, 3, 4, 8), torch.rand(2, 3, 5, 8), torch.rand(2, 3, 5, 6))
    assert kinds_of(Call(F.scaled_dot_product_attention), *inputs) == {"attention": 2 * 3 * (4 * 5) * (8 + 6)}


@pytest.mark.parametrize("implementation", ["grid_sample", "torchvision"])
def test_both_deformable_convolutions_count_the_same(implementation):
    layer = ModulatedDeformConv2d(2, 3, implementation=implementation)
    # 5 x 4 pixels, 2 channels to 3, 9 taps: 27 offsets and masks of 2 x 9 weights; then 3 x 2 x 9 weights, and
    # 2 x 9 values that are read with 4 MACs each
    expected = {"convolution": 20 * 27 * 2 * 9, "deformable convolution": 20 * (3 * 2 * 9 + 2 * 9 * 4)}
    assert kinds_of(layer, torch.rand(1, 2, 5, 4)) == expected
    assert kinds_of(nn.Sequential(layer).bfloat16(), torch.rand(1, 2, 5, 4).bfloat16()) == expected

    def function(x: torch.Tensor) -> torch.Tensor:
        offset, mask = torch.zeros(2, 18, 3, 2), torch.zeros(2, 9, 3, 2)
        weight = torch.rand(3, 2, 3, 3)
        return modulated_deform_conv2d(x, offset, mask, weight, None, 2, 1, implementation=implementation)

    # 2 images, 3 x 2 positions
    assert count_macs(Call(function), torch.rand(2, 2, 5, 4)).total == 2 * 6 * (3 * 2 * 9 + 2 * 9 * 4)


class TestParts:
    def test_children_are_the_parts(self):
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4))
                self.up = nn.Upsample(scale_factor=2, mode="bilinear")
                self.unused = nn.Linear(2, 2)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.encoder[1](self.encoder(x)[..., :5].new_zeros(2, 5))
                return self.up(x[None, None]) @ torch.ones(8, 1)

        count = count_macs(Net(), torch.rand(2, 3))
        # the encoder's second layer runs twice; 4 x 8 values are resampled, and 4 x 8 multiplied
        assert count.by_part == {"encoder": 2 * (15 + 20) + 2 * 20, "up": 0, "unused": 0, "other": 4 * 32 + 4 * 8}
        assert count.by_part_and_kind["other"]["resampling"] == 4 * 32
        assert count.by_part_and_kind["encoder"]["linear"] == count.by_part["encoder"]

    def test_a_module_of_two_names_counts_once_per_execution(self):
        layer = nn.Linear(4, 4)
        model = nn.ModuleDict({"first": layer, "second": layer, "third": nn.Sequential(layer)})
        model.forward = lambda x: model.third(model.second(x))
        assert count_macs(model, torch.rand(2, 4)).by_part == {"first": 2 * 32, "third": 0}

    def test_a_module_that_fails_inside_does_not_stay(self):
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.wrong, self.right = nn.Linear(3, 3), nn.Linear(4, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                with pytest.raises(RuntimeError):
                    self.wrong(x)
                return self.right(x) @ torch.ones(4, 1)

        assert count_macs(Net(), torch.rand(2, 4)).by_part == {"wrong": 0, "right": 32, "other": 8}


def other_count(model: nn.Module, x: torch.Tensor) -> int:
    """Layers by hooks, attention by its calls: how they are counted elsewhere."""
    total = 0

    class Attention(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal total
            if function is F.scaled_dot_product_attention:
                query, key, value = args[:3]
                total += query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
            return function(*args, **(kwargs or {}))

    def add(module: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        nonlocal total
        values = args[0] if isinstance(module, nn.ConvTranspose2d) else out
        total += values.numel() * module.weight[0].numel()

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad(), Attention():
        model(x)
    for handle in handles:
        handle.remove()
    return total


class TestNetworks:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 32)])
    def test_a_whole_net_against_another_count(self, training, height, width):
        net = PromptFreeSAM2(adapter="lw", out_channels=3).train(training)
        x = torch.rand(2, 3, height, width)
        count = count_macs(net, x)
        pixels = 64 * 64 if height == 64 else 96 * 32  # padded
        hypernetworks = 2 * 3 * (256 * 256 + 256 * 256 + 256 * 32)  # two images, three classes
        masks = 2 * 3 * 32 * pixels // 16  # at stride 4
        assert count.by_kind["resampling"] == 2 * 3 * pixels * 4
        assert count.total == other_count(net, x) + hypernetworks + masks + count.by_kind["resampling"]
        assert count.by_part["class_head"] == hypernetworks
        assert [*count.by_part] == [*net.parameter_groups()]
        assert sum(count.by_part.values()) == sum(count.by_kind.values()) == count.total
        # the same in other precisions, and with MATH in place of the fast attention
        if not training:
            with sdpa_kernel(SDPBackend.MATH):
                assert count_macs(net.bfloat16(), x.bfloat16()) == count

    def test_hp_adapter(self):
        adapter = HPAdapter(8, AdapterConfig(bottleneck_ratio=0.25))
        # 16 tokens, 8 channels to 2 and back; 27 offsets and masks; 9 taps
        assert kinds_of(adapter, torch.rand(1, 4, 4, 8)) == {
            "linear": 16 * (8 * 2 + 2 * 8),
            "convolution": 16 * 27 * 2 * 9,
            "deformable convolution": 16 * (2 * 2 * 9 + 2 * 9 * 4),
        }

    def test_lw_adapter_before_and_after_fusing(self):
        adapter = LWAdapter(8, AdapterConfig(bottleneck_ratio=0.5)).eval()
        x = torch.rand(1, 4, 4, 8)
        # 16 tokens, 4 depthwise channels: 3 x 3 and 1 x 1 beside each other, then 3 x 3 alone
        linear = 16 * 2 * 8 * 4
        assert kinds_of(adapter, x) == {"linear": linear, "convolution": 16 * 4 * (9 + 1)}
        assert kinds_of(reparameterize_model(adapter), x) == {"linear": linear, "convolution": 16 * 4 * 9}

    def test_adapters_take_what_they_add_and_merged_lora_nothing(self):
        x = torch.rand(1, 3, 64, 64)
        nets = {name: PromptFreeSAM2(adapter=name).eval() for name in ("none", "hp", "lora")}
        counts = {name: count_macs(net, x) for name, net in nets.items()}
        for name in ("hp", "lora"):
            assert counts[name].total == counts["none"].total + counts[name].by_part["adapters"] > counts["none"].total
        adapters = counts["hp"].by_part_and_kind["adapters"]
        assert adapters["deformable convolution"] == counts["hp"].by_kind["deformable convolution"] > 0
        assert adapters["attention"] == adapters["resampling"] == 0
        assert count_macs(reparameterize_model(nets["lora"]), x) == counts["none"]

    def test_sam2_unet_in_training_resizes_two_more_outputs(self):
        net = SAM2UNet(variant="tiny", out_channels=2)
        x = torch.rand(2, 3, 64, 64)
        training, evaluated = count_macs(net.train(), x), count_macs(net.eval(), x)
        assert set(training.by_part) == {"image_encoder", "adapters", "decoder", "other"}
        sides = 2 * 2 * 64 * (4 * 4 + 8 * 8)  # 1 x 1 convolutions of 64 channels at strides 16 and 8
        assert training.by_part["decoder"] == evaluated.by_part["decoder"] + sides
        assert training.by_part["other"] == 3 * evaluated.by_part["other"] == 3 * 2 * 2 * 64 * 64 * 4

    def test_sam2_unext_has_dinov2_apart(self):
        pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
        net = SAM2UNeXT(variant="tiny", dino_variant="small", dino_size=28).eval()
        count = count_macs(net, torch.rand(1, 3, 32, 32))
        assert set(count.by_part) == {"image_encoder", "dino", "adapters", "decoder", "other"}
        assert count.by_part["dino"] == count_macs(net.dino, torch.rand(1, 3, 28, 28)).total > 0

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_cuda_counts_what_the_cpu_counts(self, dtype):
        net = PromptFreeSAM2(adapter="hp").to(dtype).eval()
        x = torch.rand(1, 3, 96, 70, dtype=dtype)
        expected = count_macs(net, x)
        assert count_macs(net.cuda(), x.cuda()) == expected


class Failing(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        super().forward(x)
        raise RuntimeError("meant to fail")


class TestNothingChanges:
    @pytest.mark.parametrize("container", [nn.Sequential, Failing])
    @pytest.mark.parametrize("training", [False, True])
    def test_state_hooks_and_random_numbers(self, container, training):
        net = container(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train(training)
        state, random_state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
        if container is Failing:
            with pytest.raises(RuntimeError, match="meant to fail"):
                count_macs(net, X4)
        else:
            assert count_macs(net, X4).total > 0
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random_state)
        assert [module.training for module in net.modules()] == [training] * 4
        assert not hooks._global_forward_pre_hooks
        assert not hooks._global_forward_hooks
        assert torch.backends.mha.get_fastpath_enabled()
        assert torch.is_grad_enabled()

    def test_gradients_before_and_after(self):
        class Caching(nn.Sequential):
            kept = None

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.kept = torch.arange(3.0).sin() if self.kept is None else self.kept
                return super().forward(x) * self.kept

        net = Caching(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).eval()
        count_macs(net, X4)
        loss = net(X4).square().sum()
        count_macs(net, X4)  # while a backward pass waits
        loss.backward()
        assert net[0].weight.grad.abs().sum() > 0

    @pytest.mark.parametrize("positional_encoding", ["peg", "sam2"])
    def test_the_net_can_be_trained_afterwards(self, positional_encoding):
        net = PromptFreeSAM2(positional_encoding=positional_encoding)
        x = torch.rand(1, 3, 32, 32)
        count_macs(net, x)
        net(x).sum().backward()
