"""What was understood of a file, in words and numbers: so that a wrong unit or column is seen before it does harm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image

from ..preprocess import listening
from ..preprocess.audio import Waveform
from ..preprocess.audio_settings import FRAME_SHIFT, AudioSettings
from ..preprocess.depth import CONVENTIONS, DepthMap, DepthSettings, disparity_of
from ..preprocess.films import opened_film
from ..preprocess.image import ImageSettings
from ..preprocess.imu import ImuRecording, ImuSettings
from ..preprocess.mel import frame_samples
from ..preprocess.pillow import open_picture, quiet_pillow
from ..preprocess.settings import Settings
from ..preprocess.sources import opened
from ..preprocess.thermal import ThermalPicture, ThermalSettings
from ..preprocess.video import VideoClips, VideoSettings

FEW = 8  # windows or gaps that are listed one by one
QUIET = 1e-9  # of full scale; anything softer is given as silence


class Fact(NamedTuple):
    """One thing that was understood: its name, what it is in words, and the same for machines (JSON types)."""

    name: str
    words: str
    value: Any


def facts(kind: str, raw: Any, settings: Settings, source: Any) -> list[Fact]:
    """What is known of an input before it becomes a tensor.

    Args:
        kind: ``"audio"``, ``"image"``, ``"video"``, ``"depth"``, ``"thermal"`` or ``"imu"``.
        raw: what the ``load`` of that modality gave.
        settings: of the modality.
        source: the path, bytes or file object that it was loaded from.
    """
    return DESCRIBERS[kind](raw, settings, source)


def model_facts(clips: torch.Tensor, times: torch.Tensor | None) -> list[Fact]:
    """What the model gets: windows, shape, range.

    Args:
        clips: (S, *sample), as the processor makes them.
        times: (S, 2) s, or None where there is no time axis.
    """
    found = []
    if times is not None:
        spans = list(dict.fromkeys((round(start, 4), round(end, 4)) for start, end in times.tolist()))
        times_each = len(times) // len(spans)  # the crops of a video; a short sound is taken again and again
        each = f", each {times_each} times" if times_each > 1 else ""
        found.append(Fact("windows", f"{len(spans)}{each}: {_listed([span_words(*span) for span in spans])}", spans))
    low, high, mean = float(clips.min()), float(clips.max()), float(clips.mean())
    found.append(Fact("tensor", f"{' x '.join(map(str, clips.shape))}, float32", list(clips.shape)))
    found.append(Fact("values", f"{low:.3g} to {high:.3g}, mean {mean:.3g}", {"min": low, "max": high, "mean": mean}))
    return found


def span_words(start: float, end: float) -> str:
    """Two times in seconds, to hundredths; one where they are the same."""
    return f"{start:.2f} to {end:.2f} s" if end > start else f"at {start:.2f} s"


def _listed(words: list[str]) -> str:
    rest = len(words) - FEW
    return ", ".join(words[:FEW]) + (f" and {rest} more, the last {words[-1]}" if rest > 0 else "")


def _audio(raw: Waveform, settings: AudioSettings, source: Any) -> list[Fact]:
    count, samples = raw.samples.shape
    peak, loudness = float(raw.samples.abs().max()), float(raw.samples.double().square().mean().sqrt())
    frame, shift = frame_samples(settings), int(settings.sample_rate * FRAME_SHIFT)
    length = min(round(raw.seconds * settings.sample_rate), settings.clip_samples)
    filled = min(1 + (max(length, frame) - frame) // shift, settings.target_length)
    to = "as it is" if raw.sample_rate == settings.sample_rate else f"resampled to {settings.sample_rate} Hz"
    taken = 0 if settings.policy == "reference" else listening.cancelling(listening.energies(raw.samples))
    mixed = "" if count == 1 else ", averaged" if taken is None else f", number {taken + 1} is taken"
    return [
        Fact("sampling rate", f"{raw.sample_rate:g} Hz, {to}", raw.sample_rate),
        Fact("channels", f"{count}{mixed}", count),
        Fact("duration", f"{raw.seconds:.3f} s, {samples} samples", raw.seconds),
        Fact("level", f"peak {_decibels(peak)}, mean {_decibels(loudness)}", {"peak": peak, "rms": loudness}),
        Fact("policy", settings.policy, settings.policy),
        Fact("frames", f"{filled} of {settings.target_length} in a window hold sound, the rest is padding", filled),
    ]


def _decibels(size: float) -> str:
    return "silence" if size < QUIET else f"{size:.3g} ({20 * math.log10(size):.1f} dB of full scale)"


def _image(raw: Image.Image | torch.Tensor, settings: ImageSettings, source: Any) -> list[Fact]:
    found = [_size(*(raw.size if isinstance(raw, Image.Image) else (raw.shape[2], raw.shape[1])))]
    with opened(source, "a picture") as file, quiet_pillow(), open_picture(file) as picture:  # the header alone
        stored = f"{picture.format}, mode {picture.mode}, {picture.width} x {picture.height}"
        found.append(Fact("stored as", stored, {"format": picture.format, "mode": picture.mode}))
    return found


def _video(raw: VideoClips, settings: VideoSettings, source: Any) -> list[Fact]:
    with opened_film(source) as film:
        line, codec, sound = film.line, film.codec, film.has_sound
    height, width = raw.frames.shape[-2:]
    note = "with sound, which is not used here (inspect it as audio)" if sound else "none"
    return [
        _size(width, height),
        Fact("frame rate", f"{line.rate:.4g} frames a second, {codec}", line.rate),
        Fact("duration", f"{line.seconds:.2f} s, {line.count} frames", line.seconds),
        Fact("sound track", note, sound),
        Fact("frames taken", f"{settings.num_frames} of each window, {raw.decoded} decoded", settings.num_frames),
    ]


def _depth(raw: DepthMap, settings: DepthSettings, source: Any) -> list[Fact]:
    height, width = raw.metres.shape
    seen = raw.metres[raw.metres.isfinite()]
    holes = float(raw.metres.isnan().float().mean())
    median = float(seen.median())
    disparity = disparity_of(raw, settings)
    known = disparity[~disparity.isnan()] * settings.max_disparity
    cut = float((known >= settings.max_disparity).float().mean())
    pixels, middle = f"{float(known.min()):.3g} to {float(known.max()):.3g} px", float(known.median())
    times = CONVENTIONS[settings.convention]
    convention = settings.convention + (f" (depth taken {times:g} times as large)" if times != 1 else "")
    filled = {"fill": "filled from around them", "near": "taken as near", "far": "taken as far"}[settings.holes]
    return [
        _size(width, height),
        Fact("read as", raw.note, raw.note),
        Fact("depth", f"{float(seen.min()):.3g} to {float(seen.max()):.3g} m, median {median:.3g} m", median),
        Fact("holes", f"{100 * holes:.1f} % of the pixels, {filled}" if holes else "none", holes),
        Fact("camera", f"fx {raw.fx:.4g} px, baseline {raw.baseline:g} m", {"fx": raw.fx, "baseline": raw.baseline}),
        Fact("convention", convention, settings.convention),
        Fact("disparity", f"{pixels}, median {middle:.3g} px, {100 * cut:.1f} % cut at {settings.max_disparity:g} px",
             {"median": middle, "cut": cut}),
    ]  # fmt: skip


def _thermal(raw: ThermalPicture, settings: ThermalSettings, source: Any) -> list[Fact]:
    height, width = raw.values.shape[1:]
    return [
        _size(width, height),
        Fact("read as", raw.note, raw.encoding),
        Fact("normalization", settings.normalization, settings.normalization),
    ]


def _size(width: int, height: int) -> Fact:
    return Fact("size", f"{width} x {height} pixels, the middle square is kept", [width, height])


def _imu(raw: ImuRecording, settings: ImuSettings, source: Any) -> list[Fact]:
    said, samples = raw.description, raw.samples
    size = samples[:3].square().sum(dim=0).sqrt()
    turning = samples[3:].square().sum(dim=0).sqrt()
    typical, peak = float(size.nanmedian()), float(turning.nan_to_num(0.0).max())
    found = [
        Fact("rate", _rate_words(raw, settings), raw.sampling_rate),
        Fact("duration", f"{raw.seconds:.2f} s, {samples.shape[1]} samples", raw.seconds),
        Fact("accelerometer", f"in {said.accelerometer_unit}{_from(raw, 'accelerometer')}; "
             f"its size is mostly {typical:.3g} m/s^2 (gravity is 9.81)", said.accelerometer_unit),
    ]  # fmt: skip
    if raw.has_gyroscope:
        words = f"in {said.gyroscope_unit}{_from(raw, 'gyroscope')}; it turns at up to {peak:.3g} rad/s"
        found.append(Fact("gyroscope", words, said.gyroscope_unit))
    else:
        found.append(Fact("gyroscope", "none: its three channels are zeros", None))
    if "gravity" in said.columns:
        found.append(Fact("gravity", f"added{_from(raw, 'gravity')}", list(said.columns["gravity"])))
    gaps = [span_words(*gap) for gap in said.gaps]
    found.append(Fact("gaps", f"{len(gaps)}: {_listed(gaps)}" if gaps else "none", [list(gap) for gap in said.gaps]))
    found.append(Fact("missing values", str(said.missing or "none"), said.missing))
    turned = ", accelerometer turned round" if settings.flip_accelerometer else ""
    found.append(Fact("axes", settings.axes + turned, settings.axes))
    return found + [Fact("note", note, note) for note in said.notes]


def _rate_words(raw: ImuRecording, settings: ImuSettings) -> str:
    if raw.timestamps is None:
        spacing = "evenly spaced"
    else:
        steps = raw.timestamps.diff() * 1000
        spacing = f"steps of {float(steps.min()):.3g} to {float(steps.max()):.3g} ms"
    unit = f", times in {raw.description.time_unit}{_from(raw, 'time')}" if raw.description.time_unit else ""
    return f"{raw.sampling_rate:.4g} Hz, {spacing}{unit}; resampled to {settings.sampling_rate:g} Hz"


def _from(raw: ImuRecording, role: str) -> str:
    columns = raw.description.columns.get(role)
    return f" (column{'s' * (len(columns) > 1)} {', '.join(name.strip() for name in columns)})" if columns else ""


DESCRIBERS: dict[str, Callable[[Any, Any, Any], list[Fact]]] = {
    "audio": _audio,
    "image": _image,
    "video": _video,
    "depth": _depth,
    "thermal": _thermal,
    "imu": _imu,
}
