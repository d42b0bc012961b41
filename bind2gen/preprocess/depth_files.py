"""Stored values of depth pictures to metres: units, SUN RGB-D's rotated bits, relative inverse depth."""

from __future__ import annotations

import warnings
from numbers import Real

import numpy as np

from ..errors import Bind2GenWarning, InputError, ShapeError

UNITS = {"mm": 0.001, "cm": 0.01, "m": 1.0}  # metres in one
SUN_RGBD_BITS = 3  # SUN RGB-D's PNGs hold millimetres rotated left by so many bits
SUN_RGBD_FARTHEST = 8000  # mm, to which its own toolbox (read3dPoints.m) sets what is farther; ImageBind's issue 134
# Relative inverse depth, as monocular estimators are often drawn: white is near. Nothing in such a file says how near;
# these limits only make it usable.
RELATIVE_NEAR, RELATIVE_FAR = 0.5, 10.0  # metres
ENCODINGS = ("depth", "sun_rgbd", "relative_inverse")
ENOUGH_VALUES = 64  # distinct ones, from which that all are multiples of eight is no chance


def rotate_sun_rgbd(stored: np.ndarray) -> np.ndarray:
    """SUN RGB-D's stored uint16 to millimetres: bits rotated right by three."""
    return (stored >> SUN_RGBD_BITS) | (stored << (16 - SUN_RGBD_BITS))


def check_unit(unit: str | float | None) -> None:
    """Refuse units that are neither known nor a number above zero, with :class:`InputError`."""
    if unit is None or (isinstance(unit, str) and unit in UNITS):
        return
    if not isinstance(unit, Real) or isinstance(unit, bool) or not 0 < unit < np.inf:
        names = ", ".join(UNITS)
        raise InputError(f"unit: wanted one of {names} or metres in one unit as a number above zero, got {unit!r}")


def to_metres(stored: np.ndarray, name: str, *, encoding: str, unit: str | float | None) -> tuple[np.ndarray, str]:
    """Stored values to metres, and in words what was understood.

    Integers count millimetres and floats metres unless ``unit`` says otherwise.

    Args:
        stored: (H, W) or grey as (H, W, 3), as :func:`~bind2gen.preprocess.grey.read_values` gives it.
        name: of the source, for messages.
        encoding, unit: as for :func:`~bind2gen.preprocess.depth.load`; checked.

    Returns:
        (H, W) float32 above zero: NaN where nothing was measured (0, NaN), infinite beyond the sensor's reach (ROS
        writes it so, REP 117 and 118).

    Raises:
        ShapeError: colours, or 8 bits where metres are wanted.
        InputError: negative depth, or encoding and dtype do not go together.
    """
    stored = _plane(stored, name)
    if encoding == "relative_inverse":
        return _relative(stored, name)
    if stored.dtype in (np.uint8, np.int8):
        raise ShapeError(
            f"{name}: wanted depth of 16 bits or floats, got 8 bits, which hold no metres; for a drawn inverse depth "
            f"map (white is near) say encoding='relative_inverse': it assumes {RELATIVE_NEAR:g} to {RELATIVE_FAR:g} m"
        )
    if encoding == "sun_rgbd":
        if stored.dtype != np.uint16:
            raise ShapeError(f"{name}: SUN RGB-D stores 16-bit whole numbers, got {stored.dtype}")
        stored = rotate_sun_rgbd(stored).clip(max=SUN_RGBD_FARTHEST)
    elif stored.dtype == np.uint16 and unit in (None, "mm"):
        _warn_if_rotated(stored, name)
    unit = ("m" if stored.dtype.kind == "f" else "mm") if unit is None else unit
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        metres = (stored.astype(np.float64) * (UNITS[unit] if isinstance(unit, str) else unit)).astype(np.float32)
    if (stored < 0).any():
        low = float(np.nanmin(metres))
        raise InputError(
            f"{name}: wanted depth of 0 (nothing measured) or more, got {low:g} m; put NaN where a negative value "
            "marks a hole, turn the sign where the camera looks along -z"
        )
    metres[metres == 0] = np.nan
    words = unit if isinstance(unit, str) else f"units of {unit:g} m"
    return metres, f"{stored.dtype} in {words}" + (", SUN RGB-D's rotation undone" if encoding == "sun_rgbd" else "")


def _plane(stored: np.ndarray, name: str) -> np.ndarray:
    if stored.ndim == 2:
        return stored
    if not (stored[..., 1:3] == stored[..., :1]).all():  # grey saved as colour is no harm
        raise ShapeError(
            f"{name}: wanted one depth a pixel (height, width), got colours of shape {stored.shape}; a photo needs "
            "depth_photo.from_photo, and depth painted in false colours must be exported again as numbers"
        )
    return stored[..., 0]


def _relative(stored: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    if stored.dtype.kind != "f" and stored.dtype not in (np.uint8, np.uint16):
        raise ShapeError(f"{name}: relative inverse depth: wanted 8 or 16 bits or floats in 0..1, got {stored.dtype}")
    limit = {"uint8": 255, "uint16": 65_535}.get(stored.dtype.name, 1)
    nearness = stored.astype(np.float32) / limit
    known = nearness[~np.isnan(nearness)]
    if known.size and not (known.min() >= 0 and known.max() <= 1):
        raise InputError(f"{name}: relative inverse depth: wanted 0..1, got {known.min():g}..{known.max():g}")
    metres = 1 / (1 / RELATIVE_FAR + nearness * (1 / RELATIVE_NEAR - 1 / RELATIVE_FAR))
    return metres, f"relative inverse depth, white taken as {RELATIVE_NEAR:g} m and black as {RELATIVE_FAR:g} m"


def _warn_if_rotated(stored: np.ndarray, name: str) -> None:
    """Millimetres rotated left by three bits are multiples of eight (under 8.2 m)."""
    if not (stored & 7).any() and len(np.unique(stored)) > ENOUGH_VALUES:
        words = f"{name}: every value is a multiple of eight, as in SUN RGB-D's rotated files; read as millimetres"
        warnings.warn(f"{words}; say encoding='sun_rgbd' if it is one", Bind2GenWarning, stacklevel=4)
