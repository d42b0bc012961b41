"""Pictures: any file, array or PIL image to a normalised square. Constants: facebookresearch/ImageBind, data.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps

from ..errors import EmptyInputError, InputError, NonFiniteError, ShapeError, TooLargeError, UnreadableError
from .cut_off import loaded
from .pillow import open_picture, quiet_pillow
from .settings import Settings
from .sources import is_file_source, one_line, opened, source_name, undecoded

SIZE = 224  # pixels
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of RGB in 0..1
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_PIXELS = 89_478_485  # Pillow's own bound: a quarter of a gigabyte as RGB
FLOAT_TOLERANCE = 1e-3  # by which float pixels may leave 0..1 through rounding
SIXTEEN_TO_EIGHT = 257.0  # 65535 / 255
WANTED = "a picture"


@dataclass(frozen=True)
class ImageSettings(Settings):
    """How pictures become model input. Defaults are imagebind_huge's.

    Attributes:
        size: pixels; the short side is resized to it (bicubic), then the middle square is cut out.
        mean, std: normalisation of RGB in 0..1.
        max_pixels: larger pictures are refused before they are decoded.
    """

    size: int = SIZE
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        self.require_positive("size", "max_pixels")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise InputError(f"ImageSettings: wanted three means and three std above zero, got {self.mean}, {self.std}")


def load(source: Any, *, settings: ImageSettings = ImageSettings()) -> Image.Image | torch.Tensor:
    """Read a picture.

    Orientation marks (EXIF) are obeyed, transparency is laid on white, grey and 16-bit become RGB, of an animation the
    first frame is taken.

    Args:
        source: a path, bytes, file object or PIL image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a tensor
            (3, H, W) or (1, H, W); or datasets' ``{"bytes": ..., "path": ...}``. Arrays and tensors are uint8, or
            float in 0..1 (arrays also uint16).
        settings: for the limit on size, before and after resizing.

    Returns:
        A PIL image in mode RGB, or for float and GPU tensors a float32 tensor (3, H, W) in 0..1 on their device.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, ShapeError, TooLargeError, InputError: all name the source.
    """
    source = undecoded(source)
    if isinstance(source, Image.Image):
        name = source_name(getattr(source, "filename", None) or source)
        return _decoded(source, name, settings)
    if isinstance(source, np.ndarray):
        return _from_array(source, settings)
    if isinstance(source, torch.Tensor):
        return _from_tensor(source, settings)
    if is_file_source(source):
        return _from_file(source, settings)
    raise ShapeError(
        f"{source_name(source)}: wanted a picture as a path, bytes, file object, PIL image, array or tensor, "
        f"got {type(source).__name__}"
    )


def upright(source: Any, *, settings: ImageSettings = ImageSettings()) -> Image.Image:
    """A picture as people see it: what boxes are looked for in and drawn on, by whatever part it is opened.

    Args:
        source: as of :func:`load`. An array or tensor carries no orientation mark: it is upright as it is.

    Returns:
        Mode RGB, 8 bits; the very picture that was given if it is that already, so that opening it again costs nothing.

    Raises:
        InputError: as :func:`load`.
    """
    picture = load(source, settings=settings)
    if isinstance(picture, Image.Image):
        return picture
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)  # (3, H, W)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def transform(image: Image.Image | torch.Tensor, settings: ImageSettings = ImageSettings()) -> torch.Tensor:
    """Resize the short side, cut the middle square, normalise: (3, size, size) float32 on the input's device.

    PIL images go through Pillow's antialiased bicubic filter on 8-bit values, as in the reference; tensors through
    torch's antialiased bicubic in float.
    """
    width, height = image.size if isinstance(image, Image.Image) else (image.shape[2], image.shape[1])
    new_width, new_height = _short_side(width, height, settings.size)
    left, top = round((new_width - settings.size) / 2), round((new_height - settings.size) / 2)
    if isinstance(image, Image.Image):
        resized = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
        square = resized.crop((left, top, left + settings.size, top + settings.size))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255  # (3, size, size)
    else:
        size = (new_height, new_width)
        resized = F.interpolate(image[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]
        pixels = resized[:, top : top + settings.size, left : left + settings.size].clamp(0, 1)  # bicubic overshoots
    return normalize(pixels, settings.mean, settings.std)


def normalize(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """(..., 3, H, W) in 0..1, less ``mean`` and over ``std`` of each channel."""
    centre, spread = (torch.tensor(v, dtype=pixels.dtype, device=pixels.device)[:, None, None] for v in (mean, std))
    return (pixels - centre) / spread


def _short_side(width: int, height: int, size: int) -> tuple[int, int]:
    """New (width, height) with the shorter at ``size`` and the longer cut to a whole pixel, as torchvision has it."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _from_file(source: Any, settings: ImageSettings) -> Image.Image:
    name = source_name(source)
    with opened(source, WANTED) as file, quiet_pillow():
        try:
            with open_picture(file) as image:
                return _decoded(image, name, settings)
        except InputError:
            raise
        except Image.DecompressionBombError:
            raise TooLargeError(
                f"{name}: Pillow refuses a picture so large; shrink it, or raise max_pixels in ImageSettings and "
                "PIL.Image.MAX_IMAGE_PIXELS"
            ) from None
        except Image.UnidentifiedImageError:
            raise UnreadableError(f"{name}: wanted {WANTED}, its format is not known") from None
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot decode it ({one_line(error)})") from None


