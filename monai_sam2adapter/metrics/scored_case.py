# SPDX-License-Identifier: Apache-2.0
"""One case, scored once: voxel counts, confusion matrix and surface distances that all metrics are reduced from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics.utils import create_ignore_mask
from scipy.spatial import KDTree

__all__ = ["ScoredCase"]


class ScoredCase:
    """
    Prediction and truth of one case. What scores are made of is computed when it is first asked for, and kept.

    Args:
        y_pred: one-hot prediction, ``(C, *spatial)``, zeros and ones. A single channel is a foreground.
        y: one-hot truth, of the same shape.
        ignore_index: what marks voxels that count nowhere, as in MONAI's metrics: of several channels, all are 0 there;
            a single channel holds this number, and so do all channels that overlap. They are outside of every
            structure. Defaults to None: all count.
        overlapping: whether a voxel may have several classes, or none: then there is no background, and every channel
            is scored. Defaults to False.

    Attributes:
        device: where the prediction was.
        shape: size along each spatial axis.
        spacing: distance of voxels along each spatial axis in mm, of the truth, else of the prediction, when it is a
            ``MetaTensor``; else None.

    Raises:
        ValueError: when the shapes differ or have no spatial axis, or when a value is neither 0 nor 1.
    """

    def __init__(
        self, y_pred: torch.Tensor, y: torch.Tensor, ignore_index: int | None = None, overlapping: bool = False
    ) -> None:
        if y_pred.shape != y.shape or y.ndim < 2:
            raise ValueError(
                f"expected a prediction and a label of one shape (C, *spatial), got {tuple(y_pred.shape)} and "
                f"{tuple(y.shape)}; one-hot both with monai.transforms.AsDiscreted(to_onehot=...), and invert the "
                "resizing of the prediction first."
            )
        self.device = y_pred.device
        self.shape = tuple(y.shape[1:])
        images = [image for image in (y, y_pred) if isinstance(image, MetaTensor)]
        self.spacing = [float(step) for step in images[0].pixdim[: len(self.shape)]] if images else None
        self.overlapping = overlapping
        self._counted, y_pred, y = without_ignored(y_pred, y, ignore_index, overlapping)
        self._pred, self._truth = _to_masks("prediction", y_pred), _to_masks("label", y)
        self._surface_voxels: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._distances: dict[tuple[int, tuple[float, ...]], tuple[np.ndarray, np.ndarray]] = {}

    def channels(self, include_background: bool) -> range:
        """
        Args:
            include_background: whether channel 0 is scored; a single channel always is, and all that overlap.

        Returns:
            numbers of the ``K`` scored channels.
        """
        n_channels = len(self._truth)
        return range(0 if include_background or self.overlapping or n_channels == 1 else 1, n_channels)

    def counts(self, include_background: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            include_background: see :py:meth:`channels`.

        Returns:
            number of voxels in both, in the prediction and in the truth, int64, ``(K,)`` each.
        """
        scored = self.channels(include_background)
        common, pred, truth = torch.from_numpy(self._counts[:, scored.start :]).to(self.device)
        return common, pred, truth

    def masks(self, channel: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Args:
            channel: number of a structure.

        Returns:
            where it is in the prediction and in the truth, bool, ``(*spatial)`` each; ignored voxels are in neither.
        """
        return self._pred[channel], self._truth[channel]

    @cached_property
    def _counts(self) -> np.ndarray:
        masks = zip(self._pred, self._truth, strict=True)
        table = [[np.count_nonzero(mask) for mask in (p & t, p, t)] for p, t in masks]
        return np.array(table, dtype=np.int64).T  # (3, C)

    @cached_property
    def confusion(self) -> torch.Tensor:
        """
        Number of voxels of each true class (rows) predicted as each class (columns), int64, ``(C, C)``; ``(2, 2)`` for
        a single channel. Of classes that overlap each by itself, there or not, ``(K, 2, 2)``.

        Raises:
            ValueError: when a voxel has no class or more than one, unless they overlap.
        """
        if self.overlapping:
            common, pred, truth = self._counts
            others = np.count_nonzero(self._counted) - pred - truth + common
            table = np.stack([others, pred - common, truth - common, common], axis=-1)
            return torch.from_numpy(table.reshape(-1, 2, 2)).to(self.device)
        pred = _class_numbers("prediction", self._pred, self._counted)
        truth = _class_numbers("label", self._truth, self._counted)
        n_classes = max(2, len(self._truth))
        pairs = np.bincount(truth * n_classes + pred, minlength=n_classes**2)
        return torch.from_numpy(pairs.reshape(n_classes, n_classes)).to(self.device)

    def surface_distances(self, channel: int, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """
        Distance of each surface voxel of a structure to the nearest one of the other mask.

        The surface are those voxels that share a face with the outside; what lies beyond the border of the image is
        outside.

        Args:
            channel: number of the structure, which is in prediction and truth.
            spacing: distance of voxels along each spatial axis.

        Returns:
            distances from prediction to truth and from truth to prediction, float32.
        """
        key = (channel, tuple(spacing))
        if key not in self._distances:
            steps = np.array(spacing, dtype=float)
            pred, truth = self._surfaces(channel)
            self._distances[key] = _distances(*pred, truth[0], steps), _distances(*truth, pred[0], steps)
        return self._distances[key]

    def _surfaces(self, channel: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Surfaces in prediction and truth: indices of their voxels, ``(voxels, axes)``, and which are not in both."""
        if channel not in self._surface_voxels:
            pred, truth = self._pred[channel], self._truth[channel]
            box = _box(pred | truth)
            surfaces = [_surface(mask[box]) for mask in (pred, truth)]
            both = surfaces[0] & surfaces[1]
            self._surface_voxels[channel] = [(np.argwhere(surface), ~both[surface]) for surface in surfaces]
        return self._surface_voxels[channel]


def without_ignored(
    y_pred: torch.Tensor, y: torch.Tensor, ignore_index: int | None, overlapping: bool = False
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Which voxels count, ``(*spatial)``, and prediction and truth, 0 at the others."""
    counted = create_ignore_mask(y[None], ignore_index)
    if overlapping and ignore_index is not None:  # MONAI takes voxels of no class for those to ignore
        counted = (y != ignore_index).all(dim=0)[None, None]
    if counted is None:
        return np.ones(y.shape[1:], dtype=bool), y_pred, y
    mask = counted[0].bool()
    zero = torch.zeros((), dtype=y.dtype, device=y.device)
    return mask[0].numpy(force=True), torch.where(mask, y_pred, zero.to(y_pred)), torch.where(mask, y, zero)


def _to_masks(name: str, one_hot: torch.Tensor) -> np.ndarray:
    values = one_hot.as_tensor() if isinstance(one_hot, MetaTensor) else one_hot
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"the {name} holds values other than 0 and 1 (from {values.min().item():g} to {values.max().item():g}); "
            "turn logits or class numbers into one-hot channels with "
            "monai.transforms.AsDiscreted(argmax=..., to_onehot=...)."
        )
    return values.bool().numpy(force=True)


def _class_numbers(name: str, masks: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Classes of the counted voxels, in a row, of masks ``(C, *spatial)``; a single channel is class 1."""
    if len(masks) == 1:
        return masks[0][counted].astype(np.intp)
    numbers = np.zeros(masks.shape[1:], dtype=np.intp)
    for number, mask in enumerate(masks[1:], start=1):
        numbers[mask] = number
    # every voxel has a class, and there are as many classes as voxels: just one each
    total = np.count_nonzero(masks)
    if np.count_nonzero(np.logical_or.reduce(masks)) != total or np.count_nonzero(counted) != total:
        raise ValueError(
            f"the {name} has voxels of no class or of several, expected one of the {len(masks)} channels at each "
            "voxel; a pooled score needs classes that exclude each other: make them one-hot with "
            "monai.transforms.AsDiscreted(argmax=..., to_onehot=...)."
        )
    return numbers[counted]


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds a mask."""
    axes = range(mask.ndim)
    filled = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(indices[0], indices[-1] + 1) for indices in filled)


def _surface(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
    return mask & ~inside


def _distances(start: np.ndarray, apart: np.ndarray, end: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """From each voxel of a surface to the nearest one of another, exactly, as MONAI's ``get_surface_distance``."""
    distances = np.zeros(len(start), dtype=np.float32)  # of those that are on both surfaces, and of others:
    if apart.any():
        tree = KDTree(end * steps, leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[apart] = tree.query(start[apart] * steps, workers=torch.get_num_threads())[0]
    return distances
