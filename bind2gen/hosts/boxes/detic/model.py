"""The network. Its parameter names are those of the released checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from .cascade import RoiHeads, pool_regions, refuse_overflow
from .config import DeticConfig
from .masks import REGION as MASK_REGION
from .masks import REGIONS_AT_ONCE
from .proposals import ProposalGenerator, RawProposals
from .pyramid import FeaturePyramid, Pyramid


@dataclass(frozen=True)
class EncodedImage:
    """A picture as the network sees it: all that does not depend on prompts. N regions, S stages.

    Attributes:
        pyramid: p3, p4, p5, (1, C, H / stride, W / stride) each; masks are drawn from them.
        proposals: where the regions were first looked for.
        boxes: (N, 4) float32 xyxy of the regions after the cascade, in pixels of the resized picture, within it.
        regions: (S, N, D) float32 unit length, one vector a stage.
        input_size: (width, height) of the resized picture in pixels.
        image_size: (width, height) of the picture as it was given.
    """

    pyramid: Pyramid
    proposals: RawProposals
    boxes: torch.Tensor
    regions: torch.Tensor
    input_size: tuple[int, int]
    image_size: tuple[int, int]

    def to(self, device: torch.device | str) -> EncodedImage:
        """The same on another device."""
        proposals = RawProposals(self.proposals.boxes.to(device), self.proposals.scores.to(device))
        return replace(
            self,
            pyramid=tuple(p.to(device) for p in self.pyramid),
            proposals=proposals,
            boxes=self.boxes.to(device),
            regions=self.regions.to(device),
        )


class DeticModel(nn.Module):
    """Backbone with feature pyramid, proposal head and cascade.

    For training, call the parts: ``backbone(pixels)``, ``proposal_generator(pyramid)``, ``roi_heads.run_stage`` and
    ``roi_heads.stage_logits`` are differentiable.
    """

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = FeaturePyramid(config)
        self.proposal_generator = ProposalGenerator(config)
        self.roi_heads = RoiHeads(config)

    @property
    def device(self) -> torch.device:
        return self.proposal_generator.centernet_head.agn_hm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.proposal_generator.centernet_head.agn_hm.weight.dtype

    @torch.no_grad()
    def encode(
        self, pixels: torch.Tensor, input_sizes: list[tuple[int, int]], image_sizes: list[tuple[int, int]]
    ) -> list[EncodedImage]:
        """Everything up to the prompts.

        Args:
            pixels: (B, 3, H, W), normalised, zero-padded to multiples of 32.
            input_sizes: (width, height) of each picture within its padding.
            image_sizes: (width, height) of each picture before resizing.

        Raises:
            NonFiniteError: the numbers overflowed, as float16 may.
        """
        pyramid = self.backbone(pixels.to(self.dtype))
        refuse_overflow(self.dtype, *pyramid)
        proposals = self.proposal_generator.decode(self.proposal_generator(pyramid))
        boxes, regions = self.roi_heads.refine(pyramid, [p.boxes for p in proposals], input_sizes)
        return [
            EncodedImage(tuple(p[i : i + 1] for p in pyramid[:3]), proposals[i], boxes[i], regions[i], size, image)
            for i, (size, image) in enumerate(zip(input_sizes, image_sizes, strict=True))
        ]

    @torch.no_grad()
    def scores(self, encoded: EncodedImage, class_embeds: torch.Tensor) -> torch.Tensor:
        """(N, C) float32 in 0..1: the geometric mean of a region's class probability and of its being anything.

        Args:
            class_embeds: (C, D) on the encoded picture's device, of any length.
        """
        stages = [self.roi_heads.stage_logits(regions, class_embeds).sigmoid() for regions in encoded.regions]
        return (sum(stages) * (1 / len(stages)) * encoded.proposals.scores[:, None]).sqrt()

    @torch.no_grad()
    def masks(self, encoded: EncodedImage, rows: torch.Tensor) -> torch.Tensor:
        """(n, 28, 28) float32 in 0..1, how likely each cell of the boxes ``rows`` (n,) belongs to the thing."""
        drawn = [torch.zeros(0, 2 * MASK_REGION, 2 * MASK_REGION, device=encoded.boxes.device)]
        for part in rows.split(REGIONS_AT_ONCE) if len(rows) else ():
            pooled = pool_regions(encoded.pyramid, [encoded.boxes[part]], MASK_REGION)
            # The network may have been cast since the picture was encoded.
            drawn.append(self.roi_heads.mask_head(pooled.to(self.dtype)).float().sigmoid())
        return torch.cat(drawn)
