from __future__ import annotations

import shutil

import numpy as np
import pytest
from mini_folder import HELD_OUT, SOUNDS

from bind2gen.errors import Bind2GenWarning, InputError, UnreadableError
from bind2gen.mini.data import recording
from bind2gen.mini.evaluate.held_out import MOTIONS, THERMAL, load_held_out
from bind2gen.mini.recipe import JUDGED


def test_nothing_judged_on_is_trained_on(data_folder):
    data = load_held_out(data_folder)
    assert not {recording(s) for s in data.training.samples} & {recording(s) for s in data.photos.samples}
    assert {s.row["fold"] for s in data.sounds.samples} == {"4"}
    assert {s.row["person"] for s in data.imu.samples} == {"s03"}
    assert all(s.row["modality"] == "thermal" for s in data.thermal.samples)
    for part, concepts in ((data.photos, JUDGED), (data.sounds, JUDGED), (data.thermal, THERMAL), (data.imu, MOTIONS)):
        assert set(part.concepts()) == set(concepts)


def test_a_limit_takes_as_many_of_every_concept(data_folder):
    whole, few = load_held_out(data_folder), load_held_out(data_folder, limit=2)
    for part, count in ((whole.photos, HELD_OUT), (few.photos, 2), (whole.sounds, SOUNDS), (few.sounds, 2)):
        assert np.unique(part.concepts(), return_counts=True)[1].tolist() == [count] * len(JUDGED)
    assert len(few.training.samples) == len(whole.training.samples)


def test_another_folder_is_judged_on_as_a_whole(data_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data_folder, other)
    rows = (other / "images.csv").read_text().splitlines()
    (other / "images.csv").write_text("\n".join([rows[0], *(r for r in rows if r.endswith((",dog", ",sea")))]))
    with pytest.warns(Bind2GenWarning, match="none held out of cat"):
        data = load_held_out(data_folder, other)
    assert set(data.photos.concepts()) == {"dog", "sea", "bird"}  # a bird among the crops
    assert len(data.photos.samples) == len([r for r in rows if r.endswith((",dog", ",sea"))]) + 1
    assert len(data.training.samples) == len(load_held_out(data_folder).training.samples)


def test_a_folder_without_infrared_and_imu_gives_none_of_them(data_folder):
    shutil.rmtree(data_folder / "imu")
    rows = (data_folder / "crops.csv").read_text().splitlines()
    (data_folder / "crops.csv").write_text("\n".join(r for r in rows if ",thermal," not in r))
    data = load_held_out(data_folder)
    assert data.thermal is None and data.imu is None


def test_everything_that_is_missing_is_named_at_once(data_folder):
    (data_folder / "images.tar").unlink()
    (data_folder / "audio.csv").write_text("file,concept\n")
    with pytest.raises(InputError) as caught:
        load_held_out(data_folder)
    for missing in ("images.tar", "column path of audio.csv", "column fold of audio.csv"):
        assert missing in str(caught.value)


def test_damaged_archives_are_one_error(data_folder):
    (data_folder / "audio.tar").write_bytes(b"no tar " * 200)
    with pytest.raises(UnreadableError, match="cannot be read"):
        load_held_out(data_folder)


def test_a_row_without_its_file_is_named(data_folder):
    with open(data_folder / "images.csv", "a") as handle:
        handle.write("dog/gone.png,dog\n")
    with pytest.raises(UnreadableError, match="dog/gone.png"):
        load_held_out(data_folder)


def test_a_concept_without_training_photos_cannot_be_judged(data_folder):
    rows = (data_folder / "images.csv").read_text().splitlines()
    (data_folder / "images.csv").write_text("\n".join(r for r in rows if not r.endswith(",clock")))
    with pytest.raises(InputError, match="clock"):
        load_held_out(data_folder)


def test_the_files_may_lie_in_one_subfolder(data_folder):
    data = load_held_out(data_folder.parent)
    assert len(data.sounds.samples) == SOUNDS * len(JUDGED) and data.imu is not None
    shutil.copytree(data_folder, data_folder.parent / "copy")
    with pytest.raises(InputError, match="found it in copy, data"):
        load_held_out(data_folder.parent)
