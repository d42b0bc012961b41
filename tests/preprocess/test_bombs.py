"""Files that are small and say that they are huge, or are once unpacked: refused from what they say, without memory."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.cli import main
from bind2gen.errors import Bind2GenError, Bind2GenWarning, TooLargeError
from bind2gen.files import arrays
from bind2gen.files.embeddings import load_embeddings
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.preprocess import animations, array_files, sound_files
from bind2gen.preprocess.imu import tables, text_files
from bind2gen.preprocess.text import TextSettings, transform
from bind2gen.space.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from fuzz.refusal import LITTLE, refused
from fuzz.worker import forget_peak, status_of

SIDE = 60_000  # pixels


@pytest.fixture(scope="module")
def processor() -> ImageBindProcessor:
    return ImageBindProcessor.for_config(TINY(["image", "audio", "depth", "thermal", "imu"]))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, height),
            (279, 4, 16)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(tags)) + entries + bytes(4)


def webp(width: int, height: int, frames: int) -> bytes:
    """Animated: a canvas and frames of one pixel."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "WEBP", lossless=True)
    bits = file.getvalue()[12:]

    def three(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    frame = three(0) + three(0) + three(0) + three(0) + three(100) + b"\0" + bits
    parts = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + three(width - 1) + three(height - 1)
    parts += b"ANIM" + struct.pack("<IIH", 6, 0, 0) + (b"ANMF" + struct.pack("<I", len(frame)) + frame) * frames
    return b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts


def npy(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = bytes(64)) -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + data


def npz(name: str, member: bytes, zeros: int = 0, **others: np.ndarray) -> bytes:
    """An archive whose one member ends with ``zeros`` megabytes of nothing."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in others.items():
            with archive.open(f"{key}.npy", "w") as target:
                np.save(target, value)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as target:
            target.write(member)
            for _ in range(zeros):
                target.write(bytes(1 << 20))
    return file.getvalue()


def wav(frames: int, channels: int = 1) -> bytes:
    """A header that promises so many frames of 16 bits, and 32 bytes."""
    size = min(frames * channels * 2, 2**32 - 1)
    form = struct.pack("<HHIIHH", 1, channels, 16_000, 32_000 * channels, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<I", size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", size)
        + bytes(32)
    )


def packed(text: bytes, times: int) -> bytes:
    """gzip of a text that goes on and on."""
    file = io.BytesIO()
    with gzip.open(file, "wb", 1) as target:
        for _ in range(times):
            target.write(text)
    return file.getvalue()


def parquet() -> bytes:
    """Columns of one value, four million times, in a few kilobytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, names = io.BytesIO(), ["time (s)", "ax", "ay", "az", "gx", "gy", "gz"]
    zeros = pa.array(np.zeros(1 << 22, np.float32))
    pq.write_table(pa.table([zeros] * 7, names), file, compression="zstd", row_group_size=1 << 22)
    return file.getvalue()


HEAD, ROWS = b"time (s),ax,ay,az,gx,gy,gz\n", b"0.01,0,0,9.8,0,0,0\n" * 50_000
CASES: dict[str, tuple[str, str, Callable[[], bytes], str]] = {  # name: (modality, file, content, what is said)
    "png of 3.6 gigapixels": ("images", "a.png", lambda: png(SIDE, SIDE), "60000 x 60000|so large"),
    "png of 160 megapixels": ("images", "a.png", lambda: png(16_000, 10_000), "16000 x 10000 is refused"),
    "tiff of 3.6 gigapixels": ("images", "a.tiff", lambda: tiff(SIDE, SIDE), "so large"),
    "webp of 160 megapixels": ("video", "a.webp", lambda: webp(16_000, 10_000, 2), "so large"),
    "webp of many large frames": ("video", "a.webp", lambda: webp(8000, 8000, 500), "500 frames of 8000 x 8000"),
    "webp of a strip": ("video", "a.webp", lambda: webp(524_312, 24, 3), "524312 x 24 are too narrow"),
    "depth tiff": ("depth", "a.tiff", lambda: tiff(SIDE, SIDE), "so large"),
    "npy of 10^12": ("depth", "a.npy", lambda: npy((10**6, 10**6)), "limit"),
    "npy of 10^12 in motion": ("imu", "a.npy", lambda: npy((6, 10**12)), "cannot hold"),
    "npy of nothing, 10^12 times": ("imu", "a.npy", lambda: npy((6, 10**12), "<U0"), "cannot hold"),
    "npy of more than 64 bits": ("imu", "a.npy", lambda: npy((2**40, 2**40)), "cannot hold"),
    "npz that unpacks to much": ("imu", "a.npz", lambda: npz("samples", npy((6, 10**7), "<f4", b""), 32), "refused"),
    "npz of depth": ("depth", "a.npz", lambda: npz("depth", npy((9000, 9000), "<f16", b""), 8), "limit|cut off"),
    "gzip of rows": ("imu", "a.csv.gz", lambda: gzip.compress(HEAD) + packed(ROWS, 32), "unpacks to more than"),
    "gzip of one line": ("imu", "a.csv.gz", lambda: packed(b"1," * 50_000, 40), "three numbers|a line of"),
    "gzip of json": ("imu", "a.json", lambda: packed(b'[{"a": 1},' * 50_000, 30), "JSON of more"),
    "parquet of one value": ("imu", "a.parquet", parquet, "rows are refused"),
}  # fmt: skip
WORDS = {"images": "image", "video": "video", "depth": "depth", "imu": "imu"}


@pytest.fixture(autouse=True)
def lower(monkeypatch):
    """Of what may be unpacked, so that bombs of megabytes do for ones of gigabytes."""
    assert arrays.UNPACKED == text_files.UNPACKED == 1 << 30 and tables.LARGEST_JSON < 1 << 28
    for module, name, value in ((arrays, "UNPACKED", 1 << 24), (text_files, "UNPACKED", 1 << 24)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(tables, "LARGEST_JSON", 1 << 22)


@pytest.mark.parametrize("name", ["webp of 160 megapixels", "webp of many large frames"])
def test_an_animation_is_refused_before_it_is_opened(name, processor, tmp_path, monkeypatch):
    """Opening it has the decoder ask for two whole frames of zeros, which some allocators write at once."""
    modality, file, make, words = CASES[name]
    (tmp_path / file).write_bytes(make())
    monkeypatch.setattr(animations, "open_picture", lambda file: pytest.fail("was opened"))
    with pytest.raises(TooLargeError, match=words):
        processor(**{modality: tmp_path / file})


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::bind2gen.Bind2GenWarning")
def test_a_bomb_is_refused_for_what_it_says(name, processor, tmp_path, capfd):
    modality, file, make, words = CASES[name]
    path = tmp_path / file
    path.write_bytes(make())
    assert path.stat().st_size < 8 << 20
    assert re.search(words, refused(lambda: processor(**{modality: path}))), words
    assert capfd.readouterr().err == ""
    out = str(tmp_path / "x.npz")
    assert main(["embed", f"--{WORDS[modality]}", str(path), "--out", out, "--quiet"]) == 1
    err = capfd.readouterr().err.splitlines()
    assert err[-1].startswith("bind2gen: error: ") and file in err[-1] and "unexpected" not in err[-1]


@pytest.mark.parametrize("frames", [2**31, 2**40])
def test_a_wav_is_as_long_as_it_is_not_as_it_says(frames, processor, tmp_path):
    """Blocks are read until there are no more: nothing is made room for by what a header says."""
    for channels in (1, 2, 600):
        (tmp_path / "a.wav").write_bytes(wav(frames, channels))
        forget_peak()
        before = status_of("VmRSS")
        with pytest.warns(Bind2GenWarning) if channels < 17 else pytest.raises(Bind2GenError):
            assert processor(audio=tmp_path / "a.wav")["audio_values"].isfinite().all()
        assert status_of("VmHWM") - before < LITTLE


def test_a_sound_that_unpacks_to_hours_is_given_up_on_the_way(processor, tmp_path, monkeypatch):
    """FLAC packs silence a thousandfold; the limit is on what was unpacked, and read from what is there."""
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 1000, 8, "PCM_16") as file:
        for _ in range(40):
            file.write(np.zeros((100_000, 8), np.int16))
    assert (tmp_path / "a.flac").stat().st_size < 1 << 20
    read = []
    blocks = sound_files._by_libsndfile

    def counted(*args: Any) -> Any:
        for block, rate in blocks(*args):
            read.append(block.shape[1])
            yield block, rate

    monkeypatch.setattr(sound_files, "_by_libsndfile", counted)
    assert "at most 3600 s" in refused(lambda: processor(audio=tmp_path / "a.flac"))
    assert sum(read) <= 3_600_000 + sound_files.BLOCK  # of 4 million frames


def test_other_arrays_and_tables(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz("vectors", npy((10**6, 10), "<f4", b""), 32, names=np.array(["a"])))
    assert "refused" in refused(lambda: Vocabulary.from_file(tmp_path / "a.npz"))
    assert "refused" in refused(lambda: load_embeddings(tmp_path / "a.npz"))
    (tmp_path / "b.npz").write_bytes(npz("names", npy((10**12,), "<U0", b""), vectors=np.eye(3, dtype=np.float32)))
    refused(lambda: Vocabulary.from_file(tmp_path / "b.npz"))
    (tmp_path / "words.txt.gz").write_bytes(packed(b"dog\n" * 100_000, 100))
    assert "unpacks to more" in refused(
        lambda: transform("a dog", TextSettings(8, str(tmp_path / "words.txt.gz"), "words"))
    )


def test_json_that_nests_without_end(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    assert "cannot" in refused(lambda: load_embeddings(tmp_path / "a.json"))
    assert json.loads("[]") == []


def test_every_part_of_an_exr_is_asked_for_its_size(tmp_path, monkeypatch, processor):
    """Not the first alone: another may be the large one."""
    OpenEXR = pytest.importorskip("OpenEXR")
    shown = {"displayWindow": (np.array([0, 0], np.int32), np.array([63, 63], np.int32))}
    parts = [OpenEXR.Part(dict(shown), {"A": np.ones((4, 4), np.float32)}, "small")]
    parts.append(OpenEXR.Part(dict(shown), {"Y": np.ones((64, 64), np.float32)}, "large"))
    OpenEXR.File(parts).write(str(tmp_path / "a.exr"))
    with (tmp_path / "a.exr").open("rb") as file, pytest.raises(Bind2GenError, match="64 x 64 is refused"):
        array_files.read_exr(file, "a.exr", "depth", limit=64 * 32)
