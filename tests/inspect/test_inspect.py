"""Pictures of tensors show things where they are: a tone at its pitch, a wall in its colour, curves at their values."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.inspect import pictures
from bind2gen.inspect.facts import facts, model_facts
from bind2gen.inspect.pictures import DRAWERS, draw, mel_place
from bind2gen.preprocess import audio, depth
from bind2gen.preprocess.audio import AudioSettings, Waveform
from bind2gen.preprocess.depth import DepthMap, DepthSettings
from bind2gen.preprocess.imu import ImuRecording, ImuSettings

RATE = 16_000  # Hz


def rendered(figure) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """(H, W, 3) pixels, and where in them each of the plots lies, its frame left out."""
    figure.savefig(stream := io.BytesIO())
    pixels, places = np.asarray(Image.open(stream).convert("RGB")).astype(int), []
    for plot in figure.axes:
        box = plot.get_window_extent()
        rows = slice(round(len(pixels) - box.y1) + 2, round(len(pixels) - box.y0) - 2)
        places.append((rows, slice(round(box.x0) + 2, round(box.x1) - 2)))
    return pixels, places


@pytest.mark.parametrize("hertz", [300, 1000, 4000])
def test_a_tone_is_drawn_at_its_frequency_and_padding_after_the_sound(hertz):
    settings = AudioSettings(policy="cover")
    wave = 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE)[None]  # 1 s of the window's 2
    raw = Waveform(wave, RATE)
    [(clips, times)] = audio.transform_batch([raw], settings)
    pixels, (place, _) = rendered(DRAWERS["audio"](clips, times, raw, settings))
    mel = pixels[place].sum(axis=2)
    brightest = mel[:, mel.shape[1] // 4].argmax()
    assert 1 - brightest / len(mel) == pytest.approx(mel_place(hertz, 20, RATE / 2), abs=0.02)
    assert len(np.unique(mel[:, -20:])) == 1  # padding has one colour


def test_what_is_near_is_red_in_map_and_tensor_and_holes_are_grey():
    metres = torch.linspace(1, 5, 60).repeat(60, 1)
    metres[20:40, 20:40] = torch.nan
    raw, settings = DepthMap(metres, 40.0, 0.08), DepthSettings()
    clips = depth.transform(raw, settings)
    pixels, places = rendered(DRAWERS["depth"](clips[None], None, raw, settings))
    for rows, columns in places[:2]:
        middle = pixels[rows, columns][10]
        assert middle[10, 0] > middle[10, 2] and middle[-10, 2] > middle[-10, 0]  # red at the left, blue at the right
    source = pixels[places[0]]
    assert np.ptp(source[len(source) // 2, source.shape[1] // 2]) == 0


def test_curves_run_through_their_values_and_what_is_no_data_is_shaded():
    settings = ImuSettings(samples=80)
    clips = torch.arange(1.0, 7.0)[None, :, None].expand(1, 6, 80)
    raw, length = ImuRecording(torch.zeros(6, 400), 200.0), 80 / settings.sampling_rate
    figure = DRAWERS["imu"](clips, torch.tensor([[0.0, length / 2]]), raw, settings)
    pixels, places = rendered(figure)
    for plot, place, values in zip(figure.axes, places, ((1, 2, 3), (4, 5, 6)), strict=True):
        column = pixels[place][:, 30]
        for value, colour in zip(values, pictures.CURVES.values(), strict=True):
            drawn = abs(column - list(bytes.fromhex(colour[1:]))).sum(axis=1).argmin()
            top, bottom = plot.get_ylim()[::-1]
            assert drawn / len(column) == pytest.approx((top - value) / (top - bottom), abs=0.02)
        ground = pixels[place][3]
        assert ground[30].sum() > ground[-30].sum()


@pytest.mark.parametrize("kind", ["still", "short"])
def test_motion_that_says_nothing_can_be_drawn(kind):
    settings = ImuSettings(samples=80)
    samples = torch.zeros(6, 400 if kind == "still" else 2)
    raw = ImuRecording(samples, 200.0)
    clips, times = torch.zeros(1, 6, 80), torch.tensor([[0.0, 0.4 if kind == "still" else 0.01]])
    assert draw("imu", clips, times, raw, settings, "still").size[0] > 800
    assert {fact.name for fact in facts("imu", raw, settings, "x.csv")} >= {"rate", "gaps", "accelerometer"}


def test_of_many_windows_a_few_are_drawn_the_first_and_the_last_among_them():
    assert pictures._chosen(3) == [0, 1, 2]
    chosen = pictures._chosen(100)
    assert len(chosen) == 4 and chosen[0] == 0 and chosen[-1] == 99


def test_windows_are_listed_once_with_how_often_each_is_taken():
    times = torch.tensor([[0.0, 2.0]] * 3 + [[1.0, 3.0]] * 3)
    windows = model_facts(torch.zeros(6, 2), times)[0]
    assert windows.value == [(0.0, 2.0), (1.0, 3.0)]
    assert windows.words == "2, each 3 times: 0.00 to 2.00 s, 1.00 to 3.00 s"
    many = model_facts(torch.zeros(40, 2), torch.stack([torch.arange(40.0), torch.arange(40.0) + 1], dim=1))[0]
    assert many.words.endswith("and 32 more, the last 39.00 to 40.00 s")


@pytest.mark.filterwarnings("error")
def test_titles_may_be_long_and_in_any_script():
    settings, raw = ImuSettings(samples=80), ImuRecording(torch.zeros(6, 80), 200.0)
    plain = draw("imu", torch.zeros(1, 6, 80), torch.tensor([[0.0, 0.4]]), raw, settings, "t")
    for title in ("t" * 200, "$_{ 犬 \\frac"):
        drawn = draw("imu", torch.zeros(1, 6, 80), torch.tensor([[0.0, 0.4]]), raw, settings, title)
        assert drawn.size == plain.size and drawn != plain
        assert (np.asarray(drawn)[:, [0, -1]] == 255).all()  # nothing runs over the edge
