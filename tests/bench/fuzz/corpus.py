"""Whole files of every kind, small, made here by the libraries that write them: ``FOLDER/FAMILY/NUMBER/NAME``."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import OpenEXR
import soundfile
from PIL import Image

TESTS = Path(__file__).parents[2]
RATE = 16_000  # Hz
Files = dict[str, bytes]  # of one seed, by their paths in its folder; the first is what is opened, or "" the folder

rng = np.random.default_rng(0)
TONE = (0.4 * np.sin(np.arange(4800) / 5) + 0.05 * rng.standard_normal(4800)).astype(np.float32)  # 0.3 s


def write(folder: Path) -> None:
    """All seeds; those of models are in :mod:`.saved`."""
    from .saved import saved

    for family, seeds in {**media(), **numbers(), **texts()}.items():
        for number, files in enumerate(seeds):
            _lay(folder / family / str(number), files)
    saved(folder)


def _lay(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# ---- sounds, pictures, films ----


def media() -> dict[str, list[Files]]:
    sounds, pictures, films = list(_sounds()), list(_pictures()), list(_films())
    return {"sounds": sounds, "pictures": pictures, "films": films, "recognised": [*sounds, *pictures, *films]}


def _sounds() -> Iterator[Files]:
    forms = {
        "a.wav": ("WAV", "PCM_16"), "b.wav": ("WAV", "FLOAT"), "c.wav": ("WAV", "PCM_24"), "d.wav": ("WAV",
        "IMA_ADPCM"),
        "e.wav": ("WAVEX", "PCM_U8"), "f.wav": ("WAV", "ALAW"), "a.flac": ("FLAC", "PCM_16"), "b.flac": ("FLAC",
        "PCM_24"),
        "a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS"), "a.mp3": ("MP3", "MPEG_LAYER_III"),
        "a.aiff": ("AIFF", "PCM_16"),
        "b.aiff": ("AIFF", "FLOAT"), "a.caf": ("CAF", "FLOAT"), "a.au": ("AU", "PCM_16"), "a.w64": ("W64", "PCM_16"),
        "a.rf64": ("RF64", "PCM_16"), "a.caff": ("CAF", "ALAC_16"),  "a.nist": ("NIST", "PCM_16"),
    }  # fmt: skip
    for name, (form, subtype) in forms.items():
        file = io.BytesIO()
        samples = np.stack([TONE, -TONE], 1) if name in ("b.flac", "a.ogg") else TONE
        soundfile.write(file, samples, RATE, format=form, subtype=subtype)
        yield {name: file.getvalue()}
    for name, form, codec in (("a.m4a", "mp4", "aac"), ("a.mka", "matroska", "pcm_s16le"), ("a.ts", "mpegts", "mp2")):
        yield {name: _film(form, sound=codec)}


def _film(form: str, picture: str | None = None, sound: str | None = None) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        track = None
        if picture is not None:
            track = container.add_stream(picture, rate=10)
            track.width = track.height = 32
            track.pix_fmt = "yuvj420p" if picture == "mjpeg" else "yuv420p"
        if sound is not None:
            voice = container.add_stream(sound, rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray((TONE[None] * 30_000).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate = RATE
            for part in av.AudioResampler(format=voice.format, rate=RATE, frame_size=voice.frame_size or 0).resample(
                frame
            ):
                container.mux(voice.encode(part))
            container.mux(voice.encode(None))
        for grey in (20, 120, 220, 60) if track else ():
            pixels = np.full((32, 32, 3), grey, np.uint8) + rng.integers(0, 30, (32, 32, 3), np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if track:
            container.mux(track.encode())
    return file.getvalue()


def _films() -> Iterator[Files]:
    yield {"a.mp4": _film("mp4", "mpeg4", "aac")}
    yield {"b.mp4": _film("mp4", "libx264")}
    yield {"a.webm": _film("webm", "libvpx", "libopus" if "libopus" in av.codecs_available else None)}
    yield {"a.mkv": _film("matroska", "ffv1")}
    yield {"a.avi": _film("avi", "mjpeg", "pcm_s16le")}
    yield {"a.ts": _film("mpegts", "mpeg2video", "mp2")}
    frames = [Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)) for _ in range(3)]
    for name in ("a.gif", "a.webp", "a.apng.png"):
        file = io.BytesIO()
        frames[0].save(file, Path(name).suffix[1:].upper(), save_all=True, append_images=frames[1:], duration=100)
        yield {name: file.getvalue()}


def _pictures() -> Iterator[Files]:
    noise = Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8))
    smooth = noise.resize((40, 32), Image.Resampling.BICUBIC)
    tags = Image.Exif()
    tags[0x0112] = 6  # orientation
    made = [
        ("a.jpg", smooth, dict(exif=tags)), ("b.jpg", smooth, dict(progressive=True)), ("c.jpg",
        smooth.convert("CMYK"), {}),
        ("d.jpg", smooth.convert("L"), {}), ("a.png", noise, {}), ("b.png", noise.convert("P"), dict(transparency=3)),
        ("c.png", noise.convert("RGBA"), {}), ("d.png", noise.convert("1"), {}), ("e.png", noise.convert("LA"), {}),
        ("f.png", Image.fromarray(rng.integers(0, 65_536, (16, 16), np.uint16)), {}), ("a.webp", smooth, {}),
        ("b.webp", noise.convert("RGBA"), dict(lossless=True, exif=tags)), ("a.gif", noise, {}), ("a.bmp", noise, {}),
        ("b.bmp", noise.convert("P"), {}), ("a.tiff", noise, {}), ("b.tiff", noise, dict(compression="tiff_lzw")),
        ("c.tiff", noise, dict(compression="tiff_deflate")), ("d.tiff", noise.convert("1"), dict(compression="group4")),
        ("e.tiff", smooth, dict(compression="jpeg")), ("f.tiff", Image.fromarray(rng.random((8, 8), np.float32)), {}),
        ("a.tga", noise, dict(compression="tga_rle")), ("a.ppm", noise, {}), ("a.ico", noise, {}), ("a.jp2", smooth,
        {}),
        ("a.avif", smooth, {}), ("a.pcx", noise, {}), ("a.sgi", noise, {}), ("a.dds", noise, {}),
        ("a.qoi", noise, {}),
    ]  # fmt: skip
    for name, picture, options in made:
        file = io.BytesIO()
        try:
            picture.save(file, Image.registered_extensions()[Path(name).suffix], **options)
        except (KeyError, OSError, ValueError, AttributeError):  # Pillow was built without it
            continue
        yield {name: file.getvalue()}


# ---- measurements ----


def numbers() -> dict[str, list[Files]]:
    depth, heat = 1.0 + rng.random((12, 14), np.float32), (20 + 10 * rng.random((12, 14))).astype(np.float32)
    mm = (1000 * depth).astype(np.uint16)
    rows = {name: _table(values) for name, values in (("a.csv", depth), ("b.csv", heat))}
    return {
        "depth": [
            {"a.png": _saved(Image.fromarray(mm), "PNG")}, {"b.png": _saved(Image.fromarray(mm << 3), "PNG")},
            {"a.tiff": _saved(Image.fromarray(depth), "TIFF")}, {"a.pgm": _saved(Image.fromarray(mm), "PPM")},
            {"a.npy": _npy(depth)}, {"b.npy": _npy(np.asfortranarray(mm))}, {"a.npz": _npz(depth=depth, more=depth)},
            {"b.npz": _npz(x=mm)}, {"a.exr": _exr(depth)}, {"b.exr": _exr(np.stack([depth] * 3, 2))},
            {"a.csv": rows["a.csv"]},
        ],
        "thermal": [
            {"a.png": _saved(Image.fromarray((100 * (heat + 273)).astype(np.uint16)), "PNG")}, {"b.csv": rows["b.csv"]},
            {"a.tiff": _saved(Image.fromarray(heat), "TIFF")}, {"a.npy": _npy(heat)}, {"a.jpg": _flir()},
            {"b.jpg": _flir(png=True)},
            {"b.png": _saved(Image.fromarray(np.repeat(heat.astype(np.uint8)[..., None] * 4, 3, 2)), "PNG")},
        ],
        "imu": list(_motions()),
    }  # fmt: skip


def _saved(picture: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _npz(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def _exr(values: np.ndarray) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:  # OpenEXR writes files alone
        path = Path(folder, "a.exr")
        channels = {"Y": values} if values.ndim == 2 else {"RGB": values}
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, channels).write(str(path))
        return path.read_bytes()


def _table(values: np.ndarray, header: list[str] | None = None, delimiter: str = ",") -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    if header:
        writer.writerow(header)
    writer.writerows([f"{x:.4f}" for x in row] for row in values)
    return file.getvalue().encode()


def _flir(png: bool = False) -> bytes:
    sys.path.insert(0, str(TESTS / "preprocess"))
    from test_radiometric import CELSIUS, camera_info, counts, flir_file, flir_jpeg, raw_data

    return flir_jpeg(
        flir_file({32: camera_info(), 1: raw_data(counts(CELSIUS[:12, :14]), png=png)}),
        preview=np.full((16, 16, 3), 90, np.uint8),
    )


def _motions() -> Iterator[Files]:
    import pandas as pd

    times = np.arange(120) / 100
    moved = rng.normal(0, 0.3, (6, 120))
    moved[2] += 9.8
    whole, names = np.concatenate([times[None], moved]).T, ["time (s)", "ax", "ay", "az", "gx", "gy", "gz"]
    frame = pd.DataFrame(whole, columns=names)
    yield {"a.csv": _table(whole, names)}
    yield {"b.csv": _table(whole, delimiter=";")}
    yield {"a.txt": _table(whole * [1000, *[1] * 6], ["time (ms)", *names[1:]], "\t")}
    yield {"a.csv.gz": gzip.compress(_table(whole, names))}
    yield {"a.json": frame.to_json(orient="records").encode()}
    yield {"b.json": json.dumps({"t": times.tolist(), "accelerometer": moved[:3].T.tolist()}).encode()}
    yield {"b.npz": _npz(samples=moved.T, sampling_rate=np.array(50))}
    yield {"a.npz": _npz(samples=moved, rate=np.array(100.0))}
    yield {"c.npz": _npz(accelerometer=moved[:3].T, gyroscope=moved[3:].T, timestamps=times)}
    file = io.BytesIO()
    frame.to_parquet(file)
    yield {"a.parquet": file.getvalue()}
    pair = {f"{n}.csv": _table(np.c_[times, moved[3 * i : 3 * i + 3].T], ["seconds_elapsed", "x", "y", "z"])
            for i, n in enumerate(("TotalAcceleration", "Gyroscope"))}  # fmt: skip
    yield {"folder/" + name: content for name, content in pair.items()}
    parts = [f"{sensor}_{axis}" for sensor in ("total_acc", "body_gyro") for axis in "xyz"]
    yield {f"har/{part}_test.txt": _table(moved[i : i + 1, :], delimiter=" ") for i, part in enumerate(parts)}


# ---- words and recipes ----


def texts() -> dict[str, list[Files]]:
    from bind2gen.train.recipe_files import bundled_recipes, recipe_path

    words = ["dog", "cat", "police van", "rain"]
    recipes = [{Path(recipe_path(name)).name: Path(recipe_path(name)).read_bytes()} for name in bundled_recipes()]
    return {
        "names": [
            {"a.txt": "\n".join(words).encode()},
            {"a.csv": b"1,dog,dog\n2,cat,kitten\n"},
            {"a.json": json.dumps(words).encode()},
            {"b.json": json.dumps({"categories": [{"id": i, "name": word} for i, word in enumerate(words)]}).encode()},
        ],
        "recipes": recipes,
        "word tables": [{"words.txt.gz": gzip.compress("\n".join(["dog", "cat", "rain"]).encode())},
                        {"bpe.txt.gz": gzip.compress(b"#version\nd o\ndo g</w>\nc a\n")}],
        "pairs": [{
            "pairs.csv": b"audio,image,concept,split,depth.sensor\n"
            b"a.wav,a.png,dog,train,\nb.wav,b.png,cat,test,xtion\nc.wav,c.png,,,\n",
        }],
        "shards": [{"a.tar": _shard()}],
    }  # fmt: skip


def _shard() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for key in ("one", "two"):
            notes = json.dumps({"text": "a dog", "concept": "dog", "depth.fx": 500}).encode()
            for suffix, content in (
                ("png", b"p" * 9),
                ("wav", b"w" * 9),
                ("json", notes),
                ("txt", b"a dog"),
                ("cls", b"3"),
            ):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file.getvalue()
