"""Drawn detections: labels stay in the picture and off each other, small boxes stay visible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.hosts.boxes import drawing as detection_drawing
from bind2gen.hosts.boxes.detections import Detections
from bind2gen.hosts.boxes.drawing import PALETTE, draw_detections

GREY = (128, 128, 128)


def grey(width: int = 400, height: int = 300) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def found(boxes, size=(400, 300), masks=None, labels=("dog", "bell"), prompts=None) -> Detections:
    count = len(boxes)
    prompts = [i % len(labels) for i in range(count)] if prompts is None else prompts
    return Detections(np.array(boxes).reshape(-1, 4), np.linspace(0.9, 0.5, count), prompts, labels, size, masks)


def rgb(colour: str) -> list[int]:
    return list(bytes.fromhex(colour.removeprefix("#")))


@pytest.fixture
def labels_drawn(monkeypatch):
    """Places (left, top, right, bottom) that labels got."""
    places, real = [], detection_drawing._place

    def noted(*args):
        places.append(real(*args))
        return places[-1]

    monkeypatch.setattr(detection_drawing, "_place", noted)
    return places


def test_frames_run_around_boxes_in_the_prompts_colour():
    pixels = np.asarray(draw_detections(grey(), found([[100, 100, 200, 200], [250, 100, 350, 200]])))
    assert pixels[150, 98].tolist() == rgb(PALETTE[0]) and pixels[150, 248].tolist() == rgb(PALETTE[1])
    assert (pixels[100:200, 100:200] == 128).all() and (pixels[100:200, 250:350] == 128).all()


def test_the_picture_itself_is_left_alone():
    image = grey()
    draw_detections(image, found([[0, 0, 400, 300]]))
    assert np.array_equal(np.asarray(image), np.asarray(grey()))


def test_nothing_found_gives_the_picture_back():
    assert np.array_equal(np.asarray(draw_detections(grey(), found([]))), np.asarray(grey()))


def test_masks_tint_their_pixels_and_no_others():
    mask = np.zeros((1, 300, 400), bool)
    mask[0, 120:180, 120:180] = True
    pixels = np.asarray(draw_detections(grey(), found([[100, 100, 200, 200]], masks=mask)))
    assert pixels[150, 150].tolist() == [round(128 + 0.4 * (c - 128)) for c in rgb(PALETTE[0])]
    assert pixels[120, 150].tolist() == rgb(PALETTE[0]) and pixels[110, 150].tolist() == list(GREY)


def test_colours_can_be_chosen():
    drawn = draw_detections(grey(), found([[100, 100, 200, 200]]), colours=["red", (0, 0, 255)])
    assert np.asarray(drawn)[150, 98].tolist() == [255, 0, 0]
    for bad in (["red"], "red", ["red", "no such"], ["red", (0, 0, 256)], ["red", (1, 2)]):
        with pytest.raises(InputError, match="colours"):
            draw_detections(grey(), found([[100, 100, 200, 200]]), colours=bad)


def test_more_prompts_than_colours_begin_again():
    labels = tuple("abcdefgh")
    drawn = draw_detections(grey(), found([[100, 100, 200, 200]], labels=labels, prompts=[7]))
    assert np.asarray(drawn)[150, 98].tolist() == rgb(PALETTE[0])


def test_text_contrasts_with_its_ground_as_wcag_asks():
    def luminance(colour):
        linear = [((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in PALETTE:
        pair = sorted(luminance(c) for c in (rgb(colour), detection_drawing._ink(tuple(rgb(colour)))))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(64, 64), (640, 480), (90, 400), (5, 5), (1500, 40)]),
    st.integers(0, 10),
    st.integers(0, 99),
)
def test_labels_stay_in_the_picture_and_hide_no_box(size, count, seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, size, (count, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    boxes[::2, 2:] = boxes[::2, :2] + 2  # tiny ones
    boxes[:, 2:] = np.minimum(boxes[:, 2:], size)
    places, real = [], detection_drawing._place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection_drawing, "_place", lambda *args: places.append(real(*args)) or places[-1])
        drawn = draw_detections(grey(*size), found(boxes, size, labels=("a prompt", "b")))
    assert len(places) == count and max(drawn.size) >= 320
    factor = drawn.width // size[0]
    for left, top, right, bottom in filter(None, places):
        assert 0 <= left < right <= drawn.width and 0 <= top < bottom <= max(drawn.height, bottom - top)
        for x0, y0, x1, y1 in boxes * factor:
            shared = max(0, min(right, x1) - max(left, x0)) * max(0, min(bottom, y1) - max(top, y0))
            assert shared <= 0.5 * max(1, x1 - x0) * max(1, y1 - y0) + 1e-6


def test_labels_of_boxes_side_by_side_do_not_overlap(labels_drawn):
    draw_detections(grey(), found([[x, 100, x + 60, 160] for x in (20, 60, 100, 140)]))
    for i, (l1, t1, r1, b1) in enumerate(labels_drawn):
        for l2, t2, r2, b2 in labels_drawn[:i]:
            assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1


def test_a_tiny_box_keeps_its_pixels():
    for corner in ((200, 150), (0, 0), (397, 297)):
        box = [*corner, corner[0] + 3, corner[1] + 3]
        pixels = np.asarray(draw_detections(grey(), found([box])))
        assert (pixels[box[1] : box[3], box[0] : box[2]] == 128).mean() > 0.5


def test_a_box_beyond_the_picture_draws_no_frame_and_no_error():
    for box in ([2000, 20, 2100, 90], [20, -900, 90, -800], [-9000, -9000, 9000, 9000]):
        assert draw_detections(grey(), found([box])).size == (400, 300)
    with pytest.raises(InputError, match="colours: wanted"):
        draw_detections(grey(), found([[0, 0, 9, 9]]), colours=[None, None])


def test_long_names_are_cut_and_scores_stay(labels_drawn):
    letters = detection_drawing.font(12)
    cut = detection_drawing._shortened("a very long name indeed 0.52", letters, 100)
    assert cut.endswith(".. 0.52") and letters.getlength(cut) <= 100
    draw_detections(grey(), found([[50, 50, 350, 250]], labels=("x" * 500, "b")))
    assert labels_drawn[0][2] - labels_drawn[0][0] <= 210


def test_names_in_greek_cyrillic_and_arabic_letters_are_no_boxes():
    shapes = [bytes(detection_drawing.font(20).getmask(letter)) for letter in "\uffffaдωش"]
    assert len(set(shapes)) == 5


def test_small_pictures_are_enlarged_by_whole_factors():
    assert draw_detections(grey(64, 48), found([], (64, 48))).size == (320, 240)
    assert draw_detections(grey(64, 48), found([], (64, 48)), min_side=1).size == (64, 48)


def test_track_numbers_are_written_behind_names(monkeypatch):
    texts, real = [], detection_drawing._shortened
    monkeypatch.setattr(detection_drawing, "_shortened", lambda text, *rest: texts.append(text) or real(text, *rest))
    draw_detections(grey(), found([[10, 50, 90, 90], [200, 50, 300, 90]]), track_ids=[3, 12])
    assert texts == ["dog #3 0.90", "bell #12 0.50"]
    with pytest.raises(InputError, match="wanted 2, one a box, got 1"):
        draw_detections(grey(), found([[10, 50, 90, 90], [200, 50, 300, 90]]), track_ids=[3])


def test_the_picture_must_be_the_detections_own():
    with pytest.raises(InputError, match=r"\(400, 300\) pixels, got \(300, 400\)"):
        draw_detections(grey(300, 400), found([]))
