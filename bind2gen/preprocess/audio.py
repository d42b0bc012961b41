"""Sounds: any file or array to log-mel clips. Constants: facebookresearch/ImageBind, imagebind/data.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import TooLargeError
from . import listening
from .audio_settings import AudioSettings
from .mel import frame_samples, log_mel, log_mel_clips
from .resampling import resample
from .sound_files import read_waveform
from .sources import undecoded
from .waveform import Waveform, waveform_from_array

__all__ = [
    "AudioSettings", "Waveform", "clip_bounds", "cut", "load", "log_mel", "log_mel_clips", "resample",
    "transform", "transform_batch",
]  # fmt: skip

CLIPS_TOGETHER = 256  # on a GPU, of several sounds


def load(source: Any, *, sampling_rate: float | None = None, settings: AudioSettings = AudioSettings()) -> Waveform:
    """Read a sound.

    Args:
        source: a path, bytes or file object of anything that libsndfile (wav, flac, ogg, opus, mp3, aiff) or FFmpeg
            (m4a, mp4, aac, webm ...) reads; an array or tensor, (samples,), (channels, samples) or
            (samples, channels), float in -1..1 or uint8/int16/int32; ``(array, rate)`` or ``(rate, array)``;
            ``{"array": ..., "sampling_rate": ...}`` or ``{"bytes": ..., "path": ...}`` of datasets; or a
            :class:`Waveform`.
        sampling_rate: Hz, of arrays that come without; files state their own.
        settings: only ``max_seconds`` is used here.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, ShapeError, TooLargeError, InputError: all name the source.
    """
    if isinstance(source, Waveform):
        return source
    if isinstance(source, Mapping) and source.get("array") is None and {"bytes", "path"} & source.keys():
        source = undecoded(source)
    waveform = waveform_from_array(source, sampling_rate) or read_waveform(source, settings.max_seconds)
    if waveform.seconds > settings.max_seconds:
        raise TooLargeError(
            f"{waveform.name}: {waveform.seconds:.0f} s of sound, the limit is {settings.max_seconds:.0f} s; "
            "cut it, or raise max_seconds in AudioSettings"
        )
    return waveform


def clip_bounds(num_samples: int, settings: AudioSettings) -> list[tuple[int, int]]:
    """First sample and one past the last of each clip of a sound of ``num_samples`` at ``settings.sample_rate``."""
    length = settings.clip_samples
    if settings.policy == "sliding":
        last = max(num_samples - length, 0)
        # The last window is moved back to end with the sound, so that no end is lost and none is mostly padding.
        starts = [*range(0, last, settings.hop_samples), last]
    else:
        count = math.ceil(num_samples / length) if settings.policy == "cover" else settings.num_clips
        starts = _even_starts(num_samples, count, settings)
    return [(start, min(start + length, num_samples)) for start in starts]


def _even_starts(num_samples: int, count: int, settings: AudioSettings) -> list[int]:
    # In exact fractions of the float duration and cut to whole samples, as pytorchvideo's sampler does it.
    seconds = Fraction(max(num_samples / settings.sample_rate - settings.clip_duration, 0.0))
    step = seconds / max(count - 1, 1)
    return [int(step * i * settings.sample_rate) for i in range(count)]


def transform(waveform: Waveform, settings: AudioSettings = AudioSettings()) -> torch.Tensor:
    """Cut a sound into clips and make each a log-mel picture.

    Channels are averaged (the ``"reference"`` policy takes the first); where they cancel each other the loudest is
    taken, with a warning. A sound shorter than one clip gives fewer frames, the rest is ``settings.padding``. Silence,
    faint sounds and those shorter than 0.2 s are warned of.

    Returns:
        (S, 1, num_mel_bins, target_length) float32 on the waveform's device.
    """
    return _transformed(waveform, settings)[0]


def transform_batch(
    waveforms: Iterable[Waveform], settings: AudioSettings
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """:func:`transform` of many sounds, each with its clips' times (see :func:`cut`), given as soon as they are made.

    Sounds are taken one by one, so that a batch of files need not be in memory at once.
    """
    held: list[tuple[torch.Tensor, torch.Tensor]] = []  # on a GPU, equally long clips of several sounds go together
    for waveform in waveforms:
        alone = waveform.samples.device.type == "cpu"  # one sound is what the caches hold
        new = _transformed(waveform, settings) if alone else cut(waveform, settings)
        if held and (alone or not _alike(held[0][0], new[0]) or sum(len(t) for _, t in held) >= CLIPS_TOGETHER):
            yield from _together(held, settings)
            held = []
        if alone:
            yield new
        else:
            held.append(new)
    if held:
        yield from _together(held, settings)


def _alike(clips: torch.Tensor, others: torch.Tensor) -> bool:
    return clips.shape[1:] == others.shape[1:] and clips.device == others.device


def _together(
    cuts: list[tuple[torch.Tensor, torch.Tensor]], settings: AudioSettings
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    mels = log_mel(torch.cat([clips for clips, _ in cuts]), settings)
    return zip(mels.split([len(clips) for clips, _ in cuts]), (times for _, times in cuts), strict=True)


def _transformed(waveform: Waveform, settings: AudioSettings) -> tuple[torch.Tensor, torch.Tensor]:
    channels, bounds = _resampled(waveform, settings)
    if settings.policy == "reference" or channels.shape[1] < frame_samples(settings):
        mel = log_mel(_clips(channels, bounds, settings), settings)
    else:
        mel = log_mel_clips(channels[0], bounds, settings)
    return mel, _times(bounds, settings)


def cut(waveform: Waveform, settings: AudioSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of a sound, (S, samples) at ``settings.sample_rate``, and their start and end, (S, 2) s on the CPU."""
    channels, bounds = _resampled(waveform, settings)
    return _clips(channels, bounds, settings), _times(bounds, settings)


