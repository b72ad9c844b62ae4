# SPDX-License-Identifier: Apache-2.0
"""Turning volumes so that their slices lie along the last axis."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.spatial.functional import orientation
from monai.utils import look_up_option

from ..data.orientation import SLICES_BY, VolumeAxes, require_axcodes
from ..utils import escaping_logger, warn_once

__all__ = ["OrientSlicesd"]

logger = escaping_logger(__name__)


class OrientSlicesd(MapTransform, InvertibleTransform):
    """
    Turn volumes as the training data were, their slices along the last axis, whichever axis of a file they lie along.

    MONAI's ``Orientationd`` believes every affine. This one finds the axis of the slices by
    :py:meth:`monai_sam2adapter.data.orientation.VolumeAxes.orient`: by the affine, by the spacing where the affine says
    nothing, and by a warning that names the file where neither does. It is undone by ``monai.transforms.Invertd``.

    Args:
        keys: keys of volumes ``(C, H, W, D)`` that lie on each other; the first decides for all.
        axcodes: axis codes of the training data, those of the slices last, such as "LPS"; None to leave volumes as they
            are stored.
        slices_by: "orientation", "both" or "spacing", see there. Defaults to "both".
        slice_axis: axis of the turned volume that will be cut; any but the last one is warned about. Defaults to -1.
        allow_missing_keys: whether a key may be missing. Defaults to False.

    Raises:
        ValueError: when ``axcodes`` or ``slices_by`` is none of these.
    """

    def __init__(
        self,
        keys: KeysCollection,
        axcodes: str | None,
        slices_by: str = "both",
        slice_axis: int = -1,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if axcodes is not None:
            require_axcodes(axcodes)
            if slice_axis % 3 != 2:
                logger.warning(
                    "slice_axis is %d: volumes are turned to %s with their slices last, and then cut along another "
                    "axis; leave slice_axis out to cut them into their slices, however a file is stored",
                    slice_axis,
                    axcodes,
                )
        self.axcodes = axcodes
        self.slices_by = look_up_option(slices_by, SLICES_BY)
        self.slice_axis = slice_axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: dictionary with the volumes, ``MetaTensor``.

        Returns:
            the same items, the volumes turned; their metadata has the direction of the slices, such as "S", as
            ``slice_direction``, for pictures of them.
        """
        items = dict(data)
        if self.axcodes is None:
            return items
        ornt, direction = None, ""
        for key in self.key_iterator(items):
            volume = items[key]
            if ornt is None:
                meta = {**volume.meta, "affine": volume.affine.cpu().numpy()}
                ornt, note = VolumeAxes.of(meta).orient(self.axcodes, self.slices_by)
                if note:
                    warn_once(logger, str(volume.meta.get("filename_or_obj", key)), note)
            # MONAI changes the array of the axes that it is given
            affine, info = volume.affine.cpu().numpy(), self.get_transform_info()
            turned = orientation(volume, affine, ornt.copy(), lazy=False, transform_info=info)
            # in the order of memory, too, since the rounding of sums depends on it
            items[key] = turned.contiguous()
            items[key].applied_operations[-1]["extra_info"]["ornt"] = ornt.tolist()
            direction = direction or nib.aff2axcodes(items[key].affine.cpu().numpy())[self.slice_axis]
            items[key].meta["slice_direction"] = direction
        return items

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Args:
            data: what the transform returned, or what a network has made of it.

        Returns:
            the same items, the volumes in the order and direction of axes that they had.
        """
        items = dict(data)
        if self.axcodes is None:
            return items
        for key in self.key_iterator(items):
            items[key] = _turn_back(items[key], self.pop_transform(items[key]))
        return items


def _turn_back(volume: MetaTensor, record: Mapping[str, Any]) -> torch.Tensor:
    ornt = np.asarray(record["extra_info"]["ornt"])
    order = ornt[:, 0].argsort()
    back = np.stack([order, ornt[order, 1]], axis=1)  # the axis i that has become j is to become i again
    return orientation(volume, volume.affine.cpu().numpy(), back, lazy=False, transform_info={})
