from __future__ import annotations

import numpy as np
import pytest

from bind2gen.mini.cuts import SMALLEST_CUT, cut_out, object_box

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
