from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.mini.evaluate.likeness import (
    Nearest,
    closeness,
    mean_pair_cosine,
    mean_pixel_difference,
    nearest,
    thumbnails,
    variety,
)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_a_picture_copied_from_training_is_its_own_neighbour_at_distance_zero():
    training = noise(20)
    copied = training[[7, 3]]
    found = nearest([thumbnails(copied), thumbnails(copied[:, :, ::-1])], thumbnails(training))
    assert found.places.tolist() == [7, 3]
    assert found.distances.tolist() == [0, 0]


def test_a_mirrored_copy_is_found_too():
    training = noise(20)
    mirrored = training[[5]][:, :, ::-1]
    plain = nearest([thumbnails(mirrored)], thumbnails(training))
    both = nearest([thumbnails(mirrored), thumbnails(mirrored[:, :, ::-1])], thumbnails(training))
    assert plain.distances[0] > 1
    assert both.places.tolist() == [5] and both.distances[0] == 0


def test_thumbnail_distance_is_the_root_mean_square_difference_in_levels():
    dark, bright = (np.full((1, 64, 64, 3), level, np.uint8) for level in (100, 130))
    assert torch.dist(thumbnails(dark), thumbnails(bright)).item() == pytest.approx(30, rel=1e-5)


def test_the_search_agrees_with_trying_all():
    rng = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(300, 12, generator=rng), torch.randn(50, 12, generator=rng)
    found = nearest([queries], gallery)
    every = (queries[:, None] - gallery[None]).norm(dim=2)
    assert np.array_equal(found.places, every.argmin(1).numpy())
    assert np.allclose(found.distances, every.min(1).values.numpy(), atol=1e-5)


def test_closeness_tells_a_memorising_model_from_one_that_does_not():
    rng = np.random.default_rng(0)
    seen = np.repeat(["cow", "sea"], 200)
    photos = Nearest(np.zeros(400, int), np.where(seen == "sea", 3.0, 1.0) * rng.uniform(10, 20, 400))
    drawn = np.repeat(["cow", "sea"], 50)

    def of(factor: float) -> Nearest:
        return Nearest(np.zeros(100, int), factor * np.where(drawn == "sea", 3.0, 1.0) * rng.uniform(10, 20, 100))

    honest, copies = closeness(of(1.0), drawn, photos, seen), closeness(of(0.01), drawn, photos, seen)
    assert honest.ratio_of_medians == pytest.approx(1, abs=0.1) and honest.share_close < 0.05
    assert copies.ratio_of_medians == pytest.approx(0.01, rel=0.1) and copies.share_close == 1


def test_closeness_of_photos_with_themselves_is_one_and_a_hundredth():
    distances = np.linspace(1, 2, 1000)
    names = np.full(1000, "cow")
    found = closeness(Nearest(np.zeros(1000, int), distances), names, Nearest(np.zeros(1000, int), distances), names)
    assert found.ratio_of_medians == pytest.approx(1)
    assert found.share_close == pytest.approx(0.01, abs=0.002)
    assert (
        closeness(Nearest(np.zeros(1, int), distances[:1]), names[:1], Nearest(names, distances), names + "x") is None
    )


def test_equal_pictures_have_no_variety_and_noise_has_much():
    equal = np.repeat(noise(1), 4, axis=0)
    embeds = F.normalize(torch.ones(4, 3), dim=1)
    found = variety([(equal, embeds), (noise(1), embeds[:1])], [(noise(6), torch.eye(6))])
    assert (found.pixels, found.cosine) == (0, pytest.approx(1))
    assert found.pixels_of_photos == pytest.approx(85, rel=0.02)  # two even draws of 0..255 differ by a third
    assert found.cosine_of_photos == pytest.approx(0, abs=1e-6)
    assert variety([(noise(1), embeds[:1])], [(noise(6), torch.eye(6))]) is None


def test_means_are_over_pairs_of_two_different_items():
    pixels = np.stack([np.full((2, 2, 3), level, np.uint8) for level in (0, 10, 40)])
    assert mean_pixel_difference(pixels) == pytest.approx((10 + 40 + 30) / 3)
    assert mean_pair_cosine(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == pytest.approx(1 / 3)
