from __future__ import annotations

import numpy as np
import pytest

from bind2gen.mini import sounds as module
from bind2gen.mini.heard import audio_settings
from bind2gen.mini.sounds import Sounds, load_sounds


@pytest.fixture(scope="module")
def sounds(data) -> Sounds:
    return load_sounds(data)


def test_many_hands_are_kept_by_source_and_ours_by_fold(sounds):
    sources = np.array([s.row.get("source", "") for s in sounds.samples])
    assert set(sources[sounds.held_out & sounds.many]) == {"6"} and "6" not in set(sources[~sounds.held_out])
    folds = np.array([s.row.get("fold", "") for s in sounds.samples])
    assert set(folds[sounds.held_out & ~sounds.many]) == {"4"} and sounds.many.sum() == 4 * 3 * 3 + 1


def test_what_is_left_out_is_of_no_concept_and_never_trained(sounds, monkeypatch):
    monkeypatch.setattr(module, "LEFT_OUT", 1)
    fresh = Sounds(sounds.waveforms, sounds.samples, sounds.many, sounds.sample_rate)
    assert fresh.judged_labels == ["cat", "dog", "piano", "wind"]
    assert len(fresh.left_out_labels) == 1 and fresh.left_out_labels[0] in ("piano", "wind")
    assert not set(fresh.labels[fresh.trained]) & set(fresh.left_out_labels)
    assert {"dog", "cat", ""} < set(fresh.labels[fresh.trained])  # backgrounds without a name are among them


def test_short_sounds_are_one_clip_and_long_ones_are_cut(sounds):
    settings = audio_settings()
    (clip,) = sounds.clips(0, settings)
    assert np.array_equal(clip, sounds.waveforms[0])
    long = Sounds([np.tile(clip, 50)], sounds.samples[:1], sounds.many[:1], 16_000)
    assert long.clips(0, settings).shape == (-(-50 * len(clip) // 80_000), 80_000)
