from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from bind2gen.errors import Bind2GenWarning, EmptyInputError, InputError, ShapeError, TooLargeError, UnreadableError
from bind2gen.preprocess.array_files import read_exr
from bind2gen.preprocess.depth import DepthMap, DepthSettings, disparity_of, fill_holes, load, transform
from bind2gen.preprocess.depth_files import rotate_sun_rgbd
from bind2gen.preprocess.depth_sensors import SENSORS, focal_from_view

SMALL = DepthSettings(size=32)
CAMERA = {"fx": 520.0, "baseline": 0.075}


def png(array: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("distance", [0.8, 2.0, 7.5])
def test_a_plane_has_the_analytic_disparity(distance):
    plane = np.full((48, 64), distance, np.float32)
    depth = load(plane, fx=520.0, baseline=0.075)
    wanted = 0.075 * 520 / distance / 75
    assert disparity_of(depth).unique().item() == pytest.approx(wanted, rel=1e-5)
    out = transform(depth, SMALL)
    assert out.shape == (1, 32, 32)
    assert torch.allclose(out, torch.full_like(out, (wanted - 0.0418) / 0.0295), atol=1e-4)


def test_near_things_are_cut_at_the_largest_disparity_and_far_ones_at_fifty_metres():
    depth = load(np.array([[0.1, 200.0]], np.float32), fx=500.0, baseline=0.1)
    assert disparity_of(depth).flatten().tolist() == pytest.approx([1.0, 0.1 * 500 / 50 / 75])


@pytest.mark.filterwarnings("ignore:.*nothing is said of the camera")
def test_millimetre_pngs_metre_floats_and_other_units_are_the_same_depth():
    metres = np.random.default_rng(0).uniform(0.5, 8, (24, 32)).astype(np.float32).round(3)
    millimetres = (metres * 1000).round().astype(np.uint16)
    wanted = load(metres).metres
    sources = [png(millimetres), png(millimetres, "TIFF"), png(metres, "TIFF"), npy(metres), millimetres]
    sources += [
        torch.from_numpy(metres),
        torch.from_numpy(metres)[None],
        Image.fromarray(millimetres),
        metres[..., None],
    ]
    for source in (*sources, metres[None], millimetres.astype(">u2"), np.asfortranarray(metres), metres.astype(float)):
        assert torch.allclose(load(source).metres, wanted, atol=1e-4)
    assert torch.allclose(load((metres * 100), unit="cm").metres, wanted, atol=1e-4)
    assert torch.allclose(load(millimetres * 2, unit=0.0005).metres, wanted, atol=1e-4)


def exr(tmp_path, channels: dict[str, np.ndarray], **header) -> bytes:
    path = str(tmp_path / "x.exr")
    OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION} | header, channels).write(path)
    return Path(path).read_bytes()


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_exr_is_read_whatever_its_channel_is_called(tmp_path, kind):
    metres = np.linspace(0.5, 8, 24 * 32, dtype=kind).reshape(24, 32)
    colour = np.repeat(metres[..., None], 3, 2)
    for channels in ({"Y": metres}, {"depth.V": metres}, {"Z": metres, "A": metres}, {"RGB": colour}):
        data = exr(tmp_path, channels)
        assert torch.equal(load(data, **CAMERA).metres, torch.from_numpy(metres.astype(np.float32))), channels.keys()
    with pytest.raises(UnreadableError, match="found B, Q, R;.*npy"):
        load(exr(tmp_path, {"B": metres, "Q": metres, "R": metres}))
    with pytest.raises(UnreadableError, match="tiles are not read"):
        load(exr(tmp_path, {"Z": metres}, type=OpenEXR.tiledimage, tiles=OpenEXR.TileDescription()))


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9, 0.95])
def test_a_file_that_is_cut_off_is_refused_in_every_format(share, tmp_path, capsys):
    metres = np.random.default_rng(0).uniform(1, 8, (24, 32)).astype(np.float32)
    npz = io.BytesIO()
    np.savez(npz, depth=metres)
    for data in (exr(tmp_path, {"Z": metres}), npy(metres), npz.getvalue(), png((metres * 1000).astype(np.uint16))):
        with pytest.raises(UnreadableError, match="^bytes: "):
            load(data[: int(share * len(data))])
    assert capsys.readouterr().out == ""  # OpenEXR prints


