# SPDX-License-Identifier: Apache-2.0
"""
A recorded network serves every size and batch, whatever the size of its example.

With ``SAM2ADAPTER_EXPORT_TABLE=docs/export.md`` in the environment, each test puts the errors that it measured into the
table of that page.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from monai_sam2adapter.networks.adapters import adapter_names
from monai_sam2adapter.networks.export import export_program
from monai_sam2adapter.networks.nets import PromptFreeSAM2, SAM2UNet, SAM2UNeXT
from monai_sam2adapter.networks.utils import reparameterize_model

TABLE = re.compile(r"(?:^\| network \| adapter \|.*\n)(?:\|.*\n)*", re.MULTILINE)
# one or several windows at strides 16 and 32, with and without something to pad; each with a batch of 1 and of 2
SIZES = [(64, 64), (95, 225), (256, 256)]
EXAMPLE = (2, 3, 64, 96)  # nothing to pad, one window
TOLERANCE = 1e-5

FORMS = {
    "ts": "torch.jit.trace",
    "pt2": "torch.export",
    "onnx": "ONNX, dynamo=False",
    "onnx_dynamo": "ONNX, dynamo=True",
}
NETWORKS = {
    "PromptFreeSAM2": (PromptFreeSAM2, {}),
    "PromptFreeSAM2, positional_encoding sam2": (PromptFreeSAM2, {"positional_encoding": "sam2"}),
    "SAM2UNet": (SAM2UNet, {}),
    "SAM2UNeXT": (SAM2UNeXT, {"dino_variant": "small", "dino_size": 56}),
}
FUSED = ("lw, fused", "lora, fused")
CASES = [
    *(("PromptFreeSAM2", adapter) for adapter in (*adapter_names(), *FUSED, "none")),
    *(("PromptFreeSAM2, positional_encoding sam2", adapter) for adapter in ("hp", "lw, fused")),
    *(("SAM2UNet", adapter) for adapter in ("bottleneck", "hp", "lw, fused")),
    *(("SAM2UNeXT", adapter) for adapter in ("bottleneck", "hp", "lw, fused")),
]
FAST = [
    *((("PromptFreeSAM2", adapter), "ts") for adapter in ("hp", "lw, fused")),
    (("PromptFreeSAM2", "lw, fused"), "pt2"),
    (("PromptFreeSAM2", "hp"), "onnx"),
    (("SAM2UNet", "bottleneck"), "onnx"),
    (("SAM2UNeXT", "bottleneck"), "ts"),
]

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning"
)


def all_cases():
    for case in CASES:
        for form in FORMS:
            marks = [] if (case, form) in FAST else [pytest.mark.slow]
            if case[0] == "SAM2UNeXT":
                marks.append(pytest.mark.skipif(find_spec("timm") is None, reason="timm is missing; extra 'unext'"))
            yield pytest.param(case, form, id="-".join((*case, form)).replace(" ", "_"), marks=marks)


@pytest.fixture(scope="module")
def nets(request, randomize):
    """The network of a case with random weights, and what is recorded of it."""
    (net_class, kwargs), (adapter, _, fused) = NETWORKS[request.param[0]], request.param[1].partition(", ")
    net = randomize(net_class("tiny", adapter, out_channels=3, **kwargs)).eval().requires_grad_(False)
    return net, reparameterize_model(net) if fused else net


@pytest.fixture(scope="module")
def program(nets):
    """Recorded once for .pt2 and for ONNX."""
    return export_program(nets[1])


def note_in_table(case, form, errors):
    """Put the errors of a case into the table of the documentation, where that is asked for."""
    if "SAM2ADAPTER_EXPORT_TABLE" not in os.environ:
        return
    page = Path(os.environ["SAM2ADAPTER_EXPORT_TABLE"])
    text = page.read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.search(text)[0].splitlines()]
    rows = {(network, adapter): dict(zip(FORMS, cells, strict=True)) for network, adapter, *cells in lines[2:]}
    rows.setdefault(case, {})[form] = ", ".join(f"{error:.0e}" for error in errors)
    lines = lines[:2] + [[*key, *(rows[key].get(name, "") for name in FORMS)] for key in CASES if key in rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    page.write_text(TABLE.sub(lambda _: table, text), encoding="utf-8")


@pytest.mark.parametrize(("nets", "form"), list(all_cases()), indirect=["nets"])
def test_serves_every_size_and_batch(nets, form, request, tmp_path, relative_error):
    net, to_record = nets
    recorded = globals()[f"record_{form}"](to_record, tmp_path, request)
    errors = [
        max(relative_error(recorded(x), net(x)) for x in (torch.rand(batch, 3, *size) for batch in (1, 2)))
        for size in SIZES
    ]
    note_in_table(request.node.callspec.params["nets"], form, errors)
    assert max(errors) < TOLERANCE, errors


def record_ts(net, folder, request):
    torch.jit.trace(net, torch.rand(EXAMPLE), check_trace=False).save(folder / "net.ts")
    return torch.jit.load(folder / "net.ts")


def record_pt2(net, folder, request):
    torch.export.save(request.getfixturevalue("program"), folder / "net.pt2")
    return torch.export.load(folder / "net.pt2").module()


def record_onnx(net, folder, request):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is missing; install the extra 'export'")
    torch.onnx.export(
        net,
        (torch.rand(EXAMPLE),),
        str(folder / "net.onnx"),
        dynamo=False,
        opset_version=18,
        input_names=["image"],
        dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
    )
    return onnx_session(folder / "net.onnx")


def record_onnx_dynamo(net, folder, request):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is missing; install the extra 'export'")
    program = request.getfixturevalue("program")
    torch.onnx.export(program, (), str(folder / "net.onnx"), dynamo=True, external_data=False)
    return onnx_session(folder / "net.onnx")


def onnx_session(path):
    """The file as a function of tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@pytest.fixture(scope="module")
