"""How each modality is prepared: one table that joins settings, reading and transforming with a tower's sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import InputError
from ..preprocess import audio, depth, image, imu, text, thermal, video
from ..preprocess.audio_settings import FRAME_SHIFT
from ..preprocess.imu.arrays import is_array_source
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
            Raw inputs come one by one, so that a batch of files need not be in memory at once.
        sizes: the settings that a tower dictates.
        advice: settings that follow from a tower, but may differ.
        threaded: whether files may be loaded by several threads at once: ``load`` neither warns nor starts threads.
    """

    settings: type[Settings]
    load: Callable[[Any, Any, float | None], Any]
    transform: Callable[[Iterable[Any], Any, Device | None], Iterable[Clips]]
    sizes: Callable[[TowerConfig], dict[str, Any]]
    advice: Callable[[TowerConfig], dict[str, Any]] = lambda tower: {}
    threaded: bool = False


def _texts(raws: Iterable[str], settings: text.TextSettings, device: Device | None) -> Iterator[Clips]:
    return ((ids[None].to(device), None) for ids in text.transform(list(raws), settings))


def _images(raws: Iterable[Any], settings: image.ImageSettings, device: Device | None) -> Iterator[Clips]:
    return ((image.transform(raw, settings)[None].to(device), None) for raw in raws)


def _sounds(raws: Iterable[audio.Waveform], settings: audio.AudioSettings, device: Device | None) -> Iterator[Clips]:
    def placed() -> Iterator[audio.Waveform]:
        where = device
        for raw in raws:
            where = raw.samples.device if where is None else where  # one device for all: the first one's
            yield raw if raw.samples.device == where else replace(raw, samples=raw.samples.to(where))

    return audio.transform_batch(placed(), settings)


def _videos(raws: Iterable[video.VideoClips], settings: video.VideoSettings, device: Device | None) -> Iterator[Clips]:
    for raw in raws:
        views = video.transform(replace(raw, frames=raw.frames.to(device)), settings)
        yield views, raw.times.repeat_interleave(settings.num_crops, dim=0)


def _depths(raws: Iterable[depth.DepthMap], settings: depth.DepthSettings, device: Device | None) -> Iterator[Clips]:
    for raw in raws:
        yield depth.transform(replace(raw, metres=raw.metres.to(device)), settings)[None], None


def _thermals(
    raws: Iterable[thermal.ThermalPicture], settings: thermal.ThermalSettings, device: Device | None
) -> Iterator[Clips]:
    for raw in raws:
        yield thermal.transform(replace(raw, values=raw.values.to(device)), settings)[None], None


def _motions(raws: Iterable[imu.ImuRecording], settings: imu.ImuSettings, device: Device | None) -> Iterable[Clips]:
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
        lambda tower: {"clip_duration": tower.input_shape[2] // round(0.1 / FRAME_SHIFT) / 10},
        threaded=True,
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


def collected(
    clips: Iterable[Clips], count: int
) -> tuple[torch.Tensor, torch.Tensor | None, list[torch.Tensor | None]]:
    """Clips of ``count`` items, as they come, to (count, S, ...), the mask where S differs (else None), and times."""
    whole: torch.Tensor | None = None  # equally many clips are laid where they belong at once: memory is not cheap
    items, times = [], []
    for row, (item, span) in enumerate(clips):
        if row == 0:
            whole = item.new_empty(count, *item.shape)
        if whole is not None and item.shape == whole.shape[1:]:
            whole[row] = item
            item = whole[row]
        else:
            whole = None
        items.append(item)
        times.append(span)
    return (*(padded(items) if whole is None else (whole, None)), times)


def padded(items: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Stack (S_i, ...) to (B, max S, ...) on the first one's device, with the mask of real clips where S_i differ."""
    device, most = items[0].device, max(len(item) for item in items)
    stacked = items[0].new_zeros(len(items), most, *items[0].shape[1:])
    mask = torch.zeros(len(items), most, dtype=torch.bool, device=device)
    for row, item in enumerate(items):
        stacked[row, : len(item)] = item
        mask[row, : len(item)] = True
    return stacked, None if bool(mask.all()) else mask
