from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import InputError
from bind2gen.mini.evaluate.sums import Sums, chance_of_both, draw_pairs, found_both
from bind2gen.space.index import EmbeddingIndex

NAMES = ("bird", "cow", "dog", "sea")


def test_pairs_are_of_two_concepts_and_the_same_every_time():
    seen, heard = np.repeat(NAMES, 5), np.repeat(NAMES[:2], 7)
    one, two = draw_pairs(seen, heard, 100), draw_pairs(seen, heard, 100)
    assert np.array_equal(one.photos, two.photos) and np.array_equal(one.sounds, two.sounds)
    assert (seen[one.photos] != heard[one.sounds]).all()
    assert set(seen[one.photos]) == set(NAMES) and set(heard[one.sounds]) == set(NAMES[:2])
    assert not np.array_equal(one.photos, draw_pairs(seen, heard, 100, seed=1).photos)


def test_sounds_that_no_photo_answers_are_not_drawn():
    pairs = draw_pairs(np.array(["cow", "dog"]), np.array(["cow", "train"]), 20)
    assert set(pairs.sounds) == {0}
    with pytest.raises(InputError, match="two concepts"):
        draw_pairs(np.array(["cow", "cow"]), np.array(["cow"]))


def test_sums_of_concept_axes_find_both_and_single_embeddings_find_one():
    """Photos lie on one axis a concept, with a little of their own; a sum lies between two of the axes."""
    rng = torch.Generator().manual_seed(0)
    concepts = np.repeat(NAMES, 3)
    axes = torch.eye(8)[np.searchsorted(NAMES, concepts)]
    gallery = F.normalize(axes + 0.05 * torch.randn(12, 8, generator=rng), dim=1)
    pairs = draw_pairs(concepts, np.array(NAMES), 50)
    photos, sounds = gallery[pairs.photos], torch.eye(8)[pairs.sounds]
    index, itself = EmbeddingIndex(gallery), torch.from_numpy(pairs.photos)

    def found(**options):
        places = index.search([photos, sounds], 5, leave_out=itself, **options).places.numpy()
        assert not (places == pairs.photos[:, None]).any()
        return found_both(places, concepts, pairs, np.array(NAMES))

    assert found().all()
    # Two others of the photo's concept are there, then come all the rest.
    assert found(weights=[1.0, 0.001]).mean() < 1


def test_both_must_be_among_what_was_found():
    concepts, heard = np.array(["cow", "dog", "sea", "cow"]), np.array(["dog"])
    pairs = Sums(np.array([0, 0, 0]), np.array([0, 0, 0]))
    places = np.array([[1, 2], [3, 2], [2, 3]])
    assert found_both(places, concepts, pairs, heard).tolist() == [False, False, False]
    assert found_both(np.array([[3, 1], [1, 3], [1, 2]]), concepts, pairs, heard).tolist() == [True, True, False]


def test_chance_is_what_random_retrieval_scores():
    concepts = np.repeat(NAMES, [40, 30, 20, 10])
    heard = np.array(NAMES)
    pairs = draw_pairs(concepts, heard, 200)
    rng = np.random.default_rng(0)
    hits = [
        {concepts[p], heard[s]} <= set(rng.choice(concepts, 5)) for p, s in zip(*vars(pairs).values(), strict=True)
        for _ in range(50)
    ]  # fmt: skip
    assert chance_of_both(concepts, pairs, heard) == pytest.approx(np.mean(hits), abs=0.02)
