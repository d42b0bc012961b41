"""Folders into a store: what is embedded, when again, and what is left out and listed."""

from __future__ import annotations

import io
import os
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock
from PIL import Image

from bind2gen.errors import Bind2GenError, InputError, ModalityError, StoreError
from bind2gen.files.films import save_film
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.pace import Pace
from bind2gen.imagebind.timeline import embed_timeline
from bind2gen.store import FILM, EmbeddingStore
from bind2gen.store import indexing as indexing_module
from bind2gen.store.contract import Selection
from bind2gen.store.embedding import FileEmbedder
from bind2gen.store.encoder import Encoder
from bind2gen.store.indexing import Report, index_folders, locally
from bind2gen.store.walking import Found, Skipped, walk

RATE = 16_000  # Hz


def noise(seconds: float, seed: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(tiny_pipeline) -> Encoder:
    return Encoder(tiny_pipeline.imagebind, tiny_pipeline.processor, tiny_pipeline.adapter)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Four pictures (one without an ending, one animated), a short and a long sound, a film with sound, and a text."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(14)]
    (folder / "deep" / "er").mkdir(parents=True)
    frames[0].save(folder / "a.png")
    frames[1].save(folder / "deep" / "b.jpg")
    frames[2].save(folder / "deep" / "er" / "nameless", "PNG")
    frames[3].save(folder / "moving.webp", save_all=True, append_images=frames[4:7])
    soundfile.write(folder / "short.wav", noise(0.5, 1), RATE)
    soundfile.write(folder / "long.flac", noise(2, 2), RATE)
    save_film(folder / "film.mp4", frames, fps=10, sound=(noise(1.4, 3)[None], RATE))
    (folder / "notes.txt").write_text("a dog barks\n")
    (folder / ".hidden").write_bytes(b"x")
    return folder


@pytest.fixture
def library(made, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "library"))


@pytest.fixture
def index(tmp_path, encoder) -> Callable[..., Report]:
    """Index folders into one store, which is ``index.store``."""
    with EmbeddingStore.create(tmp_path / "store", width=encoder.model.config.embed_dim) as store:

        def call(*folders: Path, prune: bool = False, **options) -> Report:
            embedder = FileEmbedder(encoder, **options)
            return index_folders(store, [str(folder) for folder in folders], locally(embedder), prune=prune)

        call.store = store
        yield call


def rows(store: EmbeddingStore) -> dict[tuple, np.ndarray]:
    return {(Path(i.path).name, i.modality, i.start, i.end): i.vector for i in store._engine.rows(Selection())}


def test_every_kind_of_file_is_embedded_as_the_model_embeds_it(index, library, encoder):
    report = index(library)
    assert (report.found, report.embedded, report.unchanged, report.skipped) == (8, 7, 0, [])
    found = rows(index.store)
    kinds = {(name, modality) for name, modality, *_ in found}
    assert kinds == {
        ("a.png", "image"), ("b.jpg", "image"), ("nameless", "image"), ("moving.webp", "video"), ("short.wav", "audio"),
        ("long.flac", "audio"), ("film.mp4", "video"), ("film.mp4", "audio"), ("film.mp4", FILM),
    }  # fmt: skip
    for key, modality, path in (
        (("a.png", "image", None, None), "image", "a.png"),
        (("short.wav", "audio", 0.0, 0.5), "audio", "short.wav"),
    ):
        assert np.abs(found[key] - encoder.embed(modality, [str(library / path)])[0].numpy()).max() < 1e-5
    windows = embed_timeline(encoder.model, encoder.processor, str(library / "long.flac"), "audio")
    for start, end, vector in windows:
        assert np.abs(found["long.flac", "audio", start, end] - vector.numpy()).max() < 1e-5
    hits = {Path(hit.item.path).name: hit.item.thumbnail for hit in index.store.search(found[key], 50)}
    small, sound = (Image.open(io.BytesIO(hits[name])) for name in ("a.png", "short.wav"))
    seen = Image.open(library / "a.png").crop((8, 0, 56, 48)).resize(small.size)  # the middle square
    assert np.abs(np.asarray(small, float) - np.asarray(seen, float)).mean() < 40 and small.width == small.height
    assert sound.size == (96, 64) and len(np.unique(np.asarray(sound))) > 20


def test_worker_processes_change_no_row(index, library, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing_module, "CHUNK", 3)
    (library / "cut.mp4").write_bytes((library / "film.mp4").read_bytes()[:900])
    (library / "page.mp3").write_text("<html>not found</html>")
    alone, before = index(library), rows(index.store)
    pace = Pace(torch.device("cpu"))
    with EmbeddingStore.create(tmp_path / "other", width=encoder.model.config.embed_dim) as other:
        embed = partial(FileEmbedder(encoder).stream, workers=2, pace=pace)
        report = index_folders(other, [str(library)], embed)
        found = rows(other)
    assert (report.rows, report.embedded, sorted(report.skipped)) == (alone.rows, alone.embedded, sorted(alone.skipped))
    assert found.keys() == before.keys() and pace.inputs == alone.found
    assert all(np.abs(found[key] - before[key]).max() < 1e-6 for key in found)


