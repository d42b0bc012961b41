from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from bind2gen.errors import TooLargeError
from bind2gen.preprocess import image
from bind2gen.preprocess.image import ImageSettings

ORIENTATION = 0x0112  # EXIF tag
# What a camera does to the upright picture for each value of the tag; the reader must undo it.
CAMERA = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}
ONE_STEP = 1.01 / 255 / min(image.CLIP_STD)  # one 8-bit level after normalisation


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture, (H, W, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def as_bytes(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def loaded(source) -> np.ndarray:
    return np.asarray(image.load(source))


@pytest.mark.parametrize("size", [224, 64])
@pytest.mark.parametrize("shape", [(224, 224), (300, 200), (201, 333), (64, 500), (31, 17), (1, 1), (225, 224)])
def test_pillow_path_equals_torchvision(shape, size):
    picture = Image.fromarray(photo(*shape))
    reference = transforms.Compose([
        transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(image.CLIP_MEAN, image.CLIP_STD),
    ])  # fmt: skip
    assert torch.equal(image.transform(image.load(picture), ImageSettings(size=size)), reference(picture))


@pytest.mark.parametrize(("shape", "levels"), [((300, 200), 2), ((64, 500), 2), ((31, 17), 5)])
def test_tensor_path_is_close_to_pillow(shape, levels):  # which rounds to 8 bits between its two passes
    pixels = photo(*shape)
    exact = image.transform(image.load(pixels))
    for floats in (pixels / 255, torch.from_numpy(pixels.copy()).permute(2, 0, 1).double() / 255):
        assert (image.transform(image.load(floats)) - exact).abs().max() < levels * ONE_STEP


def test_every_form_of_a_picture_is_the_same_picture(tmp_path):
    pixels = photo(60, 80)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    with open(path, "rb") as file:
        forms = [
            path,
            str(path),
            path.read_bytes(),
            file,
            io.BytesIO(path.read_bytes()),
            Image.open(path),
            pixels,
            tensor,
        ]
        for form in forms:
            assert np.array_equal(loaded(form), pixels)


@pytest.mark.parametrize("tag", CAMERA)
def test_orientation_is_obeyed(tag):
    upright = Image.fromarray(photo(40, 60))
    stored = upright
    for move in CAMERA[tag]:
        stored = stored.transpose(move)
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    assert np.array_equal(loaded(as_bytes(stored, "PNG", exif=exif)), np.asarray(upright))


def test_transparency_is_laid_on_white():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, :2, 3], pixels[:, 2, 3], pixels[:, 3, 3] = 255, 128, 0
    expected = [[200, 0, 0], [200, 0, 0], [227, 127, 127], [255, 255, 255]]
    for form in (as_bytes(Image.fromarray(pixels), "PNG"), pixels, Image.fromarray(pixels)):
        assert np.abs(loaded(form)[0].astype(int) - expected).max() <= 1
    floats = image.load(pixels.astype(np.float32) / 255)
    assert np.abs(floats[:, 0].T.numpy() * 255 - expected).max() <= 1


def test_grey_with_alpha_and_palette_with_a_clear_colour():
    grey = Image.merge("LA", [Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 0)])
    assert (loaded(as_bytes(grey, "PNG")) == 255).all()
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([9, 9, 9, 0, 255, 0])
    assert (loaded(as_bytes(palette, "PNG")) == (0, 255, 0)).all()
    assert (loaded(as_bytes(palette, "PNG", transparency=1)) == 255).all()


def test_other_modes_become_rgb():
    pixels = photo(20, 30)
    picture = Image.fromarray(pixels)
    grey = np.asarray(picture.convert("L"))
    assert np.array_equal(loaded(as_bytes(picture.convert("L"), "PNG")), np.stack([grey] * 3, axis=2))
    assert np.array_equal(loaded(grey), np.stack([grey] * 3, axis=2))
    assert np.array_equal(loaded(grey[..., None]), np.stack([grey] * 3, axis=2))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert np.array_equal(loaded(as_bytes(deep, "PNG")), np.stack([grey] * 3, axis=2))
    assert np.array_equal(loaded(grey.astype(np.uint16) * 257), np.stack([grey] * 3, axis=2))
    floats = Image.fromarray(grey / np.float32(255))
    assert np.array_equal(loaded(as_bytes(floats, "TIFF")), np.stack([grey] * 3, axis=2))
    assert set(np.unique(loaded(as_bytes(picture.convert("1"), "PNG")))) == {0, 255}
    assert np.abs(loaded(as_bytes(picture.convert("CMYK"), "TIFF")).astype(int) - pixels).max() <= 2


def test_dark_16_bit_grey_stays_dark():
    assert loaded(as_bytes(Image.fromarray(np.ones((2, 2), np.uint16)), "PNG")).max() == 0


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (loaded(data) == (255, 0, 0)).all()


def test_callers_pixels_are_unchanged():
    array, tensor = photo(50, 40).copy(), torch.rand(3, 50, 40)
    before, kept = array.tobytes(), tensor.clone()
    picture = Image.fromarray(array)
    for source in (array, tensor, picture, array / np.float32(255)):
        image.transform(image.load(source))
    assert array.tobytes() == before and torch.equal(tensor, kept)
    assert picture.size == (40, 50) and np.array_equal(np.asarray(picture), array)


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (15_000, 15_000)).save(path)  # 225 MP in a few kilobytes
    assert path.stat().st_size < 100_000
    with pytest.raises(TooLargeError, match="bomb.png"):
        image.load(path)
    with pytest.raises(TooLargeError, match="bomb.png.*MAX_IMAGE_PIXELS"):  # Pillow has a limit of its own
        image.load(path, settings=ImageSettings(max_pixels=300_000_000))
    Image.new("1", (10_000, 9_000)).save(path)  # between Pillow's warning and its error
    with pytest.raises(TooLargeError, match="bomb.png.*10000 x 9000"):
        image.load(path)


def test_strips_that_would_grow_are_refused():
    with pytest.raises(TooLargeError, match="too narrow"):
        image.load(np.zeros((1, 60_000, 3), np.uint8))
