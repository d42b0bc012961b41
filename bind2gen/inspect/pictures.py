"""The tensor that the model will see, drawn: mel spectrograms, squares, frames, curves of motion."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..preprocess.audio import Waveform
from ..preprocess.audio_settings import FRAME_SHIFT, AudioSettings
from ..preprocess.depth import DepthMap, DepthSettings
from ..preprocess.image import ImageSettings
from ..preprocess.imu import ImuRecording, ImuSettings
from ..preprocess.settings import Settings
from ..preprocess.thermal import ThermalPicture, ThermalSettings
from ..preprocess.video import VideoClips, VideoSettings
from .facts import span_words
from .plotting import GAP, INK, Axis, arranged, coloured, curves, font, framed, legend

MOST = 4  # windows that are drawn
SQUARE = 384  # pixels, about; the tensor's own are enlarged a whole number of times
MEL_SIZE = (760, 230)  # pixels
CURVES_SIZE = (400, 170)  # pixels
THUMBNAIL = 112  # pixels
LABELS = 100  # pixels to the left of frames
HERTZ = (100, 300, 600, 1000, 2000, 4000, 8000, 16_000)  # marks on a mel axis


def draw(
    kind: str, clips: torch.Tensor, times: torch.Tensor | None, raw: Any, settings: Settings, title: str
) -> Image.Image:
    """Picture of a tensor.

    Args:
        kind: modality.
        clips: (S, *sample) as the processor makes them.
        times: (S, 2) s; None without a time axis.
        raw: what the modality's ``load`` gave; pictures are shown beside the tensor, with the part that is kept.
        settings: of the modality.
        title: of the whole.
    """
    return DRAWERS[kind](clips.float().cpu(), times, raw, settings, title)


def mel_place(hertz: float, bottom: float, top: float) -> float:
    """Where a frequency lies on a mel axis from ``bottom`` (0) to ``top`` (1); Kaldi's and HTK's mel."""
    low, high, value = (1127 * math.log(1 + f / 700) for f in (bottom, top, hertz))
    return (value - low) / (high - low)


def _chosen(count: int, most: int = MOST) -> list[int]:
    """Numbers of the windows that are drawn: all, or evenly chosen ones with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def _window(number: int, count: int, times: torch.Tensor) -> str:
    return f"window {number + 1} of {count}: {span_words(*times[number].tolist())}"


def _audio(clips: torch.Tensor, times: torch.Tensor, raw: Waveform, settings: AudioSettings, title: str) -> Image.Image:
    ends = settings.low_freq, settings.highest_freq
    shown = [f for f in HERTZ if ends[0] <= f <= ends[1]]
    marks = [(mel_place(f, *ends), f"{f:g}" if f < 1000 else f"{f / 1000:g}k") for f in shown]
    low, high = float(clips.min()), float(clips.max())
    seconds, rows = clips.shape[3] * FRAME_SHIFT, []
    padding = "the sound again" if settings.padding == "repeat" else "padding"
    for number in _chosen(len(clips)):
        mel = coloured(clips[number, 0].flip(0).numpy(), low, high).resize(MEL_SIZE, Image.Resampling.NEAREST)
        start = float(times[number, 0])
        x_axis = Axis.linear("time, s", start, start + seconds, 10)
        words = f"{_window(number, len(clips), times)} (what lies beyond it is {padding})"
        y_axis = Axis("frequency, Hz (mel)", tuple(marks))
        rows.append([framed(mel, words, x_axis=x_axis, y_axis=y_axis, bar=(low, high, "value"))])
    return arranged(title, rows)


def _enlarged(square: Image.Image) -> Image.Image:
    """As large as fits, pixels kept as they are."""
    times = max(1, round(SQUARE / square.width))
    return square.resize((square.width * times, square.height * times), Image.Resampling.NEAREST)


