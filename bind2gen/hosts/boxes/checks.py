"""What the fields of :class:`Detections` must be, with the words for what they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...errors import InputError, NonFiniteError, ShapeError

ROUNDING = 1e-5  # by which a score may leave 0..1


def checked_thresholds(threshold: float | Sequence[float] | torch.Tensor, count: int) -> np.ndarray:
    """One score for each of ``count`` prompts, (C,) float32, from one number or one a prompt.

    Raises:
        ShapeError: another number of them.
        NonFiniteError: NaN or infinite.
        InputError: not numbers.
    """
    try:
        values = np.asarray(threshold.detach().cpu() if isinstance(threshold, torch.Tensor) else threshold, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"threshold: wanted one number or {count} (one a prompt), got {threshold!r}") from error
    if values.shape not in ((), (count,)):
        raise ShapeError(f"threshold: wanted one number or {count} (one a prompt), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise NonFiniteError("threshold: holds NaN or infinite values")
    return np.broadcast_to(values, (count,))


def checked_boxes(xyxy: Any, scores: Any, owner: str) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores = np.asarray(xyxy, np.float32), np.asarray(scores, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(f"{owner}.xyxy: wanted boxes (N, 4), got shape {boxes.shape}")
    if scores.shape != (len(boxes),):
        raise ShapeError(f"{owner}.scores: wanted {len(boxes)}, one a box, got shape {scores.shape}")
    for name, values in (("xyxy", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            raise NonFiniteError(f"{owner}.{name}: holds NaN or infinite values")
    if (turned := (boxes[:, 2:] < boxes[:, :2]).any(1)).any():
        first = boxes[turned][0].tolist()
        raise InputError(f"{owner}.xyxy: wanted left, top, right, bottom, got {first}; is it left, top, width, height?")
    if len(scores) and not (scores.min() >= -ROUNDING and scores.max() <= 1 + ROUNDING):
        raise InputError(f"{owner}.scores: wanted 0..1, got {scores.min():g}..{scores.max():g}")
    return boxes, scores.clip(0, 1)


def checked_prompts(prompts: Any, boxes: int, labels: int) -> np.ndarray:
    prompts = np.asarray(prompts)
    if prompts.shape != (boxes,):
        raise ShapeError(f"Detections.prompts: wanted {boxes}, one a box, got shape {prompts.shape}")
    if boxes and prompts.dtype.kind not in "iu":
        raise ShapeError(f"Detections.prompts: wanted whole numbers, got dtype {prompts.dtype}")
    if boxes and not (prompts.min() >= 0 and prompts.max() < labels):
        raise InputError(f"Detections.prompts: wanted 0..{labels - 1}, got {prompts.min()}..{prompts.max()}")
    return prompts.astype(np.int64)


def checked_understood(understood: Any, labels: int) -> tuple[dict[str, float], ...]:
    if isinstance(understood, Mapping | str) or len(understood) != labels:
        raise InputError(f"Detections.understood: wanted {labels}, words with shares of each label, got {understood!r}")
    return tuple({str(word): float(share) for word, share in dict(words).items()} for words in understood)


def checked_size(size: Any) -> tuple[int, int]:
    if not isinstance(size, Sequence) or len(size) != 2 or not all(map(_is_side, size)):
        raise InputError(f"image_size: wanted (width, height) in whole pixels above zero, got {size!r}")
    return int(size[0]), int(size[1])


def _is_side(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0


def checked_masks(masks: Any, shape: tuple[int, int, int]) -> np.ndarray:
    masks = np.asarray(masks)
    if masks.shape != shape:
        raise ShapeError(f"Detections.masks: wanted (boxes, height, width) {shape}, got {masks.shape}")
    if masks.dtype != bool and (masks.dtype.kind not in "iu" or (masks.size and masks.max() > 1)):
        raise ShapeError(f"Detections.masks: wanted bool, or whole numbers 0 and 1, got dtype {masks.dtype}")
    return masks.astype(bool, copy=False)
