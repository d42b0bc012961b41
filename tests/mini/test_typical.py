from __future__ import annotations

import numpy as np
import pytest
import torch

from bind2gen.mini.data import ImageSet, Sample
from bind2gen.mini.typical import OF_A_RECORDING, SMALLEST_CUT, Looks, cut_out, object_box, typical_photos

SKY = (100, 150, 220)


def flying(left: int, top: int, width: int, height: int) -> np.ndarray:
    """A dark thing in the sky."""
    pixels = np.full((64, 64, 3), SKY, np.uint8)
    pixels[top : top + height, left : left + width] = 20
    return pixels


def boxed(x0: int, y0: int, x1: int, y1: int) -> dict[str, str]:
    return {"x0": str(x0), "y0": str(y0), "x1": str(x1), "y1": str(y1)}


def test_the_object_is_where_the_row_says_or_what_stands_out_against_the_sky():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert object_box(noise, boxed(3, 5, 40, 60)) == (3, 5, 40, 60)
    assert object_box(noise, {"x0": "", "label": "pug"}) is None
    assert object_box(noise, boxed(3, 5, 20, 20)) is None  # too small to be seen well
    found = object_box(flying(10, 20, 30, 12), {"video": "V1"})
    assert found == pytest.approx((10, 20, 40, 32), abs=1)
    assert object_box(flying(10, 20, 8, 8), {"video": "V1"}) is None


def test_a_cut_holds_the_object_and_fills_the_picture_with_it():
    pixels = flying(8, 30, 30, 16)
    for row in (boxed(8, 30, 38, 46), {"video": "V1"}):
        cut = cut_out(pixels, row)
        dark = (cut.max(-1) < 60).mean()
        assert cut.shape == pixels.shape and 0.2 < dark < 0.5  # 0.12 of the whole picture
    assert (cut_out(flying(0, 0, 24, 24), boxed(0, 0, 24, 24)) < 60).all(-1).mean() == pytest.approx(
        (24 / SMALLEST_CUT) ** 2, rel=0.1
    )
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(cut_out(noise, {}), noise)
    assert np.array_equal(cut_out(noise, boxed(0, 0, 63, 63)), noise)


def looks_of(features: torch.Tensor, certainty: torch.Tensor) -> Looks:
    features = torch.nn.functional.normalize(features, dim=1)
    return Looks(features, features, certainty)


def photos(rows: list[dict[str, str]], concept: str = "dog") -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (len(rows), 64, 64, 3), dtype=np.uint8)
    return ImageSet(pixels, [Sample(f"{i}.webp", concept, row) for i, row in enumerate(rows)])


def test_photos_that_look_like_many_others_are_typical():
    torch.manual_seed(0)
    common, certainty = torch.randn(64), torch.ones(60)
    features = torch.randn(60, 64)
    features[::2] += 1.5 * common  # every other one resembles all of its kind
    chosen = typical_photos(photos([{}] * 60), looks_of(features, certainty), ("dog", "cat"), 20)
    assert chosen.sum() == 20 and chosen[::2].sum() == 20


def test_unsure_small_and_repeated_photos_are_left_out():
    torch.manual_seed(0)
    features = torch.randn(40, 64) + 2 * torch.randn(64)
    certainty = torch.ones(40)
    certainty[:15] = 0.1
    rows = [{} for _ in range(40)]
    rows[20] = boxed(0, 0, 10, 10)
    chosen = typical_photos(photos(rows), looks_of(features, certainty), ("dog",), 40)
    assert not chosen[:15].any() and not chosen[20] and chosen[15:20].all() and chosen[21:].all()

    lonely = torch.randn(40, 64)
    lonely[1] = lonely[0]  # its own copy is no neighbour
    lonely[2:] += torch.randn(64)
    chosen = typical_photos(photos([{}] * 40), looks_of(lonely, torch.ones(40)), ("dog",), 38)
    assert not chosen[:2].any()


def test_one_video_does_not_fill_the_choice():
    torch.manual_seed(0)
    rows = [{"video": "V1"}] * 30 + [{"video": f"W{i}"} for i in range(30)]
    images = photos(rows)
    images.pixels[:] = flying(10, 20, 30, 12)
    features = torch.randn(60, 64) * 0.5 + torch.randn(64)
    chosen = typical_photos(images, looks_of(features, torch.ones(60)), ("dog",), 60)
    assert chosen[:30].sum() == OF_A_RECORDING and chosen[30:].all()
