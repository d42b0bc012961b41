from __future__ import annotations

import json

import pytest
import timm
import torch
from fake_e5 import FakeE5

from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini import photos as photos_module
from bind2gen.mini import see
from bind2gen.mini.evaluate import labels
from bind2gen.mini.photos import Photos, load_photos
from bind2gen.mini.read import Reading
from bind2gen.mini.see import Seen, Tail, features_of, image_tower, run_see
from bind2gen.mini.texts import Texts
from bind2gen.train.loop import LoopConfig


@pytest.fixture(scope="module")
def photos(data) -> Photos:
    return load_photos(data)


@pytest.fixture
def small(monkeypatch) -> None:
    """Pictures of 32 pixels, an untrained teacher, one template, and labels left out of the few that there are."""
    monkeypatch.setattr(see, "IMAGE_SIZE", 32)
    monkeypatch.setattr(labels, "LEFT_OUT", 2)
    monkeypatch.setattr(see, "lite0", network)
    monkeypatch.setattr(see, "TEMPLATES", ("a {}",))


def network(_=None) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0").eval()


def test_large_photos_are_taken_whole_and_small_ones_where_there_are_no_larger(photos):
    assert photos.large.sum() == 72 and set(photos.labels[photos.large]) == {
        "dog", "cat", "anchor", "barrel", "cannon", "chair",
    }  # fmt: skip
    assert {s.row["source"] for s in photos.samples if s.concept == "sea"} == {"Tiny-ImageNet"}
    assert (photos.concepts == "drone").sum() == 20
    assert {"walking", "sitting", "standing"} < set(photos.concepts)


def test_small_labels_are_cut_to_their_share(data, monkeypatch):
    monkeypatch.setattr(photos_module, "SMALL_PER_LABEL", {False: 5, True: 1})
    some = load_photos(data)
    assert (some.labels[some.trained] == "seashore").sum() == 5
    assert (some.labels[some.held_out] == "seashore").sum() <= 1


def test_what_is_held_out_or_left_out_is_not_trained(photos, monkeypatch):
    monkeypatch.setattr(labels, "LEFT_OUT", 2)
    fresh = Photos(photos.files, photos.samples, photos.large)
    assert fresh.judged_labels == ["anchor", "barrel", "cannon", "cat", "chair", "dog"]
    assert len(fresh.left_out_labels) == 2 and not {"dog", "cat"} & set(fresh.left_out_labels)
    trained = fresh.labels[fresh.trained]
    assert not set(trained) & set(fresh.left_out_labels) and {"dog", "cat"} <= set(trained)
    videos = {kept: {s.row.get("video") for s, k in zip(fresh.samples, fresh.held_out, strict=True) if k == kept}
              for kept in (False, True)}  # fmt: skip
    assert not (videos[True] & videos[False]) - {None}


@torch.no_grad()
def test_tail_and_features_are_the_network(small):
    net, values = network(), torch.randn(2, 3, 64, 64)
    assert torch.equal(Tail(net).forward_features(features_of(net, values)), net.forward_features(values))


def test_features_are_kept_and_altered_ones_are_of_trained_photos(photos, small, tmp_path, monkeypatch):
    few = Photos(photos.files[:14], photos.samples[:14], photos.large[:14])
    seen = Seen(few, network(), tmp_path, copies=2)
    filled = seen.features[1].flatten(1).abs().sum(1) > 0
    assert (filled.numpy() == few.trained).all() and not torch.equal(seen.features[0][filled], seen.features[1][filled])
    monkeypatch.setattr(see, "features_of", None)  # nothing is computed again
    again = Seen(few, network(), tmp_path, copies=2)
    assert torch.equal(again.features[1], seen.features[1]) and torch.equal(again.logits[0], seen.logits[0])


def test_the_stage_leaves_a_model_that_sees_as_the_trained_tower_did(
    data, teachers, small, tmp_path, monkeypatch, photos
):
    texts = Texts(data, teachers, table=1500, phrases=20)
    texts.__dict__["names"] = texts.names[:60]
    (tmp_path / "read").mkdir()
    reading = Reading(texts, FakeE5(), tmp_path / "read")
    monkeypatch.setattr(see, "read_model", lambda folder: reading.begun().eval())
    folder = tmp_path / "see"
    loop = LoopConfig(steps=3, batch_size=8, learning_rate=1e-3, warmup_steps=2, precision="no")
    run_see(texts, folder, loop, first=loop)
    kept = json.loads((folder / "figures.json").read_text())
    assert set(kept["wanted"]) <= set(kept["before"]) == set(kept["after"])
    assert kept["after"]["concepts"] > 0 and kept["after"]["left_out"] > 0
    model = ImageBindModel.from_pretrained(folder / "imagebind").eval()
    processor = ImageBindProcessor.from_pretrained(folder / "imagebind")
    with torch.no_grad():
        values = processor(images=photos.files[:4])["pixel_values"]
        whole = model.encode("image", values)
        words = model.encode("text", processor(text=["dog", "xqzt"])["input_ids"])
        tower = ImageBindModel(model.config).towers["vision"]
        tower.load_state_dict(model.towers["vision"].state_dict())
        tower.stem.network = Tail(tower.stem.network)
        features = Seen(
            Photos(photos.files[:4], photos.samples[:4], photos.large[:4]), network(), tmp_path, copies=1
        ).features[0]
        from_features = tower.eval()(features.float())
    assert (whole * from_features).sum(1).min() > 0.999  # features are computed and kept in half precision
    assert words.shape == (2, 256) and abs(words[0] @ words[1]) < 0.5


def test_the_image_tower_takes_lite0s_pictures():
    tower = image_tower()
    assert tower.input_shape == (3, 176, 176) and tower.grid == (6, 6)
    assert see.image_settings().size == 176
