"""A raw input to one training view of it: through the modality's own front end, altered on the way.

A new modality needs a row in :data:`VIEWS` only if it is to be altered; without one a clip of its front end is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..imagebind.fronts import FRONTS
from ..preprocess import audio, depth, image, imu, listening, thermal
from .augment import augment_movements, augment_photos, augment_sounds, crop_sounds, mask_spectrogram
from .recipe import AugmentPart

SPARE = 1.25  # of an IMU window, cut from a long recording: enough to run through it faster


@dataclass(frozen=True)
class Draw:
    """What a view may use.

    Attributes:
        rng: for all that is random.
        crop: for what the two pictures of a pair must share.
        another: reads another raw input of the modality, to be mixed under.
    """

    rng: np.random.Generator
    crop: np.random.Generator
    another: Callable[[], Any]


View = Callable[[Any, Any, AugmentPart, Draw], torch.Tensor]  # raw, settings -> (*sample)


def plain(modality: str, raw: Any, settings: Any, rng: np.random.Generator) -> torch.Tensor:
    """One clip of the front end's, at random: (*sample)."""
    [(clips, _)] = FRONTS[modality].transform([raw], settings, None)
    return clips[int(rng.integers(len(clips)))]


def view(modality: str, raw: Any, settings: Any, part: AugmentPart, draw: Draw, *, altered: bool) -> torch.Tensor:
    """One view of a raw input, (*sample), as the tower takes it."""
    if altered and modality in VIEWS:
        return VIEWS[modality](raw, settings, part, draw)
    return plain(modality, raw, settings, draw.rng)


def _cropped(
    values: torch.Tensor, mean: Any, std: Any, part: AugmentPart, draw: Draw, *, colour: float
) -> torch.Tensor:
    """A normalised picture (C, H, W), altered where its values lie in 0..1."""
    unit = augment_photos((values * std + mean)[None], draw.crop, area=(part.area, 1.0), colour=colour)[0]
    return (unit - mean) / std


def _photo(raw: Any, settings: image.ImageSettings, part: AugmentPart, draw: Draw) -> torch.Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (settings.mean, settings.std))
    return _cropped(image.transform(raw, settings), mean, std, part, draw, colour=part.colour)


def _depth(raw: depth.DepthMap, settings: depth.DepthSettings, part: AugmentPart, draw: Draw) -> torch.Tensor:
    # In 0..1 of the largest disparity. A crop is not enlarged in depth: values are metric, so no colour either.
    return _cropped(depth.transform(raw, settings), settings.mean, settings.std, part, draw, colour=0.0)


def _thermal(
    raw: thermal.ThermalPicture, settings: thermal.ThermalSettings, part: AugmentPart, draw: Draw
) -> torch.Tensor:
    normalization = thermal.NORMALIZATIONS[settings.normalization]
    return _cropped(thermal.transform(raw, settings), *normalization, part, draw, colour=part.colour)


def _sound(raw: audio.Waveform, settings: audio.AudioSettings, part: AugmentPart, draw: Draw) -> torch.Tensor:
    clip = crop_sounds([_mono(raw, settings)], settings.clip_samples, draw.rng)
    noise = None
    if draw.rng.random() < part.mix_share:
        noise = crop_sounds([_mono(draw.another(), settings)], settings.clip_samples, draw.rng)
    altered = augment_sounds(clip, draw.rng, background=noise, mix_share=1.0)
    mel = audio.log_mel(torch.from_numpy(altered), settings)  # (1, 1, mel bins, frames)
    bands, frames = min(part.mask_bands, settings.num_mel_bins), min(part.mask_frames, settings.target_length)
    return mask_spectrogram(mel, draw.rng, bands=bands, frames=frames)[0]


def _mono(raw: audio.Waveform, settings: audio.AudioSettings) -> np.ndarray:
    channel = listening.one_channel(raw.samples, raw.name)
    return audio.resample(channel, raw.sample_rate, settings.sample_rate)[0].numpy()


def _motion(raw: imu.ImuRecording, settings: imu.ImuSettings, part: AugmentPart, draw: Draw) -> torch.Tensor:
    whole = imu.resample(raw, settings).numpy()
    length = round(SPARE * settings.samples)
    if whole.shape[1] > length:
        start = int(draw.rng.integers(whole.shape[1] - length + 1))
        clip = augment_movements([whole[:, start : start + length]], settings.samples, draw.rng, shortest=1.0)
    else:
        clip = augment_movements([whole], settings.samples, draw.rng)
    return torch.from_numpy(clip[0])


VIEWS: dict[str, View] = {"image": _photo, "depth": _depth, "thermal": _thermal, "audio": _sound, "imu": _motion}
