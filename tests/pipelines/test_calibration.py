from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError, UnreadableError
from bind2gen.hosts.boxes.detections import Detections
from bind2gen.pipelines.calibration import Calibration
from bind2gen.pipelines.class_vectors import ClassPrompts
from bind2gen.pipelines.null_sounds import NAMES, SAMPLE_RATE, null_sounds

# ---- the calibration ----


class TwoBoxes:
    """Scores its two boxes by the dot product of their features with the classes."""

    embed_dim = 2
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)

    def detect(self, encoded, class_embeds, *, labels=None, threshold=0.5, max_detections=300, masks=True):
        scores = (encoded @ class_embeds.T).clamp(0, 1).numpy()  # (2, C)
        limits = np.broadcast_to(np.asarray(threshold, np.float32), scores.shape[1:])
        rows, prompts = np.nonzero(scores > limits)
        return Detections(self.boxes[rows], scores[rows, prompts], prompts, labels, (40, 40)).sorted()


PROMPTS = ClassPrompts(torch.tensor([[1.0, 0.0]]), ("dog",), "rescoring")


def test_boxes_must_score_more_than_the_threshold_and_prompts_of_nothing_get_none():
    seen = torch.tensor([[0.9, 0.2], [0.6, 0.7]])
    assert len(Calibration(0.5).detect(TwoBoxes(), seen, PROMPTS)) == 2
    found = Calibration(0.7).detect(TwoBoxes(), seen, PROMPTS)
    assert found.xyxy.tolist() == [[0, 0, 10, 10]] and found.labels == ("dog",)
    assert len(Calibration(0.5).detect(TwoBoxes(), seen, replace(PROMPTS, nothing=(True,)))) == 0


def test_what_prompts_were_taken_for_is_kept_with_the_boxes():
    seen = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    told = replace(PROMPTS, words=((("hound", 0.75), ("cat", 0.25)),))
    assert Calibration(0.5).detect(TwoBoxes(), seen, told).understood == ({"hound": 0.75, "cat": 0.25},)
    assert Calibration(0.5).detect(TwoBoxes(), seen, PROMPTS).understood is None


def test_saving_and_loading_keeps_all(tmp_path):
    made = Calibration(0.3, 0.85, 0.64)
    made.save(tmp_path / "c")
    assert Calibration.load(tmp_path / "c") == made


def test_damaged_calibrations_are_one_clear_error(tmp_path):
    with pytest.raises(UnreadableError, match="saved calibration"):
        Calibration.load(tmp_path)
    for text in ("{", "[]", '{"threshold": "high"}', '{"heat": 3}'):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(UnreadableError, match="saved calibration"):
            Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"threshold": math.nan}, "threshold"),
        ({"known_text": math.inf}, "known_text"),
        ({"known_prompt": "low"}, "known_prompt"),
    ],
)
def test_values_out_of_range_are_named(values, says):
    with pytest.raises(InputError, match=says):
        Calibration(**values)


# ---- null sounds ----


def slope(sound: np.ndarray) -> float:
    """Power in dB a decade, between 100 Hz and 4 kHz."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    edges = np.geomspace(100, 4000, 12)
    bands = [power[(hertz >= a) & (hertz < b)].mean() for a, b in zip(edges, edges[1:], strict=False)]
    return float(np.polyfit(np.log10(edges[:-1]), 10 * np.log10(bands), 1)[0])


def test_noises_have_the_slopes_of_their_colours():
    made = null_sounds(8.0)
    assert not made["silence"].any()
    for name, wanted in (("white", 0), ("pink", -10), ("brown", -20)):
        assert slope(made[f"{name} 1"]) == pytest.approx(wanted, abs=1.0)
        assert not np.array_equal(made[f"{name} 1"], made[f"{name} 2"])


def test_null_sounds_are_seeded_and_within_full_scale():
    first, again, other = null_sounds(), null_sounds(), null_sounds(seed=1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["pink 1"], other["pink 1"])
    assert all(np.abs(sound).max() <= 1 and sound.dtype == np.float32 for sound in first.values())
    assert {name.split()[0] for name in first} == set(NAMES)
    with pytest.raises(InputError, match="null_sounds"):
        null_sounds(0)
