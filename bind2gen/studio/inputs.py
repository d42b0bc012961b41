"""What a visitor gave, read within the limits."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import Bind2GenWarning, InputError
from ..imagebind.fronts import FRONTS
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..preprocess import depth
from ..preprocess.depth_sensors import SENSORS
from ..preprocess.pillow import open_picture, quiet_pillow
from .limits import Limits

DRAWN_DEPTH = "drawn"  # an 8-bit drawing of inverse depth, white is near, instead of a camera's map
DEPTH_SENSORS = (*SENSORS, DRAWN_DEPTH)


def read_inputs(
    inputs: Mapping[str, str | None],
    encoder: ImageBindModel,
    processor: ImageBindProcessor,
    limits: Limits,
    depth_sensor: str | None,
) -> dict[str, Any]:
    """Modality -> raw input, of those that were given; arguments and errors as of :meth:`Studio.draw`."""
    raw: dict[str, Any] = {}
    for name, value in inputs.items():
        if name == "text":
            value = limits.text(value or "")
        if not value:
            continue
        encoder.tower(name)  # refused before the file is read
        settings = limits.settings(name, getattr(processor, name))
        if name == "text":
            raw[name] = value
        elif name == "audio":
            raw[name] = limits.sound(value, settings)
        elif name == "depth":
            file = limits.upload(value)
            raw[name] = depth.load(file, settings=settings, **_camera(depth_sensor, file))
        else:
            raw[name] = FRONTS[name].load(limits.upload(value), settings, None)
    return raw


def _camera(sensor: str | None, file: io.BytesIO) -> dict[str, str]:
    """How a depth map is read; one of 8 bits can only be a drawing, whatever the camera."""
    if sensor is not None and sensor not in DEPTH_SENSORS:
        raise InputError(f"depth camera: wanted one of {', '.join(DEPTH_SENSORS)}, got {sensor!r}")
    if sensor != DRAWN_DEPTH and _eight_bits(file):
        words = f"{file.name}: 8 bits hold no distances, so it was taken for a drawing in which white is near"
        warnings.warn(words, Bind2GenWarning, stacklevel=2)
        sensor = DRAWN_DEPTH
    if sensor == DRAWN_DEPTH:
        return {"encoding": "relative_inverse"}
    return {} if sensor is None else {"sensor": sensor}


def _eight_bits(file: io.BytesIO) -> bool:
    try:
        with quiet_pillow(), open_picture(file) as picture:
            return picture.mode in ("L", "LA", "P", "RGB", "RGBA")
    except Exception:  # noqa: BLE001  (not a picture that Pillow knows; its reader will say what it is)
        return False
    finally:
        file.seek(0)
