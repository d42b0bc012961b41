"""Depth maps to what ImageBind's depth tower takes: disparity, not depth.

Constants: the SUN RGB-D recipe of facebookresearch/omnivore (issue 12; mean, deviation, 75 px) and the issue threads of
facebookresearch/ImageBind (14, 69, 107), whose own loader was never released.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import Bind2GenWarning, EmptyInputError
from .depth_files import ENCODINGS, check_unit, to_metres
from .depth_sensors import DEFAULT_SENSOR, SENSORS, check_optics, optics
from .grey import middle_square, new_size, read_values
from .settings import Settings

SIZE = 224  # pixels
WANTED = "a depth map"
NEAREST, FARTHEST = 0.01, 50.0  # metres; depth is clipped to this range
MAX_DISPARITY = 75.0  # pixels
MEAN, STD = 0.0418, 0.0295  # of disparity over MAX_DISPARITY, on SUN RGB-D
CONVENTIONS = {"metres": 1.0, "unrotated": 8.0}  # factor on true depth
HOLES = ("fill", "near", "far")
FEW = 0.02  # share of measured pixels below which a map is hardly one
CLOSEST = 0.1  # metres; no common sensor measures nearer
HALF_MEASURED = 0.5  # share of a resized pixel's area that must have been measured, else it is a hole
ODD_ONES = 5  # per cent of the pixels that a look at the unit leaves out at either end


@dataclass(frozen=True)
class DepthSettings(Settings):
    """How depth becomes model input. Defaults are imagebind_huge's.

    Attributes:
        size: pixels; the short side is resized to it, then the middle square is cut out.
        convention: ``"metres"`` (the default) takes true depth. ``"unrotated"`` takes depth eight times too large, as
            the widely copied recipe does, which reads SUN RGB-D's rotated bits as millimetres. The released weights may
            have been trained so: a Kinect's picture of a wall at 2.5 m has a normalised disparity of 5.7 deviations by
            the first and of -0.5 by the second, and ``mean`` and ``std`` were taken from training data. Try both.
        holes: pixels without depth. ``"fill"`` spreads the depth around them; ``"near"`` gives them the
            largest disparity, as a depth of zero has in the recipe; ``"far"`` gives them none.
        max_disparity: pixels; larger ones are cut, and the rest is divided by it.
        mean, std: normalisation afterwards.
        encoding, unit, sensor, fx, fov, baseline, reference_width: how files are read, where :func:`load` is not told
            otherwise. With ``reference_width`` disparity is measured in pixels of a picture whose long side has so many
            (SUN RGB-D: 561 to 730), not in the map's own, which makes the result independent of its resolution.
    """

    size: int = SIZE
    convention: str = "metres"
    holes: str = "fill"
    max_disparity: float = MAX_DISPARITY
    mean: float = MEAN
    std: float = STD
    encoding: str = "depth"
    unit: str | float | None = None
    sensor: str | None = None
    fx: float | None = None
    fov: float | None = None
    baseline: float | None = None
    reference_width: int | None = None

    def __post_init__(self) -> None:
        self.require_positive("size", "max_disparity", "std")
        self.require_choice("convention", tuple(CONVENTIONS))
        self.require_choice("holes", HOLES)
        self.require_choice("encoding", ENCODINGS)
        check_unit(self.unit)
        check_optics(self.sensor, self.fx, self.fov, self.baseline)
        if self.reference_width is not None:
            self.require_positive("reference_width")


@dataclass(frozen=True)
class DepthMap:
    """Depth with what is needed to make disparity of it.

    Attributes:
        metres: (H, W) float32 along the optical axis; NaN where nothing was measured, infinite beyond reach.
        fx: focal length in pixels of this map.
        baseline: metres.
        note: what was understood, for people.
        reference_width: pixels; see :class:`DepthSettings`.
    """

    metres: torch.Tensor
    fx: float
    baseline: float
    note: str = ""
    reference_width: int | None = None


def load(
    source: Any,
    *,
    settings: DepthSettings = DepthSettings(),
    encoding: str | None = None,
    unit: str | float | None = None,
    sensor: str | None = None,
    fx: float | None = None,
    fov: float | None = None,
    baseline: float | None = None,
) -> DepthMap:
    """Read a depth map.

    Args:
        source: a path, bytes or file object (16-bit PNG, PGM or TIFF, float TIFF or PFM, EXR, NPY, NPZ, CSV), a PIL
            image, an array (H, W) or a tensor (H, W) or (1, H, W). 0 and NaN mean that nothing was measured, infinity
            that all is beyond reach. A :class:`DepthMap` passes.
        settings: what is not given below; arguments on the camera (sensor, fx, fov, baseline) replace all four.
        encoding: ``"depth"``; ``"sun_rgbd"`` undoes that data set's rotation of bits and sets what is beyond 8 m to
            8 m, as its toolbox does; ``"relative_inverse"`` takes drawn inverse depth (white is near) and assumes a
            range, see :mod:`~bind2gen.preprocess.depth_files`.
        unit: ``"mm"`` (default of integers), ``"cm"``, ``"m"`` (default of floats), or metres in one unit: 0.0002 for
            TUM's PNGs, 1/256 for KITTI's.
        sensor: preset of focal length and baseline (:data:`~bind2gen.preprocess.depth_sensors.SENSORS`); Kinect v1 is
            assumed, with a warning, where nothing is said.
        fx: focal length in pixels of this map. fov: horizontal field of view in degrees, instead.
        baseline: metres.

    Raises:
        UnreadableError, EmptyInputError, ShapeError, TooLargeError, InputError: all name the source or the argument.
    """
    if isinstance(source, DepthMap):
        return source
    camera = dict(sensor=sensor, fx=fx, fov=fov, baseline=baseline)
    if all(value is None for value in camera.values()):
        camera = {name: getattr(settings, name) for name in camera}
    # Checks arguments by the same rules as settings; their errors name the field.
    options = DepthSettings(
        encoding=encoding or settings.encoding, unit=settings.unit if unit is None else unit, **camera
    )
    stored, name, device = read_values(source, WANTED)
    new_size(*stored.shape[:2], settings.size, name, WANTED)
    metres, words = to_metres(stored, name, encoding=options.encoding, unit=options.unit)
    lens = optics(*metres.shape, **camera, reference_width=settings.reference_width)
    if lens.assumed:
        _warn(f"{name}: nothing is said of the camera, {DEFAULT_SENSOR} is assumed; give sensor (one of "
              f"{', '.join(SENSORS)}), or fx or fov, and baseline")  # fmt: skip
    summary = _look(metres, name)
    placed = torch.from_numpy(metres).to(device)
    return DepthMap(placed, lens.fx, lens.baseline, f"{words}; {summary}; {lens.words}", lens.reference_width)


def transform(depth: DepthMap, settings: DepthSettings = DepthSettings()) -> torch.Tensor:
    """Disparity, clipped, scaled, resized, normalised: (1, size, size) float32 on the map's device.

    Holes do not smear: what was measured is averaged with what was measured only.

    Raises:
        EmptyInputError: the map holds no depth at all.
    """
    disparity = disparity_of(depth, settings)[None, None]  # (1, 1, H, W), NaN in holes
    new = new_size(*disparity.shape[2:], settings.size, "depth", WANTED)
    if settings.holes == "fill":
        disparity = resize(fill_holes(disparity), new)
    else:
        known = (~disparity.isnan()).float()
        covered = resize(known, new)
        means = resize(disparity.nan_to_num(0.0), new) / covered.clamp(min=HALF_MEASURED)
        disparity = torch.where(covered >= HALF_MEASURED, means, 1.0 if settings.holes == "near" else 0.0)
    return (middle_square(disparity[0], settings.size) - settings.mean) / settings.std


def resize(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, 1, H, W) to another size. Bilinear, not bicubic: between near and far there is no overshoot to invent."""
    if tuple(values.shape[2:]) == size:
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)


