"""What a Detic network is trained with: the proposal head's losses and the cascade's (arXiv 2103.07461, 2201.02605).

Boxes are xyxy in pixels of the network's input. Box supervision only: masks are not trained here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torchvision.ops import box_iou, clip_boxes_to_image, generalized_box_iou_loss

from ..hosts.boxes.detic.cascade import RoiHeads, apply_deltas, deltas_between
from ..hosts.boxes.detic.proposals import LevelOutput, decode_distances, place_grid
from ..hosts.boxes.detic.pyramid import Pyramid

LEVEL_REACH = 6.0  # a level answers for boxes whose longer side is up to this many strides; the last for all larger
SPREAD = 0.11  # of a peak on the heatmap, relative to the root of the box's area ...
LEAST_SPREAD = 0.4  # ... and at least this many strides
FOCAL_POWER, NEAR_POWER = 2.0, 4.0  # how little well-answered places count, and places near a peak (CenterNet)
POSITIVE_SHARE = 0.5  # weight of peaks against all other places
NEAR_CENTRE = 1.0  # strides around a centre within which a place also learns the box
STAGE_IOUS = (0.5, 0.6, 0.7)  # overlap from which a region counts as the object, a stage each
BOX_WEIGHT = 1.0
SMOOTH_L1_BETA = 1.0


def proposal_loss(outputs: list[LevelOutput], boxes: list[torch.Tensor]) -> torch.Tensor:
    """Focal loss of the heatmaps and GIoU of the boxes around the objects' centres; scalar.

    Args:
        outputs: of the proposal head, B pictures.
        boxes: (n, 4) of each picture; n may be 0.
    """
    count = max(1, sum(len(b) for b in boxes))
    total = outputs[0].heatmap.new_zeros(())
    for level, output in enumerate(outputs):
        limits = _reach(level, outputs)
        for item, here in enumerate(boxes):
            longest = (here[:, 2:] - here[:, :2]).amax(1) if len(here) else here.new_zeros(0)
            mine = here[(longest >= limits[0]) & (longest < limits[1])]
            total = total + _picture_loss(output, item, mine)
    return total / count


def _reach(level: int, outputs: list[LevelOutput]) -> tuple[float, float]:
    """Longest sides in pixels that a level answers for."""
    low = 0.0 if level == 0 else LEVEL_REACH * outputs[level - 1].stride
    high = math.inf if level == len(outputs) - 1 else LEVEL_REACH * outputs[level].stride
    return low, high


def _picture_loss(output: LevelOutput, item: int, boxes: torch.Tensor) -> torch.Tensor:
    """Sum over the objects that one level answers for."""
    heat = output.heatmap[item, 0].float().flatten()
    if not len(boxes):
        return (1 - POSITIVE_SHARE) * (heat.sigmoid().pow(FOCAL_POWER) * F.softplus(heat)).sum()
    grid = place_grid(output)  # (P, 2)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    square = (grid[:, None] - centres[None]).square().sum(-1)  # (P, n)
    spread = (SPREAD * (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()).clamp(min=LEAST_SPREAD * output.stride)
    target = torch.exp(-square / (2 * spread.square())).amax(1)  # (P,)
    peaks = square.argmin(0)  # (n,) the place nearest to each centre
    target[peaks] = 1.0
    probability = heat.sigmoid()
    found = ((1 - probability[peaks]).pow(FOCAL_POWER) * F.softplus(-heat[peaks])).sum()
    silent = ((1 - target).pow(NEAR_POWER) * probability.pow(FOCAL_POWER) * F.softplus(heat)).sum()

    near = (grid[:, None] - centres[None]).abs().amax(-1) <= NEAR_CENTRE * output.stride  # (P, n)
    near[peaks, torch.arange(len(boxes), device=boxes.device)] = True
    places, which = near.nonzero(as_tuple=True)
    predicted = decode_distances(output)[item, places]
    giou = generalized_box_iou_loss(predicted, boxes[which], reduction="none")
    share = near.sum(0)[which]  # every object counts once, however many places learn it
    return POSITIVE_SHARE * found + (1 - POSITIVE_SHARE) * silent + (giou / share).sum()


@dataclass(frozen=True)
class Objects:
    """What is on one picture: boxes (n, 4), and each one's class (n,) as a row of the class embeddings."""

    boxes: torch.Tensor
    classes: torch.Tensor


def cascade_loss(
    heads: RoiHeads,
    pyramid: Pyramid,
    regions: list[torch.Tensor],
    objects: list[Objects],
    class_embeds: torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:
    """Every stage's class and box loss; each stage gets the boxes that the one before it made. Scalar.

    Args:
        regions: (r, 4) of each picture: proposals, and the objects' own boxes so that there is always one to find.
        class_embeds: (C, D); a region of no object belongs to none of them.
        size: (width, height) of the pictures.
    """
    total = class_embeds.new_zeros(())
    width, height = size
    for stage, weight in enumerate(heads.config.stage_weights):
        output = heads.run_stage(stage, pyramid, regions)
        flat = torch.cat(regions)
        found = [_matched(r, o, STAGE_IOUS[stage]) for r, o in zip(regions, objects, strict=True)]
        classes = torch.cat([c for c, _ in found])  # (N,), -1 for none
        targets = torch.cat([b for _, b in found])
        logits = heads.stage_logits(stage, output.regions, class_embeds)
        wanted = torch.zeros_like(logits)
        hits = (classes >= 0).nonzero()[:, 0]
        wanted[hits, classes[hits]] = 1.0
        total = total + F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(flat)
        if len(hits):
            offsets = deltas_between(flat[hits], targets[hits], weight)
            error = F.smooth_l1_loss(output.deltas[hits], offsets, beta=SMOOTH_L1_BETA, reduction="sum")
            total = total + BOX_WEIGHT * error / len(flat)
        moved = apply_deltas(output.deltas.detach(), flat, weight).split([len(r) for r in regions])
        regions = [_with_extent(clip_boxes_to_image(m, (height, width))) for m in moved]
    return total / len(heads.config.stage_weights)


def _matched(regions: torch.Tensor, objects: Objects, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The class of each region's best object, -1 where none overlaps by ``least``; and that object's box."""
    nothing = torch.full((len(regions),), -1, dtype=torch.long, device=regions.device)
    if not len(objects.boxes):
        return nothing, torch.zeros_like(regions)
    best, which = box_iou(regions, objects.boxes).max(1)
    return torch.where(best >= least, objects.classes[which], nothing), objects.boxes[which]


def _with_extent(boxes: torch.Tensor) -> torch.Tensor:
    """At least a pixel wide and tall: logarithms of sizes are taken."""
    return torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], 1)


def training_regions(
    proposals: list[torch.Tensor], objects: list[Objects], count: int, size: tuple[int, int]
) -> list[torch.Tensor]:
    """The objects' boxes, then the best proposals, ``count`` a picture at most; within the picture."""
    width, height = size
    chosen = [torch.cat([o.boxes, p])[:count] for p, o in zip(proposals, objects, strict=True)]
    return [_with_extent(clip_boxes_to_image(c, (height, width))) for c in chosen]
