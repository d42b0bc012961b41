"""Pictures of one channel with their full depth: what Pillow's conversion to RGB would throw away."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import EmptyInputError, InputError, ShapeError, TooLargeError, UnreadableError
from .array_files import ARRAY_MAGICS, EXR_MAGIC, read_exr, read_numpy
from .cut_off import loaded
from .image import MAX_PIXELS
from .number_tables import read_numbers
from .pillow import open_picture, quiet_pillow
from .sources import is_file_source, one_line, opened, source_name, undecoded

SIXTEEN_BIT = 65_535


def read_values(source: Any, wanted: str) -> tuple[np.ndarray, str, torch.device]:
    """Stored values of a picture in their own dtype, nothing scaled.

    Args:
        source: a path, bytes or file object of what Pillow reads, NPY, NPZ, EXR or a table of numbers as text (CSV);
            a PIL image; an array; a tensor, whose channels come first; a dict of datasets with bytes or path.
        wanted: what it should be, for messages.

    Returns:
        (H, W) or (H, W, channels), the source's name, and the device that it was on.

    Raises:
        UnreadableError, EmptyInputError, ShapeError, TooLargeError: all name the source.
    """
    source = undecoded(source)
    name = source_name(getattr(source, "filename", None) or source)
    cpu = torch.device("cpu")
    if isinstance(source, torch.Tensor):
        return _checked(_from_tensor(source, name), name, wanted), name, source.device
    if isinstance(source, np.ndarray):
        return _checked(source, name, wanted), name, cpu
    if isinstance(source, Image.Image):
        return _checked(_from_pillow(source, name, wanted), name, wanted), name, cpu
    if not is_file_source(source):
        came = type(source).__name__
        raise ShapeError(
            f"{name}: wanted {wanted} as a path, bytes, file object, PIL image, array or tensor, got {came}"
        )
    with opened(source, wanted) as file:
        return _checked(_from_file(file, name, wanted), name, wanted), name, cpu


def new_size(height: int, width: int, size: int, name: str, wanted: str) -> tuple[int, int]:
    """(height, width) with the shorter at ``size``, the longer cut to a whole pixel.

    Raises:
        TooLargeError: a strip would grow past the limit on pixels.
    """
    short = min(height, width)
    new = (size * height // short, size * width // short)
    if new[0] * new[1] > MAX_PIXELS:
        raise TooLargeError(f"{name}: {wanted} of {width} x {height} is too narrow for a short side of {size}; crop it")
    return new


def middle_square(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """(..., H, W) -> (..., size, size)."""
    top, left = (round((length - size) / 2) for length in pixels.shape[-2:])
    return pixels[..., top : top + size, left : left + size]


def _from_tensor(tensor: torch.Tensor, name: str) -> np.ndarray:
    try:
        values = tensor.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # numpy has none
        return (values.permute(1, 2, 0) if values.ndim == 3 else values).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised or without data
        raise ShapeError(f"{name}: wanted a plain tensor of numbers, {one_line(error)}") from None


def _from_file(file: IO[bytes], name: str, wanted: str) -> np.ndarray:
    head = file.read(8)
    file.seek(0)
    if head.startswith(ARRAY_MAGICS):
        return read_numpy(file, name, wanted, limit=MAX_PIXELS)
    if head.startswith(EXR_MAGIC):
        return read_exr(file, name, wanted, limit=MAX_PIXELS)
    with quiet_pillow():
        try:
            with open_picture(file) as image:
                return _from_pillow(image, name, wanted)
        except InputError:
            raise
        except Image.DecompressionBombError:
            raise TooLargeError(f"{name}: {wanted} so large is refused; the limit is {MAX_PIXELS} pixels") from None
        except Image.UnidentifiedImageError:
            file.seek(0)
            if (numbers := read_numbers(file, name, wanted, limit=MAX_PIXELS)) is not None:
                return numbers
            raise UnreadableError(f"{name}: wanted {wanted}, its format is not known") from None
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            raise UnreadableError(f"{name}: wanted {wanted}, cannot decode it ({one_line(error)})") from None


def _from_pillow(image: Image.Image, name: str, wanted: str) -> np.ndarray:
    """Decode, upright: (H, W) uint8, uint16, int32 or float32, or (H, W, 3) uint8 where it has colours."""
    _check_extent(image.height, image.width, name, wanted)
    try:
        image = ImageOps.exif_transpose(loaded(image, name, wanted))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError(f"{name}: wanted {wanted}, cannot decode it ({one_line(error)})") from None
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = values.min(initial=0), values.max(initial=0)
        # Pillow has 32 bits for some 16-bit files (PGM), and big-endian 16 bits for others.
        return values.astype(np.uint16) if low >= 0 and high <= SIXTEEN_BIT else values
    if image.mode == "F":
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))


def _checked(values: np.ndarray, name: str, wanted: str) -> np.ndarray:
    """(H, W) or (H, W, channels) of real numbers, not empty, not too large."""
    if values.dtype.kind not in "fui":
        raise ShapeError(f"{name}: wanted {wanted} of whole numbers or floats, got dtype {values.dtype}")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    elif values.ndim == 3 and values.shape[0] == 1 and values.shape[2] not in (3, 4):
        values = values[0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ShapeError(
            f"{name}: wanted {wanted} with one value a pixel (height, width), got shape {values.shape}; "
            "pass several as a list"
        )
    if values.size == 0:
        raise EmptyInputError(f"{name}: {wanted} without pixels (shape {values.shape})")
    _check_extent(*values.shape[:2], name, wanted)
    return values


def _check_extent(height: int, width: int, name: str, wanted: str) -> None:
    if height * width > MAX_PIXELS:
        raise TooLargeError(
            f"{name}: {wanted} of {width} x {height} is refused; the limit is {MAX_PIXELS} pixels, shrink it"
        )
