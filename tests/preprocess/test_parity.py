"""Equality with the reference's own loaders on real files (golden values made by facebookresearch/ImageBind)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bind2gen.preprocess import audio, image, text

NAMES = ("dog", "car", "bird")
TEXTS = [
    "A dog.",
    "a photo of a rusty car, parked in the rain",
    "naïve café — 東京 🎧 it's 3:45pm!!",
    "word " * 120,
    "",
]
MEL_TOLERANCE = 1e-3  # absolute, on normalised log-mel
HALF_ROUNDING = 1e-3  # the golden pixels are stored in half precision


@pytest.fixture(scope="module")
def golden(parity):
    return np.load(parity / "imagebind" / "huge.npz")


def test_text_tokens_are_identical(golden):
    assert torch.equal(text.transform(TEXTS), torch.from_numpy(golden["text.tokens"]))


@pytest.mark.parametrize("row", range(3))
def test_pixels_agree_within_half_precision(parity, golden, row):
    ours = image.transform(image.load(parity / "assets" / f"{NAMES[row]}_image.jpg"))
    assert (ours - torch.from_numpy(golden["vision.pixel_values"][row]).float()).abs().max() < HALF_ROUNDING
    assert torch.equal(ours.half(), torch.from_numpy(golden["vision.pixel_values"][row]))


@pytest.mark.parametrize("row", range(3))
def test_reference_policy_gives_the_reference_mel(parity, golden, row):
    waveform = audio.load(parity / "assets" / f"{NAMES[row]}_audio.wav")
    ours = audio.transform(waveform, audio.AudioSettings(policy="reference"))
    assert (ours - torch.from_numpy(golden["audio.mel"][row])).abs().max() < MEL_TOLERANCE


def test_default_policy_is_free_of_contamination(parity, golden):
    # The bird file has a strong offset over 5 s: its overlapping clips change each other in the reference.
    waveform = audio.load(parity / "assets" / "bird_audio.wav")
    ours = audio.transform(waveform)
    assert (ours - torch.from_numpy(golden["audio.mel"][2])).abs().max() > MEL_TOLERANCE
    alone = audio.log_mel(audio.cut(waveform, audio.AudioSettings())[0][1:2], audio.AudioSettings())
    assert torch.equal(ours[1:2], alone)
