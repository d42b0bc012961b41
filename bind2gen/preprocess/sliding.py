"""Sliding windows over long recordings, streamed: the windows of the ``"sliding"`` policies in constant memory."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import EmptyInputError, TooLargeError
from . import audio, imu, listening, video
from .films import opened_film
from .frames import Timeline, stacked
from .imu import Stated
from .imu.arrays import is_numpy_file
from .imu.grid import GridStream
from .imu.reading import read
from .imu.tables import open_table
from .mel import frame_samples
from .resampling import StreamResampler, padded_end
from .sound_files import sound_blocks
from .sources import is_file_source, source_name

BLOCK = 1 << 16  # samples taken at a time of what is in memory already

# Start and end of each window, (B, 2) float64 s, and the windows as the model takes them, (B, views, *sample).
Batch = tuple[torch.Tensor, torch.Tensor]
Piece = tuple[int, torch.Tensor]  # a window's first sample, and its samples (C, n)
T = TypeVar("T")


def audio_windows(
    source: Any, settings: audio.AudioSettings, batch_size: int, *, sampling_rate: float | None = None
) -> Iterator[Batch]:
    """Log-mel windows of a sound of any length; files are read block by block.

    Args:
        source: as :func:`bind2gen.preprocess.audio.load` takes it; ``max_seconds`` does not bind files here.
        settings: of policy ``"sliding"``.
        batch_size: windows at a time.
        sampling_rate: Hz, of arrays that come without.
    """
    pieces = cut_windows(_mono(source, settings, sampling_rate), settings.clip_samples, settings.hop_samples)
    for batch in _batches(pieces, batch_size):
        waves = torch.stack([padded_end(wave, frame_samples(settings))[0] for _, wave in batch])
        yield _times(batch, settings.sample_rate), audio.log_mel(waves, settings)[:, None]


def _mono(source: Any, settings: audio.AudioSettings, sampling_rate: float | None) -> Iterator[torch.Tensor]:
    """(1, m) blocks at the settings' rate."""
    if is_file_source(source):
        blocks: Iterable[tuple[torch.Tensor, float]] = sound_blocks(source)
    else:
        wave = audio.load(source, sampling_rate=sampling_rate, settings=settings)
        blocks = ((part, wave.sample_rate) for part in wave.samples.split(BLOCK, dim=1))
    resampler, channel = None, listening.StreamedChannel(source_name(source))
    for block, rate in blocks:
        resampler = resampler or StreamResampler(rate, settings.sample_rate)
        yield resampler.push(channel.push(block))
    yield resampler.flush()
    channel.end(rate)


def imu_windows(source: Any, settings: imu.ImuSettings, batch_size: int, stated: Stated) -> Iterator[Batch]:
    """Motion windows of any length. Tables are read twice, block by block: once for units and times, once for values.

    Of a table the times are held, eight bytes a row. NPY files, arrays, folders and pairs are loaded whole.

    Args:
        source: as :func:`bind2gen.preprocess.imu.load` takes it; ``max_seconds`` does not bind tables here.
        settings: of policy ``"sliding"``.
        batch_size: windows at a time.
        stated: what the caller says of units, columns and times.
    """
    pieces = cut_windows(_motion(source, settings, stated), settings.clip_samples, settings.hop_samples)
    for batch in _batches(pieces, batch_size):
        windows = torch.stack([padded_end(samples, settings.samples) for _, samples in batch])
        yield _times(batch, settings.sampling_rate), windows[:, None]


