"""What commands read and write: folders, pipes, what cannot be read, and what was there before."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bind2gen.cli import build_parser, main
from bind2gen.cli.files import check_own, save_picture
from bind2gen.errors import Bind2GenError
from bind2gen.files.embeddings import FORMATS, EmbeddingSet, load_embeddings, save_embeddings

BROKEN = b"this is no sound " * 50
STEPS = ["--steps", "2"]


@pytest.fixture
def sounds(media, tmp_path):
    """Two sounds, one broken file between them in order, and what is no sound."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("high", "mid"):
        shutil.copy(media / f"{name}.wav", folder)
    (folder / "low.WAV").write_bytes(BROKEN)
    (folder / "notes.txt").write_text("no sound, and not taken for one")
    return folder


def vectors(path, name="audio"):
    return load_embeddings(path).vectors[name]


def test_a_folder_is_its_files_and_what_cannot_be_read_is_left_out_and_listed(run, media, sounds, tmp_path):
    code, out, err = run("embed", "--audio", sounds, "--out", tmp_path / "x.npz", "--json")
    document = json.loads(out)
    assert code == 1 and document["embeddings"]["audio"]["inputs"] == ["high.wav", "mid.wav"]
    [skipped] = document["skipped"]
    assert skipped["input"] == str(sounds / "low.WAV") and "low.WAV: wanted a sound" in skipped["reason"]
    assert f"bind2gen: skipped: {sounds / 'low.WAV'}: wanted a sound" in err
    assert err.splitlines()[-1] == "bind2gen: error: 1 of 3 inputs could not be read and were left out"
    alone = [media / "high.wav", media / "mid.wav"]
    assert run("embed", "--audio", *alone, "--out", tmp_path / "y.npz")[0] == 0
    assert np.allclose(vectors(tmp_path / "x.npz"), vectors(tmp_path / "y.npz"), atol=1e-6)  # other batches


def test_worker_processes_change_neither_rows_nor_what_is_left_out(run, media, sounds, tmp_path):
    for number in range(7):  # batches of whole ones, of one broken one and of nothing else
        shutil.copy(media / ("low.wav", "high.wav")[number % 2], sounds / f"n{number}.wav")
    for number in range(4):
        (sounds / f"m{number}.wav").write_bytes(BROKEN)
    told = []
    for workers in (0, 2):
        out = tmp_path / f"{workers}.npz"
        words = ["--audio", sounds, "--image", media / "noise.png", "--text", "a dog", "--batch-size", 3]
        code, stdout, err = run("embed", *words, "--workers", workers, "--out", out, "--json")
        document = json.loads(stdout)
        paces, loaded = document.pop("pace"), load_embeddings(out)
        assert code == 1 and {name: pace["inputs"] for name, pace in paces.items()} == {
            "audio": 14,
            "image": 1,
            "text": 1,
        }
        assert paces["audio"]["workers"] == workers and paces["text"]["workers"] == 0
        told.append((document | {"file": ""}, err, loaded))
    assert told[0][:2] == told[1][:2] and len(told[0][0]["skipped"]) == 5
    for name, rows in told[0][2].vectors.items():
        assert np.abs(rows - told[1][2].vectors[name]).max() < 1e-6  # as of other batches
    code, _, err = run("embed", "--audio", sounds / "high.wav", sounds / "m0.wav", "--workers", 2, "--out", "x.npz")
    assert code == 1 and "m0.wav: wanted a sound" in err and len(err.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("number", "code", "words"), [(2, 130, "interrupted"), (15, 143, "terminated")])
