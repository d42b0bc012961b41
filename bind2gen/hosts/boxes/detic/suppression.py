"""Non-maximum suppression for many classes that share their boxes, all classes at once and exact.

The usual trick, moving each class's boxes out of the others' reach, rounds float32 coordinates: overlaps near the limit
flip, and other boxes remain than class by class.
"""

from __future__ import annotations

import torch
from torchvision.ops import box_iou

CLASSES_AT_ONCE = 4096  # bounds memory


@torch.no_grad()
def suppress(boxes: torch.Tensor, scores: torch.Tensor, thresholds: torch.Tensor, iou: float) -> torch.Tensor:
    """Which box stays for which class: the best ones, and each other that overlaps none of the better ones that stay.

    Args:
        boxes: (N, 4) xyxy, the same for all classes.
        scores: (N, C); NaN never stays.
        thresholds: (C,); a box must score more.
        iou: overlap (intersection over union) beyond which the weaker box goes.

    Returns:
        (N, C) bool.
    """
    overlapping = box_iou(boxes, boxes) > iou  # (N, N); NaN, of two empty boxes, is no overlap
    overlapping.fill_diagonal_(False)
    stays = scores > thresholds  # (N, C)
    contested = (stays.sum(0) > 1).nonzero()[:, 0]
    for classes in contested.split(CLASSES_AT_ONCE) if len(contested) else ():
        alive = stays[:, classes].T.contiguous()  # (c, N)
        order = scores[:, classes].T.masked_fill(~alive, -1).argsort(dim=1, descending=True, stable=True)
        for rank in range(int(alive.sum(1).max())):
            best = order[:, rank]
            wins = alive.gather(1, best[:, None])  # (c, 1)
            alive &= ~(overlapping[best] & wins)
        stays[:, classes] = alive.T
    return stays
