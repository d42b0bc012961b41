"""Training data in the folder-plus-csv form: a tar (or folder) of samples and a csv that says what they are.

A csv row has at least ``path`` and ``concept``; modalities are paired by concept. Held-out parts are chosen
here once, so that training, evaluation and the bundled model's card speak of the same split.
"""

from __future__ import annotations

import csv
import io
import tarfile
import warnings
import zlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import soundfile
from PIL import Image

from ..errors import Bind2GenWarning, InputError
from ..preprocess import imu
from .recipe import SETTINGS

HELD_OUT_FOLD = "4"  # ESC fold kept for judging
HELD_OUT_SHARE = 0.1  # share of images, videos and UrbanSound8K recordings kept for judging
HELD_OUT_PEOPLE = frozenset({"s03", "s09", "s14", "s18"})  # of the IMU recordings' 18

IMU_SHORTEST = 0.5  # seconds; shorter stretches say nothing
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


class SampleSet:
    """Things with their rows, ``samples``: what is a list or an array among its fields has one entry a row."""

    samples: list[Sample]

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])

    def take(self, which: np.ndarray) -> Self:
        """Those where a mask (N,) is true, or those at these places, in this order."""
        rows = np.flatnonzero(which) if which.dtype == bool else which
        return replace(self, **{f.name: _taken(getattr(self, f.name), rows) for f in fields(self)})


def _taken(values: Any, rows: np.ndarray) -> Any:
    if isinstance(values, np.ndarray):
        return values[rows]
    return [values[i] for i in rows] if isinstance(values, list) else values


@dataclass(frozen=True)
class ImageSet(SampleSet):
    """Photos as one array, ``pixels``: (N, H, W, 3) uint8."""

    pixels: np.ndarray
    samples: list[Sample]


@dataclass(frozen=True)
class AudioSet(SampleSet):
    """Sounds as a list of float32 mono waveforms at ``sample_rate`` Hz, with their rows."""

    waveforms: list[np.ndarray]
    samples: list[Sample]
    sample_rate: int


@dataclass(frozen=True)
class ImuSet(SampleSet):
    """Stretches of phone recordings in which one thing is done, at the model's rate; ``row["person"]`` says who."""

    recordings: list[imu.ImuRecording]
    samples: list[Sample]


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


def read_files(folder: Path, name: str) -> list[tuple[Sample, bytes]]:
    """Rows of ``NAME.csv``, each with its file from ``NAME.tar``."""
    samples, members = read_rows(folder / f"{name}.csv"), read_members(folder / f"{name}.tar")
    return [(sample, members[sample.path]) for sample in samples]


def load_images(folder: Path, names: tuple[str, ...] = ("images", "crops"), modality: str = "image") -> ImageSet:
    """Read ``NAME.csv`` with ``NAME.tar`` for each name; rows of another modality are left out."""
    pixels, kept = [], []
    for name in names:
        for sample, file in read_files(folder, name):
            if sample.row.get("modality", "image") == modality:
                pixels.append(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")))
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
    """Read ``imu/*.csv.gz``, tables with labels, as the product reads a recording, and cut them by label."""
    files = sorted((folder / "imu").glob("*.csv.gz"))
    if not files:
        raise InputError(f"{folder / 'imu'}: wanted recordings as *.csv.gz, found none")
    settings = SETTINGS["imu"]
    recordings, samples, rate = [], [], settings.sampling_rate
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Bind2GenWarning)  # their times repeat, which the reader mends
            whole = imu.load(path, settings=settings, accelerometer_unit="m/s^2", gyroscope_unit="rad/s")
        even = imu.resample(whole, settings)  # (6, n)
        rows = pd.read_csv(path, usecols=lambda name: name in ("timestamp", "label"))
        if rows.shape[1] < 2:
            raise InputError(f"{path}: wanted the columns timestamp (ms) and label, by which recordings are cut")
        seconds = (rows["timestamp"] - rows["timestamp"][0]).to_numpy() / 1000  # milliseconds
        places = np.searchsorted(seconds, np.arange(even.shape[1]) / rate).clip(max=len(rows) - 1)
        labels = rows["label"].to_numpy()[places]
        edges = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1), len(labels)]
        for start, end in zip(edges, edges[1:], strict=False):
            if end - start >= IMU_SHORTEST * rate and labels[start] in IMU_CONCEPTS:
                row = {"label": str(labels[start]), "person": path.name.split("_")[0]}
                recordings.append(imu.ImuRecording(even[:, start:end], rate, name=path.name))
                samples.append(Sample(f"{path.name}#{start}", IMU_CONCEPTS[labels[start]], row))
    return ImuSet(recordings, samples)


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
