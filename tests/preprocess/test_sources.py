from __future__ import annotations

import io
import os
import threading

import pytest
import soundfile
import torch

from bind2gen.errors import UnreadableError
from bind2gen.preprocess import audio, video
from bind2gen.preprocess.sources import kept, one_line, opened, source_name


class Pipe(io.RawIOBase):
    """A stream that can be read once, forwards."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._data.readinto(buffer)


def test_callers_file_is_left_where_it_stood(tmp_path, write_video, sine):
    movie = write_video(tmp_path / "a.mp4", 75, 25, sound=(sine(3.0, 44_100), 44_100))
    with open(movie, "rb") as file:
        file.seek(100)
        for read in (video.load, video.load_audio_track, audio.load):
            read(file)
            assert file.tell() == 100 and not file.closed


def test_pipes_are_read_like_files(tmp_path, write_video, sine):
    movie = write_video(tmp_path / "a.mp4", 75, 25, sound=(sine(3.0, 44_100), 44_100))
    data = movie.read_bytes()
    assert torch.equal(video.load(Pipe(data)).frames, video.load(movie).frames)
    assert torch.equal(audio.load(Pipe(data)).samples, audio.load(movie).samples)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_named_pipes_are_read_like_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for wanted in (b"a sound", b"another"):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(wanted,))
        writer.start()
        with opened(tmp_path / "pipe", "a sound") as file:
            assert file.read() == wanted and file.seek(2) == 2 and file.read() == wanted[2:]
        writer.join()


def test_names_for_messages(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, [0.0, 0.5], 8_000)
    with open(path, "rb") as file:
        assert source_name(file) == source_name(path) == source_name(str(path)) == str(path)
    assert source_name(b"") == "bytes" and source_name(io.BytesIO()) == "file object"
    assert source_name(torch.zeros(1)) == "array"
    assert source_name("two\nlines\x1b.wav") == "two lines?.wav"
    assert one_line("a\n  b\tc") == "a b c" and len(one_line("x" * 999)) == 300


@pytest.mark.parametrize("name", ["a\0b.wav", "", "x" * 5000])
def test_impossible_paths_are_refused(name):
    with pytest.raises(UnreadableError), opened(name, "a sound file"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_what_a_pipe_gives_is_kept_with_its_name(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"abc",), daemon=True)
    writer.start()
    found = kept(path)
    assert (found.read(), source_name(found)) == (b"abc", str(path))
    assert kept(Pipe(b"abc")).read() == b"abc" and kept(b"abc") == b"abc" and kept(tmp_path) == tmp_path
    writer.join()
