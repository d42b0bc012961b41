from __future__ import annotations

import numpy as np
import torch

from bind2gen.imagebind.model import ImageBindModel
from bind2gen.train.autoencoder import fit_autoencoder
from bind2gen.train.conditions import Conditions, Draws, concept_means, conditions_of, drawn_for
from bind2gen.train.data import ImageSet, Sample
from bind2gen.train.mini_recipe import mini_config

NAMES = np.array(["dog", "dog", "cat", "cat", "cat", "rain"])
TYPICAL = np.array([True, False, False, True, True, False])


def photos() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    box = {"x0": "4", "y0": "8", "x1": "44", "y1": "40"}
    return ImageSet(pixels, [Sample(f"{i}.webp", name, box) for i, name in enumerate(NAMES)])


def conditions(images: ImageSet) -> Conditions:
    torch.manual_seed(0)
    imagebind = ImageBindModel(mini_config(), modalities=["image"]).eval()
    return conditions_of(images, TYPICAL, fit_autoencoder(photos()).eval(), imagebind, cuts=2)


def test_every_photo_comes_first_and_typical_ones_again_in_other_cuts():
    found = conditions(photos())
    assert found.photos.tolist() == [0, 1, 2, 3, 4, 5, 0, 3, 4, 0, 3, 4]
    assert found.latents.shape == (12, 2, 32, 8, 8) and abs(found.latents.std() - 1) < 0.1
    assert torch.allclose(found.image_embeds.norm(dim=-1), torch.full((12, 2), 16.0), atol=1e-3)
    assert not torch.allclose(found.latents[0], found.latents[6], atol=0.1)
    assert torch.equal(found.of_photos(), found.image_embeds[:6, 0])


def test_mirror_images_stand_beside_the_pictures():
    images = photos()
    mirrored = ImageSet(
        np.ascontiguousarray(images.pixels[:, :, ::-1]),
        [Sample(s.path, s.concept, s.row | {"x0": "20", "x1": "60"}) for s in images.samples],
    )
    straight, swapped = conditions(images), conditions(mirrored)
    unscaled = straight.latents / straight.scaling_factor
    assert torch.allclose(swapped.latents[:6, 0] / swapped.scaling_factor, unscaled[:6, 1], atol=0.02)


def test_a_sound_is_drawn_like_typical_photos_where_there_are_any():
    assert drawn_for(NAMES, TYPICAL).tolist() == [True, False, False, True, True, True]
    embeds = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    means = concept_means(embeds, NAMES, TYPICAL)
    unit = torch.nn.functional.normalize(embeds, dim=1)
    assert torch.equal(means["dog"], unit[0]) and torch.equal(means["rain"], unit[5])
    assert torch.allclose(means["cat"], unit[3:5].mean(0))


def test_typical_photos_are_drawn_more_often_and_all_their_cuts_alike():
    draws = Draws(conditions(photos()), NAMES)
    chosen, pictures = draws.draw(20_000, np.random.default_rng(0))
    share = np.bincount(chosen, minlength=6) / len(chosen)
    assert share[TYPICAL].sum() > 0.85 and (share > 0).all()
    assert abs(share[0] - share[3:5].sum()) < 0.06  # dogs and cats alike
    of_the_dog = np.bincount(pictures[chosen == 0], minlength=12)
    assert set(np.flatnonzero(of_the_dog)) == {0, 6, 9} and of_the_dog[[0, 6, 9]].min() > 0.9 * of_the_dog.max()
    assert np.array_equal(pictures[chosen == 1], chosen[chosen == 1])


def test_without_typical_photos_rare_concepts_are_lifted_a_little():
    draws = Draws(
        Conditions(torch.zeros(6, 1), torch.zeros(6, 1, 4), torch.arange(6), torch.zeros(6, dtype=torch.bool), 1.0),
        NAMES,
    )
    assert draws.weights[5] > draws.weights[0] > draws.weights[2]


def test_a_set_without_typical_photos_has_each_photo_once():
    torch.manual_seed(0)
    imagebind = ImageBindModel(mini_config(), modalities=["image"]).eval()
    found = conditions_of(photos(), np.zeros(6, bool), fit_autoencoder(photos()).eval(), imagebind)
    assert found.photos.tolist() == list(range(6)) and len(found.latents) == 6
