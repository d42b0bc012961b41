"""The store: the same properties whatever keeps the rows."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError, NonFiniteError, ShapeError, StoreError
from bind2gen.space import arithmetic
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.index import EmbeddingIndex
from bind2gen.store import EmbeddingStore, Facts, Item, Part, gallery, lance
from bind2gen.store.contract import engine_errors
from bind2gen.store.lance import LanceEngine
from bind2gen.store.milvus import MilvusEngine
from bind2gen.store.relevance import Relevance

ENGINES = {"store": LanceEngine, "store.db": MilvusEngine}


def paths(hits):
    return [hit.item.path for hit in hits]


def test_finds_what_exact_search_in_memory_finds_with_rows_as_they_were_put_in(store, make_items):
    items = make_items(60)
    store.add(items)
    query = 3.0 * items[7].vector + items[9].vector
    wanted = EmbeddingIndex(np.stack([item.vector for item in items])).search(query, 5)
    hits = store.search(query, 5)
    assert paths(hits) == [items[place].path for place in wanted.places.tolist()]
    assert np.allclose([hit.score for hit in hits], wanted.scores, atol=1e-5)
    first, original = hits[0].item, items[wanted.places[0]]
    assert np.array_equal(first.vector, original.vector)
    assert {**vars(first), "vector": 0} == {**vars(original), "vector": 0}
    assert len(store) == 60 and len(store.search(query, 100)) == 60


def test_rows_of_a_file_are_replaced_together_and_removed_together(store, make_items):
    items = make_items(4)
    windows = [replace(items[0], path="/film.mp4", start=float(i), end=i + 2.0) for i in range(3)]
    store.add([*items, *windows])
    assert len(store) == 7 and set(store.files()) == {item.path for item in items} | {"/film.mp4"}
    changed = replace(windows[1], vector=items[2].vector, size=99)
    store.add([changed])
    assert len(store) == 5 and store.files()["/film.mp4"] == (99, changed.mtime_ns)
    [hit] = [hit for hit in store.search(items[2].vector, 5) if hit.item.path == "/film.mp4"]
    assert (hit.item.start, hit.item.end) == (1.0, 3.0) and hit.score == pytest.approx(1, abs=1e-5)
    store.remove(["/film.mp4", items[3].path, "/never/was.png"])
    assert set(store.files()) == {item.path for item in items[:3]}
    store.add([])
    store.remove([])
    assert len(store) == 3


def test_what_is_written_is_there_for_the_next_who_opens_it(place, make_items):
    items = make_items(3, prefix='/it\'s "odd" ä/')
    with EmbeddingStore.create(
        place, width=16, model="toy", fingerprint={"audio": [1.0]}, settings={"hop": 2.5}
    ) as one:
        one.add(items)
    with EmbeddingStore.open(place) as other:
        assert (other.facts.model, other.facts.settings) == ("toy", {"hop": 2.5})
        assert other.files() == {item.path: (item.size, item.mtime_ns) for item in items}
        other.remove([items[1].path])
        assert paths(other.search(items[1].vector, 3, without=[items[2].path])) == [items[0].path]


def test_looks_only_where_it_is_told_to(store, make_items):
    photos, sounds = make_items(20), make_items(20, prefix="/sounds/", modality="audio")
    store.add([*photos, *sounds])
    query = photos[3].vector
    assert set(paths(store.search(query, 2))) == {photos[3].path, sounds[3].path}
    assert paths(store.search(query, 1, modality="audio")) == [sounds[3].path]
    assert store.count(modality="audio") == 20 and store.count(where="size < 5") == 10
    few = store.search(query, 9, where="path like '/photos/1%' and size > 10")
    assert {hit.item.size for hit in few} == set(range(11, 20)) and few[0].item.modality == "image"
    assert photos[3].path not in paths(store.search(query, 40, without=[photos[3].path]))
    assert store.search(query, 3, modality="video") == []


def test_sums_are_whitened_and_varied_as_in_memory_whether_all_rows_are_looked_at_or_some(
    store, make_items, monkeypatch
):
    items = make_items(300)
    store.add(items)
    parts = [items[3].vector, items[8].vector]
    index = EmbeddingIndex(np.stack([item.vector for item in items]), whiten=True)
    options = {"weights": [1.0, 2.0], "diversity": 0.4}
    wanted = index.search(parts, 5, leave_out=3, **options).places.tolist()
    query = [Part("image", parts[0]), Part("image", parts[1], 2.0)]
    found = store.search(query, 5, diversity=0.4, without=[items[3].path])
    assert paths(found) == [items[place].path for place in wanted]
    assert [hit.score for hit in found] == pytest.approx(
        [float(arithmetic.blend(parts, [1.0, 2.0]).numpy() @ hit.item.vector) for hit in found]
    )
    monkeypatch.setattr(gallery, "GALLERY", 200)
    part = store.search(query, 5, diversity=0.4, without=[items[3].path])
    assert paths(part)[0] == items[8].path and items[3].path not in paths(part)
    assert all(hit.item.thumbnail for hit in (*found, *part))


def test_queries_are_moved_over_the_gap_to_each_modality_that_is_searched(store, make_items):
    means = dict(zip(("image", "audio"), torch.eye(16)[:2], strict=True))
    adapter = EmbeddingAdapter.from_means(means)
    photos, sounds = make_items(5), make_items(5, prefix="/sounds/", modality="audio")
    store.add([*photos, *sounds])
    heard = torch.from_numpy(sounds[2].vector)
    [photo] = store.search([Part("audio", heard)], 1, modality="image", adapter=adapter)
    shifted = adapter.shift("audio", heard[None])[0]
    assert photo.score == pytest.approx(max(float(shifted.numpy() @ item.vector) for item in photos), abs=1e-5)
    assert store.search([Part("audio", heard)], 1, modality="audio", adapter=adapter)[0].score == pytest.approx(1)
    seen = torch.from_numpy(photos[1].vector)
    [sound] = store.search([Part("image", seen)], 1, modality="audio", adapter=adapter)
    back = arithmetic.gap_shift(seen[None], means["image"], means["audio"])[0]
    assert sound.score == pytest.approx(max(float(back.numpy() @ item.vector) for item in sounds), abs=1e-5)


def test_hits_have_a_probability_where_one_was_measured_and_are_ordered_by_it(store, make_items):
    photos, sounds = make_items(5), make_items(5, prefix="/sounds/", modality="audio", seed=1)
    store.add([*photos, *sounds])
    query = [Part("text", photos[0].vector)]
    known = Relevance({"text->image": (10.0, -20.0), "text->audio": (1.0, 3.0)})
    hits = store.search(query, 10, relevance=known)
    assert [hit.item.modality for hit in hits] == ["audio"] * 5 + ["image"] * 5
    assert hits[5].probability == pytest.approx(1 / (1 + np.exp(10)), rel=1e-3)
    assert "probability" not in store.search(query, 1)[0].to_dict()
    assert store.search([*query, *query], 1, relevance=known)[0].probability is None


def test_bad_rows_and_questions_are_named_and_nothing_of_them_stays(store, make_items):
    items = make_items(3)
    store.add(items)
    broken = replace(items[0], path="/broken.png", vector=np.full(16, np.nan, np.float32))
    with pytest.raises(NonFiniteError, match="/broken.png: image"):
        store.add([replace(items[1], path="/new.png"), broken])
    with pytest.raises(ShapeError, match=r"\(16,\), got \(3,\)"):
        store.add([replace(items[0], vector=np.ones(3, np.float32))])
    with pytest.raises(ShapeError, match="unit length, got 2"):
        store.add([replace(items[0], vector=2 * items[0].vector)])
    assert len(store) == 3
    with pytest.raises(InputError, match=r"where 'size \+\+ 3'"):
        store.search(items[0].vector, where="size ++ 3")
    with pytest.raises(ShapeError, match="query"):
        store.search(np.ones(3))
    with pytest.raises(InputError, match="1 or more rows"):
        store.search(items[0].vector, 0)
    with pytest.raises(InputError, match="ivf"):
        store.build_index("tree")


def test_stores_of_other_models_and_versions_and_places_without_one_are_refused(place, make_items):
    with pytest.raises(StoreError, match="no store.*bind2gen index"):
        EmbeddingStore.open(place)
    EmbeddingStore.create(place, width=16, model="toy", fingerprint={"audio": [1.0, 2.0]}).close()
    with pytest.raises(StoreError, match="already"):
        EmbeddingStore.create(place, width=16)
    for other in ({"audio": [1.0, 2.1]}, {"vision": [1.0, 2.0]}, {}):
        with pytest.raises(StoreError, match="another model .toy. than mine, and spaces do not mix"):
            EmbeddingStore.open(place, fingerprint=other, model="mine")
    EmbeddingStore.open(place, fingerprint={"audio": [1.001, 2.0], "text": [3.0]}).close()


def test_a_store_of_another_version_is_refused_by_name(tmp_path, monkeypatch):
    for name, engine in ENGINES.items():
        with pytest.raises(StoreError, match=r"format 1, this one is of format 7 \(bind2gen 9.9\)"):
            engine(str(tmp_path / name), Facts(4, format=7, bind2gen="9.9"))
        with pytest.raises(StoreError, match="format 7"):
            EmbeddingStore.open(tmp_path / name)


def test_a_second_writer_is_refused_and_readers_see_whole_commits(tmp_path, make_items):
    store = EmbeddingStore.create(tmp_path / "store", width=16)
    other = EmbeddingStore.open(tmp_path / "store")
    store.add(make_items(10))
    assert len(other) == 10
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(len(other))

    reader = threading.Thread(target=read)
    reader.start()
    for batch in range(5):
        store.add(make_items(10, prefix=f"/{batch}/"))
    done.set()
    reader.join()
    assert seen <= {10, 20, 30, 40, 50, 60} and len(other) == 60


def test_an_index_finds_nearly_what_exact_search_finds_and_new_rows_at_once(tmp_path, make_items):
    items = make_items(3000)
    with EmbeddingStore.create(tmp_path / "store", width=16) as store:
        store.add(items)
        assert not store.is_indexed
        store.build_index("graph")
        assert store.is_indexed
        found = [store.search(item.vector, 10) for item in items[:20]]
        wanted = [store.search(item.vector, 10, exact=True) for item in items[:20]]
        shared = [len(set(paths(a)) & set(paths(b))) for a, b in zip(found, wanted, strict=True)]
        assert sum(shared) >= 180
        store.add([Item("/new.png", "image", -items[0].vector)])
        assert paths(store.search(-items[0].vector, 1)) == ["/new.png"]
        store.tidy()
        assert paths(store.search(-items[0].vector, 1)) == ["/new.png"] and len(store) == 3001


S3 = 'Invalid input, Failed to connect to namespace: IO { source: Generic { store: "S3", source: ListRequest { source: '
HTTP = "Http(HttpError { kind: Connect, source: reqwest::Error { kind: Request, source: hyper_util::client::legacy::"


@pytest.mark.parametrize(
    ("said", "told"),
    [  # as LanceDB 0.40 says it; the first of a server's own words
        ('inner: Status { status: 403, body: Some("<?xml version=\\"1.0\\"?>\\n<Error><Code>InvalidAccessKeyId</Code>'
         '<Message>The AWS Access Key Id does not exist.</Message><BucketName>b</BucketName></Error>") }',
         "InvalidAccessKeyId: The AWS Access Key Id does not exist."),
        (HTTP + 'Error(Connect, ConnectError("tcp connect error", 127.0.0.1:59, Os { code: 111, kind: '
         'ConnectionRefused, message: "Connection refused" })) } })', "Connection refused"),
        ("Http(HttpError { kind: Unknown, source: reqwest::Error { kind: Builder, source: BadScheme } })",
         "AWS_ALLOW_HTTP=true lets it go without encryption"),
        ('IO { source: "Failed to get AWS credentials: ProviderError(...)" }',
         "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ('Failed to create temp dir: LanceError(IO): Read-only file system (os error 30) at "/tmp/.tmp1", /root/.car',
         "it wants a folder for temporary files: name one that can be written to by TMPDIR"),
        ("something else", S3 + "something else"),
    ],
)  # fmt: skip
def test_what_an_object_store_refuses_is_told_by_its_cause(said, told):
    with pytest.raises(StoreError) as caught, engine_errors("s3://bucket/store", "opening"):
        raise ValueError(S3 + said)
    assert str(caught.value) == f"s3://bucket/store: opening failed (ValueError: {told})"


def test_an_object_store_that_does_not_answer_is_given_up(monkeypatch):
    connection = SimpleNamespace(list_tables=lambda: time.sleep(3))
    monkeypatch.setattr(lance, "_connected", lambda address: connection)
    monkeypatch.setattr(lance, "ANSWER", 0.05)
    with pytest.raises(StoreError, match="s3://bucket/store: no answer within 0.05 s; mind the address"):
        EmbeddingStore.open("s3://bucket/store")