def disparity_of(depth: DepthMap, settings: DepthSettings = DepthSettings()) -> torch.Tensor:
    """baseline * fx / depth in 0..1 of the largest, (H, W); NaN in holes.

    Under ``"unrotated"`` depth beyond 8.19 m, where the recipe's bits wrap round to small numbers, goes on growing.
    """
    scale = 1.0 if depth.reference_width is None else depth.reference_width / max(depth.metres.shape)
    metres = depth.metres.float() * CONVENTIONS[settings.convention]
    disparity = depth.baseline * depth.fx * scale / metres.clamp(NEAREST, FARTHEST)  # clamp keeps NaN
    return disparity.clamp(max=settings.max_disparity) / settings.max_disparity


def fill_holes(values: torch.Tensor) -> torch.Tensor:
    """NaNs of (1, 1, H, W) replaced from around them: means of ever larger cells, as coarse as the hole is wide.

    Raises:
        EmptyInputError: all is NaN.
    """
    known = ~values.isnan()
    if bool(known.all()):
        return values
    if not bool(known.any()):
        raise EmptyInputError("depth: no pixel holds a depth")
    levels = [(values.nan_to_num(0.0), known.float())]
    while max(levels[-1][0].shape[2:]) > 1:
        total, weight = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in levels[-1])
        levels.append((total, weight))
    total, weight = levels.pop()
    filled = total / weight  # one cell: the mean of everything
    while levels:
        total, weight = levels.pop()
        coarse = F.interpolate(filled, size=total.shape[2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, total / weight.clamp(min=1e-12), coarse)
    return torch.where(known, values, filled)


def _look(metres: np.ndarray, name: str) -> str:
    """Range and holes in words; warns of depth that can be read, but hardly be meant."""
    seen = metres[np.isfinite(metres)]
    if seen.size == 0:
        raise EmptyInputError(f"{name}: no pixel holds a depth: all are 0, NaN or infinite")
    low, high = float(seen.min()), float(seen.max())
    share, holes = seen.size / metres.size, np.isnan(metres).mean()
    if holes > 1 - FEW:
        _warn(f"{name}: only {100 * share:.1f} % of the pixels hold a depth; the rest is guessed from them")
    near, far = np.percentile(seen, [ODD_ONES, 100 - ODD_ONES])
    if near > FARTHEST:
        _warn(f"{name}: nearly all depth lies beyond {FARTHEST:g} m (to {high:.3g} m); is the unit right (unit=)?")
    elif far < CLOSEST:
        _warn(f"{name}: nearly all depth lies within {far:.3g} m of the camera; is the unit right (unit=)?")
    return f"{low:.3g} to {high:.3g} m, {100 * holes:.0f} % holes"


def _warn(words: str) -> None:
    warnings.warn(words, Bind2GenWarning, stacklevel=4)
