"""Snippets and command lines of the pages run as they are printed, but for those that need a download or a server."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.cli import build_parser, main
from bind2gen.files.bundled import example_sounds

ROOT = Path(__file__).parents[1]
# One after the other: names of the first page's snippets are known on the others.
ROOMS = ("preprocess", "hosts", "train", "imagebind", "evaluate")
PAGES = ("README.md", "demos/README.md", *(f"bind2gen/{room}/README.md" for room in ROOMS))
README = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
NEED = {  # what a snippet holds that is not run here
    "http://127.0.0.1:7860": "a server: tests/demos/test_endpoints.py runs it",
    "imagebind_huge.pth": "a download",
    "h94/IP-Adapter": "a download",
    "langchain_core": "packages that are not in dev: tests/imagebind/test_frameworks.py runs it where they are",
}
PLACEHOLDERS = re.compile(r"\b(DIR|RECIPE|FOLDER|HOST|WEIGHTS|STAGE)\b|\.pth|\.\.\.|^demo")
pytestmark = pytest.mark.slow


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def command_lines() -> list[str]:
    """Arguments of every `bind2gen ...` in fences, indented, or between backticks; mere names of commands are none."""
    lines = [part for block in snippets("sh") for line in block.splitlines() for part in line.split(" && ")]
    lines += re.findall(r"^    (bind2gen .*)$", README, re.MULTILINE) + re.findall(r"`(bind2gen [^`]*)`", README)
    found = [line.strip().removeprefix(".venv/bin/") for line in lines]
    found = [line.removeprefix("bind2gen ") for line in found if line.startswith("bind2gen ")]
    return list(dict.fromkeys(line for line in found if line == "info" or " " in line and "RECIPE`" not in line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that README speaks of, under their names."""
    folder = tmp_path_factory.mktemp("readme")
    sounds = example_sounds()
    for name, like in {
        "bark.wav": "dog", "siren.wav": "police_van", "waves.ogg": "train", "rain.flac": "drone", "hour.wav": "clock",
        "hour.flac": "clock", "sounds/train.wav": "train",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, *soundfile.read(sounds[like]))
    (folder / "photos").mkdir()
    picture = Image.open(ROOT / "demos" / "pictures" / "three.webp").convert("RGB")
    for turn, name in enumerate(("street", "dog", "sea", "train", "photos/one", "photos/two")):
        picture.rotate(60 * turn).save(folder / f"{name}.jpg")
    Image.fromarray(np.linspace(1500, 3000, 48 * 64).reshape(48, 64).astype(np.uint16)).save(folder / "room.png")
    Image.fromarray(np.linspace(29_000, 31_000, 48 * 64).reshape(48, 64).astype(np.uint16)).save(folder / "yard.tiff")
    times = np.arange(600) / 100
    turning = np.sin(2 * np.pi * times)
    rows = np.stack([times, np.cos(times), 0.1 * turning, 9.8 + turning, 0.5 * turning, turning, -turning], axis=1)
    names = "time (s),ax (m/s^2),ay (m/s^2),az (m/s^2),gx (rad/s),gy (rad/s),gz (rad/s)"
    np.savetxt(folder / "walk.csv", rows, delimiter=",", header=names, comments="", fmt="%.5f")
    for name in ("adapters", "demos"):  # README's relative paths are those of a checkout
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.parametrize("page", [*PAGES, "bind2gen/README.md", "bind2gen/mini/README.md", "adapters/README.md"])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
        assert link.startswith("https://") or (ROOT / page).parent.joinpath(link).exists(), link


def test_what_is_not_run_is_there_to_be_left_out():
    for part in NEED:
        assert sum(part in snippet for snippet in snippets("python")) == 1, part
    assert len(command_lines()) >= 15


def test_python_snippets_run_one_after_the_other(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    names: dict = {}
    for number, snippet in enumerate(snippets("python")):
        if not any(part in snippet for part in NEED):
            exec(compile(snippet, f"Python snippet {number + 1}", "exec"), names)
    for file in ("bark.png", "boxes.png"):
        assert np.asarray(Image.open(file)).std() > 8  # of 255: something is to be seen
    assert names["end"] > names["start"] and names["vector"].norm() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("line", command_lines())
def test_command_lines_are_understood_and_run(line, folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    words = [match for word in shlex.split(line) for match in (sorted(glob.glob(word)) if "*" in word else [word])]
    if "..." not in words:
        build_parser().parse_args(words)
    if PLACEHOLDERS.search(line):
        return
    if "--like" in words:  # of a picture that was drawn before
        assert main(["generate", "--audio", "bark.wav", "--out", words[words.index("--like") + 1], "-q"]) == 0
    code = main(words)
    printed, said = capsys.readouterr()
    assert code == 0, said
    out = Path(words[words.index("--out") + 1]) if "--out" in words else None
    assert printed and (out is None or out.exists())