def test_sun_rgbd_bits_turn_back_and_the_copied_recipe_is_eight_times_too_far():
    millimetres = np.random.default_rng(0).integers(600, 6000, (24, 32)).astype(np.uint16)
    stored = (millimetres << 3) | (millimetres >> 13)  # as the data set stores them
    assert np.array_equal(rotate_sun_rgbd(stored), millimetres)
    true = load(png(stored), encoding="sun_rgbd", sensor="kinect_v2")
    assert torch.allclose(true.metres, torch.from_numpy(millimetres / 1000).float(), atol=1e-4)
    # The recipe takes the stored bits as millimetres.
    with pytest.warns(Bind2GenWarning, match="multiple of eight.*sun_rgbd"):
        copied = load(png(stored), sensor="kinect_v2")
    wanted = disparity_of(copied)
    got = disparity_of(true, DepthSettings(convention="unrotated"))
    assert torch.allclose(got, wanted, rtol=2e-3)
    assert torch.allclose(disparity_of(true), 8 * got, rtol=1e-3)


def test_sun_rgbd_beyond_8_m_is_8_m_as_its_toolbox_has_it():
    millimetres = np.array([[0, 500, 7999], [8000, 8001, 65_535]], np.uint16)
    found = load(png((millimetres << 3) | (millimetres >> 13)), encoding="sun_rgbd", sensor="xtion").metres
    wanted = torch.tensor([[torch.nan, 0.5, 7.999], [8.0, 8.0, 8.0]])
    assert torch.allclose(found, wanted, equal_nan=True)


def test_sensors_scale_with_the_picture_and_can_be_overridden():
    wide, narrow = (load(np.ones((4, width), np.float32), sensor="xtion") for width in (640, 320))
    assert wide.fx == pytest.approx(570.34) and narrow.fx == pytest.approx(570.34 / 2)
    assert load(np.ones((640, 480), np.float32), sensor="xtion").fx == wide.fx  # held upright
    assert load(np.ones((441, 591), np.float32), sensor="xtion").fx == wide.fx  # SUN RGB-D cuts, and does not scale
    assert wide.baseline == 0.095 and "9.5 cm" in wide.note
    assert load(np.ones((4, 640), np.float32), sensor="xtion", fx=500, baseline=0.2).fx == 500
    with pytest.warns(Bind2GenWarning, match="array: nothing is said of the camera, kinect_v1.*iphone_lidar"):
        assert "assumed" in load(np.ones((4, 4), np.float32)).note
    assert "assumed" not in wide.note
    assert focal_from_view(90, 640) == pytest.approx(320)
    assert load(np.ones((4, 640), np.float32), fov=90, baseline=0.1).fx == pytest.approx(320)
    for sensor in SENSORS.values():  # none is narrower than 50 degrees or wider than 90
        assert 0.5 <= sensor.focal(480, 640) / 640 < 1.08 and 0.05 <= sensor.baseline < 0.1


def test_a_camera_in_the_settings_serves_where_none_is_named():
    plane = np.ones((48, 64), np.float32)
    settings = DepthSettings.from_dict({"sensor": "kinect_v2", "baseline": 0.1, "unit": "cm"})
    assert settings == DepthSettings.from_dict(settings.to_dict())
    depth = load(plane * 200, settings=settings)
    assert depth.fx == pytest.approx(365.5 / 8) and depth.baseline == 0.1 and (depth.metres == 2).all()
    other = load(plane, settings=settings, fov=90, unit="m")  # a named camera replaces all of the other
    assert other.fx == pytest.approx(32) and other.baseline == 0.075 and (other.metres == 1).all()


