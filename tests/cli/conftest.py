"""Sounds, a picture and a way to run command lines in this process."""

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


@pytest.fixture
def run(tiny_folder, capsys):
    """Run a command line on the toy pipeline: (exit code, stdout, stderr)."""

    def call(*argv: object) -> tuple[int, str, str]:
        words = [str(word) for word in argv]
        if words and words[0] in ("generate", "embed") and "--model" not in words and "--imagebind" not in words:
            words += ["--model", str(tiny_folder)]
        try:
            code = main(words)
        except SystemExit as leaving:
            code = leaving.code
        out, err = capsys.readouterr()
        return code, out, err

    return call