def test_what_was_embedded_before_a_worker_died_is_kept(index, library, encoder, monkeypatch):
    monkeypatch.setattr(indexing_module, "CHUNK", 2)

    def embed(chunks):
        yield from FileEmbedder(encoder).stream(list(chunks)[:2])
        raise Bind2GenError("a process that read files ended before it was done")

    with pytest.raises(Bind2GenError, match="ended before it was done"):
        index_folders(index.store, [str(library)], embed)
    kept = len(index.store.files())
    again = index(library)
    assert kept >= 3 and (again.unchanged, again.embedded) == (kept, 7 - kept)


def test_a_film_gives_pictures_sound_and_their_sum_over_the_same_windows(index, library, encoder):
    index(library, window=0.4, hop=0.3)
    found = rows(index.store)
    spans = {m: sorted((s, e) for n, kind, s, e in found if (n, kind) == ("film.mp4", m)) for m in ("video", FILM)}
    assert spans["video"] == spans[FILM]
    assert [start for start, _ in spans[FILM]] == pytest.approx([0, 0.3, 0.6, 0.9, 1.0])
    start, end = spans[FILM][3]
    sounds = {abs(s - start): v for (name, kind, s, _), v in found.items() if (name, kind) == ("film.mp4", "audio")}
    heard = sounds[min(sounds)]
    both = {"video": torch.tensor(found["film.mp4", "video", start, end])[None],
            "audio": torch.tensor(heard)[None]}  # fmt: skip
    wanted = encoder.adapter(both, anchored=False)[0].numpy()
    assert np.abs(found["film.mp4", FILM, start, end] - wanted).max() < 1e-5


def test_only_what_is_new_or_changed_is_embedded_again(index, library):
    index(library)
    before = rows(index.store)
    again = index(library)
    assert (again.unchanged, again.embedded, again.rows) == (7, 0, 0)
    soundfile.write(library / "long.flac", noise(0.5, 9), RATE)
    Image.new("RGB", (32, 32), (9, 99, 199)).save(library / "new.png")
    os.remove(library / "a.png")
    third = index(library)
    assert (third.embedded, third.gone) == (2, [str(library / "a.png")])
    after = rows(index.store)
    assert {key[2:] for key in after if key[0] == "long.flac"} == {(0.0, 0.5)}  # its windows of before are gone
    assert {name for name, *_ in after} == {name for name, *_ in before} | {"new.png"}
    assert index(library / "deep").gone == []
    assert index(library, prune=True).pruned and "a.png" not in {name for name, *_ in rows(index.store)}


def test_other_modalities_are_indexed_where_they_are_asked_for(index, library, sensed_depth, encoder):
    report = index(library, sensed_depth, modalities=("depth", "text"))
    assert {(name, kind) for name, kind, *_ in rows(index.store)} == {
        ("notes.txt", "text"), ("wall.png", "depth"), ("a.png", "depth"), ("b.jpg", "depth"), ("nameless", "depth"),
    } - {(Path(path).name, "depth") for path, _ in report.skipped}  # fmt: skip
    said = rows(index.store)["notes.txt", "text", None, None]
    assert np.abs(said - encoder.embed("text", ["a dog barks\n"])[0].numpy()).max() < 1e-5
    with pytest.raises(InputError, match="depth or thermal, not both"):
        index(library, modalities=("depth", "thermal"))


@pytest.fixture
def sensed_depth(tmp_path) -> Path:
    (tmp_path / "sensed").mkdir()
    Image.fromarray(np.full((48, 64), 2000, np.uint16)).save(tmp_path / "sensed" / "wall.png")  # mm
    return tmp_path / "sensed"


def test_a_model_without_the_tower_is_refused_before_files_are_read(index, library, encoder):
    partly = Encoder(ImageBindModel(encoder.model.config, modalities=["audio"]), encoder.processor, encoder.adapter)
    with pytest.raises(ModalityError, match="no vision tower"):
        FileEmbedder(partly)


