"""Boxes for the embeddings of any encoder, without a detector that knows it.

Proposals that may hold anything are cut out, an encoder embeds the cut-outs, and their cosine with each prompt makes
the score. Needs no map between embedding spaces; a new prompt costs one product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from ...errors import InputError, NonFiniteError, ShapeError
from ...preprocess.image import upright
from .detections import Detections, Proposals, Proposer
from .selection import checked_class_embeds, checked_count, select

HOST = "rescoring"  # in messages
SAME_MEANING = 0.9  # cosine of a prompt with what of the background names the same thing
EmbedCrops = Callable[[list[Image.Image]], torch.Tensor]


@dataclass(frozen=True)
class RescoringSettings:
    """How cut-outs are made and scored.

    With a background a score is the prompt's share in a softmax over itself and the background's embeddings, cosines
    over ``temperature``: 0.5 is as much like the prompt as like all of the background together. Prompts do not compete,
    and what of the background means the prompt itself is left out. Without a background it is sigmoid((cosine - offset)
    * scale), which can say no only if these two were fitted.

    Attributes:
        max_proposals: boxes that are embedded, the best first.
        margin: context around a box, as a share of its sides on each side.
        square: also widen the shorter side with context, for encoders that cut out the middle square.
        batch_size: cut-outs handed to the encoder at a time.
        temperature: 1 over the factor of cosines, such as ``1 / encoder.logit_scale("text")``; 0.05 is what ImageBind's
            audio tower was trained with (paper, appendix B).
        offset: cosine that scores 0.5. A plain guess between the cosines of matching and other pairs; fit it on data.
        scale: how steep; 1 / 0.05 as above.
        objectness: 0..1, share of the proposal's own score in a weighted geometric mean; 0 leaves it out, and 0.5 is
            the square root of the product, as in Detic.
        nms_iou: overlap beyond which the weaker box of the same prompt goes; None keeps all.

    Raises:
        InputError: a value out of its range.
    """

    max_proposals: int = 150
    margin: float = 0.1
    square: bool = True
    batch_size: int = 32
    temperature: float = 0.05
    offset: float = 0.2
    scale: float = 20.0
    objectness: float = 0.0
    nms_iou: float | None = 0.5

    def __post_init__(self) -> None:
        limits = {
            "max_proposals": (1, math.inf), "batch_size": (1, math.inf), "margin": (0, 10), "objectness": (0, 1),
            "temperature": (1e-4, math.inf), "scale": (0, math.inf), "offset": (-1, 1), "nms_iou": (0, 1),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            kind = int if name in ("max_proposals", "batch_size") else int | float
            fits = isinstance(value, kind) and low <= value <= high
            if not fits and not (value is None and name == "nms_iou"):
                raise InputError(f"RescoringSettings: wanted {name} in {low}..{high}, got {value!r}")


@dataclass(frozen=True)
class RescoringEncoded:
    """A picture's proposals and their embeddings.

    Attributes:
        proposals: N boxes.
        embeds: (N, D) float32 unit norm.
        image_size: (width, height) in pixels.
    """

    proposals: Proposals
    embeds: torch.Tensor
    image_size: tuple[int, int]


class RescoringDetector:
    """Any proposer and any encoder of pictures as a :class:`Detector`. Has no masks.

    Args:
        proposer: a detector, or a :class:`bind2gen.hosts.boxes.windows.GridProposer`, which needs no weights.
        embed_crops: RGB pictures of any sizes -> (N, embed_dim), in the space of the prompts; need not be unit norm.
        embed_dim: width D of that space.
        background: (K, D) embeddings of what else there is, such as of many words.

    Raises:
        ShapeError, HostError, EmptyInputError, NonFiniteError: the background does not fit.
    """

    def __init__(
        self,
        proposer: Proposer,
        embed_crops: EmbedCrops,
        *,
        embed_dim: int,
        background: torch.Tensor | None = None,
        settings: RescoringSettings = RescoringSettings(),
    ) -> None:
        self.proposer, self.embed_crops, self.settings = proposer, embed_crops, settings
        self._embed_dim = embed_dim
        if background is not None:
            background = checked_class_embeds(background, embed_dim, f"{HOST}, background")
        self.background = background

    @property
    def embed_dim(self) -> int:
        """Width D of the class embeddings, the encoder's own."""
        return self._embed_dim

    @torch.no_grad()
    def encode_image(self, image: Any) -> RescoringEncoded:
        """Propose boxes and embed what is in them, in batches. A picture without proposals is no error.

        Args:
            image: as of :func:`bind2gen.preprocess.image.upright`.

        Raises:
            InputError: the picture cannot be read, or has no pixels.
            ShapeError, NonFiniteError: ``embed_crops`` gave something that is no (N, D) of finite numbers.
        """
        image, settings = upright(image), self.settings
        encoded = self.proposer.encode_image(image)
        proposals = self.proposer.propose(encoded, max_proposals=settings.max_proposals)
        places = [crop_box(box, image.size, settings.margin, settings.square) for box in proposals.xyxy.tolist()]
        parts = [torch.zeros(0, self.embed_dim)]
        for start in range(0, len(places), settings.batch_size):
            parts.append(self._embedded([image.crop(p) for p in places[start : start + settings.batch_size]]))
        return RescoringEncoded(proposals, torch.cat(parts), image.size)

    def _embedded(self, crops: list[Image.Image]) -> torch.Tensor:
        embeds = self.embed_crops(crops)
        wanted = (len(crops), self.embed_dim)
        if not isinstance(embeds, torch.Tensor) or tuple(embeds.shape) != wanted:
            got = tuple(embeds.shape) if isinstance(embeds, torch.Tensor) else type(embeds).__name__
            raise ShapeError(f"{HOST}: wanted embed_crops to give a tensor {wanted} for {len(crops)} crops, got {got}")
        if not bool(embeds.isfinite().all()):
            raise NonFiniteError(f"{HOST}: embed_crops gave NaN or infinite values")
        return F.normalize(embeds.detach().float().cpu(), dim=1)

    @torch.no_grad()
    def scores(self, encoded: RescoringEncoded, class_embeds: torch.Tensor) -> torch.Tensor:
        """(N, C) in 0..1: each proposal for each class, by the rules of :class:`RescoringSettings`.

        Args:
            class_embeds: (C, D) of any length; only their directions count.
        """
        if not isinstance(encoded, RescoringEncoded):
            raise InputError(f"{HOST}: wanted what encode_image gives, got {type(encoded).__name__}")
        settings = self.settings
        prompts = _directions(checked_class_embeds(class_embeds, self.embed_dim, HOST))
        cosines = encoded.embeds @ prompts.T
        if self.background is None:
            scores = ((cosines - settings.offset) * settings.scale).sigmoid()
        else:
            background = _directions(self.background)
            others = encoded.embeds @ background.T / settings.temperature  # (N, K)
            means_it = prompts @ background.T > SAME_MEANING  # (C, K)
            rivals = torch.stack([others[:, ~same].logsumexp(1) for same in means_it], dim=1)  # (N, C)
            scores = (cosines / settings.temperature - rivals).sigmoid()
        objectness = torch.tensor(encoded.proposals.scores)[:, None]
        return scores ** (1 - settings.objectness) * objectness**settings.objectness

    def detect(
        self,
        encoded: RescoringEncoded,
        class_embeds: torch.Tensor,
        *,
        labels: tuple[str, ...] | None = None,
        threshold: float | torch.Tensor = 0.5,
        max_detections: int = 300,
        masks: bool = True,
    ) -> Detections:
        """Boxes for the classes (C, D); ``masks`` is taken for the sake of the contract, there are none."""
        scores = self.scores(encoded, class_embeds)
        return select(
            torch.tensor(encoded.proposals.xyxy),
            scores,
            labels=labels,
            image_size=encoded.image_size,
            threshold=threshold,
            max_detections=max_detections,
            nms_iou=self.settings.nms_iou,
        )

    def propose(self, encoded: RescoringEncoded, *, max_proposals: int = 256) -> Proposals:
        """The proposals that were embedded."""
        checked_count("max_proposals", max_proposals)
        return Proposals(encoded.proposals.xyxy[:max_proposals], encoded.proposals.scores[:max_proposals])


def _directions(embeds: torch.Tensor) -> torch.Tensor:
    return F.normalize(embeds.detach().float().cpu(), dim=1)


def crop_box(box: Any, size: tuple[int, int], margin: float, square: bool) -> tuple[int, int, int, int]:
    """Whole pixels to cut out for a box: with context, within the picture, at least one pixel.

    Args:
        box: left, top, right, bottom in pixels.
        size: (width, height) of the picture.
        margin, square: see :class:`RescoringSettings`. A square that does not fit is moved, then cut.
    """
    left, top, right, bottom = box
    sides = [(right - left) * (1 + 2 * margin), (bottom - top) * (1 + 2 * margin)]
    if square:
        sides = [max(sides)] * 2
    spans = []
    for middle, side, limit in zip(((left + right) / 2, (top + bottom) / 2), sides, size, strict=True):
        side = min(max(round(side), 1), limit)
        start = round(middle - side / 2)
        if square:
            start = min(max(start, 0), limit - side)
        first, last = min(max(start, 0), limit - 1), min(max(start + side, 1), limit)
        spans.append((first, max(last, first + 1)))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]
