"""``bind2gen index`` and ``bind2gen search``: a library in, what is nearest out, and what is refused."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from lancedb.embeddings import get_registry
from PIL import Image

from bind2gen.files.bundled import bundled_path
from bind2gen.imagebind.loading import read_fingerprint
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.store import EmbeddingStore
from bind2gen.store.relevance import FILE, Relevance


@pytest.fixture
def library(media, tmp_path):
    folder = tmp_path / "library"
    shutil.copytree(media, folder)
    Image.new("RGB", (40, 40), (200, 30, 30)).save(folder / "red.png")
    return folder


@pytest.fixture
def indexed(run, library, tmp_path):
    """The library in a store."""
    place = tmp_path / "db"
    code, stdout, stderr = run("index", library, "--db", place, "--json")
    assert (code, stderr) == (0, "")
    return place, json.loads(stdout)


def test_a_library_is_indexed_once_and_found_by_any_modality(run, indexed, library, tiny_pipeline):
    place, told = indexed
    assert {key: told[key] for key in ("found", "embedded", "unchanged", "skipped", "gone")} == {
        "found": 5, "embedded": 5, "unchanged": 0, "skipped": [], "gone": [],
    }  # fmt: skip
    code, stdout, _ = run("index", library, "--db", place)
    assert code == 0 and "0 files embedded, 5 unchanged, 0 skipped" in stdout
    code, stdout, stderr = run("search", "--db", place, "--text", "a b", "--modality", "image", "--json")
    assert (code, stderr) == (0, "")
    found = json.loads(stdout)
    embeds = tiny_pipeline.embed(text="a b", image=[str(library / "noise.png"), str(library / "red.png")])
    cosines = (embeds["image"] @ tiny_pipeline.adapter.shift("text", embeds["text"])[0]).tolist()
    best = sorted(zip(cosines, ("noise.png", "red.png"), strict=True), reverse=True)
    assert [result["path"] for result in found["results"]] == [str(library / name) for _, name in best]
    assert [result["score"] for result in found["results"]] == pytest.approx([cosine for cosine, _ in best], abs=1e-3)
    assert found["results"][0].keys() == {"path", "modality", "score", "start", "end"}
    assert found["nothing_relevant"] is False
    code, stdout, _ = run("search", "--db", place, "--audio", library / "low.wav", "--modality", "audio", "-k", 30)
    assert code == 0 and "low.wav" not in stdout and "high.wav" in stdout  # itself is not what is looked for


def test_sums_differences_and_expressions(run, indexed, library, tmp_path):
    place, _ = indexed
    sheet = tmp_path / "sheet.png"
    words = ["--image", library / "red.png", "--audio", library / "mid.wav", "--weight", "audio=0.5", "--not-text", "a"]
    code, stdout, stderr = run(
        "search", "--db", place, *words, "--where", "path like '%high%' and start > 1", "-k", 3, "--sheet", sheet,
        "--json", "--diversity", 0.3,
    )  # fmt: skip
    results = json.loads(stdout)["results"]
    assert (code, stderr, len(results)) == (0, "", 3)
    assert all(result["path"].endswith("high.wav") and result["start"] > 1 for result in results)
    pixels = np.asarray(Image.open(sheet))
    assert len(pixels) > 200 and len(np.unique(pixels)) > 20
    code, _, stderr = run("search", "--db", place, "--text", "a", "--where", "pth = 3")
    assert code == 1 and stderr.startswith("bind2gen: error: where 'pth = 3': the store cannot answer that")
    code, _, stderr = run("search", "--db", place, "--text", "a", "--weight", "audio=2")
    assert code == 2 and "there is no --audio" in stderr


def test_what_is_likely_is_said_where_it_was_measured(run, indexed, tiny_folder, tmp_path):
    place, _ = indexed
    folder = tmp_path / "pipeline"
    shutil.copytree(tiny_folder, folder)
    Relevance({"text->image": (0.0, -3.0)}).save(folder / "imagebind")
    assert Relevance.beside(folder / "imagebind").curves == {"text->image": (0.0, -3.0)}
    words = ["search", "--db", place, "--text", "a", "--modality", "image", "--model", folder]
    code, stdout, stderr = run(*words)
    assert code == 0 and "nothing relevant was found; the likeliest, with 5 %" in stderr and "  5 %  image" in stdout
    told = json.loads(run(*words, "--json")[1])
    assert told["nothing_relevant"] is True and told["results"][0]["probability"] == pytest.approx(0.047, abs=1e-3)
    (folder / "imagebind" / FILE).write_text("{}")
    code, _, stderr = run(*words)
    assert code == 1 and "wanted measured relevance" in stderr


def test_a_store_of_another_model_or_other_settings_is_refused(run, indexed, library, make_imagebind, tmp_path):
    place, _ = indexed
    other = make_imagebind()
    other.towers["text"].head.projection.weight.data *= 1.5
    other.save_pretrained(tmp_path / "other")
    shutil.copytree(bundled_path() / "processor", tmp_path / "other" / "processor")
    for words in (["search", "--text", "a"], ["index", library]):
        code, _, stderr = run(*words, "--db", place, "--imagebind", tmp_path / "other")
        assert code == 1 and "made by another model (pipeline) than other, and spaces do not mix" in stderr
    code, _, stderr = run("index", library, "--db", place, "--modalities", "image")
    assert code == 2 and "this store was made with ['image', 'audio', 'video']" in stderr
    code, _, stderr = run("search", "--db", tmp_path / "none", "--text", "a")
    assert code == 1 and "there is no store; `bind2gen index DIR" in stderr
    code, _, stderr = run("index", tmp_path / "nowhere", "--db", place)
    assert code == 2 and "wanted a folder, there is none" in stderr
    code, _, stderr = run("index", library, "--db", library / "red.png")
    assert code == 1 and "wanted a folder for the store, this is a file" in stderr


def test_broken_files_are_listed_gone_ones_are_noted_and_the_code_says_so(run, indexed, library):
    place, _ = indexed
    (library / "broken.png").write_bytes(b"\x89PNG\r\n\0\0 nothing more")
    os.remove(library / "red.png")
    code, stdout, stderr = run("index", library, "--db", place)
    assert code == 1 and "1 skipped" in stdout
    assert "bind2gen: skipped: " in stderr and "broken.png" in stderr and "1 files of these folders are gone" in stderr
    told = json.loads(run("index", library, "--db", place, "--prune", "--json")[1])
    assert [os.path.basename(path) for path in told["gone"]] == ["red.png"] and told["pruned"]
    assert os.path.basename(told["skipped"][0]["path"]) == "broken.png"
    with EmbeddingStore.open(place) as store:
        assert str(library / "red.png") not in store.files()


def test_the_fingerprint_of_a_file_is_that_of_the_model_in_it(tiny_folder, tiny_pipeline):
    wanted = tiny_pipeline.imagebind.fingerprint()
    assert read_fingerprint(tiny_folder, subfolder="imagebind") == wanted == read_fingerprint(tiny_folder / "imagebind")
    loaded = ImageBindModel.from_pretrained(tiny_folder / "imagebind", modalities=["audio"])
    assert loaded.fingerprint() == {"audio": wanted["audio"]}


def test_lancedb_itself_searches_our_tables_by_words_and_sounds_and_pictures(indexed, library, tiny_pipeline):
    import lancedb

    place, _ = indexed
    table = lancedb.connect(place).open_table("bind2gen")
    width = ImageBindModel.from_pretrained(bundled_path() / "imagebind").config.embed_dim
    assert get_registry().get("bind2gen").create(model="mini").ndims() == width
    with EmbeddingStore.open(place) as store:
        for query, modality, raw in (
            ("a b", "text", "a b"), (str(library / "mid.wav"), "audio", str(library / "mid.wav")),
            (Image.open(library / "red.png"), "image", str(library / "red.png")),
        ):  # fmt: skip
            rows = table.search(query).distance_type("cosine").limit(3).to_list()
            vector = tiny_pipeline.embed(**{modality: raw})[modality]
            hits = store.search(tiny_pipeline.adapter.shift(modality, vector)[0].numpy(), 3)
            assert np.allclose([1 - row["_distance"] for row in rows], [hit.score for hit in hits], atol=1e-4)


def test_shares_are_named_alike_where_there_is_no_torch():
    from bind2gen.cli import search
    from bind2gen.store import places

    assert (search.TAKEN_OUT, search.VARIETY) == (places.TAKEN_OUT, places.VARIETY)