def hp_net(randomize):
    return randomize(PromptFreeSAM2("tiny", "hp", out_channels=3)).eval().requires_grad_(False)


class TestRecording:
    @pytest.mark.parametrize("example", [(1, 3, 224, 224), (2, 3, 33, 300)], ids=["nothing to pad", "odd"])
    def test_the_size_of_the_example_does_not_matter(self, hp_net, example, relative_error):
        traced = torch.jit.trace(hp_net, torch.rand(example), check_trace=False)
        x = torch.rand(1, 3, 40, 230)
        assert relative_error(traced(x), hp_net(x)) < TOLERANCE

    def test_eager_net_is_as_before(self, hp_net):
        x = torch.rand(1, 3, 64, 96)
        before = hp_net(x)
        torch.jit.trace(hp_net, torch.rand(1, 3, 64, 64), check_trace=False)
        assert torch.equal(hp_net(x), before)

    def test_every_number_follows_the_device_of_the_images(self, hp_net):
        """Recorded on a CPU and run on a GPU, which a number that stays on the CPU would prevent."""
        net = PromptFreeSAM2("tiny", "hp", "sam2").eval()
        traced = torch.jit.trace(net, torch.rand(EXAMPLE), check_trace=False)
        for module in traced.modules():
            lines = getattr(module, "code", "").splitlines()
            placed = [line.split(" = ")[0].strip() for line in lines if "torch.device(" in line]
            used = [(name, line) for name in placed for line in lines if re.search(rf"\b{name}\b", line)]
            assert all(line.strip().startswith(f"{name} = ") or "type_as" in line for name, line in used), used

    @pytest.mark.slow
    def test_compiled_net_gives_the_same_output(self, hp_net, relative_error):
        x = torch.rand(2, 3, 100, 75)
        assert relative_error(torch.compile(hp_net, dynamic=False)(x), hp_net(x)) < TOLERANCE

    @pytest.mark.slow
    def test_program_refuses_what_the_network_refuses(self, hp_net):
        program = export_program(hp_net).module()
        with pytest.raises(Exception, match="31"):
            program(torch.rand(1, 3, 31, 64))
