from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from fake_e5 import FakeE5
from test_see import network as lite0

from bind2gen.errors import InputError
from bind2gen.imagebind.config import ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini import hear, hear_lessons, heard, pictures, see
from bind2gen.mini import sounds as sounds_module
from bind2gen.mini.evaluate import labels
from bind2gen.mini.hear import Hearing, run_hear
from bind2gen.mini.hear_lessons import Lessons
from bind2gen.mini.heard import Heard, audio_settings, through
from bind2gen.mini.read import Reading, text_settings
from bind2gen.mini.sounds import load_sounds
from bind2gen.mini.teachers import YAMNET, YAMNET_ARGS
from bind2gen.mini.texts import Texts
from bind2gen.train.loop import LoopConfig, weights_of

KINDS = 260  # more than the tower is wide


@pytest.fixture
def small(monkeypatch) -> None:
    """Clips of 0.6 s, pictures of 32 pixels, untrained teachers, one template, and one label left out."""
    for module in (hear_lessons, heard):
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


def test_clips_are_altered_anew_and_those_through_a_telephone_are_kept_back(data, small):
    sounds = load_sounds(data)
    made = Heard(sounds)
    assert np.bincount(made.sound_of)[~sounds.many].tolist() == [2] * 5  # 0.9 s are two clips
    assert set(sounds.concepts[made.telephone_of]) == {"dog", "cat"}
    assert len(list(made.telephone())) == len(made.telephone_of)
    once, again, other = (next(iter(made.altered(np.array([3]), seed))) for seed in (0, 0, 1))
    assert np.array_equal(once, again) and not np.array_equal(once[:100], other[:100])


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


def test_lessons_fit_a_file(out, tmp_path):
    hearing = Hearing(out[0], out[1] / "hear")
    made = hearing.lessons()
    made.save(tmp_path / "pack.safetensors")
    held = Lessons.load(tmp_path / "pack.safetensors")
    assert [len(clip) for clip in held.clips] == [len(clip) for clip in made.clips]
    for name in ("label", "concept", "ours", "kind", "group", "photo_kind"):
        assert torch.equal(getattr(held, name), getattr(made, name))
    for name in ("heard", "names", "judged", "photos"):
        assert torch.allclose(getattr(held, name), getattr(made, name), atol=1e-3)  # half precision
    (left_out,) = hearing.words(hearing.sounds.left_out_labels)
    assert not any(torch.equal(row, left_out) for row in made.names)
    with pytest.raises(InputError, match="hear-pack"):
        Lessons.load(out[1] / "read/words.txt.gz")


def test_the_stage_leaves_a_model_that_hears_as_the_trained_tower_did(out, data):
    texts, folder = out
    config = LoopConfig(3, 12, learning_rate=1e-3, warmup_steps=2, precision="no")
    hear.run_pack(texts, folder / "hear-pack")
    run_hear(texts, folder / "hear", config, folder / "hear-pack/pack.safetensors")
    assert not (folder / "hear/figures.json").exists()  # trained only, as on another machine
    run_hear(texts, folder / "hear", config)
    assert len((folder / "hear/metrics.jsonl").read_text().splitlines()) == 2  # no second time
    kept = json.loads((folder / "hear/figures.json").read_text())
    assert set(kept["wanted"]) <= set(kept["before"]) == set(kept["after"])
    assert kept["after"]["concepts"] == 2 and kept["after"]["many"] == 6 and kept["after"]["left_out"] == 9
    model = ImageBindModel.from_pretrained(folder / "hear/imagebind").eval()
    processor = ImageBindProcessor.from_pretrained(folder / "hear/imagebind")
    assert processor.audio == audio_settings() and set(model.config.modalities) == {"vision", "text", "audio"}
    before = ImageBindModel.from_pretrained(folder / "see/imagebind").state_dict()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    trained, state = weights_of(folder / "hear"), model.towers["audio"].state_dict()
    assert all(torch.equal(state[name], value) for name, value in trained.items())
    given = network().state_dict()
    assert not torch.equal(state["stem.network.conv_stem.weight"], given["conv_stem.weight"])
    assert torch.equal(state["stem.network.bn1.running_var"], given["bn1.running_var"])
    sounds = load_sounds(data)
    with torch.no_grad():
        whole = model.encode("audio", processor(audio=[(w, 16_000) for w in sounds.waveforms[-9:]])["audio_values"])
    clips = Heard(sounds).clips[-9:]  # these are one clip each
    assert (whole * through(model.towers["audio"], clips, 9)).sum(1).min() > 0.9999
