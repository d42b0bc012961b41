"""Average precision and false alarms against values worked out by hand."""

import numpy as np
import pytest

from bind2gen.evaluate.detection import Truth, average_precision, prompt_scores
from bind2gen.hosts.boxes.detections import Detections

HERE, THERE = (0, 0, 10, 10), (50, 50, 70, 80)


def detections(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes, scores, prompts = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes).reshape(-1, 4), np.array(scores), np.array(prompts, int), ("a", "b"), (100, 100))


def truth(*rows: tuple[tuple[float, ...], int]) -> Truth:
    boxes, classes = zip(*rows, strict=True) if rows else ((), ())
    return Truth(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, int))


def test_all_found_in_front_of_everything_else_is_one():
    found = [detections((HERE, 0.9, 0), (THERE, 0.2, 0)), detections((THERE, 0.8, 0))]
    (a, b) = average_precision(found, [truth((HERE, 0)), truth((THERE, 0))], 2)
    assert a.precision == 1.0 and a.objects == 2
    assert b.objects == 0 and np.isnan(b.precision)


def test_the_area_is_that_of_the_envelope():
    # Ranked: wrong 0.9, right 0.8, wrong 0.7, right 0.6, of three objects.
    # Precision 0, 1/2, 1/3, 1/2: the envelope is 1/2 up to a recall of 2/3, then nothing.
    found = [detections((THERE, 0.9, 0), (HERE, 0.8, 0)), detections((HERE, 0.7, 0), (THERE, 0.6, 0)), detections()]
    truths = [truth((HERE, 0)), truth((THERE, 0)), truth((HERE, 0))]
    assert average_precision(found, truths, 1)[0].precision == pytest.approx(2 / 3 * 1 / 2)


def test_a_second_box_on_one_object_is_wrong_and_half_an_overlap_is_needed():
    twice = [detections((HERE, 0.9, 0), (HERE, 0.8, 0))]
    assert average_precision(twice, [truth((HERE, 0), (THERE, 0))], 1)[0].precision == 0.5
    shifted = [detections(((0, 0, 10, 4.9), 0.9, 0))]
    assert average_precision(shifted, [truth((HERE, 0))], 1)[0].precision == 0.0
    enough = [detections(((0, 0, 10, 5.1), 0.9, 0))]
    assert average_precision(enough, [truth((HERE, 0))], 1)[0].precision == 1.0


def test_false_alarms_and_recall_at_a_threshold():
    found = [detections((HERE, 0.9, 0), (THERE, 0.6, 1)), detections((THERE, 0.4, 0)), detections((THERE, 0.3, 1))]
    truths = [truth((HERE, 0)), truth((HERE, 0)), truth((THERE, 1))]
    scores = prompt_scores(found, truths, 2)
    assert sorted(scores.present) == pytest.approx([0.0, 0.3, 0.9])  # the box of 0.4 is not on its object
    assert sorted(scores.absent) == pytest.approx([0.0, 0.0, 0.6])
    assert scores.false_alarms(0.5) == pytest.approx(1 / 3) and scores.recall(0.25) == pytest.approx(2 / 3)
    assert scores.false_alarms(scores.threshold_for(0.34)) <= 0.34
    assert scores.false_alarms(scores.threshold_for(0.0)) == 0.0
