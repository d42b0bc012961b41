"""Embeddings survive the way to disk and back; a failed write leaves what was there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bind2gen.errors import Bind2GenError, EmptyInputError, InputError, NonFiniteError, ShapeError, UnreadableError
from bind2gen.files.atomic import written_whole
from bind2gen.files.embeddings import FORMATS, EmbeddingSet, load_embeddings, save_embeddings

DETAILS = {"model": "mini", "bind2gen": "0.1.0"}


def some_embeddings() -> EmbeddingSet:
    rng = np.random.default_rng(0)
    vectors = {"audio": rng.normal(size=(3, 8)).astype(np.float32), "text": rng.normal(size=(1, 8)).astype(np.float32)}
    return EmbeddingSet(vectors, {"audio": ["a.wav", "ünï.flac", "c d.ogg"], "text": ["a dog 犬"]}, DETAILS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip_is_exact(suffix, tmp_path):
    path, before = tmp_path / f"x{suffix}", some_embeddings()
    save_embeddings(path, before)
    after = load_embeddings(path)
    assert list(after.inputs["audio"]) == before.inputs["audio"]
    assert list(after.inputs["text"]) == before.inputs["text"]
    assert after.details == DETAILS
    for name, array in before.vectors.items():
        assert after.vectors[name].dtype == np.float32
        assert np.array_equal(after.vectors[name], array)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_transposed_view_is_stored_as_it_reads(suffix, tmp_path):
    view = np.arange(6, dtype=np.float32).reshape(3, 2).T
    save_embeddings(tmp_path / f"x{suffix}", EmbeddingSet({"image": view}, {"image": ["a", "b"]}, {}))
    assert np.array_equal(load_embeddings(tmp_path / f"x{suffix}").vectors["image"], view)


@pytest.mark.parametrize("suffix", FORMATS)
def test_times_of_a_timeline_come_back_exactly(suffix, tmp_path):
    times = np.array([[0.0, 2.0], [0.1, 2.1], [1 / 3, 7 / 3]])
    before = some_embeddings()
    save_embeddings(
        tmp_path / f"x{suffix}", EmbeddingSet(before.vectors, before.inputs, before.details, {"audio": times})
    )
    after = load_embeddings(tmp_path / f"x{suffix}")
    assert set(after.times) == {"audio"} and set(after.vectors) == {"audio", "text"}
    assert after.times["audio"].dtype == np.float64
    assert np.array_equal(after.times["audio"], times)
    assert np.array_equal(after.vectors["audio"], before.vectors["audio"])


def test_other_programs_find_the_arrays_under_the_modality(tmp_path):
    from safetensors.numpy import load_file

    before = some_embeddings()
    for suffix in FORMATS:
        save_embeddings(tmp_path / f"x{suffix}", before)
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["audio"], before.vectors["audio"])
        assert file["audio_inputs"].tolist() == before.inputs["audio"]
    assert np.array_equal(load_file(tmp_path / "x.safetensors")["text"], before.vectors["text"])
    assert json.loads((tmp_path / "x.json").read_text())["embeddings"]["text"]["inputs"] == ["a dog 犬"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_is_something_else_is_refused_by_name(suffix, tmp_path):
    (tmp_path / f"x{suffix}").write_bytes(b"not that at all")
    with pytest.raises(UnreadableError, match=f"x{suffix}"):
        load_embeddings(tmp_path / f"x{suffix}")
    with pytest.raises(UnreadableError, match="none"):
        load_embeddings(tmp_path / f"none{suffix}")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.npz, \.safetensors, \.json.*'\.csv'"):
        save_embeddings(tmp_path / "x.csv", some_embeddings())
    assert list(tmp_path.iterdir()) == []


def test_sets_that_contradict_themselves_are_refused():
    ones = np.ones((2, 4), np.float32)
    with pytest.raises(EmptyInputError):
        EmbeddingSet({}, {}, {})
    with pytest.raises(InputError, match="names of"):
        EmbeddingSet({"audio": ones}, {"text": ["a", "b"]}, {})
    with pytest.raises(ShapeError, match=r"\(1, D\)"):
        EmbeddingSet({"audio": ones}, {"audio": ["a"]}, {})
    with pytest.raises(ShapeError, match="float64"):
        EmbeddingSet({"audio": ones.astype(float)}, {"audio": ["a", "b"]}, {})
    with pytest.raises(ShapeError, match=r"times of audio: wanted \(2, 2\)"):
        EmbeddingSet({"audio": ones}, {"audio": ["a", "b"]}, {}, {"audio": np.zeros((3, 2))})
    with pytest.raises(NonFiniteError):
        EmbeddingSet({"audio": ones * np.nan}, {"audio": ["a", "b"]}, {})
    with pytest.raises(NonFiniteError, match="times of audio: wanted finite seconds"):
        EmbeddingSet({"audio": ones}, {"audio": ["a", "b"]}, {}, {"audio": np.full((2, 2), np.nan)})


def test_safetensors_files_are_the_same_in_every_process(tmp_path):
    rows = {name: np.ones((2, 3), np.float32) for name in ("audio", "image", "text", "depth", "imu")}
    inputs = {name: ["ä.wav", f'{name} "quoted"\n'] for name in rows}
    save_embeddings(tmp_path / "a.safetensors", EmbeddingSet(rows, inputs, {"model": "m"}))
    content = (tmp_path / "a.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    loaded = load_embeddings(tmp_path / "a.safetensors")
    assert loaded.inputs == inputs and all(np.array_equal(loaded.vectors[name], rows[name]) for name in rows)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(KeyError), written_whole(target) as temporary:
        temporary.write_text("half of the n")
        raise KeyError("interrupted")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_the_target_is_untouched_until_the_block_ends(tmp_path):
    target = tmp_path / "x.json"
    with written_whole(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == ".json"
    assert target.read_text() == "new"


def test_a_missing_folder_is_one_clear_error(tmp_path):
    with (
        pytest.raises(Bind2GenError, match="cannot be written"),
        written_whole(tmp_path / "no" / "x.json") as temporary,
    ):
        temporary.write_text("new")
