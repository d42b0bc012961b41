"""Sounds, a picture, files of sensors, and a way to run command lines in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.cli import main

RATE = 16_000  # Hz


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds of different lengths (so of different clip counts), and a picture."""
    folder = tmp_path_factory.mktemp("media")
    for name, hertz, seconds in (("low", 220, 1.0), ("mid", 880, 2.5), ("high", 3000, 5.0)):
        wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    return folder


@pytest.fixture(scope="session")
def sensed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wall at 2 m with a hole, a warm square, and 4 s of motion at 100 Hz in g and deg/s, a gap from 2 to 2.5 s."""
    folder = tmp_path_factory.mktemp("sensed")
    wall = np.full((48, 64), 2000, np.uint16)  # mm
    wall[20:28, 30:34] = 0
    Image.fromarray(wall).save(folder / "wall.png")
    kelvin = np.full((48, 64), 29_315, np.uint16)  # hundredths
    kelvin[10:30, 20:40] = 31_000
    Image.fromarray(kelvin).save(folder / "warm.png")
    times = np.arange(400) / 100
    turning = 50 * np.sin(2 * np.pi * 0.5 * times)
    rows = np.stack(
        [1000 * times, 0 * times, 0.1 * np.sin(9 * times), 1 + 0 * times, turning, 0 * times, turning], axis=1
    )
    rows = rows[(times <= 2.0) | (times >= 2.5)]
    rows[:, [1, 5]] += np.random.default_rng(0).normal(0, 0.01, (len(rows), 2))
    header = "time (ms),ax (g),ay (g),az (g),gx (deg/s),gy (deg/s),gz (deg/s)"
    np.savetxt(folder / "walk.csv", rows, delimiter=",", header=header, comments="", fmt="%.5f")
    return folder


@pytest.fixture
def run(tiny_folder, capsys):
    """Run a command line on the toy pipeline: (exit code, stdout, stderr)."""

    def call(*argv: object) -> tuple[int, str, str]:
        words = [str(word) for word in argv]
        own = words and words[0] in (
            "generate", "film", "morph", "embed", "index", "search", "inspect", "classify", "fit-classifier", "matrix",
        )  # fmt: skip
        if own and "--model" not in words and "--imagebind" not in words:
            words += ["--model", str(tiny_folder)]
        try:
            code = main(words)
        except SystemExit as leaving:
            code = leaving.code
        out, err = capsys.readouterr()
        return code, out, err

    return call
