"""Depth of a photo by a metric monocular estimator, where one is at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import ExifTags, Image

from ..errors import InputError, ShapeError
from . import image
from .depth import DepthMap, DepthSettings, load
from .depth_sensors import TYPICAL_WIDTH
from .pillow import open_picture, quiet_pillow
from .sources import is_file_source, opened

# Model types of transformers whose depth is always metres. Depth Anything comes in both kinds, and its config says
# which; so does DPT, whose config does not.
METRIC_MODELS = ("zoedepth", "depth_pro", "glpn")
ON_ITS_SIDE = (5, 6, 7, 8)  # of EXIF's orientations
FILM_DIAGONAL = 43.27  # mm, of a 36 x 24 mm frame: that tag compares diagonals


def from_photo(
    photo: Any,
    estimator: Callable[[Image.Image], Mapping[str, Any]],
    *,
    metric: bool | None = None,
    settings: DepthSettings | None = None,
    sensor: str | None = None,
    fx: float | None = None,
    fov: float | None = None,
    baseline: float | None = None,
) -> DepthMap:
    """Depth of a photo.

    Args:
        photo: whatever :func:`bind2gen.preprocess.image.upright` opens.
        estimator: transformers' ``pipeline("depth-estimation", model=...)`` with a model that gives metres (Depth Pro,
            ZoeDepth, GLPN, Depth Anything "metric"), or a callable of the same form: a PIL image in,
            ``{"predicted_depth": ..., "focal_length": pixels (optional)}`` out.
        metric: True vouches that ``predicted_depth`` is metres; None asks the estimator's model.
        settings: for the camera, where nothing is given below.
        sensor, fx, fov, baseline: of the camera that took the photo, as for :func:`~bind2gen.preprocess.depth.load`;
            ``fx`` in pixels of the photo. Without them the estimator's focal length is taken, then the photo's EXIF.

    Returns:
        A map whose disparity is measured as in a picture of SUN RGB-D's size (``settings.reference_width`` or 640):
        photos have thousands of pixels, and disparity in theirs would be far beyond what the model knows.

    Raises:
        InputError: the estimator gives relative depth, none, or it cannot be told which.
    """
    _check_metric(estimator, metric)
    settings = settings or DepthSettings()
    exif_view = _view_of(photo)
    picture = image.upright(photo)
    found = estimator(picture)
    if not isinstance(found, Mapping) or "predicted_depth" not in found:
        came = f"keys {sorted(found)}" if isinstance(found, Mapping) else type(found).__name__
        raise InputError(f"estimator: wanted a dict with predicted_depth in metres, got {came}")
    values = torch.as_tensor(found["predicted_depth"]).detach().squeeze()
    if values.ndim != 2:
        raise ShapeError(f"estimator: wanted predicted_depth of shape (height, width), got {tuple(values.shape)}")
    camera = dict(sensor=sensor, fx=fx, fov=fov, baseline=baseline)
    if all(value is None for value in camera.values()):
        camera = {name: getattr(settings, name) for name in camera}
    if all(camera[name] is None for name in ("sensor", "fx", "fov")):
        if (focal := found.get("focal_length")) is not None:
            camera["fx"] = float(focal)
        else:
            camera["fov"] = exif_view
    if camera["fx"] is not None:
        camera["fx"] *= values.shape[1] / picture.width  # some estimators answer at a size of their own
    width = settings.reference_width or TYPICAL_WIDTH
    options = replace(settings, encoding="depth", unit="m", reference_width=width)
    return load(values, settings=replace(options, **camera))


def _check_metric(estimator: object, metric: bool | None) -> None:
    config = getattr(getattr(estimator, "model", None), "config", None)
    kind = getattr(config, "model_type", None)
    if metric is None:
        if stated := getattr(config, "depth_estimation_type", None):  # Depth Anything's
            metric = stated == "metric"
        elif kind in METRIC_MODELS:
            metric = True
    if metric is None:
        raise InputError("estimator: cannot tell whether its depth is metres; pass metric=True if it is")
    if not metric:
        named = f"this model ({kind})" if kind else "this one"
        raise InputError(f"estimator: wanted metres, {named} gives relative depth; take a metric model, e.g. Depth Pro")


def _view_of(photo: Any) -> float | None:
    """Horizontal field of view in degrees from the focal length that cameras write into EXIF, or None."""
    if is_file_source(photo):
        with opened(photo, image.WANTED) as file, quiet_pillow():
            try:
                with open_picture(file) as picture:
                    return _view_of(picture)
            except Exception:  # noqa: BLE001  (Pillow raises nearly anything; image.upright says better what is wrong)
                return None
    if not isinstance(photo, Image.Image):
        return None
    exif = photo.getexif()
    film = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
    if not isinstance(film, int | float) or film <= 0:
        return None
    focal = film / FILM_DIAGONAL * math.hypot(*photo.size)  # pixels
    width = photo.height if exif.get(ExifTags.Base.Orientation) in ON_ITS_SIDE else photo.width
    return math.degrees(2 * math.atan(width / (2 * focal)))
