from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from bind2gen.errors import EmptyInputError, InputError, NonFiniteError, ShapeError, UnreadableError
from bind2gen.space.arithmetic import normalize
from bind2gen.space.vocabulary import Vocabulary, embed_names, read_names


def letters(texts: list[str]) -> torch.Tensor:
    """A text tower that counts letters."""
    return torch.tensor([[text.count(c) for c in "abcdefgh"] for text in texts], dtype=torch.float32) + 0.1


def test_rows_are_unit_norm_and_keep_their_names(tmp_path):
    made = Vocabulary.from_texts(["abba", "cab"], letters)
    assert torch.allclose(made.vectors, normalize(letters(["abba", "cab"])))
    assert (len(made), made.dim) == (2, 8)
    made.save(tmp_path / "v.npz")
    again = Vocabulary.from_file(tmp_path / "v.npz")
    assert again.names == made.names and torch.allclose(again.vectors, made.vectors, atol=1e-7)
    assert again.source == "v.npz"


def test_templates_are_averaged_as_directions():
    found = embed_names(["bad", "{}c"], letters, templates=["{}", "a {}"])
    assert torch.allclose(found[0], normalize(normalize(letters(["bad"])) + normalize(letters(["a bad"])))[0])
    assert torch.allclose(found[1], normalize(normalize(letters(["{}c"])) + normalize(letters(["a {}c"])))[0])


def test_batches_change_nothing_and_progress_counts_every_text():
    names, done = [f"{'abcdefgh'[i % 8]}{i}" for i in range(300)], []
    found = embed_names(names, letters, templates=["{}", "the {}"], progress=done.append)
    assert sum(done) == 600 and len(done) > 1
    assert torch.allclose(found[290], embed_names([names[290]], letters, templates=["{}", "the {}"])[0])


@pytest.mark.parametrize("templates", ["{}", [], ["a photo"]])
def test_templates_need_a_place_for_the_name(templates):
    with pytest.raises(InputError, match="templates"):
        embed_names(["a"], letters, templates=templates)


def test_a_tower_that_gives_something_else_is_refused():
    with pytest.raises(ShapeError, match="text tower"):
        embed_names(["a", "b"], lambda texts: torch.zeros(1, 4))
    with pytest.raises(NonFiniteError, match="text tower"):
        embed_names(["a", "b"], lambda texts: torch.full((2, 4), torch.nan))


def test_names_of_every_form_of_file(tmp_path):
    files = {
        "plain.txt": "aerosol_can\n\nbat (animal)\n",
        "o365.csv": "1,Aerosol,aerosol can\n2,Bat,bat (animal)\n",
        "oid.csv": "/m/01,aerosol can,1\n/m/02,bat (animal),2\n",
        "list.json": json.dumps(["aerosol_can", "bat_(animal)"]),
        "coco.json": json.dumps({"categories": [{"id": 7, "name": "bat_(animal)"}, {"id": 3, "name": "aerosol_can"}]}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert read_names(tmp_path / name) == ["aerosol can", "bat (animal)"], name


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "\n\n"), ("a.json", "{bad"), ("a.json", "[1, 2]"), ("a.json", '{"x": 1}'), ("a.csv", "1,2\n")],
)
def test_files_without_names_are_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableError, match=name):
        read_names(tmp_path / name)
    with pytest.raises(UnreadableError, match="none.txt"):
        read_names(tmp_path / "none.txt")


def test_released_vectors_find_their_names_beside_them_and_are_normalised(tmp_path):
    raw = 10 * np.random.default_rng(0).standard_normal((2, 8)).astype(np.float16)
    np.save(tmp_path / "lvis_v1_clip_a+cname.npy", raw)
    with pytest.raises(UnreadableError, match="lvis_v1_train_cat_info.json"):
        Vocabulary.from_file(tmp_path / "lvis_v1_clip_a+cname.npy")
    info = [{"id": 2, "name": "bat_(animal)"}, {"id": 1, "name": "aerosol_can"}]
    (tmp_path / "lvis_v1_train_cat_info.json").write_text(json.dumps(info))
    found = Vocabulary.from_file(tmp_path / "lvis_v1_clip_a+cname.npy")
    assert found.names == ("aerosol can", "bat (animal)")
    assert torch.allclose(found.vectors, normalize(torch.from_numpy(raw).float()))


def test_cocos_names_are_known(tmp_path):
    np.save(tmp_path / "coco_clip_a+cname.npy", np.eye(80, dtype=np.float32))
    names = Vocabulary.from_file(tmp_path / "coco_clip_a+cname.npy").names
    assert (names[0], names[9], names[16], names[-1]) == ("person", "traffic light", "dog", "toothbrush")


def test_damaged_and_unfitting_files_are_one_clear_error(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    np.save(tmp_path / "two.npy", np.ones((2, 4), np.float32))
    np.save(tmp_path / "flat.npy", np.ones(4, np.float32))
    np.save(tmp_path / "nan.npy", np.full((3, 4), np.nan, np.float32))
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "two.npy").read_bytes()[:50])
    for name, kind, says in (
        ("two.npy", ShapeError, "3 names for 2 rows"),
        ("flat.npy", ShapeError, r"\(4,\)"),
        ("nan.npy", NonFiniteError, "NaN"),
        ("other.npz", UnreadableError, "names and vectors"),
        ("cut.npy", UnreadableError, "cut.npy"),
        ("none.npy", UnreadableError, "no such file"),
    ):
        with pytest.raises(kind, match=says):
            Vocabulary.from_file(tmp_path / name, names=tmp_path / "names.txt")
    with pytest.raises(InputError, match=".npz"):
        Vocabulary(("a",), torch.ones(1, 2)).save(tmp_path / "v.txt")


def test_damaged_names_are_one_clear_error(tmp_path):
    """Of an npz member that is no array numpy gives the bytes, of one of broken characters nothing at all."""
    vectors = io.BytesIO()
    np.save(vectors, np.eye(2, 4, dtype=np.float32))
    head = io.BytesIO()
    np.save(head, np.array(["a", "b"]))
    for names in (b"no array", head.getvalue()[:-8] + b"\xff" * 8):
        with zipfile.ZipFile(tmp_path / "names.npz", "w") as archive:
            archive.writestr("names.npy", names)
            archive.writestr("vectors.npy", vectors.getvalue())
        with pytest.raises(UnreadableError, match="wanted a saved vocabulary"):
            Vocabulary.from_file(tmp_path / "names.npz")


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"name": "dog"}, "cat"]'])
def test_json_that_holds_anything_is_one_clear_error(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(UnreadableError, match="wanted a list of names"):
        read_names(tmp_path / "names.json")


def test_names_must_be_names():
    with pytest.raises(EmptyInputError, match="empty"):
        Vocabulary(("a", " "), torch.ones(2, 3))
    with pytest.raises(InputError, match="list of texts"):
        Vocabulary("ab", torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"\(2, D\)"):
        Vocabulary(("a", "b"), torch.ones(3, 3))


def test_a_subset_is_in_the_order_asked_for():
    made = Vocabulary(("a", "b", "c"), torch.eye(3))
    assert torch.equal(made.subset(["c", "a"]).vectors, torch.eye(3)[[2, 0]])
    with pytest.raises(InputError, match="zebra"):
        made.subset(["a", "zebra"])
