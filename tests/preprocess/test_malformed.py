"""Everything that users throw at the processor by mistake: the right error, on one line, that names the file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.errors import (
    Bind2GenError,
    EmptyInputError,
    InputError,
    NonFiniteError,
    ShapeError,
    TooLargeError,
    UnreadableError,
)
from bind2gen.imagebind.processor import ImageBindProcessor

NAN = np.array([0.1, np.nan] * 8000, np.float32)
TONE = np.sin(np.arange(16_000, dtype=np.float32) / 5)


class Exploding(io.RawIOBase):
    """A file object on a disk that has failed."""

    def seekable(self) -> bool:
        raise OSError("disk failure")


def png(mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def wav(samples: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def deep_tiff(value: float) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def huge_png() -> bytes:
    """A header that claims 60,000 x 60,000 pixels."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


# Files: (argument, file name, content or None for a missing file, error)
FILES = [
    ("audio", "missing.wav", None, UnreadableError),
    ("audio", "empty.wav", b"", EmptyInputError),
    ("audio", "prose.wav", b"this is no sound at all\n" * 40, UnreadableError),
    ("audio", "noise.mp3", bytes(range(256)) * 8, UnreadableError),
    ("audio", "header.wav", wav(TONE)[:20], UnreadableError),
    ("audio", "nosamples.wav", wav(TONE[:0]), EmptyInputError),
    ("audio", "nan.wav", wav(NAN), NonFiniteError),
    ("audio", "inf.wav", wav(np.array([np.inf, 1.0] * 8000, np.float32)), NonFiniteError),
    ("audio", "unscaled.wav", wav(TONE * 20_000), InputError),
    ("audio", "picture.png", png(), UnreadableError),
    ("audio", "two\nlines.wav", b"no sound", UnreadableError),
    ("images", "missing.png", None, UnreadableError),
    ("images", "empty.png", b"", EmptyInputError),
    ("images", "prose.jpg", b"this is no picture", UnreadableError),
    ("images", "truncated.png", png()[:-2000], UnreadableError),
    ("images", "damaged.png", png()[:200] + b"\0" * 50 + png()[250:], UnreadableError),
    ("images", "bomb.png", huge_png(), TooLargeError),
    ("images", "strip.png", png("L", (20_000, 1)), TooLargeError),
    ("images", "nan.tiff", deep_tiff(np.nan), NonFiniteError),
    ("images", "bright.tiff", deep_tiff(300.0), InputError),
    ("images", "sound.wav", wav(TONE), UnreadableError),
    ("video", "missing.mp4", None, UnreadableError),
    ("video", "empty.mp4", b"", EmptyInputError),
    ("video", "prose.mp4", b"this is no video\n" * 40, UnreadableError),
    ("video", "sound.wav", wav(TONE), UnreadableError),
    ("video", "box.mp4", struct.pack(">I4s", 24, b"ftyp") + b"isom\0\0\2\0isomiso2", UnreadableError),
]

