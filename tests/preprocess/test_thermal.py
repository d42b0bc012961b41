from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bind2gen.errors import (
    Bind2GenWarning,
    EmptyInputError,
    InputError,
    NonFiniteError,
    ShapeError,
    TooLargeError,
    UnreadableError,
)
from bind2gen.preprocess.palettes import PALETTES
from bind2gen.preprocess.thermal import ThermalPicture, ThermalSettings, load, transform

RAMP = np.linspace(0, 255, 64 * 48).reshape(48, 64)


def encoded(array: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


def test_grey_of_the_models_size_is_only_divided():
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    settings = ThermalSettings(size=64)
    assert torch.equal(transform(load(pixels), settings)[0], torch.from_numpy(pixels / np.float32(255)))
    half = transform(load(pixels), ThermalSettings(size=64, normalization="half"))[0]
    assert torch.allclose(half, torch.from_numpy(pixels).float() / 127.5 - 1, atol=1e-6)


def test_file_array_tensor_and_pillow_agree():
    pixels = RAMP.astype(np.uint8)
    wanted = load(pixels).values
    for source in (
        encoded(pixels),
        Image.fromarray(pixels),
        torch.from_numpy(pixels)[None],
        np.stack([pixels] * 3, 2),
        pixels[..., None],
    ):
        assert torch.allclose(load(source).values, wanted, atol=1e-6)
    assert torch.allclose(load(RAMP / 255).values, wanted, atol=1 / 255)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_centikelvin_is_windowed_robustly_and_named(form):
    kelvin = np.linspace(283.15, 310.15, 64 * 48).reshape(48, 64)  # 10 to 37 degrees Celsius
    raw = (100 * kelvin).astype(np.uint16)
    raw[0, 0], raw[0, 1] = 0, 65_535  # dead pixels must not decide the window
    picture = load(encoded(raw, form))
    assert picture.encoding == "radiometric" and "10.3 to 36.7 C if these are centi-kelvin" in picture.note
    middle = float(picture.values[0, 24, 32])
    assert middle == pytest.approx(
        (raw[24, 32] - np.percentile(raw, 1)) / np.ptp(np.percentile(raw, [1, 99])), abs=0.5 / 255 + 1e-6
    )
    assert picture.values[0, 0, 0] == 0 and picture.values[0, 0, 1] == 1


def test_raw_counts_and_centikelvin_of_one_scene_give_one_picture_of_eight_bits():
    scene = np.random.default_rng(0).uniform(0, 1, (48, 64))
    counts, kelvin = ((low + span * scene).round().astype(np.uint16) for low, span in ((7000, 1500), (28_000, 3000)))
    raw, radiometric = load(encoded(counts)), load(encoded(kelvin))
    assert "raw counts" in raw.note and "centi-kelvin" in radiometric.note
    assert (raw.values - radiometric.values).abs().max() <= 1.01 / 255
    levels = raw.values * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4) and len(levels.round().unique()) == 256
    buffer = io.BytesIO()
    np.save(buffer, counts)
    assert torch.equal(load(buffer.getvalue()).values, raw.values)


def test_black_hot_is_turned_round():
    pixels = RAMP.astype(np.uint8)
    white, black = load(pixels), load(255 - pixels, settings=ThermalSettings(polarity="black_hot"))
    assert torch.allclose(white.values, black.values, atol=1e-6) and "black hot" in black.note


def test_temperatures_as_floats_are_windowed_and_hotter_is_larger():
    picture = load(np.linspace(-10, 40, 400).reshape(20, 20))
    assert picture.encoding == "radiometric"
    assert (picture.values.flatten().diff() >= 0).all() and picture.values.max() == 1


@pytest.mark.parametrize("name", sorted(PALETTES))
def test_false_colours_come_back_as_grey(name):
    colours = PALETTES[name].colours()
    painted = (255 * colours[RAMP.round().astype(int)]).round().astype(np.uint8)
    picture = load(encoded(painted))
    assert picture.encoding == name and name in picture.note
    assert (picture.values[0] - torch.from_numpy(RAMP / 255).float()).abs().mean() < 0.02
    assert load(painted, encoding=name).encoding == name
    assert load(painted, settings=ThermalSettings(encoding=name)).encoding == name
    assert load(painted / np.float32(255)).encoding == name


def blurred(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A smooth grey scene over the whole range, uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8), dtype=np.uint8)
    values = np.asarray(Image.fromarray(small).resize(shape[::-1], Image.Resampling.BICUBIC)).astype(float)
    return (255 * (values - values.min()) / np.ptp(values)).round().astype(np.uint8)


@pytest.mark.parametrize("name", sorted(PALETTES))
def test_false_colours_survive_jpeg_and_a_caption(name):
    grey = blurred(3)
    painted = (255 * PALETTES[name].colours()[grey]).round().astype(np.uint8)
    painted[:8, :40] = 255  # a white caption: on no palette, or at an end of it
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "JPEG", quality=85)
    picture = load(buffer.getvalue())
    assert picture.encoding == name
    error = (picture.values[0].numpy() - grey / 255)[10:]
    assert np.abs(error).mean() < 0.03


