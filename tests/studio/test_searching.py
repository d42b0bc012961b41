"""Search for visitors, on a toy encoder and a small store: sums, what is left out, what is told and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from bind2gen.errors import Bind2GenWarning, InputError, UnreadableError
from bind2gen.store import EmbeddingStore, Item, Part
from bind2gen.store.encoder import Encoder
from bind2gen.store.places import TAKEN_OUT, VARIETY
from bind2gen.store.relevance import Relevance
from bind2gen.studio import Finds, Limits, Progress
from bind2gen.studio.searching import SearchStudio

RATE = 16_000  # Hz


@pytest.fixture(scope="module")
def encoder(tiny_pipeline):
    return Encoder(tiny_pipeline.imagebind, tiny_pipeline.processor, tiny_pipeline.adapter)


@pytest.fixture(scope="module")
def store(encoder, tmp_path_factory):
    """Thirty pictures and one sound in random directions."""
    width = encoder.model.config.embed_dim
    rows = np.random.default_rng(0).standard_normal((31, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    made = EmbeddingStore.create(tmp_path_factory.mktemp("db") / "db", width=width)
    made.add([Item(f"/private/{k}.png", "image", row, thumbnail=b"webp") for k, row in enumerate(rows[:30])])
    made.add([Item("/private/long.wav", "audio", rows[30], start=2.0, end=4.0)])
    return made


@pytest.fixture(scope="module")
def studio(encoder, store):
    studio = SearchStudio(encoder, store, relevance=Relevance({"text->image": (1.0, 0.0)}), limits=Limits(seconds=3))
    studio.warm()
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sounds") / "tone.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(5 * RATE) / 6), RATE)
    return str(path)


def find(studio, *inputs, **options) -> Finds:
    *news, last = studio.find(inputs, **options)
    assert all(isinstance(item, Progress) for item in news) and isinstance(last, Finds)
    return last


def test_what_is_found_is_what_the_store_finds(studio, encoder, store):
    found = find(studio, {"text": "a b"}, modality="image", count=5)
    wanted = store.search([Part("text", encoder.embed("text", ["a b"])[0])], 5, modality="image",
                          adapter=encoder.adapter)  # fmt: skip
    assert [one.name for one in found.found] == [hit.item.path.removeprefix("/private/") for hit in wanted]
    assert [one.score for one in found.found] == pytest.approx([hit.score for hit in wanted])
    assert found.found[0].thumbnail == b"webp" and studio.counts == {"image": 30, "audio": 1}


def test_sums_are_varied_and_words_are_taken_out(studio, encoder, store, sound):
    found = find(studio, {"text": "a", "audio": None}, {"audio": sound}, without="c", modality="image", count=6)
    with pytest.warns(Bind2GenWarning):
        clip = studio.limits.sound(sound, encoder.processor.audio)
    parts = [Part("text", encoder.embed("text", ["a"])[0]), Part("audio", encoder.embed("audio", [clip])[0]),
             Part("text", encoder.embed("text", ["c"])[0], -TAKEN_OUT)]  # fmt: skip
    wanted = store.search(parts, 6, modality="image", adapter=encoder.adapter, diversity=VARIETY)
    assert [one.name for one in found.found] == [hit.item.path.removeprefix("/private/") for hit in wanted]
    assert any("only the first 3 s were heard" in note for note in found.notes)


def test_nothing_relevant_is_said_where_that_was_measured(encoder, store):
    sure, unsure = (SearchStudio(encoder, store, relevance=Relevance({"text->image": (0.0, at)})) for at in (3.0, -3.0))
    try:
        assert find(sure, {"text": "a"}, modality="image").nothing is False
        doubtful = find(unsure, {"text": "a"}, modality="image")
        assert doubtful.nothing and doubtful.found[0].probability == pytest.approx(1 / (1 + np.exp(3)))
        assert find(unsure, {"text": "a"}, modality="audio").nothing is False  # of such a pair nothing is known
    finally:
        sure.worker.close()
        unsure.worker.close()


def test_windows_have_their_times(studio):
    [one] = find(studio, {"text": "a"}, modality="audio").found
    assert (one.name, one.start, one.end, one.thumbnail) == ("long.wav", 2.0, 4.0, b"")


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ([{"text": " ", "audio": None}], {}, InputError, "nothing to search by"),
        ([{"text": "a"}], {"modality": "depth"}, InputError, "wanted to find image, audio, got 'depth'"),
        ([{"text": "a"}], {"modality": ["image"]}, InputError, "wanted to find image, audio, got .'image'."),
        ([{"text": ["a"]}], {}, InputError, "text: wanted a text, got .'a'."),
        ([{"text": "a"}], {"count": 0}, InputError, "count: wanted a whole number from 1 to 24"),
        ([{"text": "a" * 1000}], {}, InputError, "at most 300 characters"),
        ([{"audio": "/nowhere/secret.wav"}], {}, UnreadableError, r"^secret.wav: cannot be read"),
    ],
)
def test_what_cannot_be_searched_by_is_told_in_words(studio, inputs, options, error, message):
    with pytest.raises(error, match=message):
        list(studio.find(inputs, **options))


def test_a_stopped_search_ends_without_a_result(studio, monkeypatch):
    monkeypatch.setattr(studio, "_parts", lambda *_: studio.stop("me") and [])  # while it listens
    news = list(studio.find([{"text": "a"}], session="me"))
    assert len(news) == 1 and isinstance(news[0], Progress)
