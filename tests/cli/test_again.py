"""``bind2gen generate --like``: a picture is drawn again, bit for bit, or it is said why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from bind2gen.cli import main

STEPS = ["--steps", "2", "-q"]


@pytest.fixture
def at(media, tmp_path, monkeypatch) -> Path:
    """The working directory, with sounds and a picture in a folder in it."""
    shutil.copytree(media, tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(one: Path | str, other: Path | str) -> bool:
    return Image.open(one).tobytes() == Image.open(other).tobytes()


@pytest.fixture
def again(run, tiny_folder):
    """Draws ``like`` again by the toy model, into x.png: (exit code, stdout, stderr)."""

    def call(like: Path | str, *words: object) -> tuple[int, str, str]:
        Path("x.png").unlink(missing_ok=True)
        return run("generate", "--like", like, "--model", tiny_folder, "--out", "x.png", "-q", *words)

    return call


def test_with_paths_kept_the_picture_alone_says_all_of_itself(run, at, tmp_path):
    words = ["--audio", at / "in/mid.wav", "--image", "in/noise.png", "--weight", "audio=0.7", "image=-0.2", *STEPS]
    words += ["--seed", 7, "--guidance", "2.5", "--noise-level", 30, "--not-text", "a b", "--keep-paths"]
    assert run("generate", *words, "--out", "a.png") == (0, "", "")
    assert main_like("a.png", "--keep-paths") == (0, "")
    assert same("a.png", "x.png") and Image.open("x.png").text == Image.open("a.png").text
    command = Image.open("a.png").text["command"]
    assert command.startswith(f"bind2gen generate --audio={at}/in/mid.wav --image=in/noise.png")
    assert "--weight audio=0.7 image=-0.2" in command and "'--not-text=a b'" in command and "--seed=7" in command
    assert "--out" not in command and "--keep-paths" not in command


def main_like(picture: str, *words: str) -> tuple[int, str]:
    """In a process of its own."""
    program = [sys.executable, "-m", "bind2gen", "generate", "--like", picture, "--out", "x.png", "-q", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_each_of_several_is_drawn_again_as_it_was_among_the_others(run, at, again):
    sounds = ["in/low.wav", "in/mid.wav", "in/high.wav"]
    drawn = ["--audio", *sounds, "--text", "a dog", "--batch-size", 4, *STEPS, "--out", "all"]
    assert run("generate", *drawn)[0] == 0
    assert run("generate", *drawn[:-1], "best", "--best-of", 2)[0] == 0
    pictures = sorted([*Path("all").iterdir(), *Path("best").iterdir()])
    assert len(pictures) == 6
    for picture in pictures:
        code, _, err = again(picture)
        assert code == 0 and same(picture, "x.png"), (picture, err)
        assert Image.open("x.png").text["batch"] == Image.open(picture).text["batch"]


def test_what_is_given_beside_it_replaces_its_own(run, at, again):
    assert run("generate", "--audio", "in/mid.wav", "--seed", 5, *STEPS, "--out", "a.png")[0] == 0
    assert run("generate", "--audio", "in/mid.wav", "--seed", 0, *STEPS, "--out", "seed.png")[0] == 0
    assert run("generate", "--audio", "in/low.wav", "--seed", 5, *STEPS, "--out", "low.png")[0] == 0
    assert again("a.png", "--seed", 0)[0] == 0 and same("x.png", "seed.png") and not same("x.png", "a.png")
    assert again("a.png", "--audio", "in/low.wav")[0] == 0 and same("x.png", "low.png")
    assert json.loads(Image.open("x.png").text["inputs"]) == {"audio": "in/low.wav"}
    assert again("a.png", "--steps", 3)[0] == 0 and not same("x.png", "a.png")


def test_folders_of_this_machine_stay_out_and_files_are_found_beside_the_picture(run, at, again, tmp_path):
    assert run("generate", "--audio", at / "in/mid.wav", *STEPS, "--out", "in/a.png")[0] == 0
    text = Image.open("in/a.png").text
    assert str(tmp_path) not in str(text) and "--audio=mid.wav" in text["command"]
    assert again("in/a.png")[0] == 0 and same("x.png", "in/a.png")
    shutil.move("in/a.png", "a.png")
    code, _, err = again("a.png")
    assert code == 1 and err == "bind2gen: error: mid.wav: a.png was made of it, it is not here; add --audio FILE\n"
    assert again("a.png", "--audio", at / "in/mid.wav") == (0, "", "") and same("x.png", "a.png")


def test_changed_files_other_models_and_pictures_of_others_are_one_line(run, at, again, tiny_folder, capsys):
    assert run("generate", "--audio", "in/mid.wav", *STEPS, "--keep-paths", "--out", "a.png")[0] == 0
    sound, rate = soundfile.read("in/mid.wav")
    soundfile.write("in/mid.wav", sound * 0.99, rate)
    code, _, err = again("a.png")
    assert code == 1 and err.startswith("bind2gen: error: in/mid.wav: changed since a.png was made of it; add --audio")
    code, _, err = run("generate", "--like", "a.png", "--model", tiny_folder, "--audio", "in/mid.wav", "--out", "x.png")
    assert code == 0 and "note: in/mid.wav is nothing that a.png was made of" in err
    soundfile.write("in/mid.wav", sound, rate)

    shutil.copytree(tiny_folder, "model")
    assert run("generate", "--audio", "in/mid.wav", *STEPS, "--model", "model", "--out", "b.png")[0] == 0
    assert (main(["generate", "--like", "b.png", "--out", "x.png", "-q"]), capsys.readouterr().err) == (0, "")
    weights = next(Path("model/unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-400] + bytes(400))
    assert main(["generate", "--like", "b.png", "--out", "y.png", "-q"]) == 1 and not Path("y.png").exists()
    err = capsys.readouterr().err
    assert (
        err.startswith("bind2gen: error: b.png: drawn by model with other weights than these;") and err.count("\n") == 1
    )
    shutil.rmtree("model")
    assert main(["generate", "--like", "b.png", "--out", "y.png", "-q"]) == 1
    assert "--model model: no such folder" in capsys.readouterr().err
    assert again("b.png")[0] == 0 and same("b.png", "x.png")

    Image.open("a.png").save("plain.png")
    Image.open("a.png").save("a.jpg")
    Path("none.png").write_bytes(b"no picture")
    for name, words in (
        ("plain.png", "holds what it was made of; found none"), ("a.jpg", "found none"),
        ("none.png", "cannot be read"), ("missing.png", "No such file"), ("in", "directory"),
    ):  # fmt: skip
        code, _, err = again(name)
        assert code == 1 and err.count("\n") == 1 and f"--like {name}" in err and words in err
