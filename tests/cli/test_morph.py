"""``bind2gen morph``: both ends are what ``generate`` draws of them, and the way leads from one to the other."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

STEPS = ["--steps", "2", "--seed", "5"]
FRAMES = 7


def frames(path: Path) -> np.ndarray:
    """(F, H, W) grey: of colours a film keeps half the resolution."""
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="gray") for frame in film.decode(video=0)]).astype(int)


def test_the_way_leads_from_what_is_drawn_of_one_to_what_is_drawn_of_the_other(run, media, tmp_path):
    ends = {"--from-audio": media / "low.wav", "--to-image": media / "noise.png"}
    words = [word for pair in ends.items() for word in pair]
    code, out, err = run("morph", *words, "--frames", FRAMES, "--fps", 5, *STEPS, "--out", tmp_path / "a.mp4", "--json",
                         "--sheet", tmp_path / "sheet.png")  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    assert (told["frames"], told["from"], told["to"]) == (FRAMES, {"audio": "low.wav"}, {"image": "noise.png"})
    film = frames(tmp_path / "a.mp4")
    assert len(film) == FRAMES
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L")).astype(int)
    assert sheet.shape == (16, FRAMES * 16)
    assert abs(sheet.reshape(16, FRAMES, 16).swapaxes(0, 1) - film).mean() < 6  # of 255
    for option, place in (("--audio", 0), ("--image", -1)):
        source = ends["--from-audio" if place == 0 else "--to-image"]
        assert run("generate", option, source, *STEPS, "--out", tmp_path / "x.png", "-q")[0] == 0
        drawn = np.asarray(Image.open(tmp_path / "x.png").convert("L")).astype(int)
        own, other = (abs(film[i] - drawn).mean() for i in (place, -1 - place))
        assert own < 6 and own < other  # of 255
    assert run("morph", *words, "--frames", FRAMES, "--back", *STEPS, "--out", tmp_path / "b.mp4", "-q")[0] == 0
    back = frames(tmp_path / "b.mp4")
    assert len(back) == 2 * FRAMES - 2 and abs(back[FRAMES - 2] - back[FRAMES]).mean() < 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from-text", "a dog"], "nothing to go to"),
        (["--from-text", "a dog", "--to-audio", "no.wav"], "no.wav: no such file"),
        (["--from-text", "a dog", "--to-text", "a", "--out", "x.png"], ".mp4"),
        (["--from-text", "a dog", "--to-text", "a", "--frames", "1"], "--frames"),
        (["--from-text", "a dog", "--to-text", "a", "--sheet", "x.txt"], "wanted a name ending in .png"),
    ],
)
def test_what_cannot_be_a_way_is_one_line(run, tmp_path, words, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", tmp_path / "x.mp4"]
    code, _, err = run("morph", *words, *out)
    assert code in (1, 2) and told in err and err.count("\n") == 1