@pytest.mark.parametrize(("sensor", "fx"), [("iphone_lidar", None), (None, None), (None, 0.8)])
@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")
def test_disparity_of_a_reference_width_does_not_depend_on_resolution(sensor, fx):
    reference = None if fx is None else 640
    results = []
    for width in (64, 256, 1024):
        plane = np.full((width * 3 // 4, width), 2.0, np.float32)
        given = {"sensor": sensor, "fx": None if fx is None else fx * width}
        depth = load(plane, settings=DepthSettings(reference_width=reference), **given)
        results.append(disparity_of(depth).unique().item())
    focal = {"iphone_lidar": 212 / 256, None: 525 / 640}[sensor] if fx is None else fx
    assert results == pytest.approx([0.075 * focal * 640 / 2 / 75] * 3, rel=1e-5)


def test_holes_take_the_depth_around_them_and_do_not_smear():
    depth = np.full((64, 64), 2.0, np.float32)
    depth[:, 32:] = 4.0
    holed = depth.copy()
    holed[10:20, 5:15], holed[40:44, 45:60], holed[0, 0] = 0, np.nan, 0
    settings = DepthSettings(size=64)
    wanted, got = transform(load(depth, **CAMERA), settings), transform(load(holed, **CAMERA), settings)
    assert (got - wanted).abs().max() < 1e-3
    maps = [transform(load(holed, **CAMERA), DepthSettings(size=64, holes=name)) for name in ("near", "far")]
    near, far = (values[0, 15, 10] for values in maps)
    assert near == pytest.approx((1 - 0.0418) / 0.0295, rel=1e-4) and far == pytest.approx(-0.0418 / 0.0295, rel=1e-4)


@pytest.mark.parametrize("holes", ["near", "far", "fill"])
@pytest.mark.parametrize("size", [20, 32, 48, 100])
def test_resizing_mixes_no_hole_into_what_was_measured(holes, size):
    plane = np.full((48, 48), 2.0, np.float32)
    plane[np.random.default_rng(0).random((48, 48)) < 0.3] = 0
    out = transform(load(plane, **CAMERA), DepthSettings(size=size, holes=holes, mean=0.0, std=1.0))
    measured, hole = 0.075 * 520 / 2 / 75, {"near": 1.0, "far": 0.0, "fill": 0.075 * 520 / 2 / 75}[holes]
    distance = torch.minimum((out - measured).abs(), (out - hole).abs())
    assert distance.max() < 1e-4  # one or the other, nothing between


def test_beyond_reach_is_far_and_not_a_hole():
    depth = load(np.array([[2.0, np.inf]], np.float32), **CAMERA)
    assert disparity_of(depth).flatten().tolist() == pytest.approx([0.26, 0.075 * 520 / 50 / 75])
    assert "0 % holes" in depth.note


def test_a_lone_pixel_fills_everything():
    values = torch.full((1, 1, 37, 23), torch.nan)
    values[0, 0, 30, 2] = 0.25
    assert torch.allclose(fill_holes(values), torch.full((1, 1, 37, 23), 0.25))


def test_eight_bits_need_a_word_that_says_what_is_assumed():
    drawn = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    with pytest.raises(ShapeError, match="relative_inverse.*0.5 to 10 m"):
        load(png(drawn))
    depth = load(png(drawn), encoding="relative_inverse", sensor="kinect_v1")
    metres = depth.metres
    assert "0.5 m" in depth.note and "10 m" in depth.note
    assert metres[0, 0] == pytest.approx(10, rel=1e-5) and metres[-1, -1] == pytest.approx(0.5, rel=1e-5)
    assert (metres.flatten().diff() < 0).all()


@pytest.mark.filterwarnings("ignore:.*nothing is said of the camera")
@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        (np.zeros((4, 4), np.uint16), {}, EmptyInputError, "no pixel holds a depth"),
        (np.full((4, 4), np.nan, np.float32), {}, EmptyInputError, "no pixel holds"),
        (np.zeros((0, 4), np.float32), {}, EmptyInputError, "without pixels"),
        (-np.ones((4, 4), np.float32), {}, InputError, "0 .nothing measured. or more"),
        (np.random.default_rng(0).random((8, 8, 3)), {}, ShapeError, "colours.*from_photo"),
        (np.ones((4, 4), np.int64) * -1, {}, InputError, "-0.001 m; put NaN"),
        (np.array([[1, -np.inf]]), {}, InputError, "or more, got -inf"),
        (np.ones((2, 8, 8)), {}, ShapeError, "as a list"),
        (torch.ones(4, 4, dtype=torch.complex64), {}, ShapeError, "complex64"),
        (torch.ones(4, 4, device="meta"), {}, ShapeError, "plain tensor"),
        (np.full((4, 4), 200, np.uint8), {}, ShapeError, "8 bits.*relative_inverse"),
        (np.full((4, 4), 2.0), {"encoding": "relative_inverse"}, InputError, "0..1, got 2"),
        (np.ones((1, 40_000), np.float32), {}, TooLargeError, "too narrow"),
        (np.ones((4, 4), bool), {}, ShapeError, "dtype bool"),
        (np.ones((4, 4), np.float32), {"sensor": "kinect"}, InputError, "kinect_v1"),
        (np.ones((4, 4), np.float32), {"fx": 500, "fov": 60}, InputError, "one of the two"),
        (np.ones((4, 4), np.float32), {"fov": 200}, InputError, "180"),
        (np.ones((4, 4), np.float32), {"baseline": -1}, InputError, "above zero"),
        (np.ones((4, 4), np.float32), {"unit": "ft"}, InputError, "mm, cm, m"),
        (np.ones((4, 4), np.float32), {"encoding": "sun_rgbd"}, ShapeError, "16-bit"),
        (np.ones((4, 4), np.float32), {"encoding": "sun"}, InputError, "sun_rgbd"),
        (b"", {}, EmptyInputError, "empty"),
        (png(np.ones((64, 64), np.uint16))[:70], {}, UnreadableError, "decode"),
        (b"GIF89a junk", {}, UnreadableError, "depth map"),
        (b"\x93NUMPY junk", {}, UnreadableError, "npy"),
        (b"PK\x03\x04 junk", {}, UnreadableError, "npz"),
        (npy(np.array([[{}]])), {}, ShapeError, "dtype object"),
        (npy(np.ones((0, 3))), {}, EmptyInputError, "without pixels"),
        (b"\x76\x2f\x31\x01broken", {}, UnreadableError, "EXR"),
        ("no/such.png", {}, UnreadableError, "no such file"),
        (7, {}, ShapeError, "path, bytes"),
    ],
)
def test_bad_input_is_named(source, options, error, words):
    with pytest.raises(error, match=words):
        load(source, **options)