def _source(picture: Image.Image, height: int) -> Image.Image:
    """The whole picture at a given height at most, with the middle square that is kept."""
    scale = min(height / picture.height, 1.6 * height / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = picture.resize(size, Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    for width, ink in ((4, "black"), (2, "white")):  # seen on any ground
        ImageDraw.Draw(shown).rectangle((left, top, left + side - 1, top + side - 1), outline=ink, width=width)
    return shown


def _pair(
    whole: Image.Image, square: Image.Image, title: str, bars: list[Any], words: str, palette: str
) -> Image.Image:
    """Source and tensor side by side."""
    large = _enlarged(square)
    size = f"what the model sees: {square.width} x {square.height}"
    panels = [
        framed(_source(whole, large.height), words, bar=bars[0], palette=palette),
        framed(large, size, bar=bars[1], palette=palette),
    ]
    return arranged(title, [panels])


def _pixels(values: torch.Tensor, settings: ImageSettings | VideoSettings) -> Image.Image:
    """(3, H, W) normalised to a picture."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (settings.mean, settings.std))
    shown = ((values * std + mean).clamp(0, 1) * 255).round().byte()
    return Image.fromarray(shown.permute(1, 2, 0).numpy())


def _image(
    clips: torch.Tensor, times: None, raw: Image.Image | torch.Tensor, settings: ImageSettings, title: str
) -> Image.Image:
    whole = raw
    if not isinstance(raw, Image.Image):
        whole = Image.fromarray((raw.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
    words = f"the picture, {whole.width} x {whole.height}, and what is kept of it"
    return _pair(whole, _pixels(clips[0], settings), title, [None, None], words, "magma")


def _depth(clips: torch.Tensor, times: None, raw: DepthMap, settings: DepthSettings, title: str) -> Image.Image:
    metres = raw.metres.cpu().numpy()
    seen = metres[np.isfinite(metres)]
    near, far = (float(v) for v in np.percentile(seen, [1, 99]))
    values = clips[0, 0].numpy()
    low, high = float(values.min()), float(values.max())
    # What is near is red on both sides: the tensor is disparity, which grows as depth shrinks.
    whole = coloured(np.where(np.isposinf(metres), far, metres), far, near, "turbo")
    words = f"depth, {metres.shape[1]} x {metres.shape[0]}; grey: not measured"
    bars = [(far, near, "metres"), (low, high, "value")]
    return _pair(whole, coloured(values, low, high, "turbo"), title, bars, words, "turbo")


def _thermal(
    clips: torch.Tensor, times: None, raw: ThermalPicture, settings: ThermalSettings, title: str
) -> Image.Image:
    whole, values = raw.values[0].cpu().numpy(), clips[0, 0].numpy()
    low, high = (0.0, 1.0) if settings.normalization == "plain" else (-1.0, 1.0)
    words = f"read as {raw.encoding}, {whole.shape[1]} x {whole.shape[0]}"
    bars = [(0.0, 1.0, "heat"), (low, high, "value")]
    return _pair(coloured(whole, 0, 1, "iron"), coloured(values, low, high, "iron"), title, bars, words, "iron")


def _video(
    clips: torch.Tensor, times: torch.Tensor, raw: VideoClips, settings: VideoSettings, title: str
) -> Image.Image:
    if clips.ndim == 4:  # towers of one frame
        clips = clips[:, :, None]
    crops, frames = settings.num_crops, clips.shape[2]
    height, width = raw.frames.shape[-2:]
    places = (
        ["middle"] if crops == 1 else ["top", "middle", "bottom"] if height > width else ["left", "middle", "right"]
    )
    rows = []
    for clip in range(len(clips) // crops):
        strip = Image.new("RGB", (crops * frames * (THUMBNAIL + 4), THUMBNAIL), "white")
        for column in range(crops * frames):
            view = _pixels(clips[clip * crops + column // frames, :, column % frames], settings)
            strip.paste(view.resize((THUMBNAIL, THUMBNAIL)), (column * (THUMBNAIL + 4), 0))
        rows.append([_labelled(strip, [f"window {clip + 1}", span_words(*times[clip * crops].tolist())])])
    head = Image.new("RGB", (LABELS + crops * frames * (THUMBNAIL + 4), 16), "white")
    for column in range(crops * frames):
        words = places[column // frames] + (f", frame {column % frames + 1}" if frames > 1 else "")
        ImageDraw.Draw(head).text((LABELS + column * (THUMBNAIL + 4), 12), words, INK, font(), anchor="ls")
    return arranged(title, [[head], *rows])


def _labelled(strip: Image.Image, lines: list[str]) -> Image.Image:
    sheet = Image.new("RGB", (LABELS + strip.width, strip.height), "white")
    sheet.paste(strip, (LABELS, 0))
    for number, line in enumerate(lines):
        y = strip.height / 2 + 17 * (number - (len(lines) - 1) / 2)
        ImageDraw.Draw(sheet).text((4, y), line, INK, font(), anchor="lm")
    return sheet


def _imu(clips: torch.Tensor, times: torch.Tensor, raw: ImuRecording, settings: ImuSettings, title: str) -> Image.Image:
    seconds = clips.shape[2] / settings.sampling_rate
    rows = []
    for number in _chosen(len(clips)):
        start, end = times[number].tolist()
        x_axis, panels = Axis.linear("time, s", start, start + seconds), []
        for sensor, unit, channels in (("accelerometer", "m/s^2", slice(0, 3)), ("gyroscope", "rad/s", slice(3, 6))):
            low, high = _span(clips[:, channels])
            y_axis = Axis.linear(f"{sensor}, {unit}", low, high, 5)
            plot = curves(
                clips[number, channels].numpy(), size=CURVES_SIZE, span=(low, high), x_axis=x_axis, y_axis=y_axis,
                filled=(end - start) / seconds,
            )  # fmt: skip
            words = _window(number, len(clips), times) if sensor == "accelerometer" else ""
            panels.append(framed(plot, words, x_axis=x_axis, y_axis=y_axis))
        rows.append(panels)
    notes = Image.new("RGB", (700, 20), "white")
    key = legend(("x", "y", "z"))
    notes.paste(key, (GAP, 0))
    ImageDraw.Draw(notes).text((key.width + 20, 9), "shaded: zeros after the end", INK, font(), anchor="lm")
    return arranged(title, [[notes], *rows])


def _span(values: torch.Tensor) -> tuple[float, float]:
    """Lowest and highest value with a margin; never without height."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or max(1.0, abs(high)) * 0.1
    return low - margin, high + margin


DRAWERS: dict[str, Callable[..., Image.Image]] = {
    "audio": _audio,
    "image": _image,
    "video": _video,
    "depth": _depth,
    "thermal": _thermal,
    "imu": _imu,
}
