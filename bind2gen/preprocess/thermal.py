"""Infrared pictures: 8-bit grey, radiometric 16-bit or false colour to one normalised channel.

ImageBind's own loader was never released. One channel, L/255, is what reproduces its LLVIP figure (field reports in the
reference's issues 37 and 121: 62.4 so, 55.2 with a further (0.5, 0.5) normalisation); both are here by name.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import Bind2GenWarning, EmptyInputError, InputError, NonFiniteError, ShapeError
from .grey import middle_square, new_size, read_values
from .palettes import PALETTES, Palette, best_palette
from .radiometric import taken_of
from .settings import Settings
from .sources import kept, undecoded

SIZE = 224  # pixels
WANTED = "an infrared picture"
NORMALIZATIONS = {"plain": (0.0, 1.0), "half": (0.5, 0.5)}  # mean and deviation of values in 0..1
ENCODINGS = ("auto", "grey", "radiometric", *PALETTES)
POLARITIES = ("white_hot", "black_hot")
WINDOW = (1.0, 99.0)  # percentiles of a radiometric picture that become black and white
FLAT = 1e-6  # spread of values below which a picture shows nothing
GREY_TOLERANCE = 8  # by which channels of a grey pixel may differ after JPEG compression, of 255
GREY_SHARE = 0.95  # of the pixels of a grey picture; the rest are coloured captions and crosshairs
ZERO_CELSIUS = 273.15  # K
CENTIKELVIN = (20_000, 40_000)  # -73 to 127 C: most radiometric 16-bit files count hundredths of a kelvin


@dataclass(frozen=True)
class ThermalSettings(Settings):
    """How infrared pictures become model input. Defaults are those that fit imagebind_huge best.

    Attributes:
        size: pixels; the short side is resized to it, then the middle square is cut out.
        normalization: ``"plain"`` leaves values in 0..1, ``"half"`` is (x - 0.5) / 0.5.
        window: percentiles of a radiometric picture that become 0 and 1; hot specks and dead pixels lie outside.
        polarity: what grey files mean: ``"white_hot"``, or ``"black_hot"``, which is turned round. Radiometric files
            and palettes state it themselves.
        encoding: of files, where :func:`load` is not told otherwise.
    """

    size: int = SIZE
    normalization: str = "plain"
    window: tuple[float, float] = WINDOW
    polarity: str = "white_hot"
    encoding: str = "auto"

    def __post_init__(self) -> None:
        self.require_positive("size")
        self.require_choice("polarity", POLARITIES)
        self.require_choice("encoding", ENCODINGS)
        self.require_choice("normalization", tuple(NORMALIZATIONS))
        if len(self.window) != 2 or not 0 <= self.window[0] < self.window[1] <= 100:
            raise InputError(f"ThermalSettings: wanted window as two rising percentiles in 0..100, got {self.window}")


@dataclass(frozen=True)
class ThermalPicture:
    """An infrared picture, read.

    Attributes:
        values: (1, H, W) float32 in 0..1, hotter is larger.
        encoding: what it was: ``"grey"``, ``"radiometric"`` or the name of a palette.
        note: what was understood, for people.
    """

    values: torch.Tensor
    encoding: str
    note: str = ""


def load(
    source: Any,
    *,
    settings: ThermalSettings = ThermalSettings(),
    encoding: str | None = None,
    box: tuple[float, float, float, float] | None = None,
) -> ThermalPicture:
    """Read an infrared picture.

    Args:
        source: a path, bytes or file object of what Pillow reads (16 bits kept), NPY, EXR or CSV; a PIL image; an
            array (H, W) or (H, W, 3), or a tensor (H, W), (1, H, W) or (3, H, W): 8, 16 or 32 bits, or floats (0..1 as
            grey; anything else as temperatures in any unit). Of a radiometric JPEG of FLIR's the temperatures in it
            are taken (this needs ``bind2gen[flir]``), of DJI's, and where ``encoding`` names the colours or
            ``"grey"``, the preview. A :class:`ThermalPicture` passes through.
        settings: for the window of radiometric pictures, the polarity of grey ones, and the encoding.
        encoding: ``"grey"``, ``"radiometric"`` (windowed) or a palette of false colours; ``"auto"`` finds out.
        box: (x0, y0, x1, y1) in pixels of the source, to cut a person out as the paper does on LLVIP. The window of a
            radiometric picture is that of the whole.

    Raises:
        UnreadableError, EmptyInputError, ShapeError, NonFiniteError, TooLargeError, InputError: all name the source.
        DependencyError: a FLIR JPEG without flyr.
    """
    if isinstance(source, ThermalPicture):
        return source if box is None else _cropped(source, box, "picture")
    encoding = settings.encoding if encoding is None else encoding
    if encoding not in ENCODINGS:
        raise InputError(f"encoding: wanted one of {', '.join(ENCODINGS)}, got {encoding!r}")
    source, encoding, taken = taken_of(kept(undecoded(source)), encoding, WANTED)
    stored, name, device = read_values(source, WANTED)
    new_size(*stored.shape[:2], settings.size, name, WANTED)
    if stored.dtype.name not in ("uint8", "uint16", "int32") and stored.dtype.kind != "f":
        raise ShapeError(f"{name}: wanted pixels as uint8, uint16, int32 or floats, got dtype {stored.dtype}")
    if stored.dtype.kind == "f" or stored.dtype == np.int32:
        with np.errstate(over="ignore"):
            stored = stored.astype(np.float32)
    if not np.isfinite(stored).all():
        raise NonFiniteError(f"{name}: the picture holds NaN or infinite values")
    picture = _understood(stored, encoding, settings, name)
    note = f"{taken}: {picture.note}" if taken else picture.note
    picture = replace(picture, values=picture.values.to(device), note=note)
    return picture if box is None else _cropped(picture, box, name)


def transform(picture: ThermalPicture, settings: ThermalSettings = ThermalSettings()) -> torch.Tensor:
    """Resize the short side (antialiased bicubic), cut the middle square, normalise: (1, size, size) float32."""
    values = picture.values  # (1, H, W)
    new = new_size(*values.shape[1:], settings.size, "thermal", WANTED)
    if new != tuple(values.shape[1:]):
        values = F.interpolate(values[None], size=new, mode="bicubic", align_corners=False, antialias=True)[0]
    mean, deviation = NORMALIZATIONS[settings.normalization]
    return (middle_square(values, settings.size).clamp(0, 1) - mean) / deviation  # bicubic overshoots


def _understood(array: np.ndarray, encoding: str, settings: ThermalSettings, name: str) -> ThermalPicture:
    """(H, W) or (H, W, channels) pixels to values in 0..1."""
    top = {"uint8": 255.0, "uint16": 65_535.0}.get(array.dtype.name, 1.0)
    if array.ndim == 3:
        colours = array[..., :3].astype(np.float32) / top
        greyish = np.ptp(colours, axis=2) * 255 <= GREY_TOLERANCE
        if encoding in PALETTES or (encoding == "auto" and greyish.mean() < GREY_SHARE):
            return _from_colours(colours, PALETTES.get(encoding), name)
        array = array[..., :3].mean(2, dtype=np.float64)
        array = array.round().astype(np.uint8) if top == 255 else array.astype(np.float32)
        top = 255.0 if array.dtype == np.uint8 else top
    elif encoding in PALETTES:
        raise InputError(f"{name}: wanted colours of the palette {encoding}, the picture is grey")
    whole = array.dtype.name == "uint8" or (top == 1 and array.min() >= 0 and array.max() <= 1)
    if encoding == "radiometric" or (encoding == "auto" and not whole):
        return _windowed(array, settings, name)
    values = array.astype(np.float32) / np.float32(top)
    if values.min() < 0 or values.max() > 1:
        low, high = float(values.min()), float(values.max())
        raise InputError(f"{name}: wanted grey in 0..1, got {low:g}..{high:g}; say encoding='radiometric'")
    if settings.polarity == "black_hot":
        values = 1 - values
    note = f"grey, {array.dtype.name}, {settings.polarity.replace('_', ' ')}"
    return ThermalPicture(torch.from_numpy(values)[None], "grey", note)


def _windowed(array: np.ndarray, settings: ThermalSettings, name: str) -> ThermalPicture:
    counts = array.astype(np.float64)
    low, high = (float(v) for v in np.percentile(counts, settings.window))
    if high - low <= FLAT * max(1.0, abs(high)):
        words = f"{name}: nearly all values lie at {low:g}, the picture shows nothing; it becomes mid-grey"
        warnings.warn(words, Bind2GenWarning, stacklevel=4)
        values = np.full(array.shape, 0.5, np.float32)
    else:
        # In 256 steps, as the 8-bit pictures that the model has seen.
        values = (((counts - low) / (high - low)).clip(0, 1) * 255).round().astype(np.float32) / 255
    note = f"radiometric, {low:g} to {high:g} stretched to 0..1{_temperatures(low, high, array.dtype)}"
    return ThermalPicture(torch.from_numpy(values)[None], "radiometric", note)


def _temperatures(low: float, high: float, dtype: np.dtype) -> str:
    """What the window is in degrees Celsius, as far as the numbers tell."""
    if dtype != np.uint16:
        return ""
    if CENTIKELVIN[0] <= low and high <= CENTIKELVIN[1]:
        cold, hot = low / 100 - ZERO_CELSIUS, high / 100 - ZERO_CELSIUS
        return f", {cold:.1f} to {hot:.1f} C if these are centi-kelvin"
    return ", raw counts"


def _from_colours(colours: np.ndarray, palette: Palette | None, name: str) -> ThermalPicture:
    if colours.min() < 0 or colours.max() > 1:
        low, high = float(colours.min()), float(colours.max())
        raise InputError(f"{name}: wanted float colours in 0..1, got {low:g}..{high:g}")
    found, values = best_palette(colours, [palette] if palette else list(PALETTES.values()), name)
    return ThermalPicture(torch.from_numpy(values)[None], found.name, f"false colours of the palette {found.name}")


def _cropped(picture: ThermalPicture, box: tuple[float, float, float, float], name: str) -> ThermalPicture:
    height, width = picture.values.shape[1:]
    try:
        x0, y0, x1, y1 = (round(float(v)) for v in box)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"box: wanted four finite numbers x0, y0, x1, y1, got {box!r}") from None
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if x0 >= x1 or y0 >= y1:
        raise EmptyInputError(f"{name}: the box {tuple(box)} holds no pixel of a picture of {width} x {height}")
    return replace(picture, values=picture.values[:, y0:y1, x0:x1])
