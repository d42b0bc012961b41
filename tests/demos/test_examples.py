"""The scripts in demos/examples/ run as they are, and are as short as the README says."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "demos" / "examples"
LONGEST = 14  # lines, "under fifteen"


def test_diffusers_own_import_draws_a_sound(tmp_path, monkeypatch, bundled_side):
    script = EXAMPLES / "sound_to_picture.py"
    assert len(script.read_text().splitlines()) <= LONGEST
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    pixels = np.asarray(Image.open(tmp_path / "dog.png").convert("RGB"), dtype=float)
    assert pixels.shape == (bundled_side, bundled_side, 3)
    assert pixels.std(axis=(0, 1)).max() > 8  # of 255: something is to be seen
