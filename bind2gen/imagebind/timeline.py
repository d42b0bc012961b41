"""Timelines of long recordings: one embedding for each window of a sound, a video or a motion file, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..errors import InputError, ModalityError
from ..preprocess.audio_settings import AudioSettings
from ..preprocess.imu import ImuSettings, Stated
from ..preprocess.settings import Settings
from ..preprocess.sliding import Batch, audio_windows, imu_windows, video_windows
from ..preprocess.video import VideoSettings

if TYPE_CHECKING:
    from .model import ImageBindModel
    from .processor import ImageBindProcessor

KINDS: dict[str, type[Settings]] = {"audio": AudioSettings, "imu": ImuSettings, "video": VideoSettings}
BATCH_SIZE = 16  # windows


class Moment(NamedTuple):
    """One window: its start and end in seconds, and its embedding (D,), unit norm float32, on the model's device."""

    start: float
    end: float
    vector: torch.Tensor


def stream_windows(
    source: Any,
    modality: str,
    settings: Settings | ImageBindProcessor,
    *,
    window: float | None = None,
    hop: float | None = None,
    batch_size: int = BATCH_SIZE,
    sampling_rate: float | None = None,
    stated: Stated | None = None,
) -> Iterator[Batch]:
    """Read a recording of any length block by block and give its windows as the model takes them.

    The windows equal those of the ``"sliding"`` policy on the whole recording: one every ``hop`` seconds, the last one
    moved back to end with the recording. Memory does not grow with the file (of motion tables, eight bytes a row).

    Args:
        source: what the modality's ``load`` takes; only files are streamed.
        modality: ``"audio"``, ``"video"`` or ``"imu"``.
        settings: of the modality, or a processor that holds them.
        window: s; None is what the settings say, or one clip.
        hop: s; None is what the settings say, or half of the window.
        batch_size: windows at a time.
        sampling_rate: Hz, of sounds and motion in arrays that come without; of motion tables it replaces their times.
        stated: what the caller says of units, columns and times of motion (see ``imu.load``).

    Yields:
        Start and end of each window, (B, 2) float64 s, and (B, views, *sample) float32. ``views`` is 1, but for the
        crops of video.

    Raises:
        ModalityError: it has no time axis. InputError: a setting or the source cannot be used.
    """
    settings = _sliding(_settings_of(settings, modality), window, hop)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size: wanted windows at a time, 1 or more, got {batch_size!r}")
    if isinstance(settings, AudioSettings):
        return audio_windows(source, settings, batch_size, sampling_rate=sampling_rate)
    if isinstance(settings, ImuSettings):
        said = stated or Stated()
        said = said if sampling_rate is None else replace(said, sampling_rate=sampling_rate)
        return imu_windows(source, settings, batch_size, said)
    return video_windows(source, settings, batch_size, hop=hop)


def embed_timeline(
    model: ImageBindModel,
    settings: Settings | ImageBindProcessor,
    source: Any,
    modality: str,
    *,
    window: float | None = None,
    hop: float | None = None,
    batch_size: int = BATCH_SIZE,
    sampling_rate: float | None = None,
    stated: Stated | None = None,
) -> Iterator[Moment]:
    """Embed a recording of any length window by window; arguments as of :func:`stream_windows`.

    Yields:
        A :class:`Moment` for each window, in order, while the file is being read.
    """
    model.tower(modality)  # the error for a missing tower comes before the file is read
    device = next(model.parameters()).device
    options = {"window": window, "hop": hop, "batch_size": batch_size, "sampling_rate": sampling_rate, "stated": stated}
    batches = stream_windows(source, modality, settings, **options)
    return _embedded(model, batches, modality, device)


def _embedded(model: ImageBindModel, batches: Iterator[Batch], modality: str, device: torch.device) -> Iterator[Moment]:
    for times, windows in batches:
        with torch.no_grad():  # entered anew: a generator must not leave it on while the caller works
            vectors = model.encode(modality, windows.to(device))
        for (start, end), vector in zip(times.tolist(), vectors, strict=True):
            yield Moment(start, end, vector.clone())


def _settings_of(settings: Settings | ImageBindProcessor, modality: str) -> Settings:
    kind = KINDS.get(modality)
    if kind is None:
        raise ModalityError(f"timeline: wanted one of {', '.join(KINDS)}, got {modality!r}, which has no time axis")
    found = settings if isinstance(settings, Settings) else getattr(settings, modality, None)
    if not isinstance(found, kind):
        raise InputError(f"timeline: wanted {kind.__name__} or a processor with them, got {type(settings).__name__}")
    return found


def _sliding(settings: Settings, window: float | None, hop: float | None) -> Settings:
    for name, value in (("window", window), ("hop", hop)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < float("inf")):
            raise InputError(f"timeline: wanted {name} in seconds, above zero, got {value!r}")
    if isinstance(settings, VideoSettings):
        return settings if window is None else replace(settings, clip_duration=float(window))
    given = {name: value for name, value in (("window", window), ("hop", hop)) if value is not None}
    return replace(settings, policy="sliding", **given)
