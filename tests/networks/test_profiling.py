# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a forward pass, and profiles."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.profiling import latencies_in_turn, measure_peak_memory, profile_network
from monai_sam2adapter.utils import device_name

FLOAT = 4  # bytes


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 30), nn.Linear(30, 5))


# weights and biases
CHAIN_PARAMETERS = (10 * 20 + 20) + (20 * 30 + 30) + (30 * 5 + 5)


class Recorder(nn.Module):
    """Notes who runs and how."""

    def __init__(self, name: str, calls: list[tuple[str, bool, bool]]) -> None:
        super().__init__()
        self.name, self.calls, self.child = name, calls, nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append((self.name, self.training, torch.is_inference_mode_enabled()))
        return self.child(x)


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.norm = nn.Linear(2, 2).eval(), nn.BatchNorm1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("meant to fail")


class TestPeakMemory:
    @pytest.mark.parametrize("inference", [False, True])
    def test_a_chain_of_layers(self, inference):
        x = torch.rand(4, 10)
        # the second layer has its input and its output, the first one's input is held by the caller
        expected = FLOAT * (CHAIN_PARAMETERS + 4 * 10 + 4 * 20 + 4 * 30)
        with torch.inference_mode(inference):
            assert measure_peak_memory(chain(), x) == expected

    def test_views_and_shared_weights_count_once(self):
        layer = nn.Linear(6, 6)
        model = nn.Sequential(nn.Flatten(), layer, nn.Unflatten(1, (2, 3)), nn.Flatten(), layer)
        x = torch.rand(4, 2, 3)
        assert measure_peak_memory(model, x) == FLOAT * (6 * 6 + 6 + 3 * 4 * 6)  # input, two outputs

    def test_what_is_freed_is_not_counted(self):
        class Net(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                for _ in range(10):
                    x = x + 1
                return x

        # the input, an old and a new sum
        assert measure_peak_memory(Net(), torch.rand(100)) == FLOAT * 3 * 100

    def test_buffers_and_small_types_count(self):
        model = nn.BatchNorm1d(8).eval().bfloat16()
        x = torch.rand(2, 8, dtype=torch.bfloat16)
        # weight, bias, mean, variance; a 64-bit number of batches; input and output
        peak = 2 * 4 * 8 + 8 + 2 * 2 * 16
        assert peak <= measure_peak_memory(model, x) <= peak + 2 * 4 * 8  # and what the norm saves for a gradient

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda(self):
        model, x = chain().cuda(), torch.rand(4, 10, device="cuda")
        assert measure_peak_memory(model, x) >= FLOAT * (CHAIN_PARAMETERS + 4 * 10 + 4 * 20 + 4 * 30)


class TestLatenciesInTurn:
    def test_all_warm_up_and_take_turns_in_eval_and_inference_mode(self):
        calls: list[tuple[str, bool, bool]] = []
        models = {name: Recorder(name, calls) for name in ("a", "b")}
        seconds = latencies_in_turn(models, {"a": (1, 2), "b": (3, 2)}, repeats=2)
        assert calls == [(name, False, True) for name in "ababab"]
        assert seconds.keys() == {"a", "b"}
        assert min(seconds.values()) > 0
        assert all(module.training for model in models.values() for module in model.modules())

    def test_modes_are_given_back_after_an_error(self):
        for call in (
            lambda model: latencies_in_turn({"a": model}, {"a": (2, 2)}),
            lambda m: profile_network(m, (2, 2)),
        ):
            model = Failing()
            with pytest.raises(RuntimeError, match="meant to fail"):
                call(model)
            assert [module.training for module in model.modules()] == [True, False, True]

    @pytest.mark.parametrize(
        ("shape", "repeats", "message"),
        [
            ((1, 2), 0, "repeats must be at least 1, got 0"),
            ((0, 2), 1, "must have positive numbers only"),
            ((1, -2), 1, "must have positive numbers only"),
            ((), 1, "must have positive numbers only"),
        ],
        ids=str,
    )
    def test_ill_arg(self, shape, repeats, message):
        with pytest.raises(ValueError, match=message):
            latencies_in_turn({"a": nn.Linear(2, 2)}, {"a": shape}, repeats)
        with pytest.raises(ValueError, match=message):
            profile_network(nn.Linear(2, 2), shape, repeats)


class TestProfileNetwork:
    def test_a_net_is_measured_and_left_as_it_was(self):
        net = PromptFreeSAM2(adapter="hp", in_channels=1)
        modes, random_state = [module.training for module in net.modules()], torch.get_rng_state()
        assert {*modes} == {True, False}  # some are frozen
        profile = profile_network(net, (2, 1, 32, 64), repeats=1)
        assert [module.training for module in net.modules()] == modes
        assert torch.equal(torch.get_rng_state(), random_state)

        groups = net.parameter_groups()
        assert profile.total_parameters == {part: sum(p.numel() for p in group) for part, group in groups.items()}
        assert sum(profile.total_parameters.values()) == sum(p.numel() for p in net.parameters())
        assert profile.trained_parameters["adapters"] == profile.total_parameters["adapters"] > 0
        assert profile.trained_parameters["image_encoder"] == 0
        assert profile.latency > 0
        assert profile.peak_memory > sum(p.numel() * FLOAT for p in net.parameters())
        assert profile.macs.by_part["adapters"] > 0
        assert (profile.input_shape, profile.device) == ((2, 1, 32, 64), "cpu")
        net(torch.rand(1, 1, 32, 32)).sum().backward()

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_place_is_given_back(self, fails):
        places: list[torch.device] = []

        class Moving(nn.Linear):
            def to(self, device: torch.device) -> Moving:
                places.append(device)
                return super().to("cpu")

        width = 3 if fails else 2
        with pytest.raises(RuntimeError) if fails else nullcontext():
            profile_network(Moving(2, 2), (1, width), repeats=1, device="cuda:1")
        assert places == [torch.device("cuda:1"), torch.device("cpu")]

    def test_parts_of_any_network(self):
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.own = nn.Parameter(torch.ones(3))
                self.first = nn.Linear(3, 4)
                self.second = nn.Sequential(self.first, nn.Linear(4, 2).requires_grad_(False))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.second(x * self.own)

        profile = profile_network(Net(), (5, 3), repeats=1)
        assert profile.total_parameters == {"first": 3 * 4 + 4, "second": 4 * 2 + 2, "other": 3}
        assert profile.trained_parameters == {"first": 3 * 4 + 4, "second": 0, "other": 3}
        assert profile.macs.by_part == {"first": 5 * 12, "second": 5 * 8}


def test_the_cpu_has_a_name():
    assert device_name(torch.device("cpu"))
