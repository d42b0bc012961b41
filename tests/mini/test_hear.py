from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from fake_e5 import FakeE5
from test_see import network as lite0

from bind2gen.evaluate import labels
from bind2gen.imagebind.config import ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini import hear, heard, pictures, see
from bind2gen.mini import sounds as sounds_module
from bind2gen.mini.hear import run_hear
from bind2gen.mini.heard import Cached, Heard, audio_settings
from bind2gen.mini.read import Reading, text_settings
from bind2gen.mini.sounds import load_sounds
from bind2gen.mini.teachers import YAMNET, YAMNET_ARGS
from bind2gen.mini.texts import Texts
from bind2gen.train.loop import LoopConfig

KINDS = 260  # more than the tower is wide


@pytest.fixture
def small(monkeypatch) -> None:
    """Clips of 0.6 s, pictures of 32 pixels, untrained teachers, one template, and one label left out."""
    for module in (hear, heard):
        monkeypatch.setattr(module, "FRAMES", 64)
    monkeypatch.setattr(heard, "CLIP_SECONDS", 0.6)
    monkeypatch.setattr(sounds_module, "LEFT_OUT", 1)
    monkeypatch.setattr(labels, "LEFT_OUT", 2)
    monkeypatch.setattr(see, "IMAGE_SIZE", 32)
    for module, name, made in ((hear, "yamnet", network), (pictures, "lite0", lite0), (hear, "TEMPLATES", ("a {}",))):
        monkeypatch.setattr(module, name, made)
    monkeypatch.setattr(hear, "audioset_names", lambda _: [f"Dog, sound {number}" for number in range(KINDS)])


def network(_=None) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(YAMNET, in_chans=1, num_classes=KINDS, **YAMNET_ARGS).eval()


def test_features_are_kept_and_altered_ones_are_of_trained_sounds(data, small, tmp_path):
    sounds = load_sounds(data)
    made = Heard(sounds, network(), tmp_path, copies=2)
    labelled = (sounds.labels != "")[made.sound_of]
    filled = [part.flatten(1).abs().sum(1).numpy() > 0 for part in made.features]
    assert (filled[0] == labelled).all() and (filled[1] == labelled & sounds.trained[made.sound_of]).all()
    assert not torch.equal(made.features[0][filled[1]], made.features[1][filled[1]])
    kept_back = {"dog", "cat"}
    assert set(sounds.concepts[made.telephone_of]) == kept_back and len(made.telephone) == len(made.telephone_of)
    assert np.bincount(made.sound_of)[~sounds.many].tolist() == [2] * 5  # 0.9 s are two clips
    again = Heard(sounds, torch.nn.Identity(), tmp_path, copies=2)  # nothing is computed again
    assert torch.equal(again.features[1], made.features[1]) and torch.equal(again.logits, made.logits)


@pytest.fixture
def out(data, teachers, small, tmp_path):
    """What stages ``read`` and ``see`` leave, untrained."""
    texts = Texts(data, teachers, table=1500, phrases=20)
    texts.__dict__["names"] = texts.names[:60]
    (tmp_path / "read").mkdir()
    (tmp_path / "see").mkdir()
    words = Reading(texts, FakeE5(), tmp_path / "read").begun()
    torch.manual_seed(0)
    towers = {"vision": see.image_tower(), "text": words.config.tower("text")}
    model = ImageBindModel(ImageBindConfig(hear.EMBED_DIM, towers))
    model.towers["text"].load_state_dict(words.towers["text"].state_dict())
    model.save_pretrained(tmp_path / "see/imagebind")
    settings = {"text": text_settings(tmp_path / "read"), "image": see.image_settings()}
    ImageBindProcessor.for_config(model.config, **settings).save_pretrained(tmp_path / "see/imagebind")
    return texts, tmp_path


def test_the_stage_leaves_a_model_that_hears_as_the_trained_tower_did(out, data):
    texts, folder = out
    run_hear(texts, folder / "hear", LoopConfig(3, 12, learning_rate=1e-3, warmup_steps=2, precision="no"), copies=2)
    kept = json.loads((folder / "hear/figures.json").read_text())
    assert set(kept["wanted"]) <= set(kept["before"]) == set(kept["after"])
    assert kept["after"]["concepts"] == 2 and kept["after"]["many"] == 6 and kept["after"]["left_out"] == 9
    model = ImageBindModel.from_pretrained(folder / "hear/imagebind").eval()
    processor = ImageBindProcessor.from_pretrained(folder / "hear/imagebind")
    assert processor.audio == audio_settings() and set(model.config.modalities) == {"vision", "text", "audio"}
    before = ImageBindModel.from_pretrained(folder / "see/imagebind").state_dict()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    sounds, tower = load_sounds(data), model.towers["audio"]
    given, kept = network().state_dict(), tower.stem.network.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in kept.items())  # the network is not trained
    features = Heard(sounds, network(), folder / "hear", copies=1).features[0].float()
    with torch.no_grad():
        whole = model.encode("audio", processor(audio=[(w, 16_000) for w in sounds.waveforms[-9:]])["audio_values"])
        tower.stem.network = Cached()
        from_features = tower(features[-9:])  # these are one clip each
    assert (whole * from_features).sum(1).min() > 0.999  # features are kept in half precision
