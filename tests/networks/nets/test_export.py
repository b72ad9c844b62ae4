# SPDX-License-Identifier: Apache-2.0
"""A recorded network serves every size and batch, whatever the size of its example."""

from __future__ import annotations

import pytest
import torch

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.utils import reparameterize_model

# batch, height, width; one or several windows at strides 16 and 32, with and without something to pad
SIZES = [(2, 33, 47), (1, 64, 96), (1, 224, 224), (1, 100, 225), (2, 256, 240)]
EXAMPLES = {"something to pad": (1, 3, 64, 96), "nothing to pad": (1, 3, 224, 224)}
TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module", params=[("hp", "peg"), ("lw", "sam2")], ids="-".join)
def net(request, randomize):
    adapter, positional_encoding = request.param
    return randomize(PromptFreeSAM2("tiny", adapter, positional_encoding, out_channels=3)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def hp_net(randomize):
    return randomize(PromptFreeSAM2("tiny", "hp", out_channels=3)).eval().requires_grad_(False)


def assert_equal_at(sizes, recorded, net, relative_error):
    errors = {}
    for batch, *size in sizes:
        x = torch.rand(batch, 3, *size)
        errors[(batch, *size)] = relative_error(recorded(x), net(x))
    assert max(errors.values()) < TOLERANCE, errors


class TestTrace:
    @pytest.mark.parametrize("example", EXAMPLES)
    def test_serves_every_size(self, net, example, relative_error):
        traced = torch.jit.trace(net, torch.rand(EXAMPLES[example]), check_trace=False)
        assert_equal_at(SIZES, traced, net, relative_error)

    @pytest.mark.parametrize(("adapter", "positional_encoding"), [("hp", "sam2"), ("lw", "peg")])
    def test_the_other_positions(self, adapter, positional_encoding, randomize, relative_error):
        net = randomize(PromptFreeSAM2("tiny", adapter, positional_encoding, in_channels=3)).eval()
        traced = torch.jit.trace(net, torch.rand(2, 3, 70, 40), check_trace=False)
        assert_equal_at(SIZES[:2], traced, net, relative_error)

    @pytest.mark.parametrize("adapter", ["adaptformer", "sm_adaptformer", "lora", "conv_lora"])
    def test_the_other_methods(self, adapter, randomize, relative_error):
        net = randomize(PromptFreeSAM2("tiny", adapter)).eval()
        traced = torch.jit.trace(net, torch.rand(2, 3, 70, 40), check_trace=False)
        assert_equal_at(SIZES[:2], traced, net, relative_error)

    @pytest.mark.parametrize("adapter", ["lw", "lora"])
    def test_fused_net_survives_saving(self, adapter, tmp_path, randomize, relative_error):
        net = randomize(PromptFreeSAM2("tiny", adapter)).eval()
        traced = torch.jit.trace(reparameterize_model(net), torch.rand(1, 3, 64, 64), check_trace=False)
        traced.save(tmp_path / "net.ts")
        assert_equal_at(SIZES[:2], torch.jit.load(tmp_path / "net.ts"), net, relative_error)

    def test_eager_net_is_as_before(self, net):
        x = torch.rand(1, 3, 64, 96)
        before = net(x)
        torch.jit.trace(net, torch.rand(1, 3, 64, 64), check_trace=False)
        assert torch.equal(net(x), before)


class TestTorchExport:
    def test_with_a_dynamic_batch(self, hp_net, relative_error):
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(hp_net, (torch.rand(2, 3, 100, 75),), dynamic_shapes=({0: batch},))
        assert_equal_at([(1, 100, 75), (5, 100, 75)], program.module(), hp_net, relative_error)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("example", "sizes"),
        [
            ((2, 3, 256, 320), [(1, 256, 256), (3, 512, 384), (2, 480, 256)]),
            ((2, 3, 300, 250), [(1, 300, 301), (2, 250, 300)]),
            ((2, 3, 64, 96), [(1, 64, 64), (3, 96, 160)]),
        ],
        ids=["several windows, multiples of 32", "several windows, odd", "one window, multiples of 32"],
    )
    def test_with_dynamic_sizes_serves_those_like_the_example(self, hp_net, example, sizes, relative_error):
        """torch.export keeps the memory layouts of the example: sizes that are padded otherwise are refused."""
        dynamic = torch.export.Dim.DYNAMIC
        shapes = ({0: dynamic, 2: dynamic, 3: dynamic},)
        program = torch.export.export(hp_net, (torch.rand(example),), dynamic_shapes=shapes)
        assert_equal_at(sizes, program.module(), hp_net, relative_error)


class TestOnnx:
    @pytest.fixture(autouse=True)
    def _packages(self):
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason=f"{name} is missing; install the extra 'export'")

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_serves_every_size(self, net, example, tmp_path, relative_error):
        torch.onnx.export(
            net,
            (torch.rand(EXAMPLES[example]),),
            str(tmp_path / "net.onnx"),
            dynamo=False,
            opset_version=18,
            input_names=["image"],
            dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
        )
        assert_equal_at(SIZES, onnx_session(tmp_path / "net.onnx"), net, relative_error)

    @pytest.mark.slow
    def test_by_torch_export_serves_every_size(self, hp_net, tmp_path, relative_error):
        dynamic = torch.export.Dim.DYNAMIC
        torch.onnx.export(
            hp_net,
            (torch.rand(2, 3, 300, 250),),  # several windows at every stage, or larger images would be wrong
            str(tmp_path / "net.onnx"),
            dynamo=True,
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
        )
        assert_equal_at(SIZES, onnx_session(tmp_path / "net.onnx"), hp_net, relative_error)


def onnx_session(path):
    """The file as a function of tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@pytest.mark.slow
def test_compiled_net_gives_the_same_output(hp_net, relative_error):
    compiled = torch.compile(hp_net, dynamic=False)
    assert_equal_at([(2, 100, 75)], compiled, hp_net, relative_error)
