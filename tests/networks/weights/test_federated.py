# SPDX-License-Identifier: Apache-2.0
"""What a site of a federated training sends, and that it stops where others have another base."""

from __future__ import annotations

import pytest
import torch
from monai.fl.utils.constants import WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from monai_sam2adapter.networks.nets import PromptFreeSAM2
from monai_sam2adapter.networks.weights import CheckpointMismatchError, TrainedWeightsFilter

OPTIONS = {"adapter": "lw", "in_channels": 1, "out_channels": 3}


@pytest.fixture(scope="module")
def networks() -> list[PromptFreeSAM2]:
    """Two on one base, trained apart, and one on another."""
    found = [PromptFreeSAM2(**OPTIONS) for _ in range(3)]
    base = {name: found[0].state_dict()[name] for name in found[0].sam2_state_names()}
    found[1].load_state_dict(base, strict=False)
    return found


def sent(network: PromptFreeSAM2, use: TrainedWeightsFilter, kind: WeightType = WeightType.WEIGHTS) -> ExchangeObject:
    return use(ExchangeObject(weights=dict(network.state_dict()), weight_type=kind))


def average(*messages: ExchangeObject) -> ExchangeObject:
    """As servers do, for numbers of cases that differ."""
    shares = [0.3, 0.7][: len(messages)] if len(messages) > 1 else [1.0]
    names = messages[0].weights
    weights = {
        name: sum(share * each.weights[name].numpy() for share, each in zip(shares, messages, strict=True))
        for name in names
    }
    return ExchangeObject(weights=weights, weight_type=WeightType.WEIGHTS)


def test_only_what_was_trained_goes_out(networks: list[PromptFreeSAM2]) -> None:
    network = networks[0]
    message = sent(network, TrainedWeightsFilter(network))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in network.named_buffers() if "running" in name}
    assert set(message.weights) == trained | buffers | {"checksum_of_base"}
    assert all(torch.equal(message.weights[name], network.state_dict()[name]) for name in trained | buffers)
    size = sum(tensor.numel() * tensor.element_size() for tensor in message.weights.values())
    assert size < 0.1 * sum(tensor.numel() * 4 for tensor in network.state_dict().values())


def test_an_average_of_sites_with_one_base_comes_in_without_the_checksum(networks: list[PromptFreeSAM2]) -> None:
    filters = [TrainedWeightsFilter(network) for network in networks[:2]]
    messages = [sent(network, use) for network, use in zip(networks, filters, strict=False)]
    came = average(*messages)
    for use in filters:
        found = use(came)
        assert set(found.weights) == set(messages[0].weights) - {"checksum_of_base"}
        assert set(came.weights) == set(messages[0].weights)
        sent(networks[0], use)  # the next round


@pytest.mark.parametrize("sends_first", [True, False])
def test_a_site_with_another_base_stops(sends_first: bool, networks: list[PromptFreeSAM2]) -> None:
    one, other = (TrainedWeightsFilter(network) for network in networks[1:])
    message = average(sent(networks[1], one))
    steps = [lambda: sent(networks[2], other), lambda: other(message)]
    first, second = steps if sends_first else reversed(steps)
    first()
    with pytest.raises(CheckpointMismatchError, match=r"the sites have different SAM 2 weights: .* as sam2_checkpoint"):
        second()


def test_an_average_over_two_bases_is_refused_by_both(networks: list[PromptFreeSAM2]) -> None:
    filters = [TrainedWeightsFilter(network) for network in networks[1:]]
    messages = [sent(network, use) for network, use in zip(networks[1:], filters, strict=True)]
    for use in filters:
        with pytest.raises(CheckpointMismatchError):
            use(average(*messages))


def test_what_tells_no_base_is_passed_on_or_refused(networks: list[PromptFreeSAM2]) -> None:
    network = networks[0]
    use = TrainedWeightsFilter(network)
    assert use(ExchangeObject(metrics={"dice": 0.5})).metrics == {"dice": 0.5}
    added = {name: network.state_dict()[name] for name in network.added_state_names()}
    assert "checksum_of_base" not in use(ExchangeObject(weights=added, weight_type=WeightType.WEIGHTS)).weights
    with pytest.raises(ValueError, match="send_weight_diff=False"):
        sent(network, use, WeightType.WEIGHT_DIFF)
    with pytest.raises(ValueError, match="leave the filter out"):
        TrainedWeightsFilter(PromptFreeSAM2(adapter="full"))


def test_trained_parts_of_sam2_are_sent_too() -> None:
    network = PromptFreeSAM2(**OPTIONS, freeze=["image_encoder"])
    message = sent(network, TrainedWeightsFilter(network))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained & network.sam2_state_names()
    assert trained <= set(message.weights)