def test_what_is_broken_is_listed_and_everything_else_is_there(index, library):
    picture = (library / "a.png").read_bytes()
    (library / "cut.png").write_bytes(picture[: len(picture) // 2])
    (library / "called.jpg").write_bytes(b"\0\1\2 nothing" * 40)
    (library / "page.mp3").write_text("<html>not found</html>")
    (library / "empty.wav").write_bytes(b"")
    (library / "empty.py").write_bytes(b"")
    (library / "cut.mp4").write_bytes((library / "film.mp4").read_bytes()[:900])
    shutil.copy(library / "a.png", library / "same.png")
    os.mkfifo(library / "pipe.png")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(library / "plug"))
        (library / "round").symlink_to(library, target_is_directory=True)
        (library / "deep" / "up").symlink_to(library / "deep", target_is_directory=True)
        (library / "nowhere.png").symlink_to(library / "gone.png")
        report = index(library)
    reasons = {Path(path).name: reason for path, reason in report.skipped}
    broken = {"cut.png", "called.jpg", "page.mp3", "empty.wav", "cut.mp4", "pipe.png", "plug", "nowhere.png"}
    assert set(reasons) == broken
    assert "0 bytes" in reasons["empty.wav"] and "a pipe, a socket" in reasons["pipe.png"]
    assert "leads nowhere" in reasons["nowhere.png"] and "called .mp3" in reasons["page.mp3"]
    found = rows(index.store)
    assert len({key for key in found if key[0] != "same.png"}) == len(found) - 1  # nothing twice by way of links
    assert np.array_equal(found["same.png", "image", None, None], found["a.png", "image", None, None])
    assert report.embedded == 8


def test_what_cannot_be_looked_at_is_neither_lost_nor_taken_for_gone(index, library, monkeypatch):
    index(library)
    before, listdir = len(index.store), os.listdir

    def refusing(path: str) -> list[str]:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    report = index(library, prune=True)
    assert [(Path(path).name, reason) for path, reason in report.skipped] == [
        ("deep", "the folder cannot be read (Permission denied)")
    ]
    assert report.gone == [] and len(index.store) == before
    with pytest.raises(InputError, match="wanted a folder, there is none"):
        index(library / "unmounted", prune=True)


def test_files_that_vanish_or_change_under_the_reader_are_listed_or_done_again(index, library, encoder):
    embedder = FileEmbedder(encoder)

    def embed(chunks):
        for chunk in chunks:
            os.remove(library / "a.png")
            soundfile.write(library / "short.wav", noise(0.6, 5), RATE)
            yield embedder(chunk)

    report = index_folders(index.store, [str(library)], embed)
    assert [Path(path).name for path, _ in report.skipped] == ["a.png"] and "no such file" in report.skipped[0].reason
    assert index(library).embedded == 1  # the sound, which is other than when it was found


def test_nan_of_the_model_is_listed(index, library, encoder, monkeypatch):
    true = encoder.model.encode

    def encode(modality, x, **options):
        vectors = true(modality, x, **options)
        return vectors * float("nan") if modality == "audio" else vectors

    monkeypatch.setattr(encoder.model, "encode", encode)
    report = index(library)
    assert {Path(path).name for path, _ in report.skipped} == {"short.wav", "long.flac", "film.mp4"}
    assert all("NaN" in reason for _, reason in report.skipped)
    assert {modality for _, modality, *_ in rows(index.store)} == {"image", "video"}


def test_two_writers_and_a_full_disk_end_with_a_named_error_and_lose_nothing(index, library, monkeypatch):
    index(library / "deep")
    before = rows(index.store)
    with FileLock(index.store.address + ".lock"), pytest.raises(StoreError, match="another process is writing"):
        index(library)
    monkeypatch.setattr(indexing_module, "CHUNK", 2)
    monkeypatch.setattr(indexing_module, "COMMIT_SECONDS", 0.0)
    replace, calls = index.store._engine._table.merge_insert, []

    def filling(key):
        calls.append(key)
        if len(calls) > 1:
            raise OSError("lance error: No space left on device (os error 28)")
        return replace(key)

    monkeypatch.setattr(type(index.store._engine._table), "merge_insert", lambda self, key: filling(key))
    with pytest.raises(StoreError, match="the disk is full; what was committed before is whole"):
        index(library)
    monkeypatch.undo()
    after = rows(index.store)
    assert before.keys() < after.keys() and all(np.array_equal(after[key], before[key]) for key in before)
    assert index(library).unchanged == len({name for name, *_ in after})


def test_walking_leaves_the_store_itself_out_and_names_that_are_no_text(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "inside.png").write_bytes(b"x")
    (tmp_path / "one.png").write_bytes(b"xy")
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb"):
        pass
    found = list(walk([str(tmp_path), str(tmp_path)], leave_out=str(tmp_path / "store")))
    [file] = [one for one in found if isinstance(one, Found)]
    assert (file.path, file.size) == (str(tmp_path / "one.png"), 2)
    [skipped] = [one for one in found if isinstance(one, Skipped)]
    assert skipped.reason == "its name is no text (UTF-8)"
