"""How each modality is prepared: one table that joins settings, reading and transforming with a tower's sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import InputError
from ..preprocess import audio, depth, image, imu, text, thermal, video
from ..preprocess.imu_arrays import is_array_source
from ..preprocess.settings import Settings
from .config import TowerConfig

Device = torch.device | str | int
Clips = tuple[torch.Tensor, torch.Tensor | None]  # (S, *sample) and, where they have any, start and end (S, 2) s


@dataclass(frozen=True)
class Front:
    """How one modality is prepared. A new modality is one more row in :data:`FRONTS`.

    Attributes:
        settings: class of its settings; its defaults are imagebind_huge's.
        load: ``(source, settings, sampling_rate)`` to a raw input; errors name the source.
        transform: ``(raw inputs, settings, device)`` to the clips of each, made on ``device`` (None: where they are).
        sizes: the settings that a tower dictates.
        advice: settings that follow from a tower, but may differ.
    """

    settings: type[Settings]
    load: Callable[[Any, Any, float | None], Any]
    transform: Callable[[list[Any], Any, Device | None], list[Clips]]
    sizes: Callable[[TowerConfig], dict[str, Any]]
    advice: Callable[[TowerConfig], dict[str, Any]] = lambda tower: {}


def _texts(raws: list[str], settings: text.TextSettings, device: Device | None) -> list[Clips]:
    return [(ids[None].to(device), None) for ids in text.transform(raws, settings)]


def _images(raws: list[Any], settings: image.ImageSettings, device: Device | None) -> list[Clips]:
    return [(image.transform(raw, settings)[None].to(device), None) for raw in raws]


def _sounds(raws: list[audio.Waveform], settings: audio.AudioSettings, device: Device | None) -> list[Clips]:
    if device is None and len({raw.samples.device for raw in raws}) > 1:
        device = raws[0].samples.device
    return audio.transform_batch([replace(raw, samples=raw.samples.to(device)) for raw in raws], settings)


def _videos(raws: list[video.VideoClips], settings: video.VideoSettings, device: Device | None) -> list[Clips]:
    views = [video.transform(replace(raw, frames=raw.frames.to(device)), settings) for raw in raws]
    return [(x, raw.times.repeat_interleave(settings.num_crops, dim=0)) for x, raw in zip(views, raws, strict=True)]


def _depths(raws: list[depth.DepthMap], settings: depth.DepthSettings, device: Device | None) -> list[Clips]:
    placed = [replace(raw, metres=raw.metres.to(device)) for raw in raws]
    return [(depth.transform(raw, settings)[None], None) for raw in placed]


def _thermals(
    raws: list[thermal.ThermalPicture], settings: thermal.ThermalSettings, device: Device | None
) -> list[Clips]:
    placed = [replace(raw, values=raw.values.to(device)) for raw in raws]
    return [(thermal.transform(raw, settings)[None], None) for raw in placed]


def _motions(raws: list[imu.ImuRecording], settings: imu.ImuSettings, device: Device | None) -> list[Clips]:
    return imu.transform_batch([replace(raw, samples=raw.samples.to(device)) for raw in raws], settings)


def _square(tower: TowerConfig) -> int:
    *_, height, width = tower.input_shape
    if height != width:
        raise InputError(f"wanted a tower that takes square pictures, this one takes {height} x {width}")
    return height


FRONTS: dict[str, Front] = {
    "text": Front(
        text.TextSettings,
        lambda source, settings, rate: text.load(source),
        _texts,
        lambda tower: {"context_length": tower.input_shape[0]},
    ),
    "image": Front(
        image.ImageSettings,
        lambda source, settings, rate: image.load(source, settings=settings),
        _images,
        lambda tower: {"size": _square(tower)},
    ),
    "audio": Front(
        audio.AudioSettings,
        lambda source, settings, rate: audio.load(source, sampling_rate=rate, settings=settings),
        _sounds,
        lambda tower: {"num_mel_bins": tower.input_shape[1], "target_length": tower.input_shape[2]},
        # The longest clip in tenths of a second that the frames hold: 204 of them are 2.0 s.
        lambda tower: {"clip_duration": tower.input_shape[2] // round(0.1 / audio.FRAME_SHIFT) / 10},
    ),
    "video": Front(
        video.VideoSettings,
        lambda source, settings, rate: video.load(source, settings=settings),
        _videos,
        lambda tower: {"size": _square(tower), "num_frames": tower.frames},
    ),
    "depth": Front(
        depth.DepthSettings,
        lambda source, settings, rate: depth.load(source, settings=settings),
        _depths,
        lambda tower: {"size": _square(tower)},
    ),
    "thermal": Front(
        thermal.ThermalSettings,
        lambda source, settings, rate: thermal.load(source, settings=settings),
        _thermals,
        lambda tower: {"size": _square(tower)},
    ),
    "imu": Front(
        imu.ImuSettings,
        # A rate given for bare arrays must not be laid on files, whose own times say better.
        lambda source, settings, rate: imu.load(
            source, settings=settings, sampling_rate=rate if is_array_source(source) else None
        ),
        _motions,
        lambda tower: {"samples": tower.input_shape[1]},
    ),
}
