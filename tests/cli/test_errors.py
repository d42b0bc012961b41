"""Every wrong command line and bad input is one line on stderr, the right exit code, and no trace on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.cli import generate as generate_command
from bind2gen.files.atomic import written_whole

RATE = 16_000  # Hz
STEPS = ["--steps", "2"]
USAGE_ERRORS = {  # name: (words, what the line says)
    "no command": ([], "COMMAND"),
    "unknown command": (["paint"], "paint"),
    "no out": (["generate", "--text", "a"], "--out"),
    "no input": (["generate", "--out", "x.png"], "no input"),
    "unknown command, nearly right": (["generat", "--text", "a"], "did you mean generate?"),
    "option cut short": (["generate", "--text", "a", "--num", "2", "--out", "x.png"], "--num"),
    "another word for an option": (["embed", "--sound=P", "--out", "x.npz"], "did you mean --audio?"),
    "misspelt option": (["detect", "P", "--treshold", "1"], "did you mean --threshold? (see bind2gen detect --help)"),
    "threshold above one": (["detect", "P", "--text", "a", "--threshold", "2"], "wanted a number in 0..1, got '2'"),
    "standard input twice": (["embed", "--audio", "-", "--image", "-", "--out", "x.npz"], "only once"),
    "several pictures to stdout": (["generate", "--text", "a", "b", "--out", "-"], "2 pictures; name a folder"),
    "names for some prompts": (["detect", "P", "--text", "a", "b", "--labels", "x"], "wanted 2 names, one a prompt"),
    "quiet and verbose": (["info", "-q", "-v"], "not allowed with"),
    "unknown suffix": (["generate", "--text", "a", "--out", "x.bmpp"], ".png, .jpg"),
    "unknown embedding suffix": (["embed", "--text", "a", "--out", "x.csv"], ".npz"),
    "several inputs, one file": (["generate", "--text", "a", "b", "--out", "x.png"], "name a folder"),
    "counts differ": (["generate", "--text", "a", "b", "c", "--image", "P", "P", "--out", "."], "3 of text"),
    "weight without number": (["generate", "--text", "a", "--weight", "text", "--out", "x.png"], "MODALITY=NUMBER"),
    "weight not finite": (["generate", "--text", "a", "--weight", "text=nan", "--out", "x.png"], "finite"),
    "weight of unknown kind": (["generate", "--text", "a", "--weight", "smell=1", "--out", "x.png"], "smell"),
    "weight of nothing given": (["generate", "--text", "a", "--weight", "audio=1", "--out", "x.png"], "no --audio"),
    "all weights zero": (["generate", "--text", "a", "--weight", "text=0", "--out", "x.png"], "zero"),
    "only a negative weight": (["generate", "--text", "a", "--weight", "text=-1", "--out", "x.png"], "zero"),
    "a weight given twice": (["generate", "--text", "a", "--weight", "text=1", "text=2", "--out", "x.png"], "twice"),
    "no steps": (["generate", "--text", "a", "--steps", "0", "--out", "x.png"], "1..1000, got '0'"),
    "steps not whole": (["generate", "--text", "a", "--steps", "2.5", "--out", "x.png"], "2.5"),
    "negative seed": (["generate", "--text", "a", "--seed=-1", "--out", "x.png"], "--seed"),
    "seed beyond 64 bits": (["generate", "--text", "a", "--seed", str(2**64), "--out", "x.png"], "--seed"),
    "last seed beyond": (["generate", "--text=a", f"--seed={2**63 - 1}", "--num-images=2", "--out=x.png"], "--seed"),
    "no pictures": (["generate", "--text", "a", "--num-images", "0", "--out", "x.png"], "--num-images"),
    "too much noise": (["generate", "--text", "a", "--noise-level", "1000", "--out", "x.png"], "0..999"),
    "guidance not a number": (["generate", "--text", "a", "--guidance", "inf", "--out", "x.png"], "finite"),
    "unknown dtype": (["generate", "--text", "a", "--dtype", "int8", "--out", "x.png"], "int8"),
    "unknown device": (["generate", "--text", "a", "--device", "tpu", "--out", "x.png"], "tpu"),
    "unknown modality": (["convert", "P", "out", "--modalities", "smell"], "smell"),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGE_ERRORS)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(name, run, media, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, says = USAGE_ERRORS[name]
    code, stdout, stderr = run(*(str(media / "noise.png") if word == "P" else word for word in words))
    assert code == 2
    assert stdout == ""
    assert stderr.startswith("bind2gen: error: ")
    assert stderr.count("\n") == 1
    assert says in stderr
    assert list(tmp_path.iterdir()) == []


def make_bad_files(folder: Path) -> None:
    """What the table below names."""
    (folder / "text.wav").write_text("this is no sound " * 50)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "folder.wav").mkdir()
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    soundfile.write(folder / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(folder / "good.wav", 0.1 * np.sin(np.arange(2 * RATE) / 5), RATE)
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:30])
    (folder / "text.png").write_text("this is no picture")
    Image.new("RGB", (64, 64)).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:60])
    (folder / "text.mp4").write_text("this is no video " * 50)
    (folder / "wall").write_text("a file where a folder is wanted")
    (folder / "model").mkdir()
    (folder / "odd").mkdir()
    (folder / "odd" / "model_index.json").write_text("{not json")
    (folder / "pictures.npz").mkdir()


OUT, SOUND = ["--out", "@x.png"], ["--audio", "@good.wav"]
BAD_INPUTS: dict[str, tuple[list[str], str]] = {  # name: (words, @ for the folder of the test; what the line says)
    "missing sound": (["generate", "--audio", "@none.wav", *OUT], "none.wav: no such file"),
    "one of two missing": (["generate", *SOUND, "@none.wav", "--out", "@new"], "none.wav"),
    "text as a sound": (["generate", "--audio", "@text.wav", *OUT], "text.wav"),
    "empty file": (["generate", "--audio", "@empty.wav", *OUT], "0 bytes"),
    "folder as a sound": (["generate", "--audio", "@folder.wav", *OUT], "this is a folder"),
    "NaN in a sound": (["generate", "--audio", "@nan.wav", *OUT], "nan.wav"),
    "sound without samples": (["generate", "--audio", "@nothing.wav", *OUT], "nothing.wav"),
    "sound cut in its header": (["embed", "--audio", "@cut.wav", "--out", "@x.npz"], "cut.wav"),
    "text as a picture": (["generate", "--image", "@text.png", *OUT], "text.png"),
    "picture cut short": (["generate", "--image", "@cut.png", *OUT], "cut.png"),
    "text as a video": (["generate", "--video", "@text.mp4", *OUT], "text.mp4"),
    "picture as a sound": (["generate", "--audio", "@whole.png", *OUT], "whole.png"),
    "text of blanks": (["generate", "--text", "  ", *OUT], "--text"),
    "null byte in a name": (["generate", "--audio", "a\0b.wav", *OUT], "no such file"),
    "very long name": (["generate", "--audio", "a" * 5000, *OUT], "name too long"),
    "unknown example": (["generate", "--audio", "example:unicorn", *OUT], "example:unicorn"),
    "folder of the picture missing": (
        ["generate", *SOUND, "--out", "@none/x.png"],
        "there is no folder",
    ),
    "file as the folder": (["generate", *SOUND, "--out", "@wall/sub"], "is a file"),
    "file as a folder for several": (["generate", *SOUND, *SOUND, "--out", "@wall"], "is a file"),
    "folder as the file": (["embed", *SOUND, "--out", "@pictures.npz"], "this is a folder"),
    "input would be overwritten": (
        ["generate", "--image", "@whole.png", "--out", "@whole.png"],
        "would be overwritten",
    ),
    "model missing": (["generate", *SOUND, *OUT, "--model", "@none"], "no such folder"),
    "model folder without index": (["generate", *SOUND, *OUT, "--model", "@model"], "model_index.json"),
    "model index damaged": (["generate", *SOUND, *OUT, "--model", "@odd"], "cannot be read"),
    "encoder missing": (
        ["embed", *SOUND, "--out", "@x.npz", "--imagebind", "@none"],
        "--imagebind",
    ),
    "encoder is a text": (["embed", *SOUND, "--out", "@x.npz", "--imagebind", "@wall"], "wall"),
    "conversion of nothing": (["convert", "@none.pth", "@out"], "none.pth"),
    "conversion of a text": (["convert", "@wall", "@out"], "wall"),
    "conversion into a file": (["convert", "@good.wav", "@wall"], "is a file"),
    "no such CUDA device": (["generate", *SOUND, *OUT, "--device", "cuda:99"], "no such device"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_is_one_line_and_exit_code_1_and_leaves_nothing(name, run, tmp_path):
    make_bad_files(tmp_path)
    words, says = BAD_INPUTS[name]
    before = sorted(tmp_path.rglob("*"))
    code, stdout, stderr = run(*(word.replace("@", f"{tmp_path}/") for word in words), "--quiet")
    assert code == 1
    assert stdout == ""
    assert stderr.startswith("bind2gen: error: ")
    assert stderr.count("\n") == 1
    assert says in stderr
    assert "unexpected" not in stderr  # every one of these is foreseen
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_may_not_be_written_to_is_refused_early(run, media, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write anywhere
    code, _, stderr = run("generate", "--audio", media / "mid.wav", "--out", tmp_path / "x.png")
    assert (code, stderr) == (1, f"bind2gen: error: --out {tmp_path / 'x.png'}: may not write to {tmp_path}\n")


def test_with_json_an_error_is_a_document_too(run, tmp_path):
    code, stdout, stderr = run("generate", "--audio", "none.wav", "--out", tmp_path / "x.png", "--json")
    assert code == 1
    assert json.loads(stdout) == {"error": "none.wav: no such file", "exit_code": 1}
    assert stderr == "bind2gen: error: none.wav: no such file\n"


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines; set BIND2GEN_DEBUG=1 for the traceback"),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(raised, code, says, run, media, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.delenv("BIND2GEN_DEBUG", raising=False)
    monkeypatch.setattr(generate_command, "load_chosen", fail)
    found, stdout, stderr = run("generate", "--audio", media / "mid.wav", "--out", tmp_path / "x.png")
    assert (found, stdout) == (code, "")
    assert stderr.startswith(f"bind2gen: error: {says}")
    assert stderr.count("\n") == 1
    monkeypatch.setenv("BIND2GEN_DEBUG", "1")
    assert "Traceback" in run("generate", "--audio", media / "mid.wav", "--out", tmp_path / "x.png")[2]


def test_a_picture_that_cannot_be_saved_leaves_the_old_one(run, media, tmp_path, monkeypatch):
    out = tmp_path / "x.png"
    out.write_bytes(b"old: bind2gen 0.1")

    def half(self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    code, _, stderr = run("generate", "--audio", media / "mid.wav", *STEPS, "--quiet", "--out", out)
    assert (code, stderr) == (1, f"bind2gen: error: {out}: cannot be written (No space left on device)\n")
    assert out.read_bytes() == b"old: bind2gen 0.1"
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_a_reader_that_goes_away_is_no_traceback():
    words = [sys.executable, "-m", "bind2gen", "info", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_told_to_end_it_says_so_in_one_line_and_puts_everything_away(run, media, tmp_path, monkeypatch):
    def told(*_: object, **__: object) -> None:
        with written_whole(tmp_path / "x.png") as temporary:
            temporary.write_text("half")
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(generate_command, "load_chosen", told)
    words = ["generate", "--audio", media / "mid.wav", "--out", tmp_path / "x.png"]
    assert run(*words) == (143, "", "bind2gen: error: terminated\n")
    assert not list(tmp_path.iterdir()) and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))  # a host of this process minds it itself
    try:
        assert run(*words)[0] != 143 and heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)
