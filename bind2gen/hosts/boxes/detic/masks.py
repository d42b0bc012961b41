"""Masks: a head that draws each region on 28 x 28 cells, and their enlargement onto the picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ....errors import TooLargeError

REGION = 14  # cells a side of what the head looks at; it draws twice as many
DEPTH = 4  # convolutions
INSIDE = 0.5  # least probability of a pixel of the mask
LARGEST = 4 * 2**30  # bytes of masks of one picture
REGIONS_AT_ONCE = 64  # bounds the memory of the head's convolutions


class MaskHead(nn.Module):
    """(N, C, 14, 14) pooled regions to (N, 28, 28) mask logits, the same for all classes."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        for i in range(DEPTH):
            self.add_module(f"mask_fcn{i + 1}", nn.Conv2d(channels if i == 0 else width, width, 3, padding=1))
        self.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        self.predictor = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(DEPTH):
            x = F.relu(getattr(self, f"mask_fcn{i + 1}")(x))
        return self.predictor(F.relu(self.deconv(x)))[:, 0]


@torch.no_grad()
def paste_masks(probabilities: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Enlarge masks to their boxes, bilinearly, with nothing outside of the box but its soft edge.

    Args:
        probabilities: (N, M, M) float32 in 0..1.
        boxes: (N, 4) float32 xyxy in pixels, each of positive size.
        size: (width, height) of the picture in pixels.

    Returns:
        (N, height, width) bool.

    Raises:
        TooLargeError: they would take more than 4 GiB.
    """
    width, height = size
    if len(boxes) * width * height > LARGEST:
        raise TooLargeError(
            f"{len(boxes)} masks of {width} x {height} pixels would take more than {LARGEST // 2**30} GiB; pass "
            "masks=False, a higher threshold, fewer max_detections or a smaller picture"
        )
    pasted = np.zeros((len(boxes), height, width), bool)
    # Beyond the box a pixel shows less than half of a cell, so nothing there can reach INSIDE.
    left, top = ((boxes[:, i].floor() - 1).clamp(min=0).long().tolist() for i in (0, 1))
    right, bottom = ((boxes[:, i].ceil() + 1).clamp(max=side).long().tolist() for i, side in ((2, width), (3, height)))
    for i, (mask, (x0, y0, x1, y1)) in enumerate(zip(probabilities, boxes.tolist(), strict=True)):
        rows = _weights(top[i], bottom[i], y0, y1, mask)  # (h, M)
        columns = _weights(left[i], right[i], x0, x1, mask)  # (w, M)
        inside = rows @ mask @ columns.T >= INSIDE
        pasted[i, top[i] : bottom[i], left[i] : right[i]] = inside.cpu().numpy()
    return pasted


def _weights(first: int, end: int, low: float, high: float, mask: torch.Tensor) -> torch.Tensor:
    """How much of each of the M cells each pixel from ``first`` up to ``end`` shows, the mask lying from low to high.

    Bilinear sampling along one axis as a matrix (pixels, M); beyond the outer cells' centres it fades to nothing.
    """
    cells = mask.shape[-1]
    pixels = torch.arange(first, end, device=mask.device, dtype=mask.dtype) + 0.5
    position = (pixels - low) / (high - low) * cells - 0.5
    distance = position[:, None] - torch.arange(cells, device=mask.device, dtype=mask.dtype)
    return (1 - distance.abs()).clamp(min=0)
