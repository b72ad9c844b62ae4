# SPDX-License-Identifier: Apache-2.0
"""``profile``: what it prints and writes, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from monai_sam2adapter.__main__ import main

FAST = ["--repeats", "1", "--sizes", "32"]


def test_it_prints_the_machine_and_a_table_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--adapter", "lw", "--in_channels", "1", "--repeats", "1", "--sizes", "32", "32x70"]) == 0
    out = capsys.readouterr().out
    assert "PromptFreeSAM2: variant tiny, adapter lw, in_channels 1, out_channels 2, positional_encoding peg\n" in out
    assert f"torch {torch.__version__}, " in out
    assert f"{torch.get_num_threads()} threads, cpu: " in out
    assert out.count("\npart ") == 2
    assert out.count("\nadapters ") == 2
    assert "input 1 x 1 x 32 x 32 on cpu" in out
    assert "input 1 x 1 x 32 x 70 on cpu" in out


def test_json_has_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "profile.json"
    options = ["--network", "SAM2UNet", "--variant", "tiny", "--adapter", "lw", "--adapter_config", '{"scale": 0.25}']
    assert main(["profile", *options, "--batch_size", "2", "--reparameterize", "--json", str(path), *FAST]) == 0
    out = capsys.readouterr().out
    assert f"wrote {path}" in out
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["network"]["class"] == "SAM2UNet"
    assert report["network"]["config"]["adapter_config"]["scale"] == 0.25
    assert report["network"]["reparameterized"] is True
    assert report["machine"].keys() == {"device", "device_name", "threads", "torch", "python"}
    (profile,) = report["profiles"]
    assert profile["input_shape"] == [2, 3, 32, 32]
    assert profile["latency_seconds"] > 0
    assert profile["peak_memory_bytes"] > 4 * profile["total_parameters"]["total"]

    # the table says the same
    macs, kinds = profile["macs"], ["linear", "convolution", "attention", "deformable convolution", "resampling"]
    table = {line.split()[0]: line.split() for line in out.split("\npart ")[1].split("\n\n")[0].splitlines()[1:]}
    assert [*table] == ["image_encoder", "adapters", "decoder", "other", "all"]
    for part, (trained, total, *counts, all_macs, share) in ((part, row[1:]) for part, row in table.items()):
        for name, text in (("trained_parameters", trained), ("total_parameters", total)):
            numbers = {"all": profile[name]["total"], "other": 0, **profile[name]["by_part"]}
            assert text == f"{numbers[part]:,}"
        by_kind = {"all": macs["by_kind"], **macs["by_part_and_kind"]}[part]
        assert counts == [f"{by_kind[kind] / 1e9:.3f}" for kind in kinds]
        assert all_macs == f"{sum(by_kind.values()) / 1e9:.3f}"
        assert share == f"{sum(by_kind.values()) / macs['total']:.1%}"
    assert max(map(len, out.split("\npart ")[1].splitlines())) <= 120


def test_fused_adapters_have_fewer_parameters(tmp_path: Path) -> None:
    counts = []
    for option in ([], ["--reparameterize"]):
        path = tmp_path / "profile.json"
        assert main(["profile", "--adapter", "lw", "--json", str(path), *option, *FAST]) == 0
        (profile,) = json.loads(path.read_text(encoding="utf-8"))["profiles"]
        counts.append((profile["total_parameters"]["by_part"]["adapters"], profile["macs"]["by_part"]["adapters"]))
    before, after = counts
    assert before > after
    assert before[1] > after[1]


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert main(["profile", "--threads", "1", *FAST]) == 0
    assert threads == [1]


def test_dinov2_is_a_part_of_sam2_unext(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm", reason="timm is missing; install the extra 'unext'")
    options = ["--network", "SAM2UNeXT", "--variant", "tiny", "--dino_variant", "small", "--dino_size", "28"]
    assert main(["profile", *options, *FAST]) == 0
    assert "\ndino " in capsys.readouterr().out


def test_another_encoder_is_one_option(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm", reason="timm is missing; install the extra 'dinov3'")
    assert main(["profile", "--encoder", "dinov3", "--adapter", "lora", *FAST]) == 0
    out = capsys.readouterr().out
    assert "PromptFreeViT: encoder dinov3, variant small, adapter lora" in out
    assert "\ndecoder " in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ["--sizes", "16"], "HEIGHTxWIDTH of 32 pixels or more, such as 256 or 480x360, got '16'", id="small"
        ),
        pytest.param(["--sizes", "256x"], "got '256x'", id="half-a-size"),
        pytest.param(["--sizes", "256", "big"], "got 'big'", id="no-size"),
        pytest.param(["--variant", "tiney"], "tiny", id="misspelt-variant"),
        pytest.param(["--adapter_config", "[1]"], "--adapter_config must be a JSON object", id="no-object"),
        pytest.param(["--adapter_config", "{scale}"], "got '{scale}'", id="no-json"),
        pytest.param(
            ["--network", "SAM2UNet", "--positional_encoding", "peg"],
            "SAM2UNet has no option --positional_encoding; leave it out",
            id="option-of-another-network",
        ),
        pytest.param(["--dino_size", "28"], "PromptFreeSAM2 has no option --dino_size", id="dino"),
        pytest.param(["--encoder", "dinov3", "--variant", "tiny"], "must be one of small, base, large", id="encoder"),
        pytest.param(["--network", "SAM2UNet", "--encoder", "sam3"], "SAM2UNet has no option --encoder", id="none"),
        pytest.param(["--device", "gpu7"], "gpu7", id="no-device"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("option", "message"), [("--repeats", "repeats must be"), ("--batch_size", "positive numbers")]
)
def test_a_wrong_number_is_an_error(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--sizes", "32", option, "0"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--device", "cuda"]) == 2
    assert "--device cuda needs a CUDA device" in capsys.readouterr().err
