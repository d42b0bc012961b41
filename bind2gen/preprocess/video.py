"""Videos: a few clips of a few frames, three crops each.

Constants and sampling: facebookresearch/ImageBind, imagebind/data.py, and pytorchvideo's ConstantClipsPerVideoSampler,
UniformTemporalSubsample and ShortSideScale, which it calls.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import Bind2GenWarning, EmptyInputError, InputError, ShapeError, TooLargeError
from . import audio
from .films import opened_film
from .frames import Timeline, stacked
from .image import CLIP_MEAN, CLIP_STD, MAX_PIXELS, SIZE, checked_floats, normalize
from .settings import Settings
from .sources import is_file_source, source_name, undecoded

CLIP_DURATION = 2.0  # s
NUM_CLIPS = 5
NUM_FRAMES = 2  # of each clip, the first and the last
NUM_CROPS = 3
NARROWEST = 64  # times the short side that the long one may be
MISSING_END = 1.0  # s; a stream that ends this much before its header says is reported


@dataclass(frozen=True)
class VideoSettings(Settings):
    """How videos become model input. Defaults are imagebind_huge's: 15 views.

    Attributes:
        size: pixels; the short side is resized to it (bilinear), then squares are cut out.
        num_clips: clips at evenly spaced starts 0 .. T - clip_duration.
        clip_duration: s.
        num_frames: evenly spaced frames of each clip, its first and last included.
        num_crops: 3 is left, middle, right (or top, middle, bottom of upright videos); 1 is the middle.
        antialias: filter when shrinking; the reference does not.
        mean, std: normalisation of RGB in 0..1.
        max_pixels: larger frames are refused.
    """

    size: int = SIZE
    num_clips: int = NUM_CLIPS
    clip_duration: float = CLIP_DURATION
    num_frames: int = NUM_FRAMES
    num_crops: int = NUM_CROPS
    antialias: bool = False
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        self.require_positive("size", "num_clips", "clip_duration", "num_frames", "max_pixels")
        if self.num_crops not in (1, 3):
            raise InputError(f"VideoSettings: wanted num_crops 1 or 3, got {self.num_crops!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise InputError(f"VideoSettings: wanted three means and three std above zero, got {self.mean}, {self.std}")


@dataclass(frozen=True)
class VideoClips:
    """The frames that a video's clips are made of.

    Attributes:
        frames: (clips, frames, 3, H, W) uint8, or float in 0..1, upright.
        times: (clips, 2) float32: when the first and last frame of each clip are shown, in seconds.
        name: of the file, or ``array``.
        decoded: frames that were decoded to get these.
    """

    frames: torch.Tensor
    times: torch.Tensor
    name: str = "array"
    decoded: int = 0


def load(source: Any, *, settings: VideoSettings = VideoSettings()) -> VideoClips:
    """Read the frames that the settings ask for, by seeking; the rest of the file is not decoded.

    Args:
        source: a path, bytes or file object of anything FFmpeg reads, or of an animated WebP (also as datasets'
            ``{"bytes": ..., "path": ...}``); or ``(frames, rate)`` with an array (T, H, W, 3) or a tensor
            (T, 3, H, W), uint8 or float in 0..1, and its frames per second.
        settings: clips and frames.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, ShapeError, TooLargeError, InputError: all name the source.
    """
    if isinstance(source, VideoClips):
        return source
    source = undecoded(source)
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray | torch.Tensor):
        return _from_array(source[0], source[1], settings)
    if isinstance(source, np.ndarray | torch.Tensor):
        raise InputError("array: the video's frame rate is missing; pass (frames, frames per second)")
    if not is_file_source(source):
        raise ShapeError(
            f"{source_name(source)}: wanted a video as a path, bytes, file object or (frames, rate), "
            f"got {type(source).__name__}"
        )
    return _from_file(source, settings)


def load_audio_track(source: Any, *, settings: audio.AudioSettings | None = None) -> audio.Waveform:
    """The sound of a video file, to be embedded as audio.

    Raises:
        UnreadableError: there is no sound track, or it cannot be decoded.
        TooLargeError: it is longer than ``settings.max_seconds``.
    """
    return audio.load(source, settings=settings or audio.AudioSettings())


def transform(clips: VideoClips, settings: VideoSettings = VideoSettings()) -> torch.Tensor:
    """Resize, normalise, crop: (num_clips * num_crops, 3, num_frames, size, size) float32 on the frames' device.

    The crops of one clip follow each other.
    """
    count, length, _, height, width = clips.frames.shape
    new_height, new_width = _short_side(height, width, settings.size)
    if new_height * new_width > settings.max_pixels:
        raise TooLargeError(
            f"{clips.name}: frames of {width} x {height} are too narrow for a short side of {settings.size}"
        )
    resized = []
    for frame in clips.frames.flatten(0, 1):  # one by one: ten 8K frames as float would take 4 GB
        pixels = frame[None].float() / 255 if frame.dtype == torch.uint8 else frame[None].float()
        size = (new_height, new_width)
        pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=settings.antialias)
        resized.append(normalize(pixels[0], settings.mean, settings.std))
    views = torch.stack(resized).unflatten(0, (count, length)).transpose(1, 2)  # (clips, 3, frames, H, W)
    crops = [
        views[..., top : top + settings.size, left : left + settings.size]
        for top, left in crop_corners(new_height, new_width, settings)
    ]
    return torch.stack(crops, dim=1).flatten(0, 1)  # (clips * crops, 3, frames, size, size)


def clip_indices(count: int, rate: float, settings: VideoSettings) -> list[list[int]]:
    """Frame numbers of each clip of a video of ``count`` frames at ``rate`` frames/s."""
    latest = Fraction(max(count / rate - settings.clip_duration, 0.0))
    step = latest / max(settings.num_clips - 1, 1)
    clips = []
    for number in range(settings.num_clips):
        first = min(math.ceil(rate * float(step * number)), count - 1)
        end = max(min(math.ceil(rate * float(step * number + Fraction(settings.clip_duration))), count), first + 1)
        # The reference rounds evenly spaced positions down; float32 as there.
        clips.append(torch.linspace(first, end - 1, settings.num_frames).clamp(first, end - 1).long().tolist())
    return clips


def crop_corners(height: int, width: int, settings: VideoSettings) -> list[tuple[int, int]]:
    """(top, left) of each crop along the longer side."""
    down, right = height - settings.size, width - settings.size
    middle = (math.ceil(down / 2), math.ceil(right / 2))
    if settings.num_crops == 1:
        return [middle]
    if height > width:
        return [(0, middle[1]), middle, (down, middle[1])]
    return [(middle[0], 0), middle, (middle[0], right)]


def _short_side(height: int, width: int, size: int) -> tuple[int, int]:
    if width < height:
        return math.floor(height / width * size), size
    return size, math.floor(width / height * size)


def _from_file(source: Any, settings: VideoSettings) -> VideoClips:
    name = source_name(source)
    with opened_film(source) as film:
        _check_size(film.height, film.width, name, settings)
        line = film.line
        clips = clip_indices(line.count, line.rate, settings)
        found = {index: film.at(index) for index in sorted({index for clip in clips for index in clip})}
    last_wanted, last_found = max(found) / line.rate, found[max(found)][1]
    if last_wanted - last_found > MISSING_END:
        _warn(f"{name}: the video ends at {last_found:.1f} s, its header says {line.seconds:.1f} s; it may be cut off")
    _warn_if_short(line, name, settings)
    frames = stacked([found[index][0] for clip in clips for index in clip], name).unflatten(0, (len(clips), -1))
    times = torch.tensor([[found[clip[0]][1], found[clip[-1]][1]] for clip in clips])
    return VideoClips(frames, times, name, film.decoded)


def _from_array(array: np.ndarray | torch.Tensor, rate: Any, settings: VideoSettings) -> VideoClips:
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number | Fraction) or not 0 < rate < math.inf:
        raise InputError(f"array: wanted a frame rate above 0, got {rate!r}")
    is_array = isinstance(array, np.ndarray)
    wanted = "(T, height, width, 3)" if is_array else "(T, 3, height, width)"
    if array.ndim != 4 or array.shape[3 if is_array else 1] != 3:
        raise ShapeError(f"array: wanted {wanted} frames, got shape {tuple(array.shape)}")
    if 0 in array.shape:
        raise EmptyInputError(f"array: the video has no frames or no pixels (shape {tuple(array.shape)})")
    if is_array and array.dtype.kind != "f" and array.dtype != np.uint8:
        raise ShapeError(f"array: wanted uint8 or float in 0..1 pixels, got dtype {array.dtype}")
    line = Timeline(len(array), float(rate))
    _check_size(*(array.shape[1:3] if is_array else array.shape[2:4]), "array", settings)
    clips = clip_indices(line.count, line.rate, settings)
    if is_array:
        chosen = torch.from_numpy(np.ascontiguousarray(array[np.array(clips)])).permute(0, 1, 4, 2, 3)
    else:
        chosen = array.detach()[torch.tensor(clips, device=array.device)]
    if chosen.dtype != torch.uint8:
        if not chosen.is_floating_point():
            raise ShapeError(f"array: wanted uint8 or float in 0..1 pixels, got dtype {array.dtype}")
        checked_floats(chosen, "array")
    _warn_if_short(line, "array", settings)
    times = torch.tensor([[clip[0] / line.rate, clip[-1] / line.rate] for clip in clips])
    return VideoClips(chosen, times)


def _check_size(height: int, width: int, name: str, settings: VideoSettings) -> None:
    if height * width > settings.max_pixels:
        limit = settings.max_pixels
        raise TooLargeError(f"{name}: frames of {width} x {height} are refused, the limit is {limit} pixels")
    if max(height, width) > NARROWEST * min(height, width):  # before any is decoded: a strip grows in resizing
        raise TooLargeError(f"{name}: frames of {width} x {height} are too narrow for a video; crop it")


def _warn_if_short(line: Timeline, name: str, settings: VideoSettings) -> None:
    if line.count < settings.num_frames:
        _warn(f"{name}: only {line.count} frame(s) where a clip takes {settings.num_frames}; they are repeated")
    elif line.seconds < settings.clip_duration - 0.5 / line.rate:
        clip = settings.clip_duration
        _warn(f"{name}: {line.seconds:.2f} s of video is less than one clip of {clip:g} s; clips are cut short")


def _warn(message: str) -> None:
    warnings.warn(message, Bind2GenWarning, stacklevel=4)
