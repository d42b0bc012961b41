"""The tensor that the model will see, drawn: mel spectrograms, squares, frames, curves of motion."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure  # without pyplot: no display, no global state
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

from ..preprocess.audio import Waveform
from ..preprocess.audio_settings import FRAME_SHIFT, AudioSettings
from ..preprocess.depth import DepthMap, DepthSettings
from ..preprocess.image import ImageSettings
from ..preprocess.imu import ImuRecording, ImuSettings
from ..preprocess.palettes import PALETTES
from ..preprocess.settings import Settings
from ..preprocess.thermal import ThermalPicture, ThermalSettings
from ..preprocess.video import VideoClips, VideoSettings
from .facts import span_words

MOST = 4  # windows that are drawn
DPI = 120  # pixels an inch
TITLE_WIDTH = 11  # letters an inch
HERTZ = (100, 300, 600, 1000, 2000, 4000, 8000, 16_000)  # marks on a mel axis
HOLE = "#969696"  # where there is no value
# Okabe and Ito's colours, which colour-blind people tell apart too.
CURVES = {"x": "#0072b2", "y": "#d55e00", "z": "#009e73"}


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
    return finished(DRAWERS[kind](clips.float().cpu(), times, raw, settings), title)


def readable(name: str) -> str:
    """A file's name as text: bytes of it that are no UTF-8, which fonts refuse, as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def finished(figure: Figure, title: str) -> Image.Image:
    """A figure with its title as a picture."""
    stream = io.BytesIO()
    lines = textwrap.fill(readable(title), round(TITLE_WIDTH * figure.get_figwidth()))
    figure.suptitle(lines, fontsize="medium", parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a file's name; a box stands in its place
        figure.savefig(stream)
    return Image.open(stream).convert("RGB")


def mel_place(hertz: float, bottom: float, top: float) -> float:
    """Where a frequency lies on a mel axis from ``bottom`` (0) to ``top`` (1); Kaldi's and HTK's mel."""
    low, high, value = (1127 * math.log(1 + f / 700) for f in (bottom, top, hertz))
    return (value - low) / (high - low)


def _chosen(count: int, most: int = MOST) -> list[int]:
    """Numbers of the windows that are drawn: all, or evenly chosen ones with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def _figure(width: float, height: float) -> Figure:
    """Args: inches, without the title."""
    return Figure(figsize=(width, height + 0.4), dpi=DPI, layout="constrained")


def _window(number: int, count: int, times: torch.Tensor) -> str:
    return f"window {number + 1} of {count}: {span_words(*times[number].tolist())}"


def _audio(clips: torch.Tensor, times: torch.Tensor, raw: Waveform, settings: AudioSettings) -> Figure:
    ends = settings.low_freq, settings.highest_freq
    shown = [f for f in HERTZ if ends[0] <= f <= ends[1]]
    numbers, seconds = _chosen(len(clips)), clips.shape[3] * FRAME_SHIFT
    padding = "the sound again" if settings.padding == "repeat" else "padding"
    figure = _figure(8, 2.7 * len(numbers))
    for number, plot in zip(numbers, figure.subplots(len(numbers), squeeze=False).flat, strict=True):
        start = float(times[number, 0])
        mel = plot.imshow(
            clips[number, 0].numpy(), cmap="magma", aspect="auto", origin="lower", interpolation="nearest",
            extent=(start, start + seconds, 0, 1), vmin=float(clips.min()), vmax=float(clips.max()),
        )  # fmt: skip
        plot.set_title(f"{_window(number, len(clips), times)} (what lies beyond it is {padding})", fontsize="small")
        plot.set(xlabel="time, s", ylabel="frequency, Hz (mel)")
        plot.set_yticks([mel_place(f, *ends) for f in shown], [f"{f}" if f < 1000 else f"{f // 1000}k" for f in shown])
        figure.colorbar(mel, ax=plot, label="value")
    return figure


def _pair(whole: Any, words: str, square: Any, *bars: tuple[Colormap, float, float, str]) -> Figure:
    """Source, with the middle square that is kept of it, and tensor side by side.

    Args:
        whole, square: (H, W) values or (H, W, 3) pixels.
        bars: of each, if it is values: colours, the values at both ends of them, and what they are.
    """
    height, width = whole.shape[:2]
    figure = _figure(10 if bars else 8.4, 4.2)
    plots = figure.subplots(1, 2)
    images = [_bare(plots[0], whole), _bare(plots[1], square, interpolation="nearest")]
    for image, plot, (colours, low, high, label) in zip(images, plots, bars, strict=False):
        image.set(cmap=colours, clim=(low, high))
        figure.colorbar(image, ax=plot, label=label)
    plots[0].set_title(f"{words}, {width} x {height}", fontsize="small")
    plots[1].set_title(f"what the model sees: {square.shape[1]} x {square.shape[0]}", fontsize="small")
    side = min(width, height)
    corner = ((width - side) / 2 - 0.5, (height - side) / 2 - 0.5)
    for thick, ink in ((4, "black"), (2, "white")):  # seen on any ground
        plots[0].add_patch(Rectangle(corner, side, side, fill=False, edgecolor=ink, linewidth=thick))
    return figure


def _bare(plot: Axes, picture: np.ndarray, **shown: Any) -> AxesImage:
    plot.set(xticks=[], yticks=[])
    return plot.imshow(picture, **shown)


def _pixels(values: torch.Tensor, settings: ImageSettings | VideoSettings) -> np.ndarray:
    """(3, H, W) normalised to (H, W, 3) in 0..1."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (settings.mean, settings.std))
    return (values * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()


def _image(clips: torch.Tensor, times: None, raw: Image.Image | torch.Tensor, settings: ImageSettings) -> Figure:
    pixels = raw.clamp(0, 1).permute(1, 2, 0).cpu() if isinstance(raw, torch.Tensor) else raw.convert("RGB")
    return _pair(np.asarray(pixels), "the picture and what is kept of it", _pixels(clips[0], settings))


def _depth(clips: torch.Tensor, times: None, raw: DepthMap, settings: DepthSettings) -> Figure:
    metres, values = raw.metres.cpu().numpy(), clips[0, 0].numpy()
    near, far = (float(v) for v in np.percentile(metres[np.isfinite(metres)], [1, 99]))
    colours = colormaps["turbo"].with_extremes(bad=HOLE)
    return _pair(
        np.where(np.isposinf(metres), far, metres), "depth (grey: not measured)", values,
        # What is near is red on both sides: the tensor is disparity, which grows as depth shrinks.
        (colours.reversed(), near, far, "metres"), (colours, float(values.min()), float(values.max()), "value"),
    )  # fmt: skip


def _thermal(clips: torch.Tensor, times: None, raw: ThermalPicture, settings: ThermalSettings) -> Figure:
    iron = LinearSegmentedColormap.from_list("iron", PALETTES["iron"].colours()).with_extremes(bad=HOLE)
    bars = (iron, 0.0, 1.0, "heat"), (iron, 0.0 if settings.normalization == "plain" else -1.0, 1.0, "value")
    return _pair(raw.values[0].cpu().numpy(), f"read as {raw.encoding}", clips[0, 0].numpy(), *bars)


def _video(clips: torch.Tensor, times: torch.Tensor, raw: VideoClips, settings: VideoSettings) -> Figure:
    if clips.ndim == 4:  # towers of one frame
        clips = clips[:, :, None]
    crops, frames = settings.num_crops, clips.shape[2]
    height, width = raw.frames.shape[-2:]
    places = (
        ["middle"] if crops == 1 else ["top", "middle", "bottom"] if height > width else ["left", "middle", "right"]
    )
    rows, columns = len(clips) // crops, crops * frames
    figure = _figure(1.1 * columns + 1, 1.1 * rows + 0.3)
    plots = figure.subplots(rows, columns, squeeze=False)
    for (clip, column), plot in np.ndenumerate(plots):
        crop, frame = divmod(column, frames)
        words = places[crop] + (f", frame {frame + 1}" if frames > 1 else "")
        _bare(plot, _pixels(clips[clip * crops + crop, :, frame], settings))
        plot.set_title("" if clip else words, fontsize="x-small")
    for clip, plot in enumerate(plots[:, 0]):
        words = f"window {clip + 1}\n{span_words(*times[clip * crops].tolist())}"
        plot.set_ylabel(words, rotation=0, ha="right", va="center", fontsize="x-small")
    return figure


def _imu(clips: torch.Tensor, times: torch.Tensor, raw: ImuRecording, settings: ImuSettings) -> Figure:
    seconds, numbers = clips.shape[2] / settings.sampling_rate, _chosen(len(clips))
    figure = _figure(9.6, 2.3 * len(numbers) + 0.3)
    plots = figure.subplots(len(numbers), 2, sharey="col", squeeze=False)
    for row, number in zip(plots, numbers, strict=True):
        start, end = times[number].tolist()
        at = start + (np.arange(clips.shape[2]) + 0.5) / settings.sampling_rate
        row[0].set_title(_window(number, len(clips), times), fontsize="small", loc="left")
        sensors = (("accelerometer, m/s^2", clips[number, :3].numpy()), ("gyroscope, rad/s", clips[number, 3:].numpy()))
        for plot, (label, channels) in zip(row, sensors, strict=True):
            plot.set(xlabel="time, s", ylabel=label, xlim=(start, start + seconds))
            plot.grid(alpha=0.3)
            for (name, colour), channel in zip(CURVES.items(), channels, strict=True):
                plot.plot(at, channel, color=colour, label=name)
            if end < start + seconds:
                plot.axvspan(end, start + seconds, color=HOLE, alpha=0.3, label="zeros after the end")
    names = {name: line for line, name in zip(*plots[-1, -1].get_legend_handles_labels(), strict=True)}
    figure.legend(names.values(), names, loc="outside lower left", ncols=4, fontsize="small")
    return figure


DRAWERS: dict[str, Callable[..., Figure]] = {
    "audio": _audio,
    "image": _image,
    "video": _video,
    "depth": _depth,
    "thermal": _thermal,
    "imu": _imu,
}
