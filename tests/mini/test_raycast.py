from __future__ import annotations

import numpy as np
import pytest

from bind2gen.mini.raycast import FIELD_OF_VIEW, POSTURES, figures, hits, shaded, view_of
from bind2gen.mini.shapes import SHAPES, blob, rod

FORWARD = np.array([[1.0, 0.0, 0.0]])
ORIGIN = np.array([-5.0, 0.0, 0.0])


def test_a_ray_meets_a_ball_a_box_and_nothing_where_geometry_says():
    ball, box = blob((0, 0, 0), (1, 1, 1)), blob((0, 0, 0), (2, 1, 1), box=True)
    for part, distance in ((ball, 4.0), (box, 3.0)):
        depth, normal = hits([part], ORIGIN, FORWARD)
        assert depth[0] == pytest.approx(distance) and normal[0] == pytest.approx([-1, 0, 0])
    assert np.isinf(hits([ball], ORIGIN + (0, 1.01, 0), FORWARD)[0][0])


def test_the_nearest_part_hides_the_others_and_what_is_behind_the_camera_is_not_seen():
    near, far, behind = blob((0, 0, 0), (1, 1, 1)), blob((4, 0, 0), (1, 1, 1)), blob((-9, 0, 0), (1, 1, 1))
    assert hits([far, near, behind], ORIGIN, FORWARD)[0][0] == pytest.approx(4.0)


def test_a_rod_lies_between_its_ends():
    part = rod((0, 0, 0), (0, 0, 2), 0.1)
    assert part.centre == pytest.approx([0, 0, 1]) and part.half[0] == pytest.approx(1.1)
    assert np.abs(part.axes[0]) == pytest.approx([0, 0, 1])
    assert part.axes @ part.axes.T == pytest.approx(np.eye(3))
    depth, _ = hits([part], np.array([-5.0, 0, 1]), FORWARD)
    assert depth[0] == pytest.approx(4.9)


@pytest.mark.parametrize("concept", sorted(SHAPES))
def test_every_concept_is_seen_repeatably_at_distances_that_exist(concept):
    view = view_of(concept, np.random.default_rng(3), 32)
    again = view_of(concept, np.random.default_rng(3), 32)
    assert np.array_equal(view.depth, again.depth, equal_nan=True)
    seen = view.depth[np.isfinite(view.depth) & ~view.floor]
    assert len(seen) > 10 and seen.min() > 0  # a shape is in the picture
    assert view.focal == pytest.approx(16 / np.tan(FIELD_OF_VIEW / 2))


def test_figures_differ_and_carry_their_posture():
    people = figures(3, np.random.default_rng(0), 32)
    assert people.pixels.shape == (9, 32, 32, 3)
    assert list(people.concepts()) == [name for name in POSTURES for _ in range(3)]
    assert all(s.row["label"] in POSTURES[s.concept] for s in people.samples)
    assert len(np.unique(people.pixels.reshape(9, -1), axis=0)) == 9


def test_a_shaded_picture_tells_the_shape_from_what_is_around_it():
    rng = np.random.default_rng(1)
    view = view_of("airplane", rng, 32)
    picture = shaded(view, rng).astype(float)
    subject = np.isfinite(view.depth) & ~view.floor
    assert np.abs(picture[subject].mean(0) - picture[~subject].mean(0)).max() > 10