def _check_size(width: int, height: int, name: str, settings: ImageSettings) -> None:
    if width * height == 0:
        raise EmptyInputError(f"{name}: the picture has no pixels ({width} x {height})")
    if width * height > settings.max_pixels:
        raise TooLargeError(
            f"{name}: a picture of {width} x {height} is refused, the limit is {settings.max_pixels} pixels; "
            "shrink it, or raise max_pixels in ImageSettings"
        )
    new_width, new_height = _short_side(width, height, settings.size)
    if new_width * new_height > settings.max_pixels:  # a strip one pixel wide grows in resizing
        raise TooLargeError(
            f"{name}: a picture of {width} x {height} is too narrow for a short side of {settings.size}; crop it"
        )


def _decoded(image: Image.Image, name: str, settings: ImageSettings) -> Image.Image:
    """Decode to upright RGB on white."""
    _check_size(*image.size, name, settings)
    try:
        image = loaded(image, name, WANTED)
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I") or image.mode == "F":
            return _from_deep_grey(np.asarray(image, dtype=np.float32), image.mode, name)
        return on_white(image)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise UnreadableError(f"{name}: wanted {WANTED}, cannot decode it ({one_line(error)})") from None


def on_white(image: Image.Image) -> Image.Image:
    """RGB, transparency laid on white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(values: np.ndarray, mode: str, name: str) -> Image.Image:
    """Grey of more than 8 bits, (H, W) float32: integers of 16-bit range, or float in 0..1 (Pillow's mode F)."""
    if not np.isfinite(values).all():
        raise NonFiniteError(f"{name}: the picture holds NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    limit = 1 if mode == "F" else 65_535
    if low < 0 or high > limit:
        raise InputError(f"{name}: wanted grey values in 0..{limit}, got {low:g}..{high:g}")
    return Image.fromarray((values * (255 / limit)).round().astype(np.uint8)).convert("RGB")


def _from_array(array: np.ndarray, settings: ImageSettings) -> Image.Image | torch.Tensor:
    if array.dtype.kind != "f" and array.dtype.name not in ("uint8", "uint16"):
        raise ShapeError(f"array: wanted uint8, uint16 or float in 0..1 pixels, got dtype {array.dtype}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ShapeError(f"array: wanted (height, width, 3) pixels, got shape {array.shape}; pass batches as a list")
    if array.size == 0:
        raise EmptyInputError(f"array: the picture has no pixels (shape {array.shape})")
    _check_size(array.shape[1], array.shape[0], "array", settings)
    if array.dtype == np.uint16:
        array = (array / SIXTEEN_TO_EIGHT).round().astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(array))
        return _decoded(image, "array", settings)
    pixels = torch.from_numpy(np.array(array, dtype=np.float32))
    pixels = pixels[..., None].expand(-1, -1, 3) if pixels.ndim == 2 else pixels
    checked_floats(pixels, "array")
    if pixels.shape[2] == 4:
        pixels, alpha = pixels[..., :3], pixels[..., 3:]
        pixels = pixels * alpha + (1 - alpha)
    return pixels.permute(2, 0, 1)


def _from_tensor(tensor: torch.Tensor, settings: ImageSettings) -> Image.Image | torch.Tensor:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ShapeError(f"tensor: wanted (3, height, width) pixels, got {tuple(tensor.shape)}; pass batches as a list")
    if tensor.numel() == 0:
        raise EmptyInputError(f"tensor: the picture has no pixels (shape {tuple(tensor.shape)})")
    _check_size(tensor.shape[2], tensor.shape[1], "tensor", settings)
    tensor = tensor.detach().expand(3, -1, -1)
    if tensor.dtype == torch.uint8:
        if tensor.device.type == "cpu":
            return Image.fromarray(np.ascontiguousarray(tensor.permute(1, 2, 0).numpy()))
        return tensor.float() / 255
    if not tensor.is_floating_point():
        raise ShapeError(f"tensor: wanted uint8 or float in 0..1 pixels, got dtype {tensor.dtype}")
    checked_floats(tensor, "tensor")
    return tensor.float()


def checked_floats(pixels: torch.Tensor, name: str) -> None:
    """Refuse float pixels that are not finite or not in 0..1."""
    if not bool(pixels.isfinite().all()):
        raise NonFiniteError(f"{name}: the picture holds NaN or infinite values")
    low, high = (float(v) for v in pixels.aminmax())
    if low < -FLOAT_TOLERANCE or high > 1 + FLOAT_TOLERANCE:
        raise InputError(
            f"{name}: wanted float pixels in 0..1, got {low:g}..{high:g}; divide 0..255 by 255, undo any normalisation"
        )
