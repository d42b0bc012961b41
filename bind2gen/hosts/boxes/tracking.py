"""Boxes over the frames of a video joined into tracks, by overlap alone.

supervision has no tracker since 0.31; its successor, the package ``trackers``, needs OpenCV. For boxes that are found
in every frame or every few, overlap with the last one suffices, and prompts keep things apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from ...errors import InputError
from .detections import Detections


@dataclass
class _Track:
    number: int
    prompt: int
    box: np.ndarray  # (4,), where it was seen last
    speed: np.ndarray  # (4,), pixels a frame
    frame: int  # in which it was seen last
    length: int = 1

    def expected(self, frame: int) -> np.ndarray:
        """Where it is in ``frame`` if it goes on as it did."""
        moved = self.box + self.speed * (frame - self.frame)
        return np.concatenate([np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])])

    def seen(self, box: np.ndarray, frame: int) -> None:
        step = (box - self.box) / (frame - self.frame)
        # Detectors' boxes jitter: an even mean with the speed so far, none of which is known at first.
        self.speed = step if self.length == 1 else (self.speed + step) / 2
        self.box, self.frame, self.length = box, frame, self.length + 1


def track(
    frames: Sequence[Detections],
    *,
    min_iou: float = 0.3,
    max_gap: int = 5,
    start_score: float = 0.0,
    min_length: int = 1,
) -> list[tuple[Detections, np.ndarray]]:
    """Give boxes that are one thing over time the same number.

    In each frame, boxes and tracks of the same prompt pair up by overlap, the closest pair first. A box without a pair
    starts a track; a track unseen for ``max_gap`` frames ends.

    Args:
        frames: what was found in each, in order, with the same prompts; frames in which nothing was found count too.
        min_iou: overlap (intersection over union) of a box with where its track is expected.
        max_gap: frames that a thing may be hidden for.
        start_score: a box that scores less extends a track but starts none, and is left out if it finds none.
        min_length: frames; boxes of shorter tracks are left out.

    Returns:
        For each frame the boxes that are part of tracks, and the (n,) int64 numbers of those tracks, from 1.

    Raises:
        InputError: labels or picture sizes change from frame to frame, or a value is out of its range.
    """
    if not 0 < min_iou <= 1 or max_gap < 0 or min_length < 1:
        raise InputError(
            "wanted min_iou above 0, up to 1, max_gap 0 or more, min_length 1 or more; "
            f"got {min_iou!r}, {max_gap!r}, {min_length!r}"
        )
    if kinds := {(frame.labels, frame.image_size) for frame in frames[1:]} - {
        (f.labels, f.image_size) for f in frames[:1]
    }:
        raise InputError(f"wanted frames with the labels and size of the first, got also {next(iter(kinds))}")
    tracks: list[_Track] = []
    numbers = [_assign(frame, at, tracks, min_iou, max_gap, start_score) for at, frame in enumerate(frames)]
    lengths = np.array([0, *(t.length for t in tracks)])  # number 0: no track
    kept = [lengths[ids] >= min_length for ids in numbers]
    return [(frame[keep], ids[keep]) for frame, ids, keep in zip(frames, numbers, kept, strict=True)]


def _assign(
    found: Detections, at: int, tracks: list[_Track], min_iou: float, max_gap: int, start_score: float
) -> np.ndarray:
    """Number of the track of each box in frame ``at``, 0 for none; extends ``tracks`` and those within."""
    numbers = np.zeros(len(found), np.int64)
    alive = [t for t in tracks if at - t.frame <= max_gap + 1]
    if alive and len(found):
        expected = np.stack([t.expected(at) for t in alive]).astype(np.float32)
        overlaps = box_iou(torch.tensor(expected), torch.tensor(found.xyxy)).numpy()
        same = np.array([t.prompt for t in alive])[:, None] == found.prompts
        overlaps = np.where(same & np.isfinite(overlaps), overlaps, 0)  # NaN of two boxes of no extent
        while overlaps.max() >= min_iou:
            row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
            alive[row].seen(found.xyxy[column], at)
            numbers[column] = alive[row].number
            overlaps[row], overlaps[:, column] = 0, 0
    for i in np.flatnonzero((numbers == 0) & (found.scores >= start_score)):
        tracks.append(_Track(len(tracks) + 1, int(found.prompts[i]), found.xyxy[i], np.zeros(4), at))
        numbers[i] = tracks[-1].number
    return numbers
