"""Makers of small media files, and the folder of golden values where it is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 12  # frame numbers up to 4095, one block of black or white a bit
BLOCK = 16  # pixels; a macroblock, so that lossy codecs keep it


@pytest.fixture(scope="session")
def parity() -> Path:
    """The reference's golden values and its dog, car and bird files."""
    root = Path(os.environ.get("BIND2GEN_SHARED", Path(__file__).parents[3] / "shared")) / "parity"
    if not root.is_dir():
        pytest.skip("the golden values are not here; set BIND2GEN_SHARED to the folder that holds parity/")
    return root


@pytest.fixture(scope="session")
def sine() -> Callable[..., np.ndarray]:
    """``sine(seconds, rate, hertz=440)``: (n,) float32 at half of full scale."""

    def make(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
        times = np.arange(round(seconds * rate)) / rate
        return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)

    return make


def numbered_frame(number: int, height: int = 32) -> np.ndarray:
    """(H, 192, 3) uint8 that shows its number in binary."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, dtype=np.uint8) * 255, BLOCK)
    return np.broadcast_to(row[None, :, None], (height, len(row), 3)).copy()


@pytest.fixture(scope="session")
def frame_number() -> Callable[..., int]:
    """Reads the number of a (3, H, 192) frame back."""

    def read(pixels) -> int:
        row = pixels.float().mean(dim=(0, 1)).unflatten(0, (BITS, BLOCK)).mean(dim=1)
        return sum(int(level > 127) << bit for bit, level in enumerate(row.tolist()))

    return read


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """``write_video(path, count, rate, codec=, gop=, sound=, start=)``: numbered frames; sound is (waveform, rate)."""

    def write(path: Path, count: int, rate: Fraction | int = 25, *, codec: str = "libx264", gop: int = 12,
              sound: tuple[np.ndarray, int] | None = None, kind: str | None = None,
              start: int = 0) -> Path:  # fmt: skip
        with av.open(str(path), "w", format=kind) as container:
            video = container.add_stream(codec, rate=rate)
            video.width, video.height, video.pix_fmt, video.gop_size = BITS * BLOCK, 32, "yuv420p", gop
            if codec == "libx264":
                video.options = {"preset": "ultrafast"}
            if sound is not None:
                add_sound(container, *sound, codec="aac", start=start)
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                frame.pts, frame.time_base = number + round(start * rate), 1 / Fraction(rate)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        return path

    return write


def add_sound(container, waveform: np.ndarray, rate: int, codec: str, start: int = 0) -> None:
    stream = container.add_stream(codec, rate=rate, layout="mono")
    frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, start * rate, Fraction(1, rate)
    fitting = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate)
    for part in [*fitting.resample(frame), *fitting.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode())


@pytest.fixture(scope="session")
def write_sound() -> Callable[..., Path]:
    """``write_sound(path, waveform, rate, codec="aac")`` with FFmpeg: m4a, mp4, webm ..."""

    def write(path: Path, waveform: np.ndarray, rate: int, codec: str = "aac") -> Path:
        with av.open(str(path), "w") as container:
            add_sound(container, waveform, rate, codec)
        return path

    return write