def test_a_coloured_mark_does_not_make_a_grey_picture_coloured():
    grey = blurred(1)
    marked = np.stack([grey] * 3, 2)
    marked[40:44, 40:60] = (255, 0, 0)
    picture = load(encoded(marked))
    assert picture.encoding == "grey"
    assert torch.equal(picture.values[0, :40], torch.from_numpy(grey[:40] / np.float32(255)))


def test_an_ordinary_photo_is_refused_with_advice():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="image="):
        load(photo)
    scene = np.stack([blurred(seed) for seed in (1, 2, 3)], 2)  # as smooth as a photo
    with pytest.raises(InputError, match="image="):
        load(scene)
    with pytest.raises(InputError, match="colours of iron; only"):
        load((255 * PALETTES["jet"].colours()[blurred(1)]).astype(np.uint8), encoding="iron")
    with pytest.raises(InputError, match="palette iron, the picture is grey"):
        load(RAMP.astype(np.uint8), encoding="iron")


def test_a_box_cuts_and_is_clipped_to_the_picture():
    pixels = np.zeros((40, 60), np.uint8)
    pixels[10:20, 30:50] = 255
    assert load(pixels, box=(30, 10, 50, 20)).values.min() == 1
    assert load(pixels, box=(-5, -5, 600, 600)).values.shape == (1, 40, 60)
    with pytest.raises(EmptyInputError, match="holds no pixel"):
        load(pixels, box=(70, 0, 80, 10))
    for wrong in ((0, 0, float("nan"), 1), (0, 0, 1), 5, "abcd", (0, 0, float("inf"), 2)):
        with pytest.raises(InputError, match="four finite"):
            load(pixels, box=wrong)


def test_the_window_of_a_crop_is_that_of_the_whole_picture():
    counts = np.random.default_rng(0).integers(7000, 7100, (40, 60)).astype(np.uint16)
    counts[10:20, 30:50] += 2000
    whole, person = load(counts), load(counts, box=(30, 10, 50, 20))
    assert torch.equal(person.values, whole.values[:, 10:20, 30:50]) and person.values.min() > 0.9
    assert torch.equal(load(whole, box=(30, 10, 50, 20)).values, person.values)


def test_the_middle_of_the_longer_side_is_kept():
    pixels = np.zeros((32, 96), np.uint8)
    pixels[:, 32:64] = 255
    out = transform(load(pixels), ThermalSettings(size=32))
    assert out.shape == (1, 32, 32) and out.mean() > 0.98


def test_a_flat_radiometric_picture_warns():
    with pytest.warns(Bind2GenWarning, match="shows nothing"):
        assert (load(np.full((8, 8), 30_000, np.uint16)).values == 0.5).all()


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (b"", EmptyInputError, "empty"),
        (b"GIF89a junk", UnreadableError, "infrared"),
        (encoded(RAMP.astype(np.uint8))[:100], UnreadableError, "decode"),
        ("no/such.png", UnreadableError, "no such file"),
        (np.zeros((0, 4), np.uint8), EmptyInputError, "without pixels"),
        (np.zeros((4, 4, 2), np.uint8), ShapeError, "height, width"),
        (np.zeros((4, 4), np.int64), ShapeError, "dtype int64"),
        (np.full((4, 4), np.nan), NonFiniteError, "NaN"),
        (torch.zeros(2, 4, 4, 4), ShapeError, "height, width"),
        (torch.zeros(4, 4, dtype=torch.bool), ShapeError, "dtype bool"),
        (np.full((4, 4), 1e300), NonFiniteError, "infinite"),
        (np.full((4, 4, 3), 0.5) + np.arange(3), InputError, "colours in 0..1"),
        (np.zeros((1, 40_000), np.uint8), TooLargeError, "too narrow"),
        (np.broadcast_to(np.uint8(1), (30_000, 30_000)), TooLargeError, "limit"),
        (3, ShapeError, "got int"),
    ],
)
def test_bad_input_is_named(source, error, words):
    with pytest.raises(error, match=words):
        load(source)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"normalization": "z"}, {"window": (99.0, 1.0)}, {"polarity": "red"}])
def test_bad_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ThermalSettings(**wrong)
    assert ThermalSettings.from_dict(ThermalSettings(window=(2.0, 98.0)).to_dict()) == ThermalSettings(
        window=(2.0, 98.0)
    )


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        elements={"min_value": 0, "max_value": 255, "allow_nan": False},
    )
)
@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")
def test_any_picture_gives_a_finite_square_in_range_or_a_named_error(array):
    before = array.copy()
    try:
        out = transform(load(array), ThermalSettings(size=16))
    except InputError as error:
        assert array.ndim == 3 and "colours" in str(error)
        return
    finally:
        assert np.array_equal(array, before)
    assert out.shape == (1, 16, 16) and out.dtype == torch.float32
    assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1


def test_a_picture_that_was_read_passes_through():
    picture = load(RAMP.astype(np.uint8))
    assert load(picture) is picture and isinstance(picture, ThermalPicture)