# Values: (argument, value, words of the message, error)
VALUES = [
    ("audio", (np.zeros((2, 3, 4), np.float32), 16_000), "array: wanted .*shape", ShapeError),
    ("audio", (np.float32(1.0), 16_000), "wanted a sound", ShapeError),
    ("audio", (np.zeros((0,), np.float32), 16_000), "array: the sound has no samples", EmptyInputError),
    ("audio", (NAN, 16_000), "array: .*NaN", NonFiniteError),
    ("audio", (np.full(16_000, 1e300), 16_000), "array: .*infinite", NonFiniteError),
    ("audio", (TONE.astype(object), 16_000), "array: .*dtype object", ShapeError),
    ("audio", (TONE.astype(complex), 16_000), "array: .*dtype complex128", ShapeError),
    ("audio", (np.array(["a", "b"]), 16_000), "array: .*dtype <U1", ShapeError),
    ("audio", (np.arange(16_000), 16_000), "array: .*dtype int64", ShapeError),
    ("audio", (torch.zeros(16_000, dtype=torch.bool), 16_000), "array: .*bool", ShapeError),
    ("audio", (torch.zeros(16_000, dtype=torch.complex64), 16_000), "array: .*complex64", ShapeError),
    ("audio", (np.zeros((500, 16_000), np.int16), 16_000), "array: .*64 channels", ShapeError),
    ("audio", TONE, "array: .*sampling rate is missing", InputError),
    ("audio", (TONE, 0), "array: .*above 0 Hz", InputError),
    ("audio", (TONE, -16_000), "array: .*above 0 Hz", InputError),
    ("audio", (TONE, float("nan")), "array: .*above 0 Hz", InputError),
    ("audio", (TONE, "fast"), "array: .*'fast'", InputError),
    ("audio", {"samples": TONE}, "dict: wanted the keys", InputError),
    ("audio", [0.1, 0.2, 0.3], "audio: .*numbers", ShapeError),
    ("audio", [], "audio: .*empty list", EmptyInputError),
    ("audio", 3, "int: wanted a sound", ShapeError),
    ("audio", io.StringIO("text"), "binary mode", ShapeError),
    ("audio", Exploding(), "disk failure", UnreadableError),
    ("audio", b"", "bytes: .*empty", EmptyInputError),
    ("images", np.zeros((2, 8, 8, 3), np.uint8), r"array: .*\(2, 8, 8, 3\).*list", ShapeError),
    ("images", np.zeros((3, 8, 8), np.uint8), r"array: .*\(3, 8, 8\)", ShapeError),
    ("images", np.zeros((0, 8, 3), np.uint8), "array: .*no pixels", EmptyInputError),
    ("images", np.zeros((8, 8, 3), np.int64), "array: .*int64", ShapeError),
    ("images", np.zeros((8, 8, 3), bool), "array: .*bool", ShapeError),
    ("images", np.full((8, 8, 3), np.nan), "array: .*NaN", NonFiniteError),
    ("images", np.full((8, 8, 3), 200.0), "array: .*0..1.*200", InputError),
    ("images", torch.zeros(2, 3, 8, 8), "tensor: .*list", ShapeError),
    ("images", torch.zeros(4, 8, 8), "tensor: wanted", ShapeError),
    ("images", torch.full((3, 8, 8), -1.0), "tensor: .*0..1", InputError),
    ("images", torch.zeros(3, 8, 8, dtype=torch.int64), "tensor: .*int64", ShapeError),
    ("images", 5, "int: wanted a picture", ShapeError),
    ("images", [], "image: .*empty list", EmptyInputError),
    ("images", b"\x89PNG no", "bytes: .*picture", UnreadableError),
    ("video", np.zeros((8, 8, 8, 3), np.uint8), "array: .*frame rate is missing", InputError),
    ("video", (np.zeros((8, 8, 3), np.uint8), 25), "array: wanted", ShapeError),
    ("video", (np.zeros((0, 8, 8, 3), np.uint8), 25), "array: .*no frames", EmptyInputError),
    ("video", (np.zeros((60, 8, 8, 3), np.uint8), 0), "array: .*frame rate", InputError),
    ("video", (np.zeros((60, 8, 8, 3), np.int32), 25), "array: .*int32", ShapeError),
    ("video", (np.full((60, 8, 8, 3), np.inf, np.float32), 25), "array: .*infinite", NonFiniteError),
    ("video", (np.zeros((60, 1, 5000, 3), np.uint8), 25), "array: .*too narrow", TooLargeError),
    ("video", ["only", 3], r"video\[0\]: only: .*no such file", UnreadableError),
    ("text", 5, "text: wanted a string, got int", ShapeError),
    ("text", b"dog", "text: .*bytes; decode", ShapeError),
    ("text", ["dog", None], r"text\[1\]: .*NoneType", ShapeError),
    ("text", [], "text: .*empty list", EmptyInputError),
    ("text", "half \ud83d", "surrogate", InputError),
]


@pytest.fixture(scope="module")
def processor() -> ImageBindProcessor:
    return ImageBindProcessor()


@pytest.mark.parametrize(("argument", "name", "content", "error"), FILES, ids=[f"{a}-{ascii(n)}" for a, n, *_ in FILES])
def test_bad_files(tmp_path: Path, processor, argument, name, content, error):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Bind2GenError) as caught:
        processor(**{argument: str(path)})
    assert type(caught.value) is error
    assert " ".join(name.split()) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(error, match=r"\[1\]"):
        processor(**{argument: [_good(argument), path]})


def _good(argument: str):
    return {
        "audio": (TONE, 16_000),
        "images": np.zeros((8, 8, 3), np.uint8),
        "video": (np.zeros((60, 8, 8, 3), np.uint8), 25),
    }[argument]


@pytest.mark.parametrize(
    ("argument", "value", "words", "error"), VALUES, ids=[f"{v[0]}-{i}" for i, v in enumerate(VALUES)]
)
def test_bad_values(processor, argument, value, words, error):
    with pytest.raises(Bind2GenError, match=words) as caught:
        processor(**{argument: value})
    assert type(caught.value) is error and "\n" not in str(caught.value)


@pytest.mark.parametrize("argument", ["audio", "images", "video"])
def test_folders_are_not_files(tmp_path, processor, argument):
    with pytest.raises(UnreadableError, match=f"{tmp_path.name}.*folder"):
        processor(**{argument: tmp_path})


def test_nothing_at_all_is_refused(processor):
    with pytest.raises(InputError, match="thermal or imu"):
        processor()
    with pytest.raises(InputError, match="return_tensors"):
        processor(text="a dog", return_tensors="tf")
