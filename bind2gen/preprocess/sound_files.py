"""Sound files, read whole or block by block in constant memory: libsndfile first, FFmpeg for what that cannot read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import torch

from ..errors import EmptyInputError, InputError, TooLargeError, UnreadableError
from .containers import opened_container
from .sources import one_line, opened, source_name
from .waveform import Waveform, checked_samples

BLOCK = 1 << 20  # samples read at a time of a whole file, so that a lying header cannot claim memory
STREAM_BLOCK = 1 << 16  # samples read at a time where blocks are wanted
MAX_VALUES = 1 << 29  # samples times channels: 2 GB as float32
FULL_SCALE_16 = 32_768.0  # of 16-bit samples
WANTED = "a sound file"

SoundBlock = tuple[torch.Tensor, float]  # (channels, n) float32, about -1..1, n > 0, and the rate in Hz


def read_waveform(source: Any, max_seconds: float) -> Waveform:
    """Decode a path, bytes or file object.

    Raises:
        UnreadableError: neither library can decode it, or it has no sound in it.
        EmptyInputError: it holds no samples.
        NonFiniteError, InputError: the samples cannot be sound.
        TooLargeError: it is longer than ``max_seconds``; found while reading, before memory is taken.
    """
    name = source_name(source)
    with opened(source, WANTED) as file:
        try:
            samples, rate = _joined(_by_libsndfile(source, file, name, BLOCK), name, max_seconds)
        except InputError:
            raise
        except _libsndfile_errors():
            samples, rate = _joined(_by_ffmpeg(file, name, BLOCK), name, max_seconds)
    return Waveform(samples, rate, name)


def sound_blocks(source: Any) -> Iterator[SoundBlock]:
    """Decode a path, bytes or file object block by block.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, InputError: as :func:`read_waveform`, but possibly after some
            blocks.
    """
    name, begun = source_name(source), False
    with opened(source, WANTED) as file:
        try:
            for block in _by_libsndfile(source, file, name, STREAM_BLOCK):
                begun = True
                yield block
        except InputError:
            raise
        except _libsndfile_errors() as error:
            if begun:
                raise UnreadableError(f"{name}: wanted {WANTED}, cannot decode it ({one_line(error)})") from None
            for block in _by_ffmpeg(file, name, STREAM_BLOCK):
                begun = True
                yield block
    if not begun:
        raise EmptyInputError(f"{name}: the sound has no samples")


def _joined(blocks: Iterator[SoundBlock], name: str, max_seconds: float) -> SoundBlock:
    parts, count, rate = [], 0, 0.0
    for block, rate in blocks:
        count += block.shape[1]
        if count > max_seconds * rate or count * len(block) > MAX_VALUES:
            raise TooLargeError(
                f"{name}: wanted at most {max_seconds:.0f} s of sound and {MAX_VALUES} values, got more "
                f"({len(block)} channels at {rate:.0f} Hz); cut it, or raise max_seconds in AudioSettings"
            )
        parts.append(block)
    if not parts:
        raise EmptyInputError(f"{name}: the sound has no samples")
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), rate


def _libsndfile_errors() -> tuple[type[Exception], ...]:
    import soundfile

    return soundfile.SoundFileError, TypeError, ValueError, RuntimeError


def _by_libsndfile(source: Any, file: IO[bytes], name: str, size: int) -> Iterator[SoundBlock]:
    import soundfile

    # By its path libsndfile reads a file itself; through a Python file object each of its reads waits for the
    # interpreter, which takes twice as long and stops other threads.
    with soundfile.SoundFile(source if isinstance(source, str | os.PathLike) else file) as sound:
        rate = float(sound.samplerate)
        # libsndfile turns samples into floats one by one; of 16 bits numpy makes the same ones many at a time.
        whole = sound.subtype == "PCM_16"
        while len(block := sound.read(size, dtype="int16" if whole else "float32", always_2d=True)):  # (n, channels)
            if whole:
                floats = block.astype(np.float32)
                floats *= 1 / FULL_SCALE_16
                yield torch.from_numpy(floats).T, rate
            else:
                yield checked_samples(torch.from_numpy(block).T, name), rate
            if len(block) < size:
                break


def _by_ffmpeg(file: IO[bytes], name: str, size: int) -> Iterator[SoundBlock]:
    import av

    with opened_container(file, name, WANTED) as container:
        if not container.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise UnreadableError(f"{name}: wanted sound, this file has no sound track (it holds {kinds})")
        stream = container.streams.audio[0]
        planar = av.AudioResampler(format="fltp")  # changes the sample format only
        parts: list[torch.Tensor] = []  # (channels, n)
        channels = None
        for frame in container.decode(stream):
            for part in planar.resample(frame):
                channels = channels or len(part.planes)
                if len(part.planes) != channels:
                    raise UnreadableError(f"{name}: the number of channels changes within the sound; convert it to wav")
                parts.append(torch.from_numpy(part.to_ndarray()))
            if sum(part.shape[1] for part in parts) >= size:
                yield checked_samples(torch.cat(parts, dim=1), name), float(stream.rate)
                parts = []
        if sum(part.shape[1] for part in parts):
            yield checked_samples(torch.cat(parts, dim=1), name), float(stream.rate)
