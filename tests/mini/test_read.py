from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_e5 import EMPTY, WIDTH, FakeE5

from bind2gen.mini import read
from bind2gen.mini.read import CONTEXT, Reading, Space, read_model, run_read, text_settings
from bind2gen.mini.texts import Texts
from bind2gen.preprocess import text
from bind2gen.train.loop import LoopConfig


@pytest.fixture(scope="module")
def texts(data, teachers) -> Texts:
    made = Texts(data, teachers, table=2500, phrases=60)
    made.__dict__["names"] = made.names[:400]  # fewer than there are, for speed
    return made


@pytest.fixture(scope="module")
def reading(texts, tmp_path_factory) -> Reading:
    return Reading(texts, FakeE5(), tmp_path_factory.mktemp("read"))


def test_the_space_keeps_directions_and_an_axis_for_nothing():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(200, 20, generator=generator) @ torch.randn(20, WIDTH, generator=generator)  # 20 directions
    vectors = F.normalize(EMPTY + 0.02 * flat, dim=-1)
    space = Space.fitted(vectors[:50], vectors, width=32)
    found = space(vectors)
    centred = F.normalize(vectors - vectors[:50].mean(0), dim=-1)
    assert torch.allclose(found @ found.T, centred @ centred.T, atol=1e-3)  # all cosines are kept
    assert space.kept(vectors) == pytest.approx(1, abs=1e-3)
    assert (found @ space.nothing).abs().max() == 0 and space.nothing.norm() == 1


@torch.no_grad()
def test_the_untrained_tower_says_the_mean_of_its_words(reading):
    model = reading.begun().eval()
    words = [word for word in reading.words if len(word) > 3][:40]
    rows = reading.embed(model, words)
    wanted = reading.space(FakeE5()(words))
    assert (rows * wanted).sum(1).min() > 0.97
    both = reading.embed(model, [f"a photo of a {a} {b}" for a, b in zip(words[::2], words[1::2], strict=True)])
    assert (both * F.normalize(wanted[::2] + wanted[1::2], dim=-1)).sum(1).min() > 0.95


@torch.no_grad()
def test_unknown_words_and_no_words_say_nothing_at_first(reading, monkeypatch):
    model = reading.begun().eval()
    found = reading.embed(model, ["", "qzxqv", "a photo of a qzxqv", "\N{DOG FACE}"])
    assert (found @ reading.space.nothing).min() > 0.99
    monkeypatch.setattr(read, "captions", lambda: [" ".join(reading.words[:50])])  # the small table has few others
    assert reading.unknown(model) > 0.95


def test_what_is_held_out_is_never_drawn(reading):
    judged = {t for part, _ in reading.judged.values() for t in part}
    names = {t for t in reading.texts.names if " " in t}
    assert not judged & {*reading.long, *reading.short}
    assert 0 < len(names - {*reading.short}) < len(names) / 4
    assert reading.likely.sum() == pytest.approx(1) and (reading.likely > 0).all()


def test_batches_follow_from_their_generator(reading):
    first, again, other = (reading.batch(30, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert all(ids.shape == (len(wanted), 1, CONTEXT) for ids, wanted in first)
    assert all(torch.allclose(wanted.norm(dim=-1), torch.ones(len(wanted)), atol=1e-3) for _, wanted in first)


def test_the_stage_is_measured_and_leaves_a_tower_that_loads(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "E5", FakeE5)
    folder = tmp_path / "read"
    config = LoopConfig(steps=3, batch_size=24, learning_rate=1e-6, warmup_steps=1, precision="no")
    run_read(texts, folder, config)
    kept = json.loads((folder / "figures.json").read_text())
    assert set(kept["wanted"]) <= set(kept["before"]) == set(kept["after"])
    assert kept["before"]["composed_cosine"] > 0.95 and kept["after"]["composed_cosine"] > 0.9
    words = gzip.decompress((folder / "words.txt.gz").read_bytes()).decode().split()
    assert words == texts.words
    model, settings = read_model(folder), text_settings(folder)
    begun = Reading(texts, FakeE5(), tmp_path).begun().state_dict()
    assert all(not torch.equal(value, begun[key]) for key, value in model.state_dict().items() if "weight" in key)
    with torch.no_grad():
        dog, dogs, nothing = model.encode("text", text.transform(["dog", "a photo of a dog", ""], settings)[:, None])
    assert dog @ dogs > 0.9 and abs(dog @ nothing) < 0.5


def test_beginning_as_the_mean_leaves_queries_to_learn(reading):
    tower = reading.begun().towers["text"]
    ids = reading.ids([" ".join(reading.words[20:24])])[:, 0, :5]
    (tower(ids) @ torch.randn(reading.space.nothing.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    last = tower.blocks[-1].attention.in_proj.weight.grad
    assert (last.abs().sum(1) > 1e-6).float().mean() > 0.9
