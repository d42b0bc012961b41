"""Infrared JPEGs that hold what was measured. The FLIR JPEGs are made here: from temperatures to counts."""

from __future__ import annotations

import io
import struct
import sys
from math import exp, sqrt

import numpy as np
import pytest
from PIL import Image

from bind2gen.errors import Bind2GenWarning, DependencyError, TooLargeError, UnreadableError
from bind2gen.preprocess import thermal
from bind2gen.preprocess.radiometric import PNG_HEADER, taken_of

ORIENTATION, MAKE = 0x0112, 0x010F  # EXIF tags
EMISSIVITY, DISTANCE, HUMIDITY = 0.9, 4.0, 0.6
REFLECTED, AIR = 295.25, 288.5  # K
R1, B, F, OFFSET, R2 = 14_906.2, 1396.6, 1.0, -7261, 0.0109
ALPHA, BETA, X = (0.0066, 0.0126), (-0.0023, -0.0067), 1.9  # of air, as FLIR's cameras have them
CELSIUS = np.linspace(12, 38, 40 * 60).reshape(40, 60) + np.random.default_rng(0).normal(0, 0.5, (40, 60))


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def planck(kelvin: np.ndarray | float) -> np.ndarray:
    """Counts of a black body at the lens, by FLIR's form of Planck's law."""
    return R1 / (R2 * (np.exp(B / kelvin) - F)) - OFFSET


def counts(celsius: np.ndarray) -> np.ndarray:
    """What the camera sees: the body's own radiation, what it reflects, and that of the air between, (H, W) uint16."""
    degrees = AIR - 273.15
    water = HUMIDITY * exp(1.5587 + 0.06939 * degrees - 0.00027816 * degrees**2 + 0.00000068455 * degrees**3)
    halves = [exp(-sqrt(DISTANCE / 2) * (a + b * sqrt(water))) for a, b in zip(ALPHA, BETA, strict=True)]
    through = (X * halves[0] + (1 - X) * halves[1]) ** 2
    body = EMISSIVITY * planck(celsius + 273.15) + (1 - EMISSIVITY) * planck(REFLECTED)
    return (through * body + (1 - through) * planck(AIR)).round().astype(np.uint16)


def camera_info() -> bytes:
    """A record of camera parameters, as exiftool's FLIR tables lay it out."""
    info = bytearray(2476)
    struct.pack_into("<6f", info, 32, EMISSIVITY, DISTANCE, REFLECTED, AIR, AIR, 1.0)
    struct.pack_into("<f", info, 60, HUMIDITY)
    struct.pack_into("<3f", info, 88, R1, B, F)
    struct.pack_into("<5f", info, 112, *ALPHA, *BETA, X)
    struct.pack_into("<if", info, 776, OFFSET, R2)
    return bytes(info)


def raw_data(values: np.ndarray, *, png: bool) -> bytes:
    head = struct.pack("<HHH", 2, values.shape[1], values.shape[0]).ljust(32, b"\0")
    if not png:
        return head + values.astype("<u2").tobytes()
    file = io.BytesIO()
    Image.fromarray(values.byteswap()).save(file, "PNG")  # whose bytes FLIR writes the wrong way round
    return head + file.getvalue()


def flir_file(records: dict[int, bytes], order: str = ">") -> bytes:
    """FLIR's own format: a header, a directory of 14 entries from byte 64, records by their number from 512."""
    at, entries, contents = 512, [], []
    for kind, content in records.items():
        entries.append(struct.pack(f"{order}HHIIII", kind, 1, 100, 1, at, len(content)).ljust(32, b"\0"))
        contents.append(content)
        at += len(content)
    head = b"FFF\0" + bytes(16) + struct.pack(f"{order}III", 100, 64, 14)
    return (head.ljust(64, b"\0") + b"".join(entries)).ljust(512, b"\0") + b"".join(contents)


def jpeg(pixels: np.ndarray, segments: list[tuple[int, bytes]] = (), **exif: object) -> bytes:
    """A JPEG with segments (number of APP, content) before all others."""
    tags = Image.Exif()
    tags.update({int(tag.removeprefix("tag")): value for tag, value in exif.items()})
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=tags)
    parts = (bytes([0xFF, 0xE0 + app]) + struct.pack(">H", len(content) + 2) + content for app, content in segments)
    return file.getvalue()[:2] + b"".join(parts) + file.getvalue()[2:]


def flir_jpeg(data: bytes, preview: np.ndarray | None = None, size: int = 3000, **exif: object) -> bytes:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    segments = [(1, b"FLIR\0\1" + bytes([i, len(pieces) - 1]) + piece) for i, piece in enumerate(pieces)]
    if preview is None:  # colours of no palette
        preview = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return jpeg(preview, segments, **exif)


@pytest.fixture
def radiometric() -> bytes:
    return flir_jpeg(flir_file({1: raw_data(counts(CELSIUS), png=False), 32: camera_info()}))


