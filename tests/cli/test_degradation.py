"""What the machine lacks: streams, room, a folder, names that are text. Each is one line or no odds at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from bind2gen.files.atomic import written_whole
from bind2gen.files.films import save_film

ROOT = Path(__file__).parents[2]
GONE = b"nothing.wav: no such file"


def command(*words: str, closed: tuple[int, ...] = (), shell: str = "", **options):
    """A command in a process of its own, some of its three streams closed: (exit code, stdout, stderr)."""
    line = [sys.executable, "-m", "bind2gen", *words]
    if closed or shell:
        ends = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
        line = ["sh", "-c", f'exec "$@" {ends} {shell}', "sh", *line]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    done = subprocess.run(line, capture_output=True, timeout=120, env=environment, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_make_no_odds(closed, tmp_path):
    code, out, err = command("embed", "--audio", "nothing.wav", "--json", "--out", "x.npz", closed=closed, cwd=tmp_path)
    assert code == 1
    assert out == b"" if 1 in closed else GONE in out
    assert err == b"" if 2 in closed else (GONE in err and err.count(b"\n") == 1)
    assert not list(tmp_path.iterdir())


def test_closed_standard_input_is_an_empty_one(tmp_path):
    code, _, err = command("embed", "--text", "-", "--out", "x.npz", closed=(0,), cwd=tmp_path)
    assert code == 1 and err.count(b"\n") == 1 and b"a sentence a line on standard input, got none" in err


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path):
    """Or what a library prints would be written into it."""
    code = (
        "import sys; from bind2gen.cli import _open_closed_streams as mend; mend(); "
        f"print('chatter'); file = open({str(tmp_path / 'x')!r}, 'w'); assert file.fileno() > 2; "
        "print('more', file=sys.stderr); sys.stdin.read() and 1 / 0"
    )
    line = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(line, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    assert (tmp_path / "x").read_bytes() == b""


def test_standard_output_that_was_closed_cannot_be_written_to(run, monkeypatch):
    with open(os.devnull, "w") as closed:  # as main() leaves it
        monkeypatch.setattr(sys, "stdout", closed)
        code, _, err = run("embed", "--text", "a dog", "--out", "-")
    assert code == 1 and "--out -: standard output is closed" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device there")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path):
    code, _, err = command("embed", "--audio", "nothing.wav", "--json", "--out", "x", shell=">/dev/full", cwd=tmp_path)
    assert code == 1 and err.count(b"\n") == 1
    line = command("embed", "--audio", "nothing.wav", "--json", "--out", "x", shell=">/dev/full 2>&1", cwd=tmp_path)
    assert line == (1, b"", b"")


def test_a_folder_that_was_deleted_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f'cd "{gone}" && rmdir "{gone}" && exec "{sys.executable}" -m bind2gen embed --text a --out x.npz'
    done = subprocess.run(["sh", "-c", line], capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr == b"bind2gen: error: the working directory is there no more; change to one that is\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("not this")])
def test_a_film_that_cannot_be_written_is_named_by_its_own_name(error, tmp_path, monkeypatch):
    import av

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(av, "open", refuse)
    with (
        pytest.raises(Exception, match=rf"^{tmp_path}/film.mp4: the film cannot be written \({error.args[-1]}\)$"),
        written_whole(tmp_path / "film.mp4") as temporary,
    ):
        from PIL import Image

        save_film(temporary, [Image.new("RGB", (16, 16))], fps=4)
    assert not list(tmp_path.iterdir())


def test_names_that_are_no_text_are_files_all_the_same(run, media, tmp_path):
    strange = tmp_path / os.fsdecode(b"b\xff\xfe.wav")
    try:
        shutil.copy(media / "low.wav", strange)
    except OSError:
        pytest.skip("the file system takes text alone")
    for words in (["matrix", strange, media / "mid.wav"], ["inspect", strange, "--as", "audio"]):
        code, _, err = run(*words, "--out", tmp_path / "x.png")
        assert code == 0, err
        (tmp_path / "x.png").unlink()
    code, _, err = run("embed", "--audio", strange, "--out", tmp_path / os.fsdecode(b"e\xff.npz"))
    assert code == 0 and (tmp_path / os.fsdecode(b"e\xff.npz")).is_file(), err


def test_four_gigabytes_of_sound_are_refused_before_they_are_read(run, tmp_path):
    """37 hours of silence, a file with a hole."""
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0")
    size = 2**32 - 2
    with open(tmp_path / "long.wav", "r+b") as file:
        for place, value in ((4, size - 8), (40, size - 44)):
            file.seek(place)
            file.write(value.to_bytes(4, "little"))
        file.truncate(size)
    code, _, err = run("embed", "--audio", tmp_path / "long.wav", "--out", tmp_path / "x.npz")
    assert code == 1 and err.count("\n") == 1 and "wanted at most 3600 s of sound" in err
