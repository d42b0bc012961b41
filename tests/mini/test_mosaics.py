"""Scenes: boxes lie where the objects are, whatever was cut, pasted, enlarged or mirrored."""

import numpy as np
import pytest

from bind2gen.errors import InputError
from bind2gen.mini.data import ImageSet, Sample
from bind2gen.mini.mosaics import FORMS, SMALLEST, BoxedSet, Mosaics, boxed

COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


def photo(concept: str, rng: np.random.Generator, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle in the concept's colour on grey, and its box."""
    x0, y0 = rng.integers(0, size // 3, 2)
    x1, y1 = rng.integers(size // 2, size + 1, 2)
    pixels = np.full((size, size, 3), 90, np.uint8)
    pixels[y0:y1, x0:x1] = COLOURS[concept]
    return pixels, np.array([[x0, y0, x1, y1]], np.float32)


def objects(count: int = 12, seed: int = 0) -> BoxedSet:
    rng = np.random.default_rng(seed)
    names = [list(COLOURS)[i % 3] for i in range(count)]
    made = [photo(name, rng) for name in names]
    return BoxedSet([p for p, _ in made], [b for _, b in made], [Sample(f"{i}", n, {}) for i, n in enumerate(names)])


@pytest.mark.parametrize("form", FORMS)
def test_boxes_hold_the_colour_of_their_concept_up_to_their_edges(form):
    mosaics = Mosaics(objects(), None, 96)
    for seed in range(15):
        scene = mosaics.draw(np.random.default_rng(seed), form)
        assert scene.pixels.shape == (96, 96, 3) and scene.pixels.dtype == np.uint8
        assert len(scene.boxes) == len(scene.concepts)
        assert (scene.boxes >= 0).all() and (scene.boxes <= 96).all()
        for box, concept in zip(scene.boxes, scene.concepts, strict=True):
            channel = list(COLOURS).index(concept)
            is_mine = (scene.pixels.argmax(2) == channel) & (scene.pixels.max(2) > 150)
            x0, y0, x1, y1 = box
            inside = is_mine[int(np.ceil(y0 + 1)) : int(y1 - 1), int(np.ceil(x0 + 1)) : int(x1 - 1)]
            if form != "pasted":  # there a later object may lie on a part of it
                assert inside.mean() > 0.97
            else:
                assert inside.mean() > 0.5


def test_a_grid_shows_every_photo_and_a_single_scene_keeps_its_box_whole():
    mosaics = Mosaics(objects(), None, 120)
    counts = {len(mosaics.draw(np.random.default_rng(seed), "grid").boxes) for seed in range(12)}
    assert counts <= {4, 5, 6, 7, 8, 9} and {4, 9} & counts
    for seed in range(12):
        (box,) = mosaics.draw(np.random.default_rng(seed), "single").boxes
        assert (box[2:] - box[:2] >= 0.25 * 120).all()  # the smallest object is a quarter of its photo


def test_blurred_backgrounds_get_no_box_and_sharp_ones_do():
    mosaics = Mosaics(objects(), None, 96)
    scenes = [mosaics.draw(np.random.default_rng(seed), "pasted") for seed in range(60)]
    whole = [((s.boxes[:, 2:] - s.boxes[:, :2]).max() > 0.62 * 96) for s in scenes if len(s.boxes)]
    assert 0.05 < np.mean(whole) < 0.7  # larger than anything that is pasted: a background's own object


def test_frames_with_several_boxes_are_shown_whole():
    pixels = np.full((40, 80, 3), 90, np.uint8)
    pixels[5:15, 5:15] = COLOURS["red"]
    pixels[20:36, 50:70] = COLOURS["red"]
    frames = BoxedSet([pixels], [np.array([[5, 5, 15, 15], [50, 20, 70, 36]], np.float32)], [Sample("f", "red", {})])
    mosaics = Mosaics(objects(3), frames, 80)
    seen = {len(mosaics.draw(np.random.default_rng(seed), "single").boxes) for seed in range(20)}
    assert seen == {1, 2}


def test_rows_of_inclusive_pixels_become_exclusive_edges():
    rows = [{"x0": "0", "y0": "22", "x1": "63", "y1": "60"}, {"x0": ""}]
    images = ImageSet(np.zeros((2, 64, 64, 3), np.uint8), [Sample(str(i), "red", row) for i, row in enumerate(rows)])
    found = boxed(images)
    assert len(found.samples) == 1 and found.boxes[0].tolist() == [[0, 22, 64, 61]]


def test_same_draws_same_scene_and_specks_get_no_box():
    mosaics = Mosaics(objects(), None, 96)
    one, two = (mosaics.draw(np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.pixels, two.pixels) and np.array_equal(one.boxes, two.boxes)
    tiny = Mosaics(objects(), None, 16)
    for seed in range(20):
        boxes = tiny.draw(np.random.default_rng(seed), "grid").boxes
        assert len(boxes) == 0 or (boxes[:, 2:] - boxes[:, :2]).min() >= SMALLEST


def test_no_objects_is_an_error():
    with pytest.raises(InputError, match="photos with boxes"):
        Mosaics(BoxedSet([], [], []), None, 96)
