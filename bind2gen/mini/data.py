"""Training data in the folder-plus-csv form: a tar (or folder) of samples and a csv that says what they are.

A csv row has at least ``path`` and ``concept``; modalities are paired by concept. Held-out parts are chosen
here once, so that training, evaluation and the bundled model's card speak of the same split.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from ..errors import InputError

HELD_OUT_FOLD = "4"  # ESC fold kept for judging
HELD_OUT_SHARE = 0.1  # share of images, videos and UrbanSound8K recordings kept for judging
HELD_OUT_PEOPLE = frozenset({"s03", "s09", "s14", "s18"})  # of the IMU recordings' 18

IMU_RATE = 100.0  # Hz, about the recordings' own
IMU_SHORTEST = 0.5  # seconds; shorter stretches say nothing
IMU_COLUMNS = ("x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro")
IMU_CONCEPTS = {
    "WALKING": "walking",
    "TURNING": "walking",
    "SEATED": "sitting",
    "SITTING_DOWN": "sitting",
    "STANDING_UP": "standing",
}


@dataclass(frozen=True)
class Sample:
    """One csv row: where it lies, its concept (empty for background sounds) and the other columns."""

    path: str
    concept: str
    row: dict[str, str]


@dataclass(frozen=True)
class ImageSet:
    """Photos as one array.

    Attributes:
        pixels: (N, H, W, 3) uint8.
        samples: N rows, in the same order.
    """

    pixels: np.ndarray
    samples: list[Sample]

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])

    def take(self, mask: np.ndarray) -> ImageSet:
        chosen = np.flatnonzero(mask)
        return ImageSet(self.pixels[chosen], [self.samples[i] for i in chosen])

    def __add__(self, other: ImageSet) -> ImageSet:
        return ImageSet(np.concatenate([self.pixels, other.pixels]), self.samples + other.samples)


@dataclass(frozen=True)
class AudioSet:
    """Sounds as a list of float32 mono waveforms at ``sample_rate`` Hz, with their rows."""

    waveforms: list[np.ndarray]
    samples: list[Sample]
    sample_rate: int

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])

    def take(self, mask: np.ndarray) -> AudioSet:
        chosen = np.flatnonzero(mask)
        return AudioSet([self.waveforms[i] for i in chosen], [self.samples[i] for i in chosen], self.sample_rate)


@dataclass(frozen=True)
class ImuSet:
    """Stretches of phone recordings in which one thing is done.

    Attributes:
        recordings: (6, n) float32 at ``sample_rate`` Hz: accelerometer in m/s^2, then gyroscope in rad/s.
        samples: their rows; ``row["person"]`` says who.
    """

    recordings: list[np.ndarray]
    samples: list[Sample]
    sample_rate: float

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])

    def take(self, mask: np.ndarray) -> ImuSet:
        chosen = np.flatnonzero(mask)
        return ImuSet([self.recordings[i] for i in chosen], [self.samples[i] for i in chosen], self.sample_rate)


def read_rows(csv_path: Path) -> list[Sample]:
    """Rows of one csv; raises :class:`InputError` when the file or a needed column is missing."""
    if not csv_path.is_file():
        raise InputError(f"{csv_path}: wanted a csv with the columns path and concept, found no such file")
    with open(csv_path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or not {"path", "concept"} <= rows[0].keys():
        raise InputError(f"{csv_path}: wanted rows with the columns path and concept")
    return [Sample(row["path"], row["concept"], row) for row in rows]


def read_members(tar_path: Path) -> dict[str, bytes]:
    """Every file of a tar as bytes, by name."""
    with tarfile.open(tar_path) as tar:
        return {m.name.removeprefix("./"): tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}


def load_images(folder: Path, names: tuple[str, ...] = ("images", "crops"), modality: str = "image") -> ImageSet:
    """Read ``NAME.csv`` with ``NAME.tar`` for each name; rows of another modality are left out."""
    pixels, kept = [], []
    for name in names:
        rows = read_rows(folder / f"{name}.csv")
        members = read_members(folder / f"{name}.tar")
        for sample in rows:
            if sample.row.get("modality", "image") == modality:
                pixels.append(np.asarray(Image.open(io.BytesIO(members[sample.path])).convert("RGB")))
                kept.append(sample)
    return ImageSet(np.stack(pixels), kept)


def load_audio(folder: Path, name: str = "audio", samples: list[Sample] | None = None) -> AudioSet:
    """Read ``NAME.csv``, or only these rows of it, with ``NAME.tar``: mono float32 waveforms, all at one rate."""
    samples, waveforms, rates = samples or read_rows(folder / f"{name}.csv"), [], set()
    members = read_members(folder / f"{name}.tar")
    for sample in samples:
        waveform, rate = soundfile.read(io.BytesIO(members[sample.path]), dtype="float32", always_2d=True)
        waveforms.append(waveform.mean(axis=1))
        rates.add(rate)
    if len(rates) != 1:
        raise InputError(f"{folder}/{name}.tar: wanted one sampling rate, found {sorted(rates)}")
    return AudioSet(waveforms, samples, rates.pop())


def load_imu(folder: Path) -> ImuSet:
    """Read ``imu/*.csv.gz``: jittered rows with labels, put on an even grid of :data:`IMU_RATE` and cut by label."""
    files = sorted((folder / "imu").glob("*.csv.gz"))
    if not files:
        raise InputError(f"{folder / 'imu'}: wanted recordings as *.csv.gz, found none")
    recordings, samples = [], []
    for path in files:
        with gzip.open(path, "rt", newline="") as handle:
            rows = list(csv.DictReader(handle))
        seconds = np.array([int(row["timestamp"]) for row in rows]) / 1000  # milliseconds
        raw = np.array([[float(row[name]) for row in rows] for name in IMU_COLUMNS])
        grid = np.arange(seconds[0], seconds[-1], 1 / IMU_RATE)
        even = np.stack([np.interp(grid, seconds, channel) for channel in raw]).astype(np.float32)  # (6, n)
        labels = np.array([row["label"] for row in rows])[np.searchsorted(seconds, grid).clip(max=len(rows) - 1)]
        edges = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1), len(labels)]
        for start, end in zip(edges, edges[1:], strict=False):
            if end - start >= IMU_SHORTEST * IMU_RATE and labels[start] in IMU_CONCEPTS:
                row = {"label": str(labels[start]), "person": path.name.split("_")[0]}
                recordings.append(even[:, start:end])
                samples.append(Sample(f"{path.name}#{start}", IMU_CONCEPTS[labels[start]], row))
    return ImuSet(recordings, samples, IMU_RATE)


def recording(sample: Sample) -> str:
    """What must not be split: a video, a person, a freesound recording (ESC and UrbanSound8K share them), a photo."""
    name = sample.path.rsplit("/", 1)[-1]
    if sample.row.get("video") or sample.row.get("person"):
        return sample.row.get("video") or sample.row["person"]
    if name.startswith("us8k_"):
        return name.removeprefix("us8k_").split("-")[0]
    return name.split("-")[1] if sample.row.get("fold") else name


def held_out(data: ImageSet | AudioSet | ImuSet) -> np.ndarray:
    """(N,) bool: the part kept for judging. ESC by fold, IMU by person, all else a tenth by recording, video, photo."""

    def chosen(sample: Sample) -> bool:
        if sample.row.get("person"):
            return sample.row["person"] in HELD_OUT_PEOPLE
        if sample.row.get("fold"):
            return sample.row["fold"] == HELD_OUT_FOLD
        return zlib.crc32(recording(sample).encode()) % 1000 < 1000 * HELD_OUT_SHARE

    fold = {recording(s) for s in data.samples if s.row.get("fold") == HELD_OUT_FOLD}
    other_folds = {recording(s) for s in data.samples if s.row.get("fold")} - fold
    return np.array([recording(s) in fold or (chosen(s) and recording(s) not in other_folds) for s in data.samples])


def split(data: ImageSet | AudioSet | ImuSet) -> tuple:
    """``(training part, held-out part)``; no recording, video, person or photo is in both."""
    mask = held_out(data)
    return data.take(~mask), data.take(mask)
