"""The cascade (arXiv 1712.00726): three times a region is looked at, described by a vector, and its box made better.

Boxes are the same for all classes, so nothing here depends on prompts but :meth:`RoiHeads.stage_logits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import clip_boxes_to_image, roi_align

from ....errors import NonFiniteError
from .config import DeticConfig
from .masks import MaskHead
from .pyramid import STRIDES, Pyramid

REGION = 7  # cells a side of a pooled region
LARGEST = 1e6  # pixels: what no box of sound weights reaches
POOLED_LEVELS = 3  # p3 to p5
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # a box of 224 x 224 pixels is read off p4
LARGEST_GROWTH = math.log(1000 / 16)  # of a box's width or height in one stage, as a logarithm


@dataclass(frozen=True)
class StageOutput:
    """What one stage says of N regions.

    Attributes:
        regions: (N, D) float32 unit length, to be compared with class embeddings.
        deltas: (N, 4) float32 offsets of the boxes, see :func:`apply_deltas`.
    """

    regions: torch.Tensor
    deltas: torch.Tensor


class _BoxHead(nn.Module):
    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.fpn_width * REGION**2, config.fc_width)
        self.fc2 = nn.Linear(config.fc_width, config.fc_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class _ClassScore(nn.Module):
    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.fc_width, config.embed_dim)


class _BoxPredictor(nn.Module):
    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        width = config.fc_width
        self.cls_score = _ClassScore(config)
        self.bbox_pred = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        nn.init.normal_(self.bbox_pred[2].weight, std=0.001)  # boxes start out unchanged
        nn.init.zeros_(self.bbox_pred[2].bias)


class RoiHeads(nn.Module):
    """Box heads and class vectors of each stage, and the mask head where the config has one."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.config = config
        stages = len(config.stage_weights)
        self.box_head = nn.ModuleList(_BoxHead(config) for _ in range(stages))
        self.box_predictor = nn.ModuleList(_BoxPredictor(config) for _ in range(stages))
        if config.mask_width:
            self.mask_head = MaskHead(config.fpn_width, config.mask_width)

    def run_stage(self, stage: int, pyramid: Pyramid, boxes: list[torch.Tensor]) -> StageOutput:
        """Look at regions. Differentiable, through the pyramid.

        Args:
            stage: from 0.
            pyramid: p3, p4, p5 (more are ignored) of B pictures.
            boxes: one (n, 4) a picture, xyxy in pixels of the network's input.
        """
        hidden = self.box_head[stage](pool_regions(pyramid, boxes, REGION))
        predictor = self.box_predictor[stage]
        regions = F.normalize(predictor.cls_score.linear(hidden).float(), dim=1)
        return StageOutput(regions, predictor.bbox_pred(hidden).float())

    def stage_logits(self, regions: torch.Tensor, class_embeds: torch.Tensor) -> torch.Tensor:
        """(N, C) class logits of a stage; sigmoid makes probabilities of them.

        Args:
            regions: (N, D) of :class:`StageOutput`.
            class_embeds: (C, D) of any length; only their directions count. A zero vector is the background.
        """
        return (self.config.temperature * regions) @ F.normalize(class_embeds.to(regions), dim=1).T

    def refine(
        self, pyramid: Pyramid, boxes: list[torch.Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """All stages one after the other.

        Args:
            boxes: proposals, one (n, 4) a picture; the first stage reads them beyond the edges too.
            sizes: (width, height) of each resized picture in pixels, without padding.

        Returns:
            Boxes within the pictures, (n, 4) each, and region vectors, (stages, n, D) each.

        Raises:
            NonFiniteError: the numbers overflowed.
        """
        counts = [len(b) for b in boxes]
        regions = []
        for stage, weight in enumerate(self.config.stage_weights):
            output = self.run_stage(stage, pyramid, boxes)
            moved = apply_deltas(output.deltas, torch.cat(boxes), weight).split(counts)
            # Each stage learns for itself: no gradient goes back through the boxes.
            boxes = [
                clip_boxes_to_image(b.detach(), (height, width))
                for b, (width, height) in zip(moved, sizes, strict=True)
            ]
            regions.append(output.regions)
            refuse_overflow(pyramid[0].dtype, *boxes, output.regions)
        return boxes, list(torch.stack(regions).split(counts, dim=1))


def refuse_overflow(dtype: torch.dtype, *tensors: torch.Tensor) -> None:
    """Raise :class:`NonFiniteError` where values left the range of ``dtype``, as they may in float16."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise NonFiniteError(
            f"Detic: the network's values are not finite in {dtype}; "
            "run it in bfloat16 or float32, or check its weights"
        )


def pool_regions(pyramid: Pyramid, boxes: list[torch.Tensor], size: int) -> torch.Tensor:
    """(N, C, size, size): each box read off the level that fits its area. An empty box gives zeros.

    Interpolation runs in float32, since not every device has it in narrower types; the result is the pyramid's.
    """
    rois = torch.cat(
        [torch.cat([torch.full_like(b[:, :1], i), b.float()], 1) for i, b in enumerate(boxes)]
    )  # (N, 5): which picture, xyxy
    if len(rois) and (largest := float(rois.abs().max())) > LARGEST:
        raise NonFiniteError(f"Detic: a box of {largest:.3g} pixels; check its weights")
    areas = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    levels = torch.floor(CANONICAL_LEVEL + torch.log2(areas.sqrt() / CANONICAL_SIZE + 1e-8))
    finest = int(math.log2(STRIDES[0]))
    levels = levels.clamp(finest, finest + POOLED_LEVELS - 1).long() - finest
    pooled, places = [], []
    for level in range(POOLED_LEVELS):
        place = (levels == level).nonzero()[:, 0]
        x = roi_align(pyramid[level].float(), rois[place], size, 1 / STRIDES[level], sampling_ratio=0, aligned=True)
        pooled.append(x)
        places.append(place)
    return torch.cat(pooled)[torch.cat(places).argsort()].to(pyramid[0].dtype)


def apply_deltas(deltas: torch.Tensor, boxes: torch.Tensor, weight: float) -> torch.Tensor:
    """Boxes (N, 4) moved by ``deltas`` (N, 4): shift of the centre in widths and heights, and the logarithm of growth.

    Shifts are ``weight`` times too large, growths half of that, so that all have like spread in training.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size
    centre = deltas[:, :2] / weight * size + centre
    size = torch.exp((deltas[:, 2:] / (weight / 2)).clamp(max=LARGEST_GROWTH)) * size
    return torch.cat([centre - 0.5 * size, centre + 0.5 * size], 1)
