# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy and IoU that weigh the pixels near a border more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import look_up_option
from torch.nn.modules.loss import _Loss

__all__ = ["StructureLoss"]

BCE_FORMS = ("intended", "published")
_WINDOW, _BORDER_WEIGHT = 31, 5


class StructureLoss(_Loss):
    """
    Weighted binary cross-entropy plus weighted IoU, per image and channel, averaged over both.

    The weight of a pixel is ``w = 1 + 5 |mean of the mask over 31 x 31 - mask|``, with zeros outside of the image. With
    ``p = sigmoid(logits)`` and the mask ``m``, all sums over the pixels of an image:

    - cross-entropy: ``sum(w * bce(p, m)) / sum(w)``,
    - IoU: ``1 - (sum(w p m) + 1) / (sum(w (p + m - p m)) + 1)``.

    The code published with PraNet, SAM2-UNet and others asks for the cross-entropy per pixel by ``reduce="none"``, an
    argument that PyTorch reads as "average". The weight then cancels, and the first term is the plain mean over the
    batch: that is ``bce="published"``.

    For the list that :class:`~monai_sam2adapter.networks.nets.SAM2UNet` returns in training, take
    ``monai.losses.DeepSupervisionLoss(StructureLoss(), weight_mode="same")``: the sum over the list, as its authors do.

    Source: Fan et al., PraNet, arXiv:2006.11392, after Wei et al., F3Net, arXiv:1911.11445; as SAM2-UNet,
    arXiv:2408.08870, uses it.

    Args:
        bce: "intended" or "published". Defaults to "intended".
        ignore_index: value of the mask at pixels that do not count: their weight is 0, and the mean over the window
            takes them as background. Defaults to None: all count.

    Raises:
        ValueError: when ``bce`` is unknown.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.losses import StructureLoss
        >>> logits, masks = torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 64, 64)
        >>> StructureLoss()(logits, masks)  # log 2, and 1 - 1 / (64 * 64 / 2 + 1)
        tensor(1.6927)
    """

    def __init__(self, bce: str = "intended", ignore_index: int | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.bce = look_up_option(bce, BCE_FORMS)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: logits, ``(B, C, H, W)``.
            target: masks of 0 and 1 (and ``ignore_index``) of the same shape, one channel per class.

        Returns:
            the loss, a scalar.

        Raises:
            ValueError: when the shapes differ, or are not of images.
        """
        if input.ndim != 4 or input.shape != target.shape:
            raise ValueError(
                f"logits of shape {tuple(input.shape)} and masks of shape {tuple(target.shape)} must both be (batch, "
                "channels, height, width); give labels of several classes as one channel per class."
            )
        logits, mask = input.float(), target.float()  # sums over an image overflow half precision
        counts = torch.ones_like(mask) if self.ignore_index is None else (mask != self.ignore_index).float()
        mask = mask * counts
        local_mean = F.avg_pool2d(mask, _WINDOW, stride=1, padding=_WINDOW // 2)
        weight = counts * (1 + _BORDER_WEIGHT * (local_mean - mask).abs())
        return self._cross_entropy(logits, mask, weight, counts) + self._iou(logits.sigmoid(), mask, weight)

    def _cross_entropy(
        self, logits: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        if self.bce == "published":
            return (counts * loss).sum() / counts.sum().clamp(min=1)
        return (_sum(weight * loss) / _sum(weight).clamp(min=1)).mean()

    def _iou(self, probability: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        overlap = _sum(weight * probability * mask)
        total = _sum(weight * (probability + mask))
        return (1 - (overlap + 1) / (total - overlap + 1)).mean()


def _sum(x: torch.Tensor) -> torch.Tensor:
    """Over the pixels of each image and channel."""
    return x.sum(dim=(2, 3))