@pytest.mark.parametrize("png", [False, True])
def test_temperatures_of_a_flir_jpeg_are_those_of_plancks_law(png, tmp_path):
    pytest.importorskip("flyr")
    data = flir_jpeg(flir_file({32: camera_info(), 1: raw_data(counts(CELSIUS), png=png)}))
    found = np.asarray(taken_of(data, "auto", thermal.WANTED).source)
    # Counts are whole numbers: half a count is so many degrees where they lie closest, and parameters are float32.
    slope = np.gradient(counts(CELSIUS.min() + np.arange(2) / 1.0).astype(float))[0]
    assert np.abs(found - CELSIUS).max() < 0.5 / slope + 2e-3
    path = tmp_path / "yard.jpg"
    path.write_bytes(data)
    expected = thermal.load(CELSIUS)
    for source in (path, data, io.BytesIO(data), Image.open(path), {"bytes": data, "path": None}):
        picture = thermal.load(source)
        assert picture.encoding == "radiometric" and "temperatures of a FLIR JPEG in degrees Celsius" in picture.note
        assert (picture.values - expected.values).abs().max() < 2.01 / 255


def test_a_flir_jpeg_is_turned_upright_and_a_broken_preview_is_no_harm():
    pytest.importorskip("flyr")
    data = flir_file({1: raw_data(counts(CELSIUS), png=False), 32: camera_info()})
    turned = thermal.load(flir_jpeg(data, **{f"tag{ORIENTATION}": 6})[:-40])
    assert np.array_equal(turned.values[0].numpy(), np.rot90(thermal.load(flir_jpeg(data)).values[0].numpy(), -1))


def test_temperatures_near_zero_are_no_grey_values():
    pytest.importorskip("flyr")
    cold = 0.2 + 0.6 * (CELSIUS - CELSIUS.min()) / np.ptp(CELSIUS)
    picture = thermal.load(flir_jpeg(flir_file({1: raw_data(counts(cold), png=False), 32: camera_info()})))
    assert picture.encoding == "radiometric" and picture.values.min() == 0 and picture.values.max() == 1


def test_without_flyr_the_error_says_what_to_install_and_the_preview_can_be_taken(monkeypatch, radiometric, tmp_path):
    monkeypatch.setitem(sys.modules, "flyr", None)
    path = tmp_path / "yard.jpg"
    path.write_bytes(radiometric)
    with pytest.raises(DependencyError, match=r'yard.jpg: .*pip install "bind2gen\[flir\]".*encoding='):
        thermal.load(path)
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    picture = thermal.load(flir_jpeg(flir_file({}), preview=grey), encoding="grey")
    assert picture.note.startswith("preview of a FLIR JPEG: grey")
    assert np.abs(255 * picture.values[0].numpy() - grey).max() <= 3


def test_a_flir_jpeg_without_measurement_gives_its_preview_with_a_warning():
    pytest.importorskip("flyr")
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    turned = flir_file({1: raw_data(counts(CELSIUS), png=False), 32: camera_info()}, order="<")  # as of DJI's XT
    for data in (flir_file({32: camera_info()}), turned):
        with pytest.warns(Bind2GenWarning, match="bytes: flyr finds no temperatures .* its preview is taken"):
            picture = thermal.load(flir_jpeg(data, preview=grey))
        assert picture.encoding == "grey" and picture.note.startswith("preview of a FLIR JPEG")


def test_a_bomb_in_a_flir_jpeg_is_refused_unopened():
    bomb = raw_data(counts(CELSIUS), png=True).replace(struct.pack(">II", 60, 40), struct.pack(">II", 60_000, 40_000))
    assert PNG_HEADER + struct.pack(">II", 60_000, 40_000) in bomb
    with pytest.raises(TooLargeError, match="bytes: .*60000 x 40000 in a FLIR JPEG"):
        thermal.load(flir_jpeg(flir_file({1: bomb, 32: camera_info()})))


@pytest.mark.parametrize("name", ["yard.fff", "yard.seq"])
def test_flirs_own_format_is_refused_with_advice(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(flir_file({1: raw_data(counts(CELSIUS), png=False), 32: camera_info()}))
    with pytest.raises(UnreadableError, match=f"{name}: .*as radiometric JPEG, or as CSV"):
        thermal.load(path)


def test_of_a_dji_r_jpeg_the_preview_is_taken_and_it_is_said():
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    blocks = [(3, bytes(2000)), (3, bytes(2000)), (4, bytes(100))]
    made = {f"tag{MAKE}": "DJI"}
    picture = thermal.load(jpeg(grey, blocks, **made))
    assert picture.encoding == "grey" and "preview of a DJI R-JPEG" in picture.note and "Thermal SDK" in picture.note
    piped = Pipe(jpeg(grey, blocks, **made))  # which can be read only once
    assert "preview of a DJI R-JPEG" in thermal.load(piped).note
    for other in (jpeg(grey, **made), jpeg(grey, blocks)):  # its photos, and other makers' blocks
        assert "DJI" not in thermal.load(other).note
