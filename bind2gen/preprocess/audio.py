"""Sounds: any file or array to log-mel clips. Constants: facebookresearch/ImageBind, imagebind/data.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import InputError, TooLargeError
from . import listening
from .mel import FRAME_LENGTH, FRAME_SHIFT, frame_samples, log_mel, log_mel_clips
from .resampling import resample
from .settings import Settings
from .sound_files import read_waveform
from .waveform import Waveform, waveform_from_array

__all__ = [
    "AudioSettings", "POLICIES", "Waveform", "clip_bounds", "cut", "load", "log_mel", "log_mel_clips", "resample",
    "transform", "transform_batch",
]  # fmt: skip

SAMPLE_RATE = 16_000  # Hz
NUM_MEL_BINS = 128
TARGET_LENGTH = 204  # frames of 10 ms
CLIP_DURATION = 2.0  # s
LOW_FREQ, HIGH_FREQ = 20.0, 0.0  # Hz; Kaldi's 0 is the Nyquist frequency
PREEMPHASIS = 0.97
MEL_MEAN, MEL_STD = -4.268, 9.138  # of log-mel values; the reference's, from AudioSet
NUM_CLIPS = 3
MAX_SECONDS = 3600.0  # s; an hour of 48 kHz stereo is 1.4 GB as float32
CLIPS_TOGETHER = 256  # on a GPU, of several sounds
POLICIES = ("even", "reference", "cover", "sliding")
PADDINGS = ("pad", "repeat")


@dataclass(frozen=True)
class AudioSettings(Settings):
    """How sound becomes model input. Defaults are imagebind_huge's.

    Attributes:
        sample_rate: Hz, that sounds are brought to.
        num_mel_bins, target_length: height and width (in 10 ms frames) of the log-mel picture.
        clip_duration: s, length of one clip.
        low_freq, high_freq: Hz, ends of the mel banks; 0 is the Nyquist frequency, less is so much below it.
        preemphasis_coefficient: 0..1, how much of each sample is taken off the next one.
        use_power: mel banks sum power; False: magnitudes.
        padding: what fills the frames that a sound is too short for. ``"pad"``: 0 before normalisation, a rather loud
            value, as the reference does. ``"repeat"``: the sound again and again.
        mean, std: normalisation of log-mel values.
        policy: which clips are cut from a sound of T seconds.
            ``"even"``: ``num_clips`` at evenly spaced starts 0 .. T - clip_duration.
            ``"reference"``: the same starts with the reference's faults, for exact comparison: the first channel
            only, less the mean of all channels, taken off in place, so that overlapping clips (T under
            ``num_clips * clip_duration``) change each other.
            ``"cover"``: ceil(T / clip_duration) clips, evenly spaced, so that every moment is heard (the paper's text).
            ``"sliding"``: a window every ``hop`` seconds, for one embedding a window (``encode(..., pool=False)``).
        sounding: of ``"even"`` and ``"cover"``: where some of these clips hold next to nothing (30 dB softer than the
            loudest), clips are cut from where something sounds instead, so that one bark in a minute of silence is
            heard. Short and steady sounds stay as they are.
        num_clips: for ``"even"`` and ``"reference"``.
        window, hop: s, for ``"sliding"``; None means ``clip_duration`` and half of the window.
        max_seconds: longer sounds are refused, to protect memory.
    """

    sample_rate: int = SAMPLE_RATE
    num_mel_bins: int = NUM_MEL_BINS
    target_length: int = TARGET_LENGTH
    clip_duration: float = CLIP_DURATION
    low_freq: float = LOW_FREQ
    high_freq: float = HIGH_FREQ
    preemphasis_coefficient: float = PREEMPHASIS
    use_power: bool = True
    padding: str = "pad"
    mean: float = MEL_MEAN
    std: float = MEL_STD
    policy: str = "even"
    sounding: bool = True
    num_clips: int = NUM_CLIPS
    window: float | None = None
    hop: float | None = None
    max_seconds: float = MAX_SECONDS

    def __post_init__(self) -> None:
        self.require_choice("policy", POLICIES)
        self.require_choice("padding", PADDINGS)
        self.require_choice("sounding", (True, False))
        self.require_choice("use_power", (True, False))
        self.require_positive("sample_rate", "num_mel_bins", "target_length", "clip_duration", "std", "num_clips")
        self.require_positive("max_seconds", *(name for name in ("window", "hop") if getattr(self, name) is not None))
        if not 0 <= self.low_freq < self.highest_freq <= self.sample_rate / 2:
            raise InputError(
                f"AudioSettings: wanted 0 <= low_freq < high_freq <= {self.sample_rate / 2:g} Hz, half of sample_rate, "
                f"got {self.low_freq!r} and {self.high_freq!r}"
            )
        if not 0 <= self.preemphasis_coefficient <= 1:
            came = self.preemphasis_coefficient
            raise InputError(f"AudioSettings: wanted preemphasis_coefficient in 0..1, got {came!r}")
        # One embedding is made of target_length frames: a longer window would silently lose its end.
        longest = (self.target_length - 1) * FRAME_SHIFT + FRAME_LENGTH
        for name in ("clip_duration", "window"):
            value = getattr(self, name)
            if value is not None and not FRAME_LENGTH <= value <= longest + FRAME_SHIFT:
                raise InputError(
                    f"AudioSettings: wanted {name} of {FRAME_LENGTH}..{longest + FRAME_SHIFT:.3f} s, which is what "
                    f"target_length={self.target_length} frames hold, got {value}"
                )

    @property
    def highest_freq(self) -> float:
        """Hz, the upper end of the mel banks."""
        return self.high_freq + (self.sample_rate / 2 if self.high_freq <= 0 else 0)

    @property
    def clip_samples(self) -> int:
        """Samples of one clip, or of one window under the ``"sliding"`` policy."""
        seconds = self.window if self.policy == "sliding" and self.window is not None else self.clip_duration
        return round(seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        return max(1, round(self.hop * self.sample_rate) if self.hop is not None else self.clip_samples // 2)


def load(source: Any, *, sampling_rate: float | None = None, settings: AudioSettings = AudioSettings()) -> Waveform:
    """Read a sound.

    Args:
        source: a path, bytes or file object of anything that libsndfile (wav, flac, ogg, opus, mp3, aiff) or FFmpeg
            (m4a, mp4, aac, webm ...) reads; an array or tensor, (samples,), (channels, samples) or
            (samples, channels), float in -1..1 or uint8/int16/int32; ``(array, rate)`` or ``(rate, array)``;
            ``{"array": ..., "sampling_rate": ...}``; or a :class:`Waveform`.
        sampling_rate: Hz, of arrays that come without; files state their own.
        settings: only ``max_seconds`` is used here.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, ShapeError, TooLargeError, InputError: all name the source.
    """
    if isinstance(source, Waveform):
        return source
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
