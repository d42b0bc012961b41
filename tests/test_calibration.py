from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bind2gen.calibration import (
    Calibration,
    fit_temperature,
    fit_threshold,
    fit_thresholds,
    judge_threshold,
    null_background,
)
from bind2gen.class_prompts import ClassPrompts
from bind2gen.errors import InputError, NonFiniteError, ShapeError, UnreadableError
from bind2gen.hosts.detections import Detections
from bind2gen.null_sounds import NAMES, null_sounds
from bind2gen.sounds import SAMPLE_RATE

# ---- thresholds ----


def test_the_threshold_and_its_counts_by_hand():
    absent = np.arange(1, 20) / 20  # 19 scores 0.05..0.95: the (20 * 0.85 =) 17th is 0.85
    scores = np.concatenate([absent, [0.9, 0.8, 0.86, 0.1]])
    right = np.arange(23) >= 19
    fit = fit_threshold(scores, right, false_alarm=0.15)
    assert fit.threshold == pytest.approx(0.85)
    assert (fit.false_alarms, fit.absent, fit.found, fit.present) == (2, 19, 2, 4)
    assert (fit.false_alarm_rate, fit.recall) == (pytest.approx(2 / 19), 0.5)
    assert "2 of 19 (10.5%)" in str(fit) and "2 of 4 (50.0%)" in str(fit)


def test_false_alarms_on_unseen_scores_keep_the_promise_on_average():
    rng, rates = np.random.default_rng(0), []
    for _ in range(4000):
        drawn = rng.random(20)
        fit = fit_threshold(drawn[:19], np.zeros(19, bool), false_alarm=0.1)
        rates.append(drawn[19] > fit.threshold)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.015)


def test_ties_are_no_false_alarms():
    fit = fit_threshold(np.zeros(30), np.zeros(30, bool))
    assert fit.threshold == 0 and fit.false_alarms == 0 and math.isnan(fit.recall)


def test_too_few_absent_scores_for_the_share_are_refused():
    fit_threshold(np.arange(9), np.zeros(9, bool), false_alarm=0.1)
    with pytest.raises(InputError, match="at least 9.*got 8"):
        fit_threshold(np.arange(8), np.zeros(8, bool), false_alarm=0.1)
    with pytest.raises(InputError, match="between 0 and 1"):
        fit_threshold(np.arange(8), np.zeros(8, bool), false_alarm=1)


def test_prompts_with_enough_scores_get_a_threshold_of_their_own():
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.random(40), 2 + rng.random(40), rng.random(5)])
    labels = ["dog"] * 40 + ["car"] * 40 + ["sea"] * 5
    fits = fit_thresholds(scores, np.zeros(85, bool), labels)
    assert set(fits) == {"dog", "car"} and fits["dog"].threshold < 1 < 2 < fits["car"].threshold
    assert fits["car"] == fit_threshold(scores[40:80], np.zeros(40, bool))


def test_scores_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"\(3,\) and \(2,\)"):
        judge_threshold(np.ones(3), np.ones(2, bool), 0.5)
    with pytest.raises(ShapeError, match="int64"):
        judge_threshold(np.ones(3), np.ones(3, np.int64), 0.5)
    with pytest.raises(NonFiniteError):
        fit_threshold([0.1, np.nan], np.zeros(2, bool))
    with pytest.raises(ShapeError, match="prompts"):
        fit_thresholds(np.ones(3), np.zeros(3, bool), ["a"])


# ---- temperature ----


def test_the_temperature_that_made_the_labels_is_found():
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(20_000, 6, generator=generator)
    labels = torch.multinomial((cosines / 0.1).softmax(1), 1, generator=generator)[:, 0]
    fit = fit_temperature(cosines, labels)
    assert fit.temperature == pytest.approx(0.1, rel=0.03) and fit.after < fit.before
    logits = 3 * torch.randn(20_000, generator=generator)
    right = torch.rand(20_000, generator=generator) < (logits / 2).sigmoid()
    assert fit_temperature(logits, right).temperature == pytest.approx(2, rel=0.05)


def test_no_other_temperature_does_better():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(200, 4, generator=generator), torch.randint(4, (200,), generator=generator)
    labels[:120] = logits[:120].argmax(1)
    fit = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits.double() / temperature, labels).item()

    assert fit.after == pytest.approx(loss(fit.temperature)) and fit.before == pytest.approx(loss(1))
    assert all(fit.after <= loss(fit.temperature * factor) for factor in (0.5, 0.99, 1.01, 2))


