"""Sound files, read whole or block by block in constant memory: libsndfile what it reads well, FFmpeg all the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import EmptyInputError, InputError, TooLargeError, UnreadableError
from .containers import opened_container, other_tracks
from .sources import one_line, opened, source_name
from .waveform import Waveform, checked_samples

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

BLOCK = 1 << 20  # samples times channels read at a time of a whole file, so that a lying header cannot claim memory
STREAM_BLOCK = 1 << 16  # samples times channels read at a time where blocks are wanted
MAX_VALUES = 1 << 29  # samples times channels: 2 GB as float32
FEW_LOST, MOST_LOST = 2, 0.1  # damaged frames of an MP3 that are passed over: so many, or this share of the others
# First bytes of WAV, W64, AIFF, FLAC, Ogg, CAF and AU. libsndfile knows more, but of some kinds (MPEG audio, sample
# dumps) it writes on stderr what it thinks of a damaged file.
BY_LIBSNDFILE = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b"caff", b".snd")
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
        if count > max_seconds * rate:
            words = f"{name}: wanted at most {max_seconds:.0f} s of sound, got more"
            raise TooLargeError(f"{words}; cut it, or raise max_seconds in AudioSettings")
        if count * len(block) > MAX_VALUES:
            size = f"{len(block)} channels at {rate:.0f} Hz are more than {MAX_VALUES * 4 >> 30} GB"
            raise TooLargeError(f"{name}: {size}; cut it, or mix them down to one or two")
        parts.append(block)
    if not parts:
        raise EmptyInputError(f"{name}: the sound has no samples")
    if len(parts) == 1:
        return parts[0], rate
    whole, place = torch.empty(len(parts[0]), count), 0
    for number, part in enumerate(parts):  # not torch.cat: each part goes as it is copied, so the sound is there once
        whole[:, place : place + part.shape[1]] = part
        place += part.shape[1]
        parts[number] = None
    return whole, rate


def _libsndfile_errors() -> tuple[type[Exception], ...]:
    import soundfile

    return soundfile.SoundFileError, TypeError, ValueError, RuntimeError


def _by_libsndfile(source: Any, file: IO[bytes], name: str, size: int) -> Iterator[SoundBlock]:
    import soundfile

    start = file.read(4)
    file.seek(0)
    if start not in BY_LIBSNDFILE:
        raise ValueError("for FFmpeg")
    # By its path libsndfile reads a file itself; through a Python file object each of its reads waits for the
    # interpreter, which takes twice as long and stops other threads.
    with soundfile.SoundFile(source if isinstance(source, str | os.PathLike) else file) as sound:
        rate = float(sound.samplerate)
        # libsndfile turns samples into floats one by one; of 16 bits numpy makes the same ones many at a time.
        whole, size = sound.subtype == "PCM_16", max(1, size // sound.channels)
        while len(block := sound.read(size, dtype="int16" if whole else "float32", always_2d=True)):  # (n, channels)
            if whole:
                floats = np.empty(block.shape[::-1], np.float32)  # a row a channel: what comes after is faster so
                np.multiply(block.T, np.float32(1 / FULL_SCALE_16), out=floats)
                yield torch.from_numpy(floats), rate
            else:
                yield checked_samples(torch.from_numpy(block).T, name), rate
            if len(block) < size:
                break


def _by_ffmpeg(file: IO[bytes], name: str, size: int) -> Iterator[SoundBlock]:
    import av

    with opened_container(file, name, WANTED) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            kinds = other_tracks(container, "audio")
            raise UnreadableError(f"{name}: wanted sound, this file has no sound track (it holds {kinds})")
        # Changes the sample format only. Not to planes: of eight and more PyAV (18.1) reads past the last.
        packed = av.AudioResampler(format="flt")
        parts: list[torch.Tensor] = []  # (n, channels)
        count, form = 0, None
        for frame in _frames(container, stream, name):
            form = form or (frame.layout.nb_channels, float(frame.sample_rate))
            parts += [torch.from_numpy(part.to_ndarray().reshape(-1, form[0])) for part in packed.resample(frame)]
            count += frame.samples
            if count >= size:
                yield checked_samples(torch.cat(parts).T, name), form[1]
                parts, count = [], 0
        if count:
            yield checked_samples(torch.cat(parts).T, name), form[1]


def _frames(container: InputContainer, stream: AudioStream, name: str) -> Iterator[AudioFrame]:
    """Decoded pieces of one form. Of MP3, where any piece may be damaged by itself, a few may be missing."""
    import av

    form, kept, lost = None, 0, 0
    patient = container.format.name == "mp3"
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if not patient:
                raise
            frames, lost = [], lost + 1
        for frame in frames:
            found = (frame.layout.nb_channels, frame.sample_rate)
            form = form or found
            if found == form:
                kept += 1
                yield frame
            elif patient:  # damage in a frame's header
                lost += 1
            else:
                raise UnreadableError(f"{name}: channels or rate change within the sound; convert it to wav")
    if lost > max(FEW_LOST, MOST_LOST * kept):
        raise UnreadableError(f"{name}: wanted {WANTED}, {lost} of its {lost + kept} frames are damaged")
