"""``bind2gen eval paper`` for real: the bundled model's data laid out as ESC-50 and LLVIP are published.

    python tests/bench/paper_mini.py DATA FOLDER

Of DATA (sounds and infrared as ``eval mini`` takes them) the part that the model was not trained on is tested: fold 4,
a tenth of the videos. Infrared frames have no photos beside them, so that photos by infrared are scored on crops of the
same kinds of things instead, by the function that the command calls. Its motion is cut into stretches shorter than
Ego4D's windows.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bind2gen.cli import main
from bind2gen.evaluate.paper.scoring import retrieval
from bind2gen.files.bundled import ENCODER_PART, bundled_path
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.imagebind.loading import load_imagebind, load_processor
from bind2gen.mini.data import ImageSet, held_out, load_images, read_files
from bind2gen.mini.recipe import JUDGED

BOX = "<object><name>person</name><bndbox>{}</bndbox></object>"
PAGE = "<annotation><size><width>{}</width><height>{}</height></size>{}</annotation>"
CORNERS = ("x0", "xmin"), ("y0", "ymin"), ("x1", "xmax"), ("y1", "ymax")


def esc50(data: Path, folder: Path) -> None:
    """All four folds, of the kinds that the bundled model is judged on."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    rows = []
    for sample, file in read_files(data, "audio"):
        if sample.row["fold"] and sample.concept in JUDGED:
            name = sample.path.replace("/", "_").replace(" ", "_")
            (folder / "audio" / name).write_bytes(file)
            rows.append({"filename": name, "fold": sample.row["fold"], "category": sample.concept.replace(" ", "_")})
    pd.DataFrame(rows).to_csv(folder / "meta" / "esc50.csv", index=False)


def llvip(data: Path, folder: Path, *, every: bool) -> None:
    """Infrared pictures with people: those of the left-out videos, or all."""
    frames = [row for row in read_files(data, "frames") if row[0].row["modality"] == "thermal"]
    out = held_out(ImageSet(np.empty(len(frames)), [sample for sample, _ in frames]))
    for place in ("infrared/test", "visible/test", "Annotations"):
        (folder / place).mkdir(parents=True)
    boxes: dict[str, list[dict[str, str]]] = {}
    for (sample, file), left_out in zip(frames, out, strict=True):
        if (left_out or every) and sample.concept == "person":
            name = sample.row["video"].replace(" ", "_")
            if name not in boxes:
                picture = Image.open(io.BytesIO(file)).convert("L")
                picture.save(folder / "infrared" / "test" / f"{name}.jpg", quality=95)
            boxes.setdefault(name, []).append(sample.row)
    for name, rows in boxes.items():
        parts = ("".join(f"<{to}>{round(float(row[of]))}</{to}>" for of, to in CORNERS) for row in rows)
        objects = "".join(map(BOX.format, parts))
        page = PAGE.format(rows[0]["width"], rows[0]["height"], objects)
        (folder / "Annotations" / f"{name}.xml").write_text(page)


def photos_by_infrared(data: Path) -> dict:
    """Left-out crops of flying things, as many of each kind in infrared as in photos."""
    sets = [load_images(data, ("crops",), modality) for modality in ("thermal", "image")]
    sets = [one.take(held_out(one)) for one in sets]
    kinds = sorted(set(sets[0].concepts()) & set(sets[1].concepts()))
    rng, rows = np.random.default_rng(0), ([], [])
    for kind in kinds:
        there = [np.flatnonzero(one.concepts() == kind) for one in sets]
        for kept, places in zip(rows, there, strict=True):
            kept.extend(rng.choice(places, min(map(len, there)), replace=False))
    place = bundled_path() / ENCODER_PART
    model, processor = load_imagebind(place, modalities=["image", "thermal"]).eval(), load_processor(place)
    inputs = {
        "thermal": [sets[0].pixels[i][..., 0] for i in rows[0]],
        "image": [Image.fromarray(sets[1].pixels[i]) for i in rows[1]],
    }
    found = embed_inputs(model, processor, inputs)
    labels = list(sets[0].concepts()[rows[0]])
    return {"kinds": {kind: labels.count(kind) for kind in kinds},
            **retrieval(found["thermal"], found["image"], labels)}  # fmt: skip


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    esc50(args.data, args.folder / "esc50")
    llvip(args.data, args.folder / "llvip", every=False)
    llvip(args.data, args.folder / "llvip-all", every=True)
    few = ["--task", "few-shot", "--only", "4", "--draws", "20", "--template-set"]
    for name, words in {
        "esc50-clip80": ["--set", "esc50", *few, "clip80"], "esc50-audio": ["--set", "esc50", *few, "audio"],
        "llvip": ["--set", "llvip"], "llvip-all": ["--set", "llvip"],
    }.items():  # fmt: skip
        folder = args.folder / name.split("-clip80")[0].split("-audio")[0]
        out = ["--data", str(folder), "--out", str(args.folder / f"{name}.json"), "--batch-size", "16"]
        print("\n$ bind2gen eval paper", *words, flush=True)
        main(["eval", "paper", *words, *out])
    print("\nphotos by infrared:", json.dumps(photos_by_infrared(args.data), indent=1))


if __name__ == "__main__":
    run()
