# SPDX-License-Identifier: Apache-2.0
"""From logits to a segmentation, and how sure it is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..utils import class_probabilities, entropy_of, require_flags

__all__ = ["SegmentLogitsd"]

_CHUNK = 16  # slices along the last axis whose probabilities are in memory at a time


class SegmentLogitsd(MapTransform):
    """
    Replace logits by the most probable class of each voxel, and add maps of probabilities and of uncertainty on demand.

    Several channels are classes (softmax, channel 0 is background); a single one is the foreground (sigmoid, class 1
    from 0.5 on). Classes that overlap are a sigmoid each, and where a probability is above 0.5, as nnU-Net has it, the
    channel is 1. MONAI's ``Activationsd`` and ``AsDiscreted`` do the same for the classes; this goes without a copy of
    the logits, and refuses those that are NaN or infinite, which would come out as a class like any other.

    Args:
        keys: keys of the logits, ``(K, *spatial)``.
        probabilities: whether to add the key ``"probabilities"``, ``(K, *spatial)``, float32. Defaults to False.
        uncertainty: whether to add the key ``"uncertainty"``, ``(1, *spatial)``, float32: the entropy of the
            probabilities, divided by that of equal ones, so that it runs from 0 (sure) to 1; of classes that overlap
            the mean of theirs. Of an ensemble, whose mean
            comes with ``"member_entropy"``, the mean of its members' entropies, it is how much more there is in the
            mean: how far the members disagree (mutual information of class and member). Defaults to False.
        allow_missing_keys: whether a key may be missing. Defaults to False.
        overlapping: whether a voxel may have several classes, or none. Defaults to False.

    Raises:
        ValueError: when there are several keys but maps are wanted, whose names would be the same, or a flag is neither
            True nor False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        probabilities: bool = False,
        uncertainty: bool = False,
        allow_missing_keys: bool = False,
        overlapping: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        require_flags(probabilities=probabilities, uncertainty=uncertainty, overlapping=overlapping)
        if len(self.keys) > 1 and (probabilities or uncertainty):
            raise ValueError(
                f"maps of probabilities or uncertainty can be made for one key at a time, got {self.keys}."
            )
        self.probabilities = probabilities
        self.uncertainty = uncertainty
        self.overlapping = overlapping

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with the logits; of an ensemble also ``"member_entropy"``, ``(1, *spatial)``, which is
                taken out.

        Returns:
            the same items, the logits replaced by classes, ``(1, *spatial)``, uint8, or int16 where there are more than
            256, or by a mask of each class that may overlap, ``(K, *spatial)``, uint8; and the maps. Metadata is kept.

        Raises:
            ValueError: when a logit is NaN or infinite.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            logits = items[key]
            # by its ends, which are NaN where any value is: five times as fast as a look at each
            if not all(end.isfinite() for channel in logits for end in channel.aminmax()):
                raise ValueError(
                    "the network's output has NaN or infinite values; try full precision (--amp False), and see "
                    "whether the weights are finite."
                )
            if self.uncertainty:
                chunks = logits.split(_CHUNK, dim=-1)
                entropies = [entropy_of(self._probabilities(part), 0, self.overlapping) for part in chunks]
                uncertainty = torch.cat(entropies, dim=-1)
                if "member_entropy" in items:
                    uncertainty = (uncertainty - items.pop("member_entropy")).clamp(0, 1)
                items["uncertainty"] = uncertainty
            if self.probabilities:
                items["probabilities"] = self._probabilities(logits)
            is_deep = len(logits) > 256 and not self.overlapping
            items[key] = self._classes(logits).to(torch.int16 if is_deep else torch.uint8)
        return items

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return class_probabilities(logits, 0, self.overlapping)

    def _classes(self, logits: torch.Tensor) -> torch.Tensor:
        if self.overlapping:
            return logits > 0
        # the same as argmax, the first of equals, but four times as fast
        return logits >= 0 if len(logits) == 1 else logits.max(dim=0, keepdim=True).indices