def _resampled(waveform: Waveform, settings: AudioSettings) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """The one channel that clips are cut from, or all for the reference's quirk, (C, n), and the clips' bounds."""
    listening.warn_if_faint(waveform.samples, waveform.name)
    listening.warn_if_short(waveform.seconds, waveform.name)
    exact = settings.policy == "reference"
    channels = waveform.samples if exact else listening.one_channel(waveform.samples, waveform.name)
    channels = resample(channels, waveform.sample_rate, settings.sample_rate)
    bounds = clip_bounds(channels.shape[1], settings)
    if settings.sounding and settings.policy in ("even", "cover"):
        most = settings.num_clips if settings.policy == "even" else None
        bounds = listening.sounding(channels[0], bounds, most, settings.sample_rate)
    return channels, bounds


def _times(bounds: list[tuple[int, int]], settings: AudioSettings) -> torch.Tensor:
    return torch.tensor(bounds, dtype=torch.float32) / settings.sample_rate


def _clips(channels: torch.Tensor, bounds: list[tuple[int, int]], settings: AudioSettings) -> torch.Tensor:
    """(S, samples): clips of one sound are equally long but for rounding; less than a frame is padded with silence."""
    if settings.policy == "reference":
        clips = _contaminated_clips(channels, bounds)
    else:
        clips = [channels[0, start:end] for start, end in bounds]
    shortest = max(min(len(clip) for clip in clips), frame_samples(settings))
    return torch.stack([F.pad(clip[:shortest], (0, max(shortest - len(clip), 0))) for clip in clips])


def _contaminated_clips(channels: torch.Tensor, bounds: list[tuple[int, int]]) -> list[torch.Tensor]:
    """The reference's quirk: each clip's mean is taken off a shared buffer, so later clips see earlier ones' change."""
    buffer, clips = channels.clone(), []
    for start, end in bounds:
        view = buffer[:, start:end]
        view -= view.mean()
        clips.append(view[0].clone())
    return clips
