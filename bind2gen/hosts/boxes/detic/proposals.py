"""Where something is, whatever it is: the CenterNet proposal head (arXiv 2103.07461) and its decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import nms

from .config import DeticConfig
from .pyramid import STRIDES, Pyramid

TOWER_DEPTH = 4  # convolutions
SMALLEST = 0.01  # pixels; the least width and height of a proposal
INITIAL_PROBABILITY = 0.01  # of the heatmap before training
INITIAL_DISTANCE = 8.0  # strides, from a place to the edges of its box, before training
INITIAL_STD = 0.01


@dataclass(frozen=True)
class LevelOutput:
    """The head's raw answer on one pyramid level.

    Attributes:
        heatmap: (B, 1, H, W) logits of a box's centre being there.
        distances: (B, 4, H, W) from there to left, top, right and bottom of the box, in strides, 0 or more.
        stride: pixels between two places.
    """

    heatmap: torch.Tensor
    distances: torch.Tensor
    stride: int


@dataclass(frozen=True)
class RawProposals:
    """Proposals of one picture as the network sees it, best first.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the resized picture; they may reach beyond its edges.
        scores: (N,) float32 in 0..1.
    """

    boxes: torch.Tensor
    scores: torch.Tensor


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class _CenterNetHead(nn.Module):
    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        width, layers = config.fpn_width, []
        for _ in range(TOWER_DEPTH):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(config.norm_groups, width), nn.ReLU()]
        self.bbox_tower = nn.Sequential(*layers)
        self.bbox_pred = nn.Conv2d(width, 4, 3, padding=1)
        self.agn_hm = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.ModuleList(_Scale() for _ in STRIDES)
        self._initialise()

    def _initialise(self) -> None:
        for layer in (*self.bbox_tower, self.bbox_pred, self.agn_hm):
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=INITIAL_STD)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.bbox_pred.bias, INITIAL_DISTANCE)
        nn.init.constant_(self.agn_hm.bias, -math.log((1 - INITIAL_PROBABILITY) / INITIAL_PROBABILITY))

    def forward(self, x: torch.Tensor, level: int) -> LevelOutput:
        x = self.bbox_tower(x)
        return LevelOutput(self.agn_hm(x), F.relu(self.scales[level](self.bbox_pred(x))), STRIDES[level])


class ProposalGenerator(nn.Module):
    """The head, shared by all levels. ``forward`` is differentiable; :meth:`decode` picks boxes from its answer."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.config = config
        self.centernet_head = _CenterNetHead(config)

    def forward(self, pyramid: Pyramid) -> list[LevelOutput]:
        return [self.centernet_head(x, level) for level, x in enumerate(pyramid)]

    @torch.no_grad()
    def decode(self, outputs: list[LevelOutput]) -> list[RawProposals]:
        """The best boxes of each picture over all levels, without near-duplicates."""
        return [self._decode_one(outputs, i) for i in range(len(outputs[0].heatmap))]

    def _decode_one(self, outputs: list[LevelOutput], item: int) -> RawProposals:
        found = [self._candidates(output, item) for output in outputs]
        boxes, scores = torch.cat([boxes for boxes, _ in found]), torch.cat([scores for _, scores in found])
        kept = nms(boxes, scores, self.config.proposal_iou)  # best first
        limit = self.config.proposals
        if len(kept) > limit:  # all that score like the last one stay with it
            kept = kept[scores[kept] >= scores[kept[limit - 1]]]
        return RawProposals(boxes[kept], scores[kept])

    def _candidates(self, output: LevelOutput, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (n, 4) and scores (n,) of the best places of one level."""
        probabilities = output.heatmap[item, 0].float().sigmoid().flatten()  # (H * W,)
        places = (probabilities > self.config.proposal_score).nonzero()[:, 0]
        if len(places) > self.config.proposals_per_level:
            places = places[probabilities[places].topk(self.config.proposals_per_level).indices]
        boxes = decode_distances(output)[item, places]
        # A box of no extent would give regions without pixels.
        boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + SMALLEST)], 1)
        return boxes, probabilities[places].sqrt()


def decode_distances(output: LevelOutput) -> torch.Tensor:
    """The box that each place of a level speaks of: (B, H * W, 4) float32 xyxy in pixels. Differentiable."""
    grid = place_grid(output)
    distances = (output.distances.float() * output.stride).flatten(2).transpose(1, 2)  # (B, H * W, 4)
    return torch.cat([grid - distances[..., :2], grid + distances[..., 2:]], -1)


def place_grid(output: LevelOutput) -> torch.Tensor:
    """Where the places of a level lie: (H * W, 2) float32, x and y in pixels."""
    height, width = output.heatmap.shape[2:]
    y, x = (
        torch.arange(size, device=output.heatmap.device, dtype=torch.float32) * output.stride + output.stride // 2
        for size in (height, width)
    )
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1)
