# SPDX-License-Identifier: Apache-2.0
"""One meaning of the modulated deformable convolution in both implementations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_sam2adapter.networks.layers import ModulatedDeformConv2d, deform_conv, modulated_deform_conv2d

IMPLEMENTATIONS = ("torchvision", "grid_sample")
NAMES = ("x", "offset", "mask", "weight", "bias")

# kernel (height, width), stride, padding, dilation
GEOMETRIES = [
    pytest.param((3, 3), 1, 1, 1, id="as in the adapters"),
    pytest.param((1, 1), 1, 0, 1, id="single tap"),
    pytest.param((5, 5), 1, 2, 1, id="5x5"),
    pytest.param((3, 1), 1, 0, 1, id="not square"),
    pytest.param((3, 3), 2, 1, 1, id="stride"),
    pytest.param((3, 3), 1, 0, 1, id="no padding"),
    pytest.param((3, 3), 1, 3, 3, id="dilation"),
    pytest.param((3, 3), 2, 2, 2, id="all at once"),
]


def make_tensors(kernel, stride, padding, dilation, dtype=torch.float32, reach=8.0):
    """Input, offsets of ``reach`` pixels standard deviation (the image has 11 x 14), masks, weight and bias."""
    x = torch.randn(2, 5, 11, 14, dtype=dtype)
    weight = torch.randn(7, 5, *kernel, dtype=dtype)
    grid = F.conv2d(x, weight, None, stride, padding, dilation).shape[2:]
    taps = kernel[0] * kernel[1]
    offset = reach * torch.randn(2, 2 * taps, *grid, dtype=dtype)
    mask = torch.rand(2, taps, *grid, dtype=dtype)
    return x, offset, mask, weight, torch.randn(7, dtype=dtype)


def output_and_gradients(tensors, geometry, implementation):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = modulated_deform_conv2d(*leaves, *geometry, implementation=implementation)
    gradients = torch.autograd.grad(out.square().sum(), leaves)
    return out.detach(), dict(zip(NAMES, gradients, strict=True))


def by_hand(x, offset, mask, weight, bias, stride, padding, dilation):
    """The definition, tap by tap, for one output channel at a time."""
    batch, channels, height, width = x.shape
    taps_w = weight.shape[3]
    out = bias[None, :, None, None].expand(batch, -1, *offset.shape[2:]).clone()
    for b in range(batch):
        for row in range(offset.shape[2]):
            for column in range(offset.shape[3]):
                for k in range(mask.shape[1]):
                    y = row * stride - padding + k // taps_w * dilation + offset[b, 2 * k, row, column].item()
                    z = column * stride - padding + k % taps_w * dilation + offset[b, 2 * k + 1, row, column].item()
                    value = x.new_zeros(channels)
                    for i in range(height):
                        for j in range(width):
                            value += max(0.0, 1 - abs(y - i)) * max(0.0, 1 - abs(z - j)) * x[b, :, i, j]
                    tap = weight[:, :, k // taps_w, k % taps_w]
                    out[b, :, row, column] += mask[b, k, row, column] * (tap @ value)
    return out


class TestModulatedDeformConv2dFunction:
    @pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), GEOMETRIES)
    def test_implementations_agree_in_output_and_all_gradients(self, kernel, stride, padding, dilation, relative_error):
        tensors = make_tensors(kernel, stride, padding, dilation)
        assert tensors[1].abs().max() > 14, "some offsets must lead out of the image"
        out, gradients = output_and_gradients(tensors, (stride, padding, dilation), "grid_sample")
        expected, expected_gradients = output_and_gradients(tensors, (stride, padding, dilation), "torchvision")
        assert relative_error(out, expected) < 1e-5
        errors = {name: relative_error(gradients[name], expected_gradients[name]) for name in NAMES}
        assert max(errors.values()) < 1e-5, errors

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_output_is_the_definition(self, implementation, relative_error):
        x, offset, mask, weight, bias = make_tensors((3, 3), 2, 1, 1, torch.float64)
        tensors = x[:1, :2, :5, :6], offset[:1, :, :3, :3], mask[:1, :, :3, :3], weight[:3, :2], bias[:3]
        out = modulated_deform_conv2d(*tensors, stride=2, padding=1, implementation=implementation)
        assert relative_error(out, by_hand(*tensors, stride=2, padding=1, dilation=1)) < 1e-12

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    @pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), GEOMETRIES)
    def test_without_offsets_and_with_mask_one_it_is_a_plain_convolution(
        self, kernel, stride, padding, dilation, implementation, relative_error
    ):
        x, offset, mask, weight, bias = make_tensors(kernel, stride, padding, dilation)
        geometry = (stride, padding, dilation)
        out = modulated_deform_conv2d(
            x, torch.zeros_like(offset), torch.ones_like(mask), weight, bias, *geometry, implementation=implementation
        )
        assert relative_error(out, F.conv2d(x, weight, bias, *geometry)) < 1e-5

    def test_unknown_implementation_is_answered_with_a_suggestion(self):
        with pytest.raises(ValueError, match="did you mean 'torchvision'"):
            modulated_deform_conv2d(*make_tensors((3, 3), 1, 1, 1), padding=1, implementation="torchvison")
        with pytest.raises(ValueError, match="did you mean 'grid_sample'"):
            ModulatedDeformConv2d(4, 6, implementation="grid_sampel")

    @pytest.mark.parametrize(
        ("index", "text"),
        [
            (1, r"offset has shape \(2, 17, 11, 14\); .* it must be \(2, 18, 11, 14\)"),
            (2, r"mask has shape \(2, 8, 11, 14\); .* it must be \(2, 9, 11, 14\)"),
        ],
        ids=["offset", "mask"],
    )
    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_wrong_shape_names_the_right_one(self, index, text, implementation):
        tensors = list(make_tensors((3, 3), 1, 1, 1))
        tensors[index] = tensors[index][:, 1:]
        with pytest.raises(ValueError, match=text):
            modulated_deform_conv2d(*tensors, padding=1, implementation=implementation)


class TestWithoutTorchvision:
    @pytest.fixture(params=["absent", "fails at import"], autouse=True)
    def _no_torchvision(self, request, monkeypatch):
        def optional_import(module, name=""):
            if request.param == "absent":
                return None, False
            raise RuntimeError("operator torchvision::nms does not exist")

        monkeypatch.setattr(deform_conv, "optional_import", optional_import)

    def test_auto_works(self):
        tensors = make_tensors((3, 3), 1, 1, 1)
        out = modulated_deform_conv2d(*tensors, padding=1)
        assert torch.equal(out, modulated_deform_conv2d(*tensors, padding=1, implementation="grid_sample"))

    def test_a_gpu_takes_grid_sample(self):
        assert deform_conv.default_implementation(torch.device("cuda")) == "grid_sample"

    def test_asking_for_it_says_what_to_do(self):
        with pytest.raises(ImportError, match="install the matching torchvision or choose implementation"):
            modulated_deform_conv2d(*make_tensors((3, 3), 1, 1, 1), padding=1, implementation="torchvision")


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", "torchvision"), ("cpu", "grid_sample"), ("mps", "grid_sample")]
)
def test_each_device_gets_its_default(device, expected):
    assert deform_conv.default_implementation(torch.device(device)) == expected


class TestModulatedDeformConv2d:
    @pytest.mark.parametrize(
        ("kwargs", "input_shape", "expected_shape"),
        [
            ({}, (2, 4, 9, 13), (2, 6, 9, 13)),
            ({"kernel_size": 5, "padding": 2}, (1, 4, 9, 13), (1, 6, 9, 13)),
            ({"stride": 2}, (1, 4, 9, 13), (1, 6, 5, 7)),
            ({"dilation": 2}, (1, 4, 9, 13), (1, 6, 7, 11)),
            ({"padding": 0, "bias": False}, (1, 4, 9, 13), (1, 6, 7, 11)),
            ({}, (1, 4, 1, 1), (1, 6, 1, 1)),
        ],
        ids=["default", "5x5", "stride", "dilation", "no padding and bias", "one pixel"],
    )
    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_shape(self, kwargs, input_shape, expected_shape, implementation):
        layer = ModulatedDeformConv2d(4, 6, implementation=implementation, **kwargs)
        assert layer(torch.rand(input_shape)).shape == expected_shape

    def test_starts_as_a_plain_convolution_with_mask_one_half(self, relative_error):
        layer = ModulatedDeformConv2d(4, 6)
        x = torch.randn(2, 4, 9, 13)
        expected = F.conv2d(x, layer.conv.weight / 2, layer.conv.bias, padding=1)
        assert relative_error(layer(x), expected) < 1e-5

    def test_every_parameter_gets_a_gradient(self, randomize):
        layer = randomize(ModulatedDeformConv2d(4, 6))
        layer(torch.randn(2, 4, 9, 13)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_under_autocast_it_computes_in_float32(self, implementation, dtype, randomize):
        layer = randomize(ModulatedDeformConv2d(4, 6, implementation=implementation))
        x = torch.randn(2, 4, 9, 13).to(dtype)  # as the linear layer in front of it leaves it
        expected = layer(x.float())
        with torch.autocast("cpu", dtype=dtype):
            out = layer(x)
            from_float = layer(x.float())
        assert out.dtype == dtype
        assert torch.equal(out, expected.to(dtype))
        assert torch.equal(from_float, expected)

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
    def test_module_of_another_dtype(self, implementation, dtype, randomize):
        layer = randomize(ModulatedDeformConv2d(4, 6, implementation=implementation)).to(dtype)
        x = torch.randn(2, 4, 9, 13).to(dtype)
        out = layer(x)
        assert out.dtype == dtype
        full = torch.promote_types(dtype, torch.float32)
        assert torch.equal(out, layer.to(full)(x.to(full)).to(dtype))

    @pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
    def test_trace_at_one_size_serves_another(self, randomize, relative_error):
        layer = randomize(ModulatedDeformConv2d(4, 6)).eval()
        traced = torch.jit.trace(layer, torch.randn(1, 4, 9, 13))
        x = torch.randn(2, 4, 16, 7)
        assert relative_error(traced(x), layer(x)) < 1e-6
