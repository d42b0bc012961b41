"""``bind2gen fit-gap`` on the toy encoder: folders, pairs, what cannot be read, embeddings instead of files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.files.embeddings import EmbeddingSet, save_embeddings
from bind2gen.space.adapter import EmbeddingAdapter

RATE = 16_000  # Hz
COUNT = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Pictures and sounds of the same names, and texts."""
    folder, noise = tmp_path_factory.mktemp("gap"), np.random.default_rng(0)
    for part in ("photos", "sounds"):
        (folder / part).mkdir()
    for k in range(COUNT):
        Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "photos" / f"r{k // 2}_{k}.png")
        soundfile.write(folder / "sounds" / f"r{k // 2}_{k}.wav", 0.1 * noise.standard_normal(RATE), RATE)
    (folder / "texts.txt").write_text("a dog\n\nrain\n the sea \n")
    return folder


def test_folders_become_an_adapter_with_figures_and_card(run, files, tiny_folder, tmp_path):
    words = ["--images", files / "photos", "--sounds", files / "sounds", "--text", files / "texts.txt"]
    code, stdout, stderr = run("fit-gap", *words, "--model", tiny_folder, "--out", tmp_path / "gap", "--json")
    assert (code, stderr) == (0, "")
    shown = json.loads(stdout)
    gaps = shown["left_out"]["modalities"]
    assert (gaps["audio"]["files"], gaps["audio"]["pairs"], gaps["text"]["files"]) == (COUNT, COUNT, 3)
    assert all(Path(name).is_file() for name in shown["files"]) and shown["skipped"] == []
    adapter = EmbeddingAdapter.from_pretrained(tmp_path / "gap")
    assert adapter.known == ["image", "audio", "text"] and adapter.config.norm == shown["left_out"]["norm"]
    assert set(adapter.config.encoder) == {"vision", "audio", "text"}
    card = (tmp_path / "gap" / "README.md").read_text()
    assert tiny_folder.name in card and str(files) not in card
    assert (tmp_path / "gap" / "metrics.json").is_file()

    sound = next((files / "sounds").iterdir())
    drawn = ["--audio", sound, "--adapter", tmp_path / "gap", "--steps", "2", "--out", tmp_path / "x.png", "-q"]
    assert run("generate", *drawn) == (0, "", "")
    code, table, _ = run("fit-gap", *words[:4], "--group", "^[^_]+", "--model", tiny_folder, "--out", tmp_path / "gap")
    assert code == 0 and "| audio |" in table and "Length of raw image vectors" in table


def test_what_cannot_be_read_is_left_out_and_listed(run, files, tiny_folder, tmp_path):
    shutil.copytree(files / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    words = ["--images", tmp_path / "photos", "--model", tiny_folder, "--out", tmp_path / "gap"]
    code, stdout, stderr = run("fit-gap", *words, "--json")
    assert code == 1 and [Path(entry["input"]).name for entry in json.loads(stdout)["skipped"]] == ["broken.png"]
    assert "1 of 7 inputs could not be read" in stderr and json.loads(stdout)["left_out"]["images"] == COUNT
    code, _, stderr = run("fit-gap", *words, "--no-keep-going", "-q", "--out", tmp_path / "none")
    assert code == 1 and stderr.count("\n") == 1 and not (tmp_path / "none").exists()


def test_embeddings_will_do_instead_of_files(run, tmp_path):
    rows = np.random.default_rng(0).standard_normal((2, 30, 8)).astype(np.float32)
    rows[0, :, 0] += 4
    unit = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    vectors = {"image": unit[0], "audio": unit[1]}
    inputs = {"image": [f"photos/{k}.jpg" for k in range(30)], "audio": [f"sounds/{k + 3}.wav" for k in range(30)]}
    save_embeddings(tmp_path / "x.npz", EmbeddingSet(vectors, inputs, {"model": "some"}))
    words = ["--embeddings", tmp_path / "x.npz", "--out", tmp_path / "gap"]
    code, stdout, stderr = run("fit-gap", *words, "--json")
    assert (code, stderr) == (0, "") and json.loads(stdout)["left_out"]["modalities"]["audio"]["pairs"] == 27
    adapter = EmbeddingAdapter.from_pretrained(tmp_path / "gap")
    assert adapter.config.norm is None and adapter.config.encoder is None
    assert abs(adapter.means.numpy() - np.stack([vectors[name].mean(0) for name in ("image", "audio")])).max() < 1e-6
    assert "not measured" in (tmp_path / "gap" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        ([], 2, "either files, --images and others, or --embeddings"),
        (["--images", "@photos", "--embeddings", "x.npz"], 2, "either files"),
        (["--sounds", "@sounds"], 2, "--images: wanted pictures"),
        (["--images", "@photos", "--group", "("], 2, "regular expression"),
        (["--images", "@none"], 1, "no such file"),
        (["--images", "@photos", "--text", "@photos"], 1, "wanted one text file, this is a folder"),
        (["--images", "@photos", "--imu", "@empty"], 1, "empty folder"),
        (["--images", "@photos", "--depth-sensor", "kinect_v2"], 2, "there is no depth input"),
        (["--embeddings", "@audio.npz"], 1, "wanted images among the embeddings"),
        (["--embeddings", "@none.npz"], 1, "none.npz"),
    ],
)
def test_bad_command_lines_are_one_line_and_leave_nothing(run, files, tiny_folder, tmp_path, words, code, wanted):
    (files / "empty").mkdir(exist_ok=True)
    alone = EmbeddingSet({"audio": np.eye(3, dtype=np.float32)}, {"audio": list("abc")}, {})
    save_embeddings(files / "audio.npz", alone)
    words = [word.replace("@", f"{files}/") for word in words]
    out = tmp_path / "gap"
    got, stdout, stderr = run("fit-gap", *words, "--model", tiny_folder, "--out", out, "-q")
    assert (got, stdout, stderr.count("\n")) == (code, "", 1) and wanted in stderr
    assert not out.exists()


def test_a_strange_folder_is_not_written_over(run, files, tiny_folder, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    code, _, stderr = run("fit-gap", "--images", files / "photos", "--model", tiny_folder, "--out", tmp_path)
    assert code == 1 and "is there already" in stderr and (tmp_path / "README.md").read_text() == "mine"
