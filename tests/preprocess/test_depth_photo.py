from __future__ import annotations

import io
import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from bind2gen.errors import Bind2GenWarning, InputError
from bind2gen.preprocess.depth import disparity_of
from bind2gen.preprocess.depth_photo import from_photo


class Estimator:
    """The form of transformers' depth-estimation pipeline, with an opinion on the focal length or without."""

    def __init__(self, focal: float | None = None, **config) -> None:
        self.focal, self.seen = focal, []
        self.model = SimpleNamespace(config=SimpleNamespace(**config))

    def __call__(self, photo: Image.Image) -> dict:
        self.seen.append(photo.size)
        answer = {"predicted_depth": torch.full((1, 12, 16), 3.0), "depth": None}
        return answer if self.focal is None else answer | {"focal_length": torch.tensor(self.focal)}


def photo(**options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_depth_can_come_from_a_photo():
    estimator = Estimator(model_type="zoedepth")
    depth = from_photo(photo(), estimator, fov=60, baseline=0.075)
    assert estimator.seen == [(64, 48)] and (depth.metres == 3).all()
    assert depth.fx == pytest.approx(8 / math.tan(math.radians(30)))
    # As a camera of that view and 640 pixels would have it, whatever the size of the photo.
    wanted = 0.075 * 320 / math.tan(math.radians(30)) / 3 / 75
    assert disparity_of(depth).unique().item() == pytest.approx(wanted, rel=1e-5)
    assert from_photo(photo(), estimator, fx=50, baseline=0.1).fx == pytest.approx(50 * 16 / 64)


def test_the_view_of_a_photo_comes_from_the_estimator_else_from_the_camera():
    exif = Image.Exif()
    exif[0x8769] = {0xA405: 27}  # mm on 36 x 24 mm film; a 4:3 picture of the same diagonal is 34.6 mm wide
    assert from_photo(photo(exif=exif), Estimator(80.0), metric=True).fx == pytest.approx(80 * 16 / 64)
    assert from_photo(photo(exif=exif), Estimator(), metric=True).fx == pytest.approx(16 * 27 / 34.61, rel=1e-3)
    exif[0x0112] = 6  # held upright: the stored height is the width
    assert from_photo(photo(exif=exif), Estimator(), metric=True).fx == pytest.approx(16 * 27 / 25.96, rel=1e-3)
    with pytest.warns(Bind2GenWarning, match="nothing is said of the camera"):
        from_photo(photo(), Estimator(), metric=True)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (Estimator(model_type="dpt"), "metric=True"),
        (lambda photo: {"predicted_depth": torch.ones(2, 2)}, "metric=True"),
        (Estimator(model_type="depth_anything", depth_estimation_type="relative"), "relative depth"),
    ],
)
def test_relative_estimators_are_refused(estimator, words):
    with pytest.raises(InputError, match=words):
        from_photo(photo(), estimator)
    assert from_photo(photo(), Estimator(depth_estimation_type="metric"), fov=60).metres.shape == (12, 16)
    with pytest.raises(InputError, match="predicted_depth"):
        from_photo(photo(), lambda photo: {"depth": 1}, metric=True)
