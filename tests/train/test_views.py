"""Views: altered inputs still are what the towers take, and keep what must not be altered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.preprocess import audio, depth, imu
from bind2gen.train.recipe import AugmentPart
from bind2gen.train.views import Draw, plain, view

PROCESSOR = ImageBindProcessor.for_config(TINY(["image", "audio", "depth", "thermal", "imu"]))


def draw(seed: int = 0, another=None) -> Draw:
    return Draw(
        np.random.default_rng(seed), np.random.default_rng(seed + 100), another or (lambda: pytest.fail("read"))
    )


def sound(frequency: float, seconds: float = 1.5) -> audio.Waveform:
    t = np.arange(int(22_050 * seconds)) / 22_050
    return audio.load((np.stack([np.sin(2 * np.pi * frequency * t)] * 2).astype(np.float32) * 0.5, 22_050))


def test_a_sound_keeps_its_pitch_and_loses_masked_parts():
    settings, part = PROCESSOR.audio, AugmentPart(mask_bands=0, mask_frames=0)
    straight = plain("audio", sound(1000), settings, np.random.default_rng(0))
    wanted = int(straight[0, :, 5:30].mean(1).argmax())
    for seed in range(4):
        altered = view("audio", sound(1000), settings, part, draw(seed), altered=True)
        assert altered.shape == straight.shape == (1, 32, 44)
        assert abs(int(altered[0, :, 5:30].mean(1).argmax()) - wanted) <= 2  # speed changes by up to an eighth
    masked = view("audio", sound(1000), settings, AugmentPart(mask_bands=99, mask_frames=999), draw(1), altered=True)
    assert (masked == 0).float().mean() > (altered == 0).float().mean() + 0.1


def test_another_sound_is_mixed_under():
    settings, part = PROCESSOR.audio, AugmentPart(mask_bands=0, mask_frames=0, mix_share=1.0)
    band = int(plain("audio", sound(4000), settings, np.random.default_rng(0))[0, :, 5:30].mean(1).argmax())
    alone = view("audio", sound(300), settings, replace(part, mix_share=0.0), draw(3), altered=True)
    mixed = view("audio", sound(300), settings, part, draw(3, lambda: sound(4000)), altered=True)
    assert mixed[0, band, 5:30].mean() > alone[0, band, 5:30].mean() + 0.3


@pytest.mark.parametrize("seconds", [0.2, 30.0])
def test_motion_keeps_gravity_and_turns_both_sensors(seconds):
    settings = PROCESSOR.imu
    samples = np.zeros((6, int(200 * seconds)), np.float32)
    samples[2], samples[5] = 9.81, 1.0
    samples += np.random.default_rng(0).normal(scale=0.01, size=samples.shape).astype(np.float32)
    recording = imu.load((samples, 200.0))
    clip = view("imu", recording, settings, AugmentPart(), draw(), altered=True)
    assert clip.shape == (6, settings.samples)
    there = clip[:3].norm(dim=0) > 1  # a short recording leaves zeros at the end
    assert there.any() and bool(there.all()) == (seconds > 1)
    assert clip[:3, there].norm(dim=0).mean() == pytest.approx(9.81, rel=0.2)
    down, axis = (torch.nn.functional.normalize(clip[i : i + 3, there].mean(1), dim=0) for i in (0, 3))
    assert float(down @ axis) > 0.98


def test_depth_stays_metric():
    metres = np.full((60, 80), 2.5, np.float32)
    raw = depth.load(metres, fx=500.0, baseline=0.075)
    straight = plain("depth", raw, PROCESSOR.depth, np.random.default_rng(0))
    altered = view("depth", raw, PROCESSOR.depth, AugmentPart(colour=0.9), draw(), altered=True)
    assert torch.allclose(altered, straight, atol=1e-4)


def test_unaltered_views_are_the_front_ends_own():
    raw = sound(500, 6.0)
    clips = audio.transform(raw, PROCESSOR.audio)
    made = view("audio", raw, PROCESSOR.audio, AugmentPart(), draw(), altered=False)
    assert any(torch.equal(made, clip) for clip in clips)
    ids = view("text", "a dog", PROCESSOR.text, AugmentPart(), draw(), altered=True)
    assert torch.equal(ids, PROCESSOR(text="a dog")["input_ids"][0, 0])
