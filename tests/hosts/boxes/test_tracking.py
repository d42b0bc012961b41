"""Tracks over frames: what moves keeps its number, what crosses another prompt's box does too."""

from __future__ import annotations

import numpy as np
import pytest

from bind2gen.errors import InputError
from bind2gen.hosts.boxes.detections import Detections
from bind2gen.hosts.boxes.tracking import track

SIZE = (200, 100)


def frame(*boxes: tuple[float, int] | tuple[float, int, float], labels=("dog", "bell")) -> Detections:
    """Boxes 20 pixels wide from (left, prompt, score)."""
    filled = [(*box, 0.8)[:3] for box in boxes]
    xyxy = np.array([[left, 10, left + 20, 50] for left, _, _ in filled]).reshape(-1, 4)
    return Detections(xyxy, [s for *_, s in filled], np.array([p for _, p, _ in filled], int), labels, SIZE)


def numbers(frames: list[Detections], **options) -> list[list[int]]:
    return [ids.tolist() for _, ids in track(frames, **options)]


def test_what_moves_keeps_its_number_in_whatever_order_it_is_found():
    frames = [frame((i * 5, 0), (150 - i * 5, 0))[[0, 1] if i % 2 else [1, 0]] for i in range(8)]
    found = track(frames)
    lefts = [dict(zip(ids.tolist(), boxes.xyxy[:, 0].tolist(), strict=True)) for boxes, ids in found]
    assert [at[2] for at in lefts] == [i * 5 for i in range(8)]
    assert [at[1] for at in lefts] == [150 - i * 5 for i in range(8)]


def test_prompts_keep_things_apart():
    assert numbers([frame((0, 0), (2, 1)), frame((2, 0), (0, 1))]) == [[1, 2], [1, 2]]


def test_the_closest_pair_comes_first():
    assert numbers([frame((0, 0), (12, 0)), frame((10, 0), (2, 0))]) == [[1, 2], [2, 1]]


def test_speed_carries_a_track_over_a_gap():
    seen = [frame((i * 8, 0)) for i in range(4)]
    hidden = [*seen, frame(), frame(), frame((6 * 8, 0))]
    assert numbers(hidden) == [[1], [1], [1], [1], [], [], [1]]
    assert numbers(hidden, max_gap=1)[-1] == [2]
    assert numbers([frame((0, 0)), frame(), frame(), frame((48, 0))])[-1] == [2]


def test_what_jumps_is_a_new_thing():
    assert numbers([frame((0, 0)), frame((100, 0))]) == [[1], [2]]


def test_weak_boxes_extend_tracks_but_start_none():
    frames = [frame((0, 0, 0.9), (100, 0, 0.2)), frame((2, 0, 0.2), (100, 0, 0.2))]
    assert numbers(frames, start_score=0.5) == [[1], [1]]
    assert numbers(frames) == [[1, 2], [1, 2]]


def test_short_tracks_can_be_left_out():
    found = track([frame((0, 0), (100, 0)), frame((1, 0)), frame((2, 0))], min_length=2)
    assert [ids.tolist() for _, ids in found] == [[1], [1], [1]]
    assert [len(boxes) for boxes, _ in found] == [1, 1, 1]


def test_boxes_of_no_extent_leave_other_tracks_alone():
    flat = [[60, 10, 60, 10], [0, 10, 20, 50]]
    frames = [Detections(flat, [0.8, 0.8], [0, 0], ("dog", "bell"), SIZE) for _ in range(2)]
    first, second = numbers(frames)
    assert first == [1, 2] and second[1] == 2


def test_nothing_found_is_nothing_tracked():
    assert track([]) == []
    assert numbers([frame(), frame()]) == [[], []]


def test_frames_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="cat"):
        track([frame(), frame(labels=("cat",))])
    for bad in ({"min_iou": 0}, {"max_gap": -1}, {"min_length": 0}):
        with pytest.raises(InputError, match="min_iou above 0"):
            track([frame()], **bad)
