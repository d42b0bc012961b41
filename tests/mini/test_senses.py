from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from bind2gen.errors import InputError
from bind2gen.imagebind.config import ImageBindConfig, TowerConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini import photos as photos_module
from bind2gen.mini import senses, towers
from bind2gen.mini.data import Sample
from bind2gen.mini.photos import Photos, load_photos
from bind2gen.mini.read import text_settings, text_tower
from bind2gen.mini.recipe import EMBED_DIM, TOWERS
from bind2gen.mini.sensed import Source
from bind2gen.mini.senses import run_sense, shown_by
from bind2gen.mini.texts import Texts
from bind2gen.preprocess import thermal
from bind2gen.train.loop import LoopConfig, weights_of

WORDS = ["dog", "cat", "photo"]


@pytest.fixture
def photos(data, monkeypatch) -> Photos:
    monkeypatch.setattr(photos_module, "FIGURES", 2)
    return load_photos(data)


@pytest.fixture
def out(tmp_path) -> Path:
    """A folder in which stage ``see`` has left a small model that has learnt nothing."""
    (tmp_path / "words.txt.gz").write_bytes(gzip.compress("\n".join(WORDS).encode()))
    torch.manual_seed(0)
    vision = TowerConfig(16, 1, 2, "patches", (3, 32, 32), kernel=(16, 16), stride=(16, 16), bias_kv=False)
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, {"vision": vision, "text": text_tower(len(WORDS))}))
    model.save_pretrained(tmp_path / "see/imagebind")
    processor = ImageBindProcessor.for_config(model.config, text=text_settings(tmp_path))
    processor.save_pretrained(tmp_path / "see/imagebind")
    return tmp_path


def test_anchors_are_of_trained_photos_of_the_concepts(photos, out, monkeypatch):
    monkeypatch.setattr(senses, "PICTURES", 5)
    monkeypatch.setattr(towers, "BATCH", 4)
    rows = shown_by(photos, {"dog", "cat", "walking"})
    assert sorted(photos.concepts[rows]) == ["cat"] * 5 + ["dog"] * 5 + ["walking"] * 2
    assert photos.trained[rows].all() and len(set(rows)) == len(rows)
    model = ImageBindModel.from_pretrained(out / "see/imagebind").eval()
    processor = ImageBindProcessor.from_pretrained(out / "see/imagebind")
    embeds = towers.embed(model, processor, "image", [photos.files[i] for i in rows])
    with torch.no_grad():
        last = model.encode("image", processor(images=photos.files[rows[-1]])["pixel_values"])[0]
    assert torch.allclose(embeds[-1], last, atol=1e-5)  # float32, another batch


def test_a_tower_is_trained_and_judged_and_left_alone_in_its_folder(data, teachers, photos, out, monkeypatch):
    monkeypatch.setattr("bind2gen.train.loop.plot_curves", lambda folder: None)
    pictures = torch.rand(12, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    items = [Sample(str(i), ("cat", "dog")[i % 2], {}) for i in range(12)]
    monkeypatch.setattr(senses, "load_photos", lambda data: photos)
    monkeypatch.setattr(senses, "source", lambda *_: Source("thermal", items, lambda rng, rows: pictures[rows]))
    greys = [thermal.load((255 * picture[0, 0]).byte().numpy()) for picture in pictures]
    monkeypatch.setattr(senses, "items", lambda *_: (greys, items))
    config = LoopConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5, precision="no")
    run_sense(Texts(data, teachers), out / "thermal", config, "thermal")
    told = json.loads((out / "thermal/figures.json").read_text())
    assert set(told["wanted"]) | {"cat", "dog"} == set(told["before"]) == set(told["after"])
    tower = ImageBindModel(ImageBindConfig(EMBED_DIM, {"thermal": TOWERS["thermal"]})).state_dict()
    assert weights_of(out / "thermal").keys() == tower.keys()


def test_without_stage_see_there_is_nothing_to_bind_to(data, teachers, tmp_path):
    with pytest.raises(InputError, match="stage see, found none; run that stage first"):
        run_sense(Texts(data, teachers), tmp_path / "imu", LoopConfig(1, 2, 1e-3), "imu")
