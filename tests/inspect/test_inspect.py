"""Pictures of tensors show things where they are: a tone at its pitch, a wall in its colour, curves at their values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.inspect import pictures as inspection_pictures
from bind2gen.inspect.facts import facts, model_facts
from bind2gen.inspect.pictures import MEL_SIZE, draw, mel_place
from bind2gen.inspect.plotting import LEFT, TOP, Axis, arranged, coloured, curves, framed
from bind2gen.preprocess import audio
from bind2gen.preprocess.audio import AudioSettings, Waveform
from bind2gen.preprocess.imu import ImuRecording, ImuSettings
from bind2gen.preprocess.palettes import PALETTES

RATE = 16_000  # Hz


def test_axes_have_round_marks_at_their_places():
    axis = Axis.linear("s", 3.3, 5.35, 4)
    assert [text for _, text in axis.ticks] == ["3.5", "4", "4.5", "5"]
    assert axis.ticks[0][0] == pytest.approx(0.2 / 2.05)
    assert Axis.linear("", 4.0, 2.0, 2).ticks == ((1.0, "2"), (0.5, "3"), (0.0, "4"))
    assert Axis.linear("", 1.0, 1.0).ticks == ()


def test_colours_are_the_palettes_either_way_round_and_holes_are_grey():
    ends = (PALETTES["magma"].colours()[[0, -1]] * 255).round().astype(int)
    values = np.array([[0.0, 5.0, np.nan]])
    shown = np.asarray(coloured(values, 0, 5)).astype(int)
    assert np.array_equal(shown[0, :2], ends)
    assert len(set(shown[0, 2])) == 1
    assert np.array_equal(np.asarray(coloured(values, 5, 0)).astype(int)[0, :2], ends[::-1])


@pytest.mark.parametrize("hertz", [300, 1000, 4000])
def test_a_tone_is_drawn_at_its_frequency_and_padding_after_the_sound(hertz):
    settings = AudioSettings(policy="cover")
    wave = 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE)[None]  # 1 s of the window's 2
    raw = Waveform(wave, RATE)
    [(clips, times)] = audio.transform_batch([raw], settings)
    picture = np.asarray(draw("audio", clips, times, raw, settings, "a tone")).astype(int).sum(axis=2)
    left, top = 10 + LEFT, 34 + TOP  # margin and head of the sheet
    plot = picture[top : top + MEL_SIZE[1], left : left + MEL_SIZE[0]]
    brightest = plot[:, MEL_SIZE[0] // 4].argmax()
    assert 1 - brightest / MEL_SIZE[1] == pytest.approx(mel_place(hertz, 20, RATE / 2), abs=0.02)
    assert len(np.unique(plot[:, -20:])) == 1  # padding has one colour


def test_curves_run_through_their_values():
    axis = Axis.linear("", 0, 1)
    series = np.stack([np.full(50, 0.25), np.full(50, 0.75)])
    plot = np.asarray(curves(series, size=(100, 80), span=(0, 1), x_axis=axis, y_axis=axis, filled=0.5)).astype(int)
    blue, orange = (abs(plot[:, 47] - np.array(c)).sum(axis=1).argmin() for c in ((0, 114, 178), (213, 94, 0)))
    assert (blue, orange) == (pytest.approx(60, abs=1), pytest.approx(20, abs=1))
    assert (plot[5, 48] > plot[5, 93]).all()  # after the data the ground is shaded


@pytest.mark.parametrize("kind", ["still", "short"])
def test_motion_that_says_nothing_can_be_drawn(kind):
    settings = ImuSettings(samples=80)
    samples = torch.zeros(6, 400 if kind == "still" else 2)
    raw = ImuRecording(samples, 200.0)
    clips, times = torch.zeros(1, 6, 80), torch.tensor([[0.0, 0.4 if kind == "still" else 0.01]])
    assert draw("imu", clips, times, raw, settings, "still").size[0] > 800
    assert {fact.name for fact in facts("imu", raw, settings, "x.csv")} >= {"rate", "gaps", "accelerometer"}


def test_of_many_windows_a_few_are_drawn_the_first_and_the_last_among_them():
    assert inspection_pictures._chosen(3) == [0, 1, 2]
    chosen = inspection_pictures._chosen(100)
    assert len(chosen) == 4 and chosen[0] == 0 and chosen[-1] == 99


def test_windows_are_listed_once_with_how_often_each_is_taken():
    times = torch.tensor([[0.0, 2.0]] * 3 + [[1.0, 3.0]] * 3)
    windows = model_facts(torch.zeros(6, 2), times)[0]
    assert windows.value == [(0.0, 2.0), (1.0, 3.0)]
    assert windows.words == "2, each 3 times: 0.00 to 2.00 s, 1.00 to 3.00 s"
    many = model_facts(torch.zeros(40, 2), torch.stack([torch.arange(40.0), torch.arange(40.0) + 1], dim=1))[0]
    assert many.words.endswith("and 32 more, the last 39.00 to 40.00 s")


def test_long_titles_widen_the_picture():
    small = Image.new("RGB", (20, 20))
    assert arranged("t" * 200, [[framed(small, "")]]).width > arranged("t", [[framed(small, "")]]).width
    assert framed(small, "t" * 100).width > framed(small, "t").width
