"""The network: YOLOv3-tiny's trunk and two levels of boxes, each box with a vector in place of class scores.

A box's vector is made of what its place answers about a few classes (in the bundled file COCO's 80, by YOLO's own
weights), and of the mean of the trunk's last features in the box, which also tell what is none of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import nms, roi_align

from ....errors import InputError
from ....preprocess.settings import Settings

STRIDES = (32, 16)  # pixels; of the coarse and the fine level
LARGEST_SIDE = 4096  # pixels; memory grows with its square
LEAK = 0.1  # darknet's slope below zero
LONGEST = 8.0  # of the logarithm of a side over its anchor's, beyond which the exponential would overflow float16


@dataclass(frozen=True)
class YoloConfig(Settings):
    """One network. The defaults are YOLOv3-tiny's (darknet's ``cfg/yolov3-tiny.cfg``).

    Attributes:
        widths: channels of the trunk's convolutions. The map of the last but two is the fine level's; after the last
            but one, unlike after those before it, the map keeps its size.
        squeezed, coarse, lateral, fine: channels of the two levels' convolutions.
        coarse_anchors, fine_anchors: sides that boxes begin with, in pixels: width, height, width, height...
        answers: classes that every box answers before its vector is made.
        context: numbers that the trunk's last features in a box are brought to on their way to its vector.
        embed_dim: width D of class embeddings.
        long_side: pixels; pictures are brought to it.
        objectness: that a box must exceed.
        proposals: kept of a picture.
        proposal_iou, box_iou: overlap beyond which the weaker of two proposals, of two boxes of a class, goes.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
    squeezed: int = 256
    coarse: int = 512
    lateral: int = 128
    fine: int = 256
    coarse_anchors: tuple[float, ...] = (81, 82, 135, 169, 344, 319)
    # The released weights learned with the second to fourth of darknet's six anchors: AP50 of 254 COCO photos is 41 %
    # with these, 26 % with the first three, which the cfg files that go around name.
    fine_anchors: tuple[float, ...] = (23, 27, 37, 58, 81, 82)
    answers: int = 80
    context: int = 88
    embed_dim: int = 256
    long_side: int = 416
    objectness: float = 0.005
    proposals: int = 120
    proposal_iou: float = 0.8
    box_iou: float = 0.5

    def __post_init__(self) -> None:
        self.require_positive(
            "squeezed", "coarse", "lateral", "fine", "answers", "context", "embed_dim", "long_side", "objectness",
            "proposals", "proposal_iou", "box_iou",
        )  # fmt: skip
        if self.long_side > LARGEST_SIDE:
            raise InputError(f"YoloConfig: wanted long_side of at most {LARGEST_SIDE} pixels, got {self.long_side}")
        if len(self.widths) != 7 or min(self.widths) < 1:
            raise InputError(f"YoloConfig: wanted seven widths above zero, got {self.widths}")
        for name in ("coarse_anchors", "fine_anchors"):
            sides = getattr(self, name)
            if not sides or len(sides) % 2 or min(sides) <= 0:
                raise InputError(f"YoloConfig: wanted {name} as pairs of sides above zero, got {sides}")
        if self.long_side % STRIDES[0]:
            raise InputError(f"YoloConfig: wanted long_side as a multiple of {STRIDES[0]}, got {self.long_side}")

    @property
    def anchors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(A, 2) widths and heights of the coarse and the fine level, on the CPU."""
        levels = (self.coarse_anchors, self.fine_anchors)
        return tuple(torch.tensor(level, dtype=torch.float32, device="cpu").view(-1, 2) for level in levels)


@dataclass(frozen=True)
class Regions:
    """Boxes of one picture, each of an anchor at a place, best first.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the network's input.
        objectness: (N,) logits, of YOLO's own head.
        answers: (N, answers) logits.
        context: (N, widths[-1]) mean of the trunk's last features in the box.
    """

    boxes: torch.Tensor
    objectness: torch.Tensor
    answers: torch.Tensor
    context: torch.Tensor


class YoloModel(nn.Module):
    """Pictures to :class:`Regions`, and these to vectors. Batch norms are folded into the convolutions."""

    def __init__(self, config: YoloConfig = YoloConfig()) -> None:
        super().__init__()
        self.config, widths = config, (3, *config.widths)
        anchors = (len(config.coarse_anchors) // 2, len(config.fine_anchors) // 2)
        self.trunk = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.squeeze = nn.Conv2d(widths[-1], config.squeezed, 1)
        self.coarse = nn.Conv2d(config.squeezed, config.coarse, 3, padding=1)
        self.lateral = nn.Conv2d(config.squeezed, config.lateral, 1)
        self.fine = nn.Conv2d(config.lateral + widths[-3], config.fine, 3, padding=1)
        levels = tuple(zip((config.coarse, config.fine), anchors, strict=True))
        self.boxes = nn.ModuleList(nn.Conv2d(width, 5 * count, 1) for width, count in levels)
        self.answers = nn.ModuleList(nn.Conv2d(width, config.answers * count, 1) for width, count in levels)
        self.vectors = nn.Linear(config.answers, config.embed_dim)
        self.context = nn.Linear(widths[-1], config.context)
        self.more = nn.Linear(config.context, config.embed_dim + 1)  # to the vector and to the objectness
        self.bias = nn.Parameter(torch.zeros(()))

    @property
    def device(self) -> torch.device:
        return self.bias.device

    def features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) RGB in 0..1, sides multiples of 32 -> maps of the coarse and fine levels, the trunk's last."""
        x, last = pixels, len(self.trunk) - 1
        for i, layer in enumerate(self.trunk):
            x = F.leaky_relu(layer(x), LEAK)
            if i == last - 2:
                finer = x
            if i < last - 1:
                x = F.max_pool2d(x, 2)
            elif i == last - 1:  # of stride 1, to the right and below
                x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, 1)
        squeezed = F.leaky_relu(self.squeeze(x), LEAK)
        raised = F.interpolate(F.leaky_relu(self.lateral(squeezed), LEAK), scale_factor=2)
        fine = F.leaky_relu(self.fine(torch.cat([raised, finer], 1)), LEAK)
        return F.leaky_relu(self.coarse(squeezed), LEAK), fine, x

    def regions(self, pixels: torch.Tensor) -> list[Regions]:
        """Pixels as of :meth:`features` -> boxes that may hold anything, those of each picture by itself."""
        *levels, last = self.features(pixels)
        raw = [self._level(*level) for level in zip(levels, STRIDES, self.config.anchors, range(2), strict=True)]
        boxes, objectness, answers = (torch.cat(part, 1) for part in zip(*raw, strict=True))
        return [self._kept(*one) for one in zip(boxes, objectness, answers, last.float(), strict=True)]

    def _level(
        self, maps: torch.Tensor, stride: int, anchors: torch.Tensor, level: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes (B, P, 4), objectness (B, P), answers (B, P, answers) of every anchor at every place of one level."""
        batch, _, height, width = maps.shape
        raw, answers = (
            head[level](maps).float().view(batch, len(anchors), -1, height, width).permute(0, 1, 3, 4, 2)
            for head in (self.boxes, self.answers)
        )  # (B, A, H, W, 5) and (B, A, H, W, answers)
        ys, xs = torch.meshgrid(*(torch.arange(n, device=maps.device) for n in (height, width)), indexing="ij")
        centres = (raw[..., :2].sigmoid() + torch.stack([xs, ys], -1)) * stride
        halves = raw[..., 2:4].clamp(max=LONGEST).exp() * anchors.to(maps.device)[:, None, None] / 2
        # Far beyond the picture there is nothing, and the mean over such a box would take as long as it is large.
        halves = halves.clamp(max=stride * max(height, width))
        boxes = torch.cat([centres - halves, centres + halves], -1)
        return boxes.flatten(1, 3), raw[..., 4].flatten(1), answers.flatten(1, 3)

    def _kept(
        self, boxes: torch.Tensor, objectness: torch.Tensor, answers: torch.Tensor, last: torch.Tensor
    ) -> Regions:
        """The best boxes of one picture that do not overlap, with the mean of the last features (K, H, W) in each."""
        rows = ((objectness.sigmoid() > self.config.objectness) & boxes.isfinite().all(1)).nonzero()[:, 0]
        rows = rows[nms(boxes[rows], objectness[rows], self.config.proposal_iou)[: self.config.proposals]]
        context = roi_align(last[None], [boxes[rows]], 1, spatial_scale=1 / STRIDES[0], aligned=True)
        return Regions(boxes[rows], objectness[rows], answers[rows], context.flatten(1))

    def told(self, regions: Regions) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (N, D) of any length, and objectness (N,) logits."""
        kept = F.leaky_relu(self.context(regions.context.to(self.context.weight.dtype)), LEAK)
        more = self.more(kept)
        vectors = self.vectors(regions.answers.to(self.vectors.weight.dtype)) + more[:, :-1]
        return vectors.float(), regions.objectness + more[:, -1].float()

    def scores(self, vectors: torch.Tensor, objectness: torch.Tensor, class_embeds: torch.Tensor) -> torch.Tensor:
        """(N, C) in 0..1, of class embeddings (C, D) of which only the directions count."""
        logits = vectors @ F.normalize(class_embeds.float(), dim=1).T + self.bias.float()
        return objectness.sigmoid()[:, None] * logits.sigmoid()