def test_logits_that_do_not_fit_are_named():
    with pytest.raises(ShapeError):
        fit_temperature(torch.ones(3, 2), torch.ones(2))
    with pytest.raises(InputError, match=r"0\.\.1"):
        fit_temperature(torch.ones(3, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="one kind"):
        fit_temperature(torch.ones(3), torch.ones(3, dtype=torch.bool))
    with pytest.raises(NonFiniteError):
        fit_temperature(torch.tensor([1, torch.inf]), torch.tensor([True, False]))


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


def test_a_box_that_resembles_the_background_more_goes():
    seen = torch.tensor([[0.9, 0.2], [0.6, 0.7]])  # the second is nearer the background
    assert len(Calibration(0.5).detect(TwoBoxes(), seen, PROMPTS)) == 2
    found = Calibration(0.5, background=torch.tensor([[0.0, 1.0]])).detect(TwoBoxes(), seen, PROMPTS)
    assert found.xyxy.tolist() == [[0, 0, 10, 10]] and found.labels == ("dog",)
    nothing = Calibration(0.95, background=torch.tensor([[0.0, 1.0]])).detect(TwoBoxes(), seen, PROMPTS)
    assert len(nothing) == 0
    with pytest.raises(ShapeError, match="width 2.*got 3"):
        Calibration(0.5, background=torch.ones(1, 3)).detect(TwoBoxes(), seen, PROMPTS)


def test_prompts_have_thresholds_of_their_own():
    calibration = Calibration(0.5, thresholds={"dog": 0.7})
    assert calibration.thresholds_for(["dog", "cat"]).tolist() == pytest.approx([0.7, 0.5])
    assert len(calibration.detect(TwoBoxes(), torch.tensor([[0.9, 0], [0.6, 0]]), PROMPTS)) == 1


def test_what_prompts_were_taken_for_is_kept_with_the_boxes():
    seen = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    told = replace(PROMPTS, words=((("hound", 0.75), ("cat", 0.25)),))
    for background in (None, torch.tensor([[0.0, 1.0]])):
        calibration = Calibration(0.5, background=background)
        assert calibration.detect(TwoBoxes(), seen, told).understood == ({"hound": 0.75, "cat": 0.25},)
        assert calibration.detect(TwoBoxes(), seen, PROMPTS).understood is None


def test_saving_and_loading_keeps_all(tmp_path):
    made = Calibration(0.3, 0.07, {"dog": 0.4}, torch.eye(3), 0.85, 0.64)
    made.save(tmp_path / "c")
    again = Calibration.load(tmp_path / "c")
    assert (again.threshold, again.temperature, dict(again.thresholds)) == (0.3, 0.07, {"dog": 0.4})
    assert torch.equal(again.background, torch.eye(3))
    assert (again.known_text, again.known_prompt) == (0.85, 0.64)
    Calibration().save(tmp_path / "c")  # over the old one: its background is not taken for the new one's
    assert Calibration.load(tmp_path / "c").background is None


def test_damaged_calibrations_are_one_clear_error(tmp_path):
    with pytest.raises(UnreadableError, match="saved calibration"):
        Calibration.load(tmp_path)
    for text in ("{", "[]", '{"threshold": 1}', '{"background": false, "heat": 3}', '{"background": true}'):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(UnreadableError, match="saved calibration"):
            Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"threshold": math.nan}, "threshold"),
        ({"temperature": 0}, "temperature"),
        ({"known_text": math.inf}, "known_text"),
        ({"thresholds": {"dog": "high"}}, "dog"),
        ({"background": torch.ones(3)}, "background"),
        ({"background": torch.full((1, 2), torch.inf)}, "background"),
    ],
)
def test_values_out_of_range_are_named(values, says):
    with pytest.raises((InputError, ShapeError, NonFiniteError), match=says):
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


def test_the_background_is_what_null_sounds_become_by_the_prompters_route(recwarn):
    class Prompter:
        def class_embeddings(self, *, audio, route):
            assert route == "rescoring" and all(rate == SAMPLE_RATE for _, rate in audio)
            return ClassPrompts(torch.tensor([[s.std(), 1.0] for s, _ in audio]), (), route)

    found = null_background(Prompter(), route="rescoring", copies=1)
    assert len(found) == len(NAMES) and found[0, 0] == 0 and bool((found[1:, 0] > 0.05).all())
    assert [str(w.message) for w in recwarn] == []