def test_told_to_end_a_run_takes_its_workers_along(number, code, words, tiny_folder, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    (tmp_path / "many").mkdir()
    Image.fromarray(noise).save(tmp_path / "many" / "0.png")
    for other in range(1, 2000):
        os.link(tmp_path / "many" / "0.png", tmp_path / "many" / f"{other}.png")
    command = ["embed", "--image", "many", "--model", tiny_folder, "--workers", "2", "--out", "x.npz"]
    child = subprocess.Popen(
        [sys.executable, "-c", ENDABLE, *command], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    while len(started := _below(child.pid)) < 4 and child.poll() is None:  # two servers of Python's, two workers
        time.sleep(0.05)
    os.killpg(child.pid, number)  # as a terminal or a supervisor does
    err = child.communicate(timeout=60)[1].decode()
    assert (child.returncode, err) == (code, f"bind2gen: error: {words}\n")
    until = time.monotonic() + 20
    while (left := [pid for pid in started if os.path.exists(f"/proc/{pid}")]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left and len(started) >= 4 and [path.name for path in tmp_path.iterdir()] == ["many"]


ENDABLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a script
from bind2gen.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _below(pid):
    """Processes that a process started, and that these did."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = list(map(int, file.read().split()))
    except OSError:
        return []
    return [found for child in children for found in (child, *_below(child))]


def test_files_that_are_named_end_the_run_unless_told_to_keep_going(run, media, sounds, tmp_path):
    files = [media / "high.wav", sounds / "low.WAV", tmp_path / "missing.wav", media / "mid.wav"]
    for given in ([*files[:2], files[3], "--out", tmp_path / "x.npz"], [sounds, "--no-keep-going", "--out", "x.npz"]):
        code, out, err = run("embed", "--audio", *given)
        assert code == 1 and out == "" and "low.WAV" in err and "audio[" not in err
        assert "; --keep-going leaves such inputs out" in err
    assert not (tmp_path / "x.npz").exists()
    words = ["--text", "a dog", *STEPS, "--json", "--batch-size", "3"]
    code, out, _ = run("generate", "--audio", *files, *words, "--keep-going", "--out", tmp_path / "some")
    kept = json.loads(out)
    assert code == 1 and [one["input"] for one in kept["skipped"]] == [str(file) for file in files[1:3]]
    assert {path.name for path in (tmp_path / "some").iterdir()} == {"high.png", "mid.png"}
    code, out, _ = run("generate", "--audio", files[0], files[3], *words, "--out", tmp_path / "all")
    assert code == 0 and [p["seed"] for p in json.loads(out)["pictures"]] == [p["seed"] for p in kept["pictures"]]
    for name in ("high.png", "mid.png"):
        found, wanted = (np.asarray(Image.open(tmp_path / folder / name)).astype(int) for folder in ("some", "all"))
        assert abs(found - wanted).max() <= 1


def test_where_nothing_can_be_read_nothing_is_written(run, sounds, tmp_path):
    (sounds / "high.wav").write_bytes(BROKEN)
    (sounds / "mid.wav").write_bytes(b"")
    for words in (["embed", "--out", tmp_path / "x.npz"], ["embed", "--timeline", "--out", tmp_path / "x.npz"],
                  ["generate", "--out", tmp_path / "pictures"]):  # fmt: skip
        code, out, err = run(*words, "--audio", sounds)
        assert code == 1 and out == "" and "bind2gen: error: none of the" in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]
    (sounds / "empty").mkdir()
    assert "this is a folder without audio files" in run("embed", "--audio", sounds / "empty", "--out", "x.npz")[2]


def test_a_timeline_keeps_going_too(run, media, sounds, tmp_path):
    assert run("embed", "--audio", sounds, "--timeline", "--out", tmp_path / "x.npz")[0] == 1
    assert set(load_embeddings(tmp_path / "x.npz").inputs["audio"]) == {"high.wav", "mid.wav"}


def test_standard_input_is_a_file_or_lines_of_text(run, media, tmp_path, monkeypatch):
    for given, words in ((media / "mid.wav", ["--audio", "-"]), (None, ["--text", "-"])):
        data = given.read_bytes() if given else b"a dog\n\n  rain \n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert run("embed", *words, "--out", tmp_path / "piped.npz")[0] == 0
        plain = ["--audio", given] if given else ["--text", "a dog", "rain"]
        assert run("embed", *plain, "--out", tmp_path / "plain.npz")[0] == 0
        name = words[0][2:]
        assert np.array_equal(vectors(tmp_path / "piped.npz", name), vectors(tmp_path / "plain.npz", name))
    assert load_embeddings(tmp_path / "piped.npz").inputs["text"] == ["a dog", "rain"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_a_pipe_that_can_be_read_only_once_is_a_file_too(run, media, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((media / "mid.wav").read_bytes()))
    writer.start()
    code, _, err = run("embed", "--audio", pipe, "--out", tmp_path / "x.npz")
    writer.join()
    assert code == 0, err


def test_standard_output_gets_the_picture_or_the_embeddings_and_nothing_else(tiny_folder, monkeypatch):
    def written(*words: str) -> bytes:
        stdout = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main([*words, "--text", "a dog", "--model", str(tiny_folder), "--out", "-"]) == 0
        return stdout.buffer.getvalue()

    picture = Image.open(io.BytesIO(written("generate", *STEPS)))
    assert picture.format == "PNG" and picture.text["Software"].startswith("bind2gen ")
    assert json.loads(written("embed"))["embeddings"]["text"]["inputs"] == ["a dog"]
    assert main(["embed", "--text", "a dog", "--model", str(tiny_folder), "--out", "-", "--json"]) == 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", *FORMATS])
def test_only_what_bind2gen_made_is_overwritten_unasked(suffix, tmp_path):
    path, unasked = tmp_path / f"x{suffix}", SimpleNamespace(overwrite=False)

    def made():
        if suffix in FORMATS:
            save_embeddings(path, EmbeddingSet({"text": np.eye(2, 3000, dtype=np.float32)}, {"text": ["a", "b"]},
                                               {"bind2gen": "0.1"}))  # fmt: skip
        else:
            pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
            save_picture(Image.fromarray(pixels), path, {"seed": 1})

    made()
    check_own([path], unasked)
    if suffix in FORMATS:
        save_embeddings(path, EmbeddingSet({"text": np.eye(2, dtype=np.float32)}, {"text": ["a", "b"]}, {}))
    else:
        Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(Bind2GenError, match="bind2gen did not make it; --overwrite replaces it"):
        check_own([path, tmp_path / "none.png"], unasked)
    check_own([path], SimpleNamespace(overwrite=True))


def test_strange_files_stay_before_anything_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x.png", "x.npz", "some/a-dog.png", "fitted/README.md", "converted/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "weights.pth").write_text("none")
    for words in (["generate", "--text", "a dog", "--out", "x.png"], ["embed", "--text", "a", "--out", "x.npz"],
                  ["generate", "--text", "a dog", "--out", "some"], ["fit-class-map", "map_owlv2", "--out", "fitted"],
                  ["convert", "weights.pth", "converted"]):  # fmt: skip
        code, _, err = run(*words)
        assert code == 1 and "is there already" in err, err
    assert {p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == {"mine", "none"}
    assert run("generate", "--text", "a dog", *STEPS, "--out", "x.png", "--overwrite", "-q") == (0, "", "")
    assert run("generate", "--text", "a dog", *STEPS, "--out", "x.png", "-q") == (0, "", "")


def test_verbose_says_what_is_loaded_and_how_long_it_took(run, tiny_folder, tmp_path):
    words = ["embed", "--text", "a dog", "--out", tmp_path / "x.npz"]
    err = run(*words, "-v")[2]
    assert f"loading the encoder of {tiny_folder.name} on cpu in torch.float32" in err and "done in " in err
    assert run(*words)[2] == ""


def parsers(parser, name="bind2gen"):
    yield name, parser
    for action in parser._actions:
        for command, inner in (action.choices or {}).items() if hasattr(action, "_name_parser_map") else ():
            yield from parsers(inner, f"{name} {command}")


@pytest.mark.parametrize(("name", "parser"), list(parsers(build_parser())))
def test_help_shows_every_default(name, parser):
    for action in parser._actions:
        if action.default != "==SUPPRESS==" and (action.default or type(action.default) is int):
            alone = type(parser)(prog=name, add_help=False)
            alone._add_action(action)
            assert f"default: {action.default}" in " ".join(alone.format_help().split()), action.option_strings
