# SPDX-License-Identifier: Apache-2.0
"""What the sites of a federated training exchange: what was trained, and the checksum of what it was trained on."""

from __future__ import annotations

from typing import Any

import torch
from monai.fl.utils.constants import WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.fl.utils.filters import Filter

from .match import SAM2Net
from .read import CheckpointMismatchError, tensors_sha256
from .wrappers import unwrap_network

__all__ = ["TrainedWeightsFilter"]

_CHECKSUM = "checksum_of_base"


class TrainedWeightsFilter(Filter):
    """
    Send adapters, position encoding and head, and not SAM 2's weights, which every site has.

    For MONAI's ``MonaiAlgo``, the same one as ``pre_filters`` and ``post_weight_filters``; a bundle's
    ``configs/federated.json`` has it so. What leaves a site is 13 MB for "hp" on "tiny" in place of 136 MB. Trained
    weights mean something on one base only: among them goes the checksum of the site's own, 32 numbers from 0 to 255,
    of which any server's average is the same again where all sites have one base. A site that gets another one than its
    own, sooner or later than it has sent its own, stops. Counters and other whole numbers stay where they are, since
    an average is none.

    Args:
        network: network with the options of the one that is trained, in any wrapper; its weights do not matter.

    Raises:
        ValueError: when nothing is frozen in the network, so that all sites have to send all of it.
    """

    def __init__(self, network: SAM2Net) -> None:
        network = unwrap_network(network)
        if not network.config["freeze"]:
            raise ValueError(
                "the network is trained as a whole, so that all of it has to be sent; leave the filter out."
            )
        trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        self._trained = trained | network.added_state_names()
        self._base = network.state_dict().keys() - self._trained
        self._own: str | None = None
        self._received: str | None = None

    def __call__(self, data: ExchangeObject, extra: dict | None = None) -> ExchangeObject:
        """
        Args:
            data: weights that come from the server, or go to it: the whole network's, of the type ``WEIGHTS``. Others,
                such as metrics or the weights of a ``last.pt``, are passed on without a checksum.
            extra: not used.

        Returns:
            the floating-point tensors of what was trained, beside what else there was; in what goes out, the checksum,
            too.

        Raises:
            ValueError: when differences of weights go out, which do not tell the base.
            CheckpointMismatchError: when the weights that came were trained on another base than this site has.
        """
        if data.weights is None:
            return data
        weights = {name: torch.as_tensor(value) for name, value in data.weights.items()}
        received = weights.pop(_CHECKSUM, None)
        if received is not None:
            self._received = bytes(int(value) & 255 for value in received.double().round().flatten()).hex()
        base = {name: weights[name] for name in self._base if name in weights}
        if base and data.weight_type == WeightType.WEIGHT_DIFF:
            raise ValueError("differences of weights do not tell which base they are of; give send_weight_diff=False.")
        if len(base) == len(self._base):
            self._own = tensors_sha256(base)
        self._check()
        kept = {name: value for name, value in weights.items() if name in self._trained and value.is_floating_point()}
        if len(base) == len(self._base):
            kept[_CHECKSUM] = torch.tensor(list(bytes.fromhex(self._own or "")), dtype=torch.float32)
        # a server in this process may still send the same object to others
        return ExchangeObject(kept, data.optim, data.metrics, data.weight_type, data.statistics)

    def _check(self) -> None:
        if None not in (self._own, self._received) and self._own != self._received:
            raise CheckpointMismatchError(
                f"the sites have different SAM 2 weights: their checksum is {_short(self._own)} here, and "
                f"{_short(self._received)} in what came. Give all sites the same file as sam2_checkpoint."
            )


def _short(checksum: Any) -> str:
    return f"{checksum[:12]}..."
