from __future__ import annotations

import numpy as np
import pytest

from bind2gen.mini.heard import CODECS, TELEPHONE, altered, banded, coded, in_a_room
from bind2gen.train.augment import with_noise

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE).astype(np.float32)


def level(sound: np.ndarray) -> float:
    return float(np.sqrt(np.square(sound[2000:-2000]).mean()))


def test_a_telephone_keeps_what_lies_in_its_band():
    kept, low, high = (level(banded(tone(hertz), RATE, *TELEPHONE)) / level(tone(hertz)) for hertz in (1000, 75, 7000))
    assert kept == pytest.approx(1, abs=0.02) and low < 0.01 and high < 0.05


def test_a_room_rings_on_at_the_same_level():
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    rung = in_a_room(click, RATE, np.random.default_rng(0))
    assert np.linalg.norm(rung) == pytest.approx(1, rel=1e-5)
    assert not rung[:100].round(6).any() and rung.argmax() == 100
    early, late = np.square(rung[101:1700]).sum(), np.square(rung[8000:9600]).sum()
    assert early > 20 * late


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_keep_a_tone_and_its_place(codec):
    sound = np.concatenate([np.zeros(4000, np.float32), tone(800, 0.5)])
    heard = coded(sound, RATE, codec, 0.99)
    assert heard.shape == sound.shape and np.abs(heard[5000:11000] - sound[5000:11000]).max() > 0
    assert np.abs(np.fft.rfft(heard)).argmax() == pytest.approx(800 * len(sound) / RATE, abs=1)
    assert level(heard[:6000]) < 0.1 * level(heard[6000:])


def test_noise_is_softer_by_what_was_asked():
    clip, noise = tone(500), np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    behind = with_noise(clip, noise, 10.0) - clip
    assert 20 * np.log10(level(clip) / level(behind)) == pytest.approx(10, abs=0.5)


def test_alterations_follow_from_their_generator():
    around = np.random.default_rng(1).normal(size=(3, RATE)).astype(np.float32)
    made = [altered(tone(900), RATE, np.random.default_rng(seed), around) for seed in (*range(12), 0)]
    assert np.array_equal(made[0], made[-1]) and len({sound.tobytes() for sound in made}) == 12
    assert all(sound.dtype == np.float32 and np.isfinite(sound).all() for sound in made)
    assert {len(sound) == RATE for sound in made} == {True, False}  # some are cut short
