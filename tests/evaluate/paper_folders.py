"""Miniatures of the paper's sets in the layouts that are published. What is in a thing says which class it is of.

A thing of class k is a wall at 1 + k / 5 m, a grey or a tone of k steps, or motion of k m/s^2; :func:`seen` tells k
from what the readers give, and can so only if they read right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import soundfile
from PIL import Image

RATE = 16_000  # Hz
FRAMES = (  # of SUN RGB-D: its four sensors' folders
    "kv1/NYUdata/NYU0001", "kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize",
    "xtion/sun3ddata/brown_bm_1/brown_bm_1/0000001-000000020431", "realsense/lg/2014_10_29-16_16_34-1311000073",
)  # fmt: skip
FOCAL = {"kv1": 518.857901, "kv2": 529.5, "xtion": 570.342205, "realsense": 691.584229}
SIZE = (24, 32)  # height and width


def wall(k: int) -> np.ndarray:
    """Millimetres."""
    return np.full(SIZE, 1000 + 200 * k, np.uint16)


def grey(k: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.full((*size, 3), 20 + 12 * k, np.uint8))


def tone(file: Path, k: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.sin(2 * np.pi * 100 * (k + 1) * np.arange(RATE // 2) / RATE) / 2, RATE, subtype="PCM_16")


def seen(kind: str, thing: Any) -> int:
    """k of what a reader gives."""
    if kind == "depth":
        return round(5 * (float(thing.metres.median()) - 1))
    if kind == "thermal":
        return round((255 * float(thing.values.mean()) - 20) / 12)
    if kind == "imu":
        return round(float(thing.samples[0].mean()))
    if kind == "audio":
        wave, rate = soundfile.read(thing)
        return round(np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave) / 100) - 1
    pixels = np.asarray(Image.open(thing).convert("RGB") if isinstance(thing, str) else thing, float)
    return round((pixels.mean() - 20) / 12)


# ---- SUN RGB-D ----


def write_frame(root: Path, name: str, scene: str, millimetres: np.ndarray, k: int, *, rows: bool = False) -> None:
    """One frame; the camera matrix is in one row or in three."""
    frame, fx = root / name, FOCAL[name.split("/")[0]]
    for part in ("depth", "depth_bfx", "image"):
        (frame / part).mkdir(parents=True)
    stored = (millimetres << 3) | (millimetres >> 13)  # as the set stores them
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(frame / "depth" / "0000103.png")  # before the holes were filled
    Image.fromarray(stored).save(frame / "depth_bfx" / "0000103.png")
    grey(k).save(frame / "image" / "0000103.jpg", quality=100)
    matrix = f"{fx:.6f} 0.000000 365.0{chr(10) if rows else ' '}0.000000 {fx + 9:.6f} 265.0 0 0 1"
    (frame / "intrinsics.txt").write_text(matrix)
    (frame / "scene.txt").write_text(scene)


def write_split(folder: Path, tested: list[str], trained: list[str]) -> None:
    place = folder / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    place.mkdir(parents=True)
    cells = [np.array([f"/n/fs/sun3d/data/SUNRGBD/{name}/" for name in names] + [""], object)[:-1][None]
             for names in (tested, trained)]  # fmt: skip
    scipy.io.savemat(place / "allsplit.mat", {"alltest": cells[0], "alltrain": cells[1]})


def sun_rgbd(folder: Path, pairs: list[tuple[int, int]], scenes: tuple[str, ...]) -> Path:
    """Test frames of (what it looks like, what it is), and two of each scene to learn from."""
    tested = []
    for number, (k, label) in enumerate(pairs):
        base = FRAMES[number % 4]
        tested.append(f"{base}-{number}")
        write_frame(folder / "SUNRGBD", tested[-1], scenes[label], wall(k), k, rows=number % 2 == 1)
    trained = [f"kv1/b3dodata/img_{k:02}{twin}" for k in range(len(scenes)) for twin in "ab"]
    for name in trained:
        k = int(name[-3:-1])
        write_frame(folder / "SUNRGBD", name, scenes[k], wall(k), k)
    write_split(folder, tested, trained)
    return folder


# ---- the others ----


def nyu(folder: Path, scenes: list[str], looks: list[int], tested: list[int]) -> Path:
    """The labelled file as MATLAB 7.3 writes it, and numbers from 1 of the tested frames."""
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        texts = [file.create_dataset(f"#refs#/{i}", data=np.array([*map(ord, one)], np.uint16)[:, None])
                 for i, one in enumerate(scenes)]  # fmt: skip
        file["sceneTypes"] = np.array([[one.ref for one in texts]], h5py.ref_dtype)
        depths = np.stack([wall(k).T / np.float32(1000) for k in looks])  # width before height
        depths[:, :8] *= 1.01  # a strip at the left
        file["depths"] = depths.astype(np.float32)
        file["images"] = np.stack([np.asarray(grey(k)).transpose(2, 1, 0) for k in looks])
    others = sorted(set(range(1, len(scenes) + 1)) - set(tested))
    columns = {name: np.array(rows, np.uint16)[:, None] for name, rows in (("testNdxs", tested), ("trainNdxs", others))}
    scipy.io.savemat(folder / "splits.mat", columns)
    return folder


def write_llvip(folder: Path, name: str, pixels: np.ndarray, boxes: list[tuple[int, ...]], k: int) -> None:
    height, width = pixels.shape
    for place in ("infrared/test", "visible/test", "Annotations"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(pixels[..., None], 3, 2)).save(folder / f"infrared/test/{name}.jpg", quality=100)
    grey(k, pixels.shape).save(folder / f"visible/test/{name}.jpg", quality=100)
    objects = "".join(
        "<object><name>person</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        + "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for box in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    text = f"<annotation><folder>LLVIP</folder><filename>{name}.jpg</filename>{size}{objects}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(text)


def write_film(folder: Path, uid: str, rows: np.ndarray) -> None:
    """Rows of time in ms (NaN: none), accelerometer x in m/s^2."""
    (folder / "imu").mkdir(parents=True, exist_ok=True)
    lines = ["component_idx,component_timestamp_ms,canonical_timestamp_ms,gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z"]
    for time, value in rows:
        stamp = "" if np.isnan(time) else f"{time:.3f}"
        lines.append(f"0,{np.nan_to_num(time):.3f},{stamp},0.01,0.02,0.03,{value:.3f},0.0,9.81")
    (folder / "imu" / f"{uid}.csv").write_text("\n".join(lines) + "\n")


def motion(seconds: float, k: float, rate: float = 200.0) -> np.ndarray:
    times = np.arange(round(seconds * rate)) * 1000 / rate
    return np.stack([times, np.full_like(times, k)], 1)


def write_ego4d(
    folder: Path, films: list[tuple[str, float, list[str]]], moments: dict[str, list[float]] | None
) -> Path:
    videos = [{"video_uid": uid, "duration_sec": seconds, "scenarios": names} for uid, seconds, names in films]
    (folder / "ego4d.json").write_text(json.dumps({"version": "v2", "videos": videos}))
    if moments is not None:
        told = {
            uid: {"narration_pass_1": {"narrations": [{"timestamp_sec": t} for t in times], "summaries": []}}
            for uid, times in moments.items()
        }
        (folder / "annotations").mkdir()
        (folder / "annotations" / "narration.json").write_text(json.dumps(told))
    return folder


def places(folder: Path, pairs: list[tuple[int, int]], categories: list[str]) -> Path:
    (folder / "val_256").mkdir()
    names = [f"Places365_val_{number + 1:08}.jpg" for number in range(len(pairs))]
    for name, (k, _) in zip(names, pairs, strict=True):
        grey(k).save(folder / "val_256" / name, quality=100)
    listed = "".join(f"{name} {label}\n" for name, (_, label) in zip(names, pairs, strict=True))
    (folder / "places365_val.txt").write_text(listed)
    (folder / "categories_places365.txt").write_text("".join(f"{one} {k}\n" for k, one in enumerate(categories)))
    return folder


def esc50(folder: Path, rows: list[tuple[int, int, int]], names: list[str]) -> Path:
    """Rows of (what it sounds like, what it is, fold)."""
    (folder / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number, (k, label, fold) in enumerate(rows):
        tone(folder / "audio" / f"{fold}-{number}-A-{label}.wav", k)
        lines.append(f"{fold}-{number}-A-{label}.wav,{fold},{label},{names[label]},False,{number},A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def audioset(folder: Path, rows: list[tuple[int, list[int]]], names: list[str]) -> Path:
    mids = [f"/m/0{k}" for k in range(len(names))]
    labels = "".join(f'{k},{mids[k]},"{name}"\n' for k, name in enumerate(names))
    (folder / "class_labels_indices.csv").write_text(f"index,mid,display_name\n{labels}")
    lines = ["# Segments csv created Sun Mar  5 10:54:25 2017", "# num_ytids=2", "# YTID, start_seconds, end_seconds, "
             "positive_labels"]  # fmt: skip
    for number, (k, heard) in enumerate(rows):
        video = f"--4gqARa{number:03}"
        name = (video, f"Y{video}", f"{video}_30", f"{video}_30000")[number % 4]
        tone(folder / "eval" / f"{name}.wav", k)
        lines.append(f'{video}, 30.000, 40.000, "{",".join(mids[one] for one in heard)}"')
    (folder / "eval_segments.csv").write_text("\n".join(lines) + "\n")
    return folder


def vggsound(folder: Path, rows: list[tuple[int, int, str]], names: list[str]) -> Path:
    lines = []
    for number, (k, label, part) in enumerate(rows):
        video = f"-0{number:02}uqfAzsk"
        tone(folder / "audio" / f"{video}_{20 + number:06}.wav", k)
        lines.append(f'{video},{20 + number},"{names[label]}",{part}')
    (folder / "vggsound.csv").write_text("\n".join(lines) + "\n")
    return folder
