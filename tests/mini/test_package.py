"""The adapter of a packaged model: from a new encoder's space to that of a host which was trained on another one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import InputError
from bind2gen.mini import package, thresholds
from bind2gen.mini.photos import Photos
from bind2gen.train.data import Sample
from bind2gen.vocabulary import Vocabulary

WIDTH, SLOT, CONCEPTS = 16, 12, ("bee", "cab", "dad")


def draw(seed: int, *shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_map_to_the_host_finds_what_leads_from_one_space_to_the_other():
    new, matrix = draw(0, 600, WIDTH), draw(1, WIDTH, SLOT)
    old = F.normalize(new @ matrix + 0.3 * draw(2, SLOT), dim=-1)
    samples = [Sample(f"{i}.png", "bee" if i % 2 else "", {}) for i in range(600)]
    photos = Photos([], samples, np.ones(600, bool))
    assert 20 < photos.held_out.sum() < 120
    (found, added), told = package.map_to_host(new, old, photos)
    reached = F.normalize(new @ found + added, dim=-1)
    assert (reached * old).sum(1).mean() > 0.97 > 0.5 > (reached * old.roll(1, 0)).sum(1).mean()
    held_out = torch.from_numpy(photos.held_out)
    assert told["held_out_cosine"] == pytest.approx((reached * old)[held_out].sum(1).mean().item())
    # Spoilt embeddings of held-out photos do not change the map: it was not fitted on them.
    spoilt = torch.where(held_out[:, None], old.roll(1, 0), old)
    assert torch.equal(package.map_to_host(new, spoilt, photos)[0][0], found)


def test_maps_lead_to_photos_of_a_concept_or_else_to_the_name():
    photos, texts = dict(zip(CONCEPTS, draw(0, 3, WIDTH), strict=True)), draw(1, 4, WIDTH)
    names = np.repeat([*CONCEPTS, "eel"], 40)
    centres, numbers = draw(2, 4, WIDTH), np.repeat(np.arange(4), 40)
    sounds = F.normalize(centres[numbers] + 0.2 * draw(6, 160, WIDTH), dim=-1)
    anchors, to_host = draw(3, 3, SLOT), (draw(4, WIDTH, SLOT), torch.zeros(SLOT))
    asked = []

    def embed_text(captions: list[str]) -> torch.Tensor:
        asked.extend(captions)
        return texts[[[*CONCEPTS, "eel"].index(caption.split()[-1]) for caption in captions]]

    items = {"audio": package.Items(sounds, names, torch.arange(160))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "TEMPLATES", ("a {}",))
        adapter, ridges = package.fit_adapter(embed_text, items, photos, anchors, to_host)
    assert asked == ["a bee", "a cab", "a dad", "a eel"] and ridges.keys() == {"audio"}
    meant = adapter({"audio": sounds}, anchored=False)
    places = torch.stack([*photos.values(), adapter.shift("text", texts[3:])[0]])
    assert ((meant @ places.T).argmax(1).numpy() == numbers).mean() > 0.95
    ours = numbers < 3
    assert torch.allclose(adapter({"audio": sounds[ours]}), anchors[numbers[ours]], atol=0.05)
    assert torch.allclose(adapter.means[0], torch.stack(list(photos.values())).mean(0))


def test_a_stage_that_was_not_trained_is_named(tmp_path):
    with pytest.raises(InputError, match="see/imagebind: wanted the towers of stage see, found none"):
        package.trained_encoder(tmp_path)


def test_words_are_known_from_where_few_right_sounds_lie_below():
    likeness, right = np.linspace(0, 1, 201), np.arange(201) % 2 == 0
    words = tuple(((("bee" if ok else "cab"), 1.0),) for ok in right)
    concepts, samples = np.array(["bee"] * 201 + ["eel"]), [Sample("a.ogg", "", {})] * 202
    sounds = SimpleNamespace(
        concepts=concepts, samples=samples, held_out=np.ones(202, bool), waveforms=[np.zeros(1)] * 202, sample_rate=1
    )

    def embedded(audio: list) -> SimpleNamespace:
        assert len(audio) == 201
        return SimpleNamespace(words=words, likeness=likeness.tolist())

    prompter = SimpleNamespace(vocabulary=Vocabulary(CONCEPTS, torch.eye(3)), class_embeddings=embedded)
    least, found = thresholds.known_prompt(prompter, sounds)
    assert least == pytest.approx(0.05, abs=0.005) and found["sounds_named"] == pytest.approx(101 / 201)
