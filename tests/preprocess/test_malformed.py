"""Everything that users throw at the processor by mistake: the right error, on one line, that names the file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
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
from bind2gen.preprocess.sound_files import read_waveform

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


def sound(form: str, subtype: str, seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * np.resize(TONE, int(16_000 * seconds)), 16_000, format=form, subtype=subtype)
    return buffer.getvalue()


def film(codec: str = "mpeg4") -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = 32
        for grey in (20, 120, 220):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def motion(peak: float = 1.0) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.3, (6, 200))
    samples[2] += 9.8
    samples[3, 100] = peak
    return samples


def arrays(**values: object) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **values)
    return buffer.getvalue()


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
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
    ("audio", "frames.mp3", sound("MP3", "MPEG_LAYER_III")[:400] + bytes(4000), UnreadableError),
    (
        "audio",
        "peak.caf",
        replaced(sound("CAF", "FLOAT"), b"peak\0\0\0\0\0\0\0\x10", b"peak\0\0\0\0\0\0\0\xac"),
        UnreadableError,
    ),
    (
        "video",
        "codec.mp4",
        replaced(replaced(film(), b"mp4v", b"zzzz"), b"\x20\x11\0\0", b"\xff\x11\0\0"),
        UnreadableError,
    ),
    ("imu", "missing.csv", None, UnreadableError),
    ("imu", "header.npy", b"\x93NUMPY\x01\0\x40\0{'descr': '<f4', 'shape': (6, (((".ljust(74), UnreadableError),
    (
        "imu",
        "deflated.npz",
        bytes(b ^ 255 * (90 < i < 110) for i, b in enumerate(arrays(samples=motion()))),
        UnreadableError,
    ),
    ("imu", "directory.npz", replaced(arrays(samples=motion()), b"PK\x01\x02", b"PK\x01\x01"), UnreadableError),
    ("imu", "peak.npz", arrays(samples=motion(1e300), rate=100.0), InputError),
    ("imu", "infinite.npz", arrays(samples=motion(np.inf), rate=100.0), NonFiniteError),
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
def test_bad_files(tmp_path: Path, processor, capfd, argument, name, content, error):
    """One line from us, and not a word from the libraries below."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Bind2GenError) as caught:
        processor(**{argument: str(path)})
    assert type(caught.value) is error
    assert " ".join(name.split()) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(error, match=r"\[1\]"):
        processor(**{argument: [_good(argument), path]})
    assert capfd.readouterr().err == ""


def _good(argument: str):
    return {
        "audio": (TONE, 16_000),
        "images": np.zeros((8, 8, 3), np.uint8),
        "video": (np.zeros((60, 8, 8, 3), np.uint8), 25),
        "imu": (np.tile(motion(), 10), 100.0),
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


# ---- what may be damaged, and what may not ----


@pytest.mark.parametrize("channels", [2, 8, 16])
def test_sounds_of_many_channels_are_read_exactly(tmp_path, channels):
    """By FFmpeg; past the eighth channel its planes lie elsewhere, where PyAV does not look."""
    samples = np.random.default_rng(channels).integers(-9000, 9000, (500, channels), np.int16)
    with av.open(tmp_path / "many.mkv", "w") as container:
        stream = container.add_stream(
            "pcm_s16le", rate=16_000, layout={2: "stereo", 8: "7.1", 16: "hexadecagonal"}[channels]
        )
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=stream.layout.name)
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    read = read_waveform(tmp_path / "many.mkv", 10.0)
    assert np.array_equal(read.samples.numpy() * 32_768, samples.T)


def test_mp3_is_what_libsndfile_makes_of_it_and_survives_a_damaged_frame(tmp_path, capfd):
    whole, path = sound("MP3", "MPEG_LAYER_III", 4.0), tmp_path / "sound.mp3"
    path.write_bytes(whole)
    wanted = soundfile.read(io.BytesIO(whole), dtype="float32")[0]
    read = read_waveform(path, 60.0)
    assert read.samples.shape == (1, len(wanted)) and np.abs(read.samples[0].numpy() - wanted).max() < 1e-4
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 100] = bytes(100)  # a frame or two of 36 ms
    path.write_bytes(damaged)
    assert abs(read_waveform(path, 60.0).samples.shape[1] - len(wanted)) < 0.2 * 16_000
    assert capfd.readouterr().err == ""
