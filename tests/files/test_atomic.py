from __future__ import annotations

from pathlib import Path

from bind2gen.files.atomic import swap_in


def filled(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "x").write_text(text)
    return folder


def test_a_folder_takes_the_place_of_another_which_stays_beside_it(tmp_path):
    for number in range(3):
        swap_in(filled(tmp_path / "new", str(number)), tmp_path / "run")
    assert {path.name: (path / "x").read_text() for path in tmp_path.iterdir()} == {"run": "2", "run.old": "1"}


def test_the_older_one_stays_where_the_newer_is_missing_after_a_kill(tmp_path):
    filled(tmp_path / "run.old", "old")
    swap_in(filled(tmp_path / "new", "new"), tmp_path / "run")
    assert (tmp_path / "run/x").read_text() == "new" and (tmp_path / "run.old/x").read_text() == "old"
