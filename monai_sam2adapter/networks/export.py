# SPDX-License-Identifier: Apache-2.0
"""Write a network to a file that runs without this package, for every batch and image size."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from monai.data.torchscript_utils import save_net_with_metadata
from monai.utils import look_up_option, optional_import

from ..utils.files import atomic_path
from .nets.adapted_sam2 import MIN_SIZE, AdaptedSAM2
from .utils import reparameterize_model

__all__ = [
    "CHECKED_SHAPES",
    "EXPORT_FORMATS",
    "ExportError",
    "export_network",
    "export_program",
    "require_export_packages",
]

#: batch, height and width of the images on which a file is compared with the network before it is kept: nothing to pad
#: and something, one window of the attention and several, square and not
CHECKED_SHAPES = ((1, 32, 32), (2, 33, 47), (1, 100, 225), (1, 257, 300))
TOLERANCE = 1e-4  # of the largest absolute logit; other kernels add in another order
INT8_TOLERANCE = 0.1  # the same; 0.01 was measured
_EXAMPLE = (2, 100, 250)  # batch, height and width of the images with which a network is recorded
_ONNX_LIMIT = 2**31  # bytes in one file of its format
_ONNX_OPSET = 18


class ExportError(RuntimeError):
    """A file was not kept, since it cannot be written or does not compute what the network does."""


def export_network(
    net: AdaptedSAM2,
    path: str | os.PathLike[str],
    file_format: str,
    extra_files: Mapping[str, Mapping[str, Any]] | None = None,
    shapes: Sequence[Sequence[int]] = CHECKED_SHAPES,
    int8: bool = False,
) -> dict[tuple[int, int, int], float]:
    """
    Record a network, fused for inference, and compare the file with it before it takes its place.

    The file maps images, ``(B, in_channels, H, W)`` in float32, to logits, ``(B, out_channels, H, W)``, for every batch
    and every ``H, W >= 32``. In ONNX these are called "image" and "logits".

    Args:
        net: a network in eval mode, on the CPU; left as it is.
        path: the file to write; one that is there is replaced.
        file_format: "onnx", "pt2" (``torch.export``) or "ts" (TorchScript).
        extra_files: JSON that goes into the file, by name: extra files of TorchScript and ``torch.export``,
            ``metadata_props`` of ONNX. By the name "metadata.json" MONAI's ``load_net_with_metadata`` finds it in
            TorchScript. Defaults to none.
        shapes: batch, height and width of the images to compare on. Defaults to ``CHECKED_SHAPES``.
        int8: whether the weights of linear layers are kept in 8 bits and multiplied as such, by onnxruntime's dynamic
            quantization: a smaller file, and faster on a CPU. For ONNX only. Defaults to False.

    Returns:
        for each of the shapes the largest difference of the file's logits to the network's own, over the largest
        absolute logit.

    Raises:
        ValueError: when the format is unknown, or ``int8`` does not go with it.
        RuntimeError: when the network is in training mode.
        ImportError: when a package that the format needs is missing, or torch is too old for it.
        ExportError: when the file would be too large for its format, or differs from the network by more than 1e-4,
            with ``int8`` by more than 0.1.
    """
    write, load = _FORMATS[look_up_option(file_format, EXPORT_FORMATS)]
    require_export_packages(file_format, int8)
    fused = cast(AdaptedSAM2, reparameterize_model(net).requires_grad_(False))
    texts = {name: json.dumps(content) for name, content in (extra_files or {}).items()}
    with torch.no_grad(), warnings.catch_warnings(), atomic_path(path) as unfinished:
        warnings.simplefilter("ignore")  # of computed sizes, which are recorded as such, and of how old an exporter is
        write(fused, unfinished, texts)
        if int8:
            _quantize_linear_layers(unfinished)
        errors = _compare(load(unfinished), net, shapes)
        tolerance = INT8_TOLERANCE if int8 else TOLERANCE
        if not max(errors.values()) <= tolerance:  # also where there is a NaN
            raise ExportError(
                f"the exported file differs from the network by {max(errors.values()):.1e} of the largest logit, "
                f"expected at most {tolerance:.0e} ({errors}); it was not kept. Choose another format, and report this."
            )
    return errors


def export_program(net: AdaptedSAM2) -> torch.export.ExportedProgram:
    """
    Record a network by ``torch.export``, for every batch and every image size from 32 x 32.

    Batch, height and width are unbacked sizes: nothing is decided by those of the example, as it is with
    ``torch.export.Dim``, whose guards then refuse sizes that are padded otherwise.

    Args:
        net: a network in eval mode; fuse it first.

    Returns:
        the program, of one argument, images of ``(B, in_channels, H, W)``.

    Raises:
        ImportError: when torch is too old.
    """
    dynamic = _dynamic_spec()
    sizes = [dynamic.ShapeVar(name, min=low) for name, low in (("batch", 1), ("height", MIN_SIZE), ("width", MIN_SIZE))]
    batch, height, width = sizes
    shapes = dynamic.ParamsSpec({"x": dynamic.TensorSpec([batch, net.in_channels, height, width])})
    return torch.export.export(net, (_images(net, _EXAMPLE),), dynamic_shapes=shapes)


def require_export_packages(file_format: str, int8: bool = False) -> None:
    """
    Find out before the work whether what a format needs is installed.

    Args:
        file_format: "onnx", "pt2" or "ts".
        int8: see :func:`export_network`. Defaults to False.

    Raises:
        ValueError: when ``int8`` does not go with the format.
        ImportError: when a package is missing, or torch is too old.
    """
    if int8 and file_format != "onnx":
        raise ValueError(f"int8 goes with the format onnx only, got {file_format}; leave int8 out, or take onnx.")
    if file_format == "pt2":
        _dynamic_spec()
    for name in ("onnx", "onnxscript", "onnxruntime") if file_format == "onnx" else ():
        if not optional_import(name)[1]:
            raise ImportError(
                f"the format onnx needs {name}; install it with pip install 'monai-sam2adapter[export]', or take "
                "another format."
            )


def _write_ts(net: AdaptedSAM2, path: Path, texts: Mapping[str, str]) -> None:
    traced = torch.jit.trace(net, _images(net, _EXAMPLE), check_trace=False)
    files = {name: text.encode() for name, text in texts.items() if name != "metadata.json"}
    metadata = json.loads(texts.get("metadata.json", "{}"))
    save_net_with_metadata(traced, str(path), include_config_vals=False, meta_values=metadata, more_extra_files=files)


def _write_pt2(net: AdaptedSAM2, path: Path, texts: Mapping[str, str]) -> None:
    torch.export.save(export_program(net), path, extra_files=dict(texts))


def _write_onnx(net: AdaptedSAM2, path: Path, texts: Mapping[str, str]) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    if size >= _ONNX_LIMIT:
        raise ExportError(
            f"the network has {size / 1e9:.1f} GB of weights, and a file of ONNX holds less than 2.1 GB; take the "
            "format pt2 or ts."
        )
    axes = {0: "batch", 2: "height", 3: "width"}
    # TorchScript's exporter: the file of the one by torch.export computes the same in the same time, and takes three
    # times as long to write
    torch.onnx.export(
        net,
        (_images(net, _EXAMPLE),),
        str(path),
        dynamo=False,
        opset_version=_ONNX_OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": axes, "logits": axes},
    )
    onnx, _ = optional_import("onnx")
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(texts))
    onnx.save(model, str(path))


def _quantize_linear_layers(path: Path) -> None:
    """In place; the hyper-networks of the classes, one batched product, are small and stay as they are."""
    onnx, _ = optional_import("onnx")
    quantization, _ = optional_import("onnxruntime.quantization")
    graph = onnx.load(str(path)).graph
    axes = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    others = [node.name for node in graph.node if node.op_type == "MatMul" and axes.get(node.input[1]) != 2]
    quantized = path.with_name("int8.onnx")
    quantization.quantize_dynamic(
        path, quantized, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, nodes_to_exclude=others
    )
    quantized.replace(path)


def _load_ts(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.jit.load(path)


def _load_pt2(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.export.load(path).module()


def _load_onnx(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    onnxruntime, _ = optional_import("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


_FORMATS = {"onnx": (_write_onnx, _load_onnx), "pt2": (_write_pt2, _load_pt2), "ts": (_write_ts, _load_ts)}
EXPORT_FORMATS = tuple(_FORMATS)


def _compare(
    exported: Callable[[torch.Tensor], torch.Tensor], net: AdaptedSAM2, shapes: Sequence[Sequence[int]]
) -> dict[tuple[int, int, int], float]:
    errors = {}
    for batch, height, width in shapes:
        images = _images(net, (batch, height, width))
        expected, got = net(images), exported(images)
        if got.shape != expected.shape:
            raise ExportError(
                f"the exported file gives logits of {tuple(got.shape)} for images of {tuple(images.shape)}, expected "
                f"{tuple(expected.shape)}; it was not kept. Choose another format, and report this."
            )
        errors[batch, height, width] = ((got - expected).abs().max() / expected.abs().max()).item()
    return errors


def _images(net: AdaptedSAM2, shape: Sequence[int]) -> torch.Tensor:
    """Random images of a batch, height and width, the same for the same shape."""
    batch, height, width = shape
    return torch.rand(batch, net.in_channels, height, width, generator=torch.Generator().manual_seed(0))


def _dynamic_spec() -> Any:
    module, found = optional_import("torch.fx.experimental.dynamic_spec")
    if not found:
        raise ImportError(
            f"an export for every image size needs torch 2.14 or newer, this is {torch.__version__}; update it, or "
            "take the format ts or onnx."
        )
    return module
