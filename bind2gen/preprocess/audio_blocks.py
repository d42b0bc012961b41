"""Sound files read block by block, in constant memory; :func:`~bind2gen.preprocess.audio.load` reads them whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import torch

from ..errors import EmptyInputError, UnreadableError
from .containers import opened_container
from .sources import one_line, opened, source_name
from .waveform import WANTED, checked_samples

BLOCK = 1 << 16  # samples

SoundBlock = tuple[torch.Tensor, float]  # (channels, n) float32, about -1..1, and the rate in Hz


def sound_blocks(source: Any) -> Iterator[SoundBlock]:
    """Decode a path, bytes or file object: libsndfile first, FFmpeg for what that cannot open.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, InputError: as :func:`bind2gen.preprocess.audio.load`, but
            possibly after some blocks.
    """
    name, empty = source_name(source), True
    with opened(source, WANTED) as file:
        for samples, rate in _decoded(file, name):
            if samples.shape[1]:
                empty = False
                yield checked_samples(samples, name), float(rate)
    if empty:
        raise EmptyInputError(f"{name}: the sound has no samples")


def _decoded(file: IO[bytes], name: str) -> Iterator[tuple[torch.Tensor, int]]:
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.SoundFileError, TypeError, ValueError, RuntimeError):
        yield from _decoded_by_ffmpeg(file, name)
        return
    with sound:
        try:
            while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
                yield torch.from_numpy(block).T, sound.samplerate
        except soundfile.SoundFileError as error:
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot decode it ({one_line(error)})") from None


def _decoded_by_ffmpeg(file: IO[bytes], name: str) -> Iterator[tuple[torch.Tensor, int]]:
    import av

    with opened_container(file, name, WANTED) as container:
        if not container.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise UnreadableError(f"{name}: wanted sound, this file has no sound track (it holds {kinds})")
        stream = container.streams.audio[0]
        planar = av.AudioResampler(format="fltp")  # changes the sample format only
        parts: list[torch.Tensor] = []
        for frame in container.decode(stream):
            parts += [torch.from_numpy(part.to_ndarray()) for part in planar.resample(frame)]
            if len({len(part) for part in parts}) > 1:
                raise UnreadableError(f"{name}: the number of channels changes within the sound; convert it to wav")
            if sum(part.shape[1] for part in parts) >= BLOCK:
                yield torch.cat(parts, dim=1), stream.rate
                parts = parts[:0]
        if parts:
            yield torch.cat(parts, dim=1), stream.rate