def test_too_large_a_map_is_refused_before_it_is_computed_with(tmp_path):
    with pytest.raises(TooLargeError, match="limit"):
        load(np.broadcast_to(np.float32(1), (30_000, 30_000)))
    small = npy(np.ones((4, 4), np.float32))
    header = small.replace(b"(4, 4), }    ", b"(99999,99999)}")[: len(small)]
    assert header != small
    with pytest.raises(TooLargeError, match="99999"):
        load(header)
    data = bytearray(png(np.ones((4, 4), np.uint16)))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(TooLargeError, match="bytes"):
        load(bytes(data))
    with pytest.raises(TooLargeError, match="5 x 4"):
        read_exr(io.BytesIO(exr(tmp_path, {"Z": np.ones((4, 5), np.float32)})), "x", "a depth map", limit=19)


@pytest.mark.parametrize(("value", "unit"), [(2000.0, "m"), (1.0, "mm")])
def test_a_wrong_unit_is_warned_of(value, unit):
    odd = np.full((8, 8), value, np.float32)
    odd[0, 0] = 1000.0 if unit == "mm" else 2.0  # one odd pixel does not hide it
    with pytest.warns(Bind2GenWarning, match="unit="):
        load(odd, unit=unit, **CAMERA)


def test_hardly_any_depth_is_warned_of():
    sparse = np.zeros((100, 100), np.float32)
    sparse[5, 5] = 2
    with pytest.warns(Bind2GenWarning, match="0.0 % of the pixels"):
        load(sparse, **CAMERA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"convention": "feet"},
        {"holes": "x"},
        {"std": 0.0},
        {"unit": "ft"},
        {"sensor": "eye"},
        {"fov": 180},
        {"fx": -1},
    ],
)
def test_bad_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DepthSettings(**wrong)
    assert DepthSettings.from_dict(DepthSettings(unit=0.5).to_dict()) == DepthSettings(unit=0.5)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int32, np.uint16, np.uint32, np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        elements={"min_value": 0, "max_value": 250},
    ),
    st.sampled_from(["mm", "m", 0.002]),
    st.sampled_from(["fill", "near", "far"]),
    st.fixed_dictionaries({"sensor": st.sampled_from([None, *SENSORS])}) | st.just({"fov": 60.0}) | st.just(CAMERA),
)
@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")
def test_any_depth_gives_a_finite_square_or_a_named_error(array, unit, holes, camera):
    before = array.copy()
    try:
        out = transform(load(array, unit=unit, **camera), DepthSettings(size=16, holes=holes))
    except EmptyInputError:
        assert float(array.max()) < 1e-30  # float32 has nothing so near
    except ShapeError:
        assert array.dtype == np.uint8
    else:
        assert out.shape == (1, 16, 16) and out.dtype == torch.float32 and out.isfinite().all()
        low, high = (np.array([0, 1]) - 0.0418) / 0.0295
        assert low - 1e-3 <= out.min() and out.max() <= high + 1e-3
    assert np.array_equal(array, before)


def test_a_map_that_was_read_passes_through():
    depth = load(np.ones((4, 4), np.float32), **CAMERA)
    assert load(depth) is depth and isinstance(depth, DepthMap)
