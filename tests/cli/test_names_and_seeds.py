"""What inputs are called in what is written, and the seeds that several of them get."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bind2gen.cli import names
from bind2gen.cli.names import display_names
from bind2gen.cli.seeds import SPREAD, first_seeds
from bind2gen.files.embeddings import load_embeddings

STEPS = ["--steps", "2"]
HOME = "/home/someone"


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setattr(names, "_home", lambda: Path(HOME))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["sub/a.wav", "./sub/b.wav", "../c.wav"], ["sub/a.wav", "sub/b.wav", "../c.wav"]),
        (["/data/deep/a.wav"], ["a.wav"]),
        (["/data/x/same.wav", "/data/y/same.wav", "/data/y/b.wav"], ["x/same.wav", "y/same.wav", "y/b.wav"]),
        ([f"{HOME}/x/same.wav", f"{HOME}/y/same.wav"], ["x/same.wav", "y/same.wav"]),
        ([f"{HOME}/same.wav", "/data/same.wav"], ["same.wav", "data/same.wav"]),
        ([f"{HOME}/music/a.wav", "/home/other/b.wav"], ["a.wav", "b.wav"]),  # not someone/music/a.wav
        (["/tmp/a.wav", "/data/b.wav"], ["a.wav", "b.wav"]),
        (["example:dog", "/data/dog.wav"], ["example:dog", "dog.wav"]),
        ([HOME], ["someone"]),  # a folder of motion files
        (["/data/a.wav", "/data/a.wav"], ["a.wav", "a.wav"]),
    ],
)
def test_names_tell_files_apart_without_folders_of_this_machine(values, wanted):
    assert display_names(values, "audio") == wanted
    assert values == [HOME] or not any("someone" in name for name in wanted)


def test_a_relative_and_an_absolute_file_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = display_names(["same.wav", str(tmp_path / "other" / "same.wav")], "audio")
    assert found == [f"{tmp_path.name}/same.wav", "other/same.wav"]
    assert display_names(["."], "imu") == [tmp_path.name]
    assert display_names(["/data/a", "b"], "text") == ["/data/a", "b"]


def test_embed_and_pictures_name_files_of_one_name_apart(run, media, tmp_path, monkeypatch):
    for folder, name in (("x", "low"), ("y", "mid")):
        (tmp_path / folder).mkdir()
        shutil.copy(media / f"{name}.wav", tmp_path / folder / "same.wav")
    given = [tmp_path / "x" / "same.wav", tmp_path / "y" / "same.wav"]
    assert run("embed", "--audio", *given, "--out", tmp_path / "a.npz", "--quiet")[0] == 0
    assert load_embeddings(tmp_path / "a.npz").inputs["audio"] == ["x/same.wav", "y/same.wav"]
    monkeypatch.chdir(tmp_path)
    given = [os.path.join("x", "same.wav"), os.path.join("y", "same.wav")]
    code, stdout, _ = run("generate", "--audio", *given, *STEPS, "--out", "drawn", "--json", "--quiet")
    pictures = json.loads(stdout)["pictures"]
    assert (code, [picture["inputs"]["audio"] for picture in pictures]) == (0, ["x/same.wav", "y/same.wav"])
    assert json.loads(Image.open(pictures[1]["file"]).text["inputs"]) == {"audio": "y/same.wav"}


def test_several_inputs_get_seeds_of_their_own_that_depend_on_what_they_hold(media, tmp_path):
    low, mid, high = (str(media / f"{name}.wav") for name in ("low", "mid", "high"))
    assert first_seeds({"audio": [low]}, 7) == [7]
    assert first_seeds({"audio": [low], "text": ["a"]}, 7) == [7]
    seeds = first_seeds({"audio": [low, mid, high]}, 0)
    assert len(set(seeds)) == 3 and all(0 <= seed < SPREAD for seed in seeds)
    moved = str(shutil.copy(low, tmp_path / "renamed.wav"))
    assert first_seeds({"audio": [high, moved]}, 5) == [seeds[2] + 5, seeds[0] + 5]
    assert first_seeds({"audio": [low, mid, high], "text": ["shared"]}, 0) == seeds
    assert first_seeds({"audio": [low, mid], "image": [mid, low]}, 0) != seeds[:2]
    texts = first_seeds({"text": ["a dog", 5000 * "a cat", "a dog"]}, 0)
    assert texts[0] == texts[2] != texts[1]
    for folder, value in (("walk", 1), ("run", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Accelerometer.csv").write_text(f"x\n{value}\n")
    folders = [str(tmp_path / "walk"), str(tmp_path / "run")]
    assert len(set(first_seeds({"imu": folders}, 0))) == 2


def test_each_of_several_inputs_counts_up_from_its_own_seed(run, media, tmp_path):
    sounds = [media / f"{name}.wav" for name in ("low", "mid")]
    _, stdout, _ = run("generate", "--audio", *sounds, *STEPS, "--seed", 2, "--num-images", 2, "--json", "--quiet",
                       "--out", tmp_path / "all")  # fmt: skip
    low, mid = first_seeds({"audio": [str(sound) for sound in sounds]}, 2)
    assert [picture["seed"] for picture in json.loads(stdout)["pictures"]] == [low, low + 1, mid, mid + 1]
