"""From scores of boxes for prompts to :class:`Detections`: the steps that detectors share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.ops import nms

from ...errors import EmptyInputError, HostError, InputError, NonFiniteError, ShapeError
from .checks import checked_thresholds
from .detections import Detections

SHORTEST = 1e-12  # length below which torch.nn.functional.normalize does not reach unit length
FIRST_LOOK = 4  # boxes looked at for overlaps at first, for each that is wanted


def checked_class_embeds(class_embeds: torch.Tensor, width: int, host: str) -> torch.Tensor:
    """Class embeddings (C, D) as they are, after checks.

    Raises:
        ShapeError: not a float tensor of rank 2.
        HostError: of another width than the host takes.
        EmptyInputError: no classes.
        NonFiniteError: NaN or infinite values, or such large ones that float32 cannot hold their length.
        InputError: a vector of zeros, which has no direction.
    """
    if not isinstance(class_embeds, torch.Tensor) or not class_embeds.is_floating_point() or class_embeds.ndim != 2:
        kind = type(class_embeds).__name__
        got = f"{class_embeds.dtype} {tuple(class_embeds.shape)}" if kind == "Tensor" else kind
        raise ShapeError(f"{host}: wanted class embeddings as a float tensor (classes, {width}), got {got}")
    if class_embeds.shape[1] != width:
        raise HostError(
            f"{host}: wanted class embeddings of width {width}, got {class_embeds.shape[1]}; "
            "embeddings of another network need a learned map or a blend of the host's own text embeddings"
        )
    if not len(class_embeds):
        raise EmptyInputError(f"{host}: wanted at least one class embedding, got none")
    if not bool(class_embeds.isfinite().all()):
        raise NonFiniteError(f"{host}: the class embeddings hold NaN or infinite values")
    # A vector without direction is no class: its cosine of 0 would score everything alike, 0.5 in Detic.
    lengths = class_embeds.detach().float().norm(dim=1)
    if not bool(lengths.isfinite().all()):
        raise NonFiniteError(f"{host}: the class embeddings are too large for float32; normalise them to unit length")
    if zeros := (lengths < SHORTEST).nonzero()[:, 0].tolist():
        raise InputError(
            f"{host}: wanted class embeddings with a direction, got all zeros (or nearly) for {zeros}, counted from 0"
        )
    return class_embeds


def checked_labels(labels: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """One name for each of ``count`` classes; "prompt 1", "prompt 2"... where none are given.

    Raises:
        InputError: another number of them.
    """
    if labels is None:
        return tuple(f"prompt {i + 1}" for i in range(count))
    labels = labels if isinstance(labels, str) else tuple(labels)
    if isinstance(labels, str) or len(labels) != count:
        raise InputError(f"labels: wanted {count}, one a class embedding, got {labels!r}")
    return labels


def checked_count(name: str, value: int) -> int:
    """A limit on how many boxes are wanted.

    Raises:
        InputError: not a whole number, or below 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{name}: wanted a whole number, 0 or more, got {value!r}")
    return value


@torch.no_grad()
def select(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    labels: Sequence[str] | None,
    image_size: tuple[int, int],
    threshold: float | Sequence[float] | torch.Tensor,
    max_detections: int,
    nms_iou: float | None,
    one_prompt_a_box: bool = False,
) -> Detections:
    """Boxes above the threshold, without those that overlap a better one of the same prompt, best first.

    Args:
        boxes: (P, 4) xyxy in pixels.
        scores: (P, C) in 0..1, each box for each prompt.
        threshold: one score, or one a prompt; boxes must score more.
        max_detections: of all prompts together.
        nms_iou: overlap (intersection over union) beyond which the weaker box goes; None keeps all.
        one_prompt_a_box: a box answers the prompt that it scores best for only. Otherwise prompts do not compete, and
            what one finds does not depend on the others.

    Raises:
        ShapeError, NonFiniteError, InputError: about thresholds, labels and limits.
    """
    names = checked_labels(labels, scores.shape[1])
    checked_count("max_detections", max_detections)
    limits = torch.tensor(checked_thresholds(threshold, scores.shape[1]), device=scores.device)
    kept = scores > limits
    if one_prompt_a_box:
        kept &= torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
    rows, prompts = kept.nonzero(as_tuple=True)
    found = scores[rows, prompts]
    order = found.argsort(descending=True, stable=True)
    if nms_iou is not None:
        order = _without_overlaps(order, boxes[rows], found, prompts, nms_iou, max_detections)
    order = order[:max_detections]
    arrays = (t[order].cpu().numpy() for t in (boxes[rows], found, prompts))
    return Detections(*arrays, labels=names, image_size=image_size)


def _without_overlaps(
    order: torch.Tensor, boxes: torch.Tensor, scores: torch.Tensor, prompts: torch.Tensor, iou: float, wanted: int
) -> torch.Tensor:
    """Those of ``order`` (best first) that stay, at least ``wanted`` of them where there are so many.

    Whether a box stays is decided by better ones alone, so that a long list need not be gone through to its end.
    """
    reach = FIRST_LOOK * max(wanted, 1)
    while True:
        kept = order[:reach][_not_suppressed(*(t[order[:reach]] for t in (boxes, scores, prompts)), iou)]
        if len(kept) >= wanted or reach >= len(order):
            return kept
        reach *= 4


def _not_suppressed(boxes: torch.Tensor, scores: torch.Tensor, prompts: torch.Tensor, iou: float) -> torch.Tensor:
    """Numbers of the boxes that stay, ascending. Prompt by prompt: shifting the boxes of each prompt out of the others'
    reach instead, as torchvision's batched_nms may, rounds coordinates and with them the overlaps."""
    kept = [torch.zeros(0, dtype=torch.int64, device=boxes.device)]
    for prompt in prompts.unique():
        of_prompt = (prompts == prompt).nonzero()[:, 0]
        kept.append(of_prompt[nms(boxes[of_prompt], scores[of_prompt], iou)])
    return torch.cat(kept).sort().values
