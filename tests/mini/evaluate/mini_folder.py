"""A data folder in the form that the bundled model is trained from, with tiny made-up pictures and tones."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from bind2gen.mini.evaluate.held_out import THERMAL
from bind2gen.mini.recipe import JUDGED

RATE = 16_000  # Hz
HELD_OUT, TRAINED = 3, 4  # photos of a concept
OTHER_LABELS = ("dog", "cat", "bird", "anchor", "piano")  # of other people's photos and sounds
SOUNDS = 3  # held-out ones of a concept, with one to train on


def is_held_out(name: str) -> bool:
    """As bind2gen.mini.data decides for photos and videos."""
    return zlib.crc32(name.encode()) % 1000 < 100


def names(stem: str, suffix: str, *, held_out: int, trained: int) -> list[str]:
    """The first names that fall on each side of the split."""
    tried = [f"{stem}{i}{suffix}" for i in range(400)]
    ours = [name for name in tried if is_held_out(name)][:held_out]
    return ours + [name for name in tried if not is_held_out(name)][:trained]


def picture(rng: np.random.Generator, place: int) -> bytes:
    """Noise over a grey level that tells concepts apart."""
    pixels = rng.integers(0, 60, (64, 64, 3)) + 10 * place
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tone(hertz: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * np.sin(np.arange(RATE // 2) * 2 * np.pi * hertz / RATE), RATE, format="WAV")
    return buffer.getvalue()


def write_table(folder: Path, name: str, header: str, rows: dict[str, tuple[str, bytes]]) -> None:
    """``name``.csv and ``name``.tar; rows are path -> (the other columns, contents)."""
    lines = [header, *(f"{path},{rest}" for path, (rest, _) in rows.items())]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for path, (_, contents) in rows.items():
            info = tarfile.TarInfo(path)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))


def recording(label: str) -> bytes:
    """One second of IMU rows at 100 Hz."""
    rows = [f"{10 * i},0.1,0.2,9.8,0,0,{i % 5},{label}" for i in range(100)]
    header = "timestamp,x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,label"
    return gzip.compress("\n".join([header, *rows]).encode())


def write_folder(folder: Path) -> Path:
    """Photos, crops, sounds and movements of every judged concept, on both sides of the split."""
    rng = np.random.default_rng(0)
    photos, crops, sounds = {}, {}, {}
    for place, concept in enumerate(JUDGED):
        stem = concept.replace(" ", "_")
        for name in names(f"{stem}_", ".png", held_out=HELD_OUT, trained=TRAINED):
            photos[f"{stem}/{name}"] = (concept, picture(rng, place))
        for i in range(SOUNDS + 1):
            fold = 4 if i < SOUNDS else 1
            sounds[f"{stem}/{fold}-{1000 + 10 * place + i}-A-0.wav"] = (f"{concept},{fold}", tone(200 + 100 * place))
    for place, concept in enumerate(THERMAL):
        for video in names(f"{concept}_V", "", held_out=1, trained=1):
            for i in range(2):
                crops[f"thermal/{video}_{i}.png"] = (f"{concept},thermal,{video}", picture(rng, place))
    crops["image/bird_0.png"] = ("bird,image,V1", picture(rng, 2))
    write_table(folder, "images", "path,concept", photos)
    write_table(folder, "crops", "path,concept,modality,video", crops)
    write_table(folder, "audio", "path,concept,fold", sounds)
    (folder / "imu").mkdir()
    for person in ("s01", "s03"):  # the second is held out
        for label in ("WALKING", "SEATED", "STANDING_UP"):
            (folder / "imu" / f"{person}_{label.lower()}.csv.gz").write_bytes(recording(label))
    return folder


def write_other_photos(folder: Path, labels: tuple[str, ...] = OTHER_LABELS, *, each: int = 12) -> Path:
    """``photos`` of many hands; a label of ours is its own concept, and the first two of each are held out."""
    rng, rows = np.random.default_rng(1), {}
    for place, label in enumerate(labels):
        for name in names(f"{label}_", ".png", held_out=2, trained=each - 2):
            concept = label if label in JUDGED else ""
            rows[f"{label}/{name}"] = (f"{concept},{label},0,[]", picture(rng, place))
    write_table(folder, "photos", "path,concept,label,boxed,boxes", rows)
    return folder


def write_other_sounds(folder: Path, labels: tuple[str, ...] = OTHER_LABELS, *, each: int = 6) -> Path:
    """``sounds`` of many hands; a third of each label is of sources that are held out."""
    sources = {kept: [s for s in map(str, range(40)) if (zlib.crc32(s.encode()) % 5 == 0) == kept][:2]
               for kept in (True, False)}  # fmt: skip
    rows = {}
    for place, label in enumerate(labels):
        for i in range(each):
            concept, source = label if label in JUDGED else "", sources[i % 3 == 0][i % 2]
            rows[f"{label}/{i}.wav"] = (f"{concept},{label},{source}", tone(200 + 100 * place))
    write_table(folder, "sounds", "path,concept,label,source", rows)
    return folder
