"""What is known of depth sensors: focal length and baseline, by name.

The released model was trained on SUN RGB-D and takes disparity as a pair of cameras with that data set's focal lengths
and the baselines of the recipe would measure it (omnivore, issue 12): 7.5 cm for both Kinects, 9.5 cm for RealSense and
Xtion (the latter guessed from the length of the device). Focal lengths are nominal: pass ``fx`` of a calibrated camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from ..errors import InputError

TYPICAL_WIDTH = 640  # pixels; SUN RGB-D's pictures are 561 to 730 wide


@dataclass(frozen=True)
class Sensor:
    """Nominal optics.

    Attributes:
        fx: focal length in pixels of a picture whose long side is ``width``; scaled to other sizes. The long side, not
            the width, so that a picture held upright has the same.
        width: pixels.
        baseline: metres between the two views that a disparity would come from.
        cut: (long side, short side, fx) of pictures that are cut out of larger ones, so that fx does not scale.
        reference_width: see :class:`~bind2gen.preprocess.depth.DepthSettings`.
        note: where it needs saying.
    """

    fx: float
    width: int
    baseline: float
    cut: tuple[tuple[int, int, float], ...] = ()
    reference_width: int | None = None
    note: str = ""

    def focal(self, height: int, width: int) -> float:
        """Focal length in pixels of a picture of this size."""
        long, short = max(height, width), min(height, width)
        for known_long, known_short, fx in self.cut:
            if (long, short) == (known_long, known_short):
                return fx
        return self.fx * long / self.width


# Sizes and focal lengths under `cut`: the intrinsics.txt files of SUN RGB-D, and for the D400 series the 4:3 mode.
SENSORS: dict[str, Sensor] = {
    "kinect_v1": Sensor(525.0, 640, 0.075, cut=((561, 427, 520.53),)),  # OpenNI's default calibration
    "kinect_v2": Sensor(365.5, 512, 0.075, cut=((730, 530, 529.5),)),  # factory calibration of the 512 x 424 camera
    "realsense": Sensor(691.58, 681, 0.095, note="the early RealSense of SUN RGB-D"),
    # D400 series: 1280 x 720 spans 89.97 degrees in its own report (librealsense issues 2788, 10575), baselines from
    # Intel's data sheet 337029.
    "realsense_d435": Sensor(644.6, 1280, 0.050, cut=((640, 480, 384.2),)),
    "realsense_d455": Sensor(644.6, 1280, 0.095, cut=((640, 480, 384.2),)),
    "xtion": Sensor(570.34, 640, 0.095, cut=((591, 441, 570.34),)),  # OpenNI's default for PrimeSense
    # ARKit's sceneDepth is 256 x 192 with the wide camera's view of 62 degrees. Taken literally its disparities are far
    # smaller than any that the model has seen, so they are measured as in a picture of SUN RGB-D's size.
    "iphone_lidar": Sensor(
        212.0, 256, 0.075, reference_width=TYPICAL_WIDTH, note="a lidar has no baseline; Kinect's is taken"
    ),
}
DEFAULT_SENSOR = "kinect_v1"


@dataclass(frozen=True)
class Optics:
    """What turns depth into disparity.

    Attributes:
        fx: focal length in pixels.
        baseline: metres.
        reference_width: pixels or None.
        words: where the numbers came from.
        assumed: nothing at all was said of the camera.
    """

    fx: float
    baseline: float
    reference_width: int | None
    words: str
    assumed: bool


def focal_from_view(degrees: float, width: int) -> float:
    """Focal length in pixels of a picture ``width`` pixels wide that spans ``degrees`` from left to right.

    Raises:
        InputError: the angle is not between 0 and 180 degrees.
    """
    if not _is_number(degrees) or not 0 < degrees < 180:
        raise InputError(f"fov: wanted a horizontal field of view between 0 and 180 degrees, got {degrees!r}")
    return width / (2 * math.tan(math.radians(degrees) / 2))


def check_optics(sensor: str | None, fx: float | None, fov: float | None, baseline: float | None) -> None:
    """Refuse an unknown sensor, both ``fx`` and ``fov``, and numbers out of range, with :class:`InputError`."""
    if sensor is not None and sensor not in SENSORS:
        raise InputError(
            f"sensor: wanted one of {', '.join(SENSORS)}, got {sensor!r}; or give fx (or fov) and baseline"
        )
    if fx is not None and fov is not None:
        raise InputError("fx, fov: wanted one of the two, got both")
    if fov is not None:
        focal_from_view(fov, 1)
    for name, value in (("fx", fx), ("baseline", baseline)):
        if value is not None and not (_is_number(value) and 0 < value < math.inf):
            raise InputError(f"{name}: wanted a number above zero, got {value!r}")


def optics(
    height: int,
    width: int,
    *,
    sensor: str | None = None,
    fx: float | None = None,
    fov: float | None = None,
    baseline: float | None = None,
    reference_width: int | None = None,
) -> Optics:
    """Optics of a picture of ``height`` x ``width`` pixels; what is not given comes from the sensor, else Kinect v1's.

    Raises:
        InputError: see :func:`check_optics`.
    """
    check_optics(sensor, fx, fov, baseline)
    preset, assumed = SENSORS[sensor or DEFAULT_SENSOR], sensor is None and fx is None and fov is None
    focal = preset.focal(height, width) if fx is None else float(fx)
    if fov is not None:
        focal = focal_from_view(fov, width)
    if reference_width is None and fx is None and fov is None:
        reference_width = TYPICAL_WIDTH if assumed else preset.reference_width
    length = preset.baseline if baseline is None else float(baseline)
    words = f"fx {focal:.4g} px, baseline {100 * length:.4g} cm"
    if reference_width is not None:
        words += f", disparity as in a picture {reference_width} px long"
    if sensor is not None:
        words += f" ({sensor}{': ' + preset.note if preset.note else ''})"
    elif assumed or baseline is None:
        words += f" ({DEFAULT_SENSOR} assumed for what was not given)"
    return Optics(focal, length, reference_width, words, assumed)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)  # numpy's numbers too
