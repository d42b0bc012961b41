"""The visitors' folder: what is old goes, what is young or the page's own stays, and nobody fills it for the others."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from bind2gen.errors import TooLargeError
from bind2gen.files.own_folder import own_folder
from bind2gen.files.pictures import DESCRIPTION, enlarged, exif_text
from bind2gen.studio.files import PREFIX, SMALLEST, VisitorFiles, file_name

MB = 1 << 20


@pytest.fixture
def clock():
    """Seconds that pass when they are told to; files are written in real ones."""

    class Clock:
        ahead = 0.0

        def __call__(self):
            return time.time() + self.ahead

    return Clock()


@pytest.fixture
def kept(tmp_path, clock):
    return VisitorFiles(tmp_path / "ours", age=60, check=10, megabytes=3, each=1, clock=clock)


def test_results_and_whatever_else_lies_there_are_deleted_at_their_age_and_not_before(kept, clock):
    picture, moving = kept.save(Image.new("RGB", (8, 8))), kept.save(b"webp", ".webp")
    assert Image.open(picture).size == (8, 8) and Path(moving).read_bytes() == b"webp"
    (kept.folder / "tmpabc").write_bytes(b"an upload that broke off")
    clock.ahead = 55
    assert kept.sweep() == set() and Path(picture).is_file()
    clock.ahead = 65
    young = kept.save(b"young")  # of now, for the clock of the disk does not run ahead
    os.utime(young, (clock(), clock()))
    assert kept.sweep() == {picture, moving, str(kept.folder / "tmpabc")}
    assert [path for path in kept.folder.rglob("*") if path.is_file()] == [Path(young)]
    clock.ahead = 200
    kept.sweep()
    assert list(kept.folder.iterdir()) == []  # nor do empty folders stay


def test_a_file_handed_out_again_lives_for_its_age_from_then(kept, clock):
    path = kept.save(b"again")
    clock.ahead = 50
    os.utime(path, (clock(), clock()))  # what Gradio does
    clock.ahead = 100
    assert kept.sweep() == set()
    clock.ahead = 120
    assert kept.sweep() == {path}


def test_the_pages_own_files_stay(kept, clock):
    mine = kept.save(b"example")
    kept.keep_present()
    yours = kept.save(b"drawing")
    clock.ahead = 1e6
    assert kept.sweep() == {yours} and Path(mine).is_file()


def test_nothing_outside_the_folder_is_deleted(kept, clock, tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "precious").write_text("precious")
    kept.folder.mkdir()
    (kept.folder / "file").symlink_to(tmp_path / "else" / "precious")
    (kept.folder / "folder").symlink_to(tmp_path / "else")
    clock.ahead = 1e6
    kept.sweep()
    assert list(kept.folder.iterdir()) == []  # the links themselves
    assert (tmp_path / "else" / "precious").read_text() == "precious"


def test_one_address_has_its_share_and_gets_it_back_when_its_files_are_gone(kept, clock):
    kept.charge("a", MB - SMALLEST)
    kept.save(b"tiny", visitor="a")  # counts for the smallest
    with pytest.raises(TooLargeError, match="at most 1 MB of uploads and pictures an hour for one address"):
        kept.save(b"tiny", visitor="a")
    assert len(list(kept.folder.iterdir())) == 1  # what is refused is not written
    kept.charge("b", MB)
    kept.charge("c", MB)
    with pytest.raises(TooLargeError, match="no room"):
        kept.charge("d", 1)
    clock.ahead = 65
    with pytest.raises(TooLargeError):  # they may lie there until the next look
        kept.charge("d", 1)
    clock.ahead = 71
    for visitor in "abcd"[:3]:
        kept.charge(visitor, MB)
    assert kept._total == 3 * MB and set(kept._sums) == set("abc")


def test_the_folder_of_a_killed_server_is_deleted_and_that_of_a_living_one_is_not(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"{PREFIX}dead0000"  # what is left when nobody cleans up: a folder that no process holds
    (dead / "token").mkdir(parents=True)
    (tmp_path / f"{PREFIX}of-mine").mkdir()  # not called as tempfile calls them
    (dead / "token" / "photo").write_text("x")
    (tmp_path / "other").mkdir()
    with own_folder(PREFIX) as living:
        assert not dead.exists()
        (living / "photo").write_text("x")
        (tmp_path / f"{PREFIX}link0000").symlink_to(tmp_path / "other")
        with own_folder(PREFIX) as folder:
            there = {folder.name, living.name, f"{PREFIX}link0000", f"{PREFIX}of-mine", "other"}
            assert {path.name for path in tmp_path.iterdir()} == there
            assert (living / "photo").read_text() == "x"
        assert not folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {f"{PREFIX}link0000", f"{PREFIX}of-mine", "other"}


def test_a_picture_is_kept_with_what_it_was_made_of_under_a_plain_name(tmp_path):
    files = VisitorFiles(tmp_path)
    about = {"seed": 7, "words": "Füße / 雨", "heard": {"rain": 0.5}}
    path = files.save(Image.new("RGB", (4, 3)), file_name("Füße", "../rain  (seed 7)"), about=about)
    assert Path(path).name == "füße-rain-seed-7.png"
    with Image.open(path) as kept:
        assert kept.text["seed"] == "7" and kept.text["words"] == about["words"]
        assert json.loads(kept.text["heard"]) == about["heard"]
        assert kept.text["Software"].startswith("bind2gen ")
    assert file_name("/ .", suffix=".webp") == "bind2gen.webp" and len(file_name("a b " * 50)) <= 64


def test_small_pictures_are_enlarged_by_a_whole_number_and_large_ones_stay():
    small, large = Image.new("RGB", (64, 48)), Image.new("RGB", (600, 20))
    assert enlarged(small, 512).size == (512, 384) and enlarged(Image.new("RGB", (100, 90)), 512).size == (600, 540)
    assert enlarged(large, 512) is large
    exif = json.loads(exif_text({"threshold": 0.5})[DESCRIPTION])
    assert exif["threshold"] == 0.5