def _motion(source: Any, settings: imu.ImuSettings, stated: Stated) -> Iterator[torch.Tensor]:
    """(6, m) blocks at the settings' rate."""
    folder = isinstance(source, str | os.PathLike) and Path(source).is_dir()
    if is_file_source(source) and not folder and not is_numpy_file(source):
        found = read(open_table(source), stated, settings, whole=False)
        if (longest := max((end - start for start, end in found.description.gaps), default=0.0)) > settings.max_seconds:
            most = f"the limit is {settings.max_seconds:.0f} s"
            raise TooLargeError(f"{found.name}: {longest:.0f} s without samples, {most}; split it there")
        grid = GridStream(found.timing.rate, found.timing.times, settings.sampling_rate, settings.max_gap)
        blocks = found.blocks()
    else:
        motion = imu.load(source, settings=settings, **vars(stated))
        grid, blocks = imu.grid_stream(motion, settings), iter(motion.samples.split(BLOCK, dim=1))
    for block in blocks:
        yield imu.oriented(grid.push(block), settings)
    yield imu.oriented(grid.push(block[:, :0], end=True), settings)


def video_windows(source: Any, settings: video.VideoSettings, batch_size: int, *, hop: float | None) -> Iterator[Batch]:
    """Windows of ``clip_duration`` of a video file, all crops of each; only the frames of one window are held.

    Args:
        source: a path, bytes or file object of anything FFmpeg reads.
        settings: frames, crops and sizes; ``num_clips`` is not used.
        batch_size: windows at a time.
        hop: s; None is half of ``clip_duration``.
    """
    for batch in _batches(_clips(source, settings, hop or settings.clip_duration / 2), batch_size):
        times = torch.tensor([[start, end] for start, end, _ in batch], dtype=torch.float64)
        yield times, torch.stack([video.transform(clip, settings) for *_, clip in batch])


def _clips(source: Any, settings: video.VideoSettings, hop: float) -> Iterator[tuple[float, float, video.VideoClips]]:
    name = source_name(source)
    with opened_film(source) as film:
        line = film.line
        last = max(line.seconds - settings.clip_duration, 0.0)
        starts = [*(i * hop for i in range(math.ceil(last / hop))), last]
        windows = [_frame_numbers(start, line, settings) for start in starts]
        # Windows overlap but the reader only goes forward: frames are read in order and held while they are needed.
        ahead = deque(sorted({number for window in windows for number in window}))
        held: dict[int, torch.Tensor] = {}
        for start, window in zip(starts, windows, strict=True):
            held = {number: frame for number, frame in held.items() if number >= window[0]}
            while ahead and ahead[0] <= window[-1]:
                number = ahead.popleft()
                held[number] = film.at(number)[0]
            clip = stacked([held[number] for number in window], name)[None]
            end = min(start + settings.clip_duration, line.seconds)
            yield start, end, video.VideoClips(clip, torch.tensor([[start, end]]), name)


def _frame_numbers(start: float, line: Timeline, settings: video.VideoSettings) -> list[int]:
    """Frames of the clip that begins at ``start`` s, as :func:`bind2gen.preprocess.video.clip_indices` picks them."""
    first = min(math.ceil(line.rate * start), line.count - 1)
    end = max(min(math.ceil(line.rate * (start + settings.clip_duration)), line.count), first + 1)
    return torch.linspace(first, end - 1, settings.num_frames).clamp(first, end - 1).long().tolist()


def cut_windows(blocks: Iterable[torch.Tensor], length: int, hop: int) -> Iterator[Piece]:
    """Windows of a signal that comes in (C, m) blocks; the last one is moved back to end with the signal.

    The same as the ``"sliding"`` policies cut of the whole signal; no more than a window and a block is held.
    """
    held, first, start = None, 0, 0  # samples at hand, the number of the first of them, the next window's first
    for block in blocks:
        held = block if held is None or held.numel() == 0 else torch.cat([held, block], dim=1)
        total = first + held.shape[1]
        while start + length < total:
            yield start, held[:, start - first : start - first + length].clone()
            start += hop
        keep = max(total - length, 0)  # the last window may still begin here
        held, first = held[:, keep - first :].clone(), keep
    if held is None or held.shape[1] == 0:
        raise EmptyInputError("the recording has no samples")
    yield first, held


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    return iter(lambda: list(islice(left, size)), [])


def _times(batch: list[Piece], rate: float) -> torch.Tensor:
    return torch.tensor([[start, start + part.shape[1]] for start, part in batch], dtype=torch.float64) / rate
