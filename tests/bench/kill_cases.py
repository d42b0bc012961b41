"""What ``kill_points.py`` kills: commands on toy models and made-up files, a second or a few each."""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from bind2gen.imagebind import checkpoint
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.imagebind.released_names import reference_key

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "mini" / "evaluate")]
from conftest import build_pipeline, tiny_imagebind  # noqa: E402
from mini_folder import write_folder  # noqa: E402

RATE = 16_000  # Hz
COUNT = 54  # pictures and sounds
SCALES = {"audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
RECIPE = """
modality = "thermal"
temperature = 0.1
[model]
towers = "tiny"
drop_path = 0.5
[data]
workers = 1
repeat = 4
[schedule]
batch_size = 4
epochs = 2
learning_rate = 3e-3
precision = "no"
log_every = 1
save_every = 3
"""


@dataclass(frozen=True)
class Case:
    """A command line into a folder.

    Attributes:
        words: of the folder with all that :func:`prepare` made, and where to write.
        read: pattern -> reader, of files whose bytes differ between undisturbed runs.
        growing: patterns of files that hold more and more while it runs.
        rows: what a store holds, compared instead of its files.
        group: signals go to workers as well.
    """

    words: Callable[[Path, Path], list[str]]
    read: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    growing: tuple[str, ...] = ()
    rows: Callable[[Path], object] | None = None
    group: bool = False

    def grows(self, path: str) -> bool:
        return any(Path(path).match(pattern) for pattern in self.growing)


def prepare(folder: Path) -> Path:
    """Write models and inputs; gives the folder back."""
    noise = np.random.default_rng(0)
    for part in ("photos", "warm", "sounds", "few", "labels/low", "labels/high", "pairs", "mini"):
        (folder / part).mkdir(parents=True)
    for k in range(COUNT):
        Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "photos" / f"{k:03}.png")
        Image.fromarray(noise.integers(0, 256, (32, 32), np.uint8)).save(folder / "warm" / f"{k:03}.png")
        wave = 0.1 * noise.standard_normal(RATE)
        soundfile.write(folder / "sounds" / f"{k:03}.wav", wave, RATE)
        if k < 12:
            soundfile.write(folder / "few" / f"{k:03}.wav", wave, RATE)
            soundfile.write(folder / "labels" / ("low", "high")[k % 2] / f"{k}.wav", wave, RATE)
    pictures = sorted((folder / "photos").iterdir())[:12]
    rows = [f"../photos/{path.name},../warm/{path.name}" for path in pictures]
    (folder / "pairs" / "pairs.csv").write_text("\n".join(["image,thermal", *rows]) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    _models(folder)
    names = [f"{a}{v}{b}" for a in "bcdfghjklm" for v in "ae" for b in "nt"]
    (folder / "names.txt").write_text("\n".join(names))
    np.save(folder / "vectors.npy", noise.standard_normal((len(names), 12)).astype(np.float16))
    mapped = f'encoder = "{folder}/tiny"\nnames = "{folder}/names.txt"\n[target]\nvectors = "{folder}/vectors.npy"\n'
    (folder / "map.toml").write_text(mapped)
    made = [f"{path},{folder}/photos/{path.stem}.png" for path in sorted((folder / "few").iterdir())]
    (folder / "made.csv").write_text("\n".join(["sound,made", *made]))
    write_folder(folder / "mini")
    return folder


def patch_size() -> None:
    """``convert`` knows one size only: here a toy's."""
    config = tiny_imagebind().config
    patch.object(checkpoint, "HUGE", lambda: config).start()


def _models(folder: Path) -> None:
    pipe = build_pipeline()
    pipe.save_pretrained(folder / "tiny")
    torch.manual_seed(5)
    model = ImageBindModel(TINY(["image", "audio"]))
    model.save_pretrained(folder / "init")
    ImageBindProcessor.for_config(model.config).save_pretrained(folder / "init")
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=48,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "other")
    state, encoder = {}, tiny_imagebind()
    for key, value in encoder.state_dict().items():
        _, tower, rest = key.split(".", 2)
        state[reference_key(tower, rest)] = value.clone()
    state["modality_preprocessors.text.mask"] = torch.full((77, 77), -math.inf).triu(1)
    for tower, scale in SCALES.items():
        state[f"modality_postprocessors.{tower}.1.log_logit_scale"] = torch.tensor(math.log(scale))
    torch.save(state, folder / "released.pth")


def _log(path: Path) -> list[dict]:
    """Metrics but for the speed."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [{key: value for key, value in row.items() if key != "samples_per_s"} for row in rows]


def _scores(path: Path) -> dict:
    return json.loads(path.read_text()) | {"seconds_per_picture": 0}


def _rows(out: Path) -> list[tuple]:
    with multiprocessing.get_context("fork").Pool(1) as pool:  # LanceDB is to begin anew in each child that is killed
        return pool.apply(_read_rows, (out,))


def _read_rows(out: Path) -> list[tuple]:
    from bind2gen.store import EmbeddingStore
    from bind2gen.store.contract import Selection

    with EmbeddingStore.open(out / "db") as store:
        rows = store._engine.rows(Selection(), thumbnails=True)
    return sorted((Path(row.path).name, row.modality, row.start, row.vector.tobytes(), row.thumbnail) for row in rows)


def _is_there(path: Path) -> bool:
    return path.is_file()


QUICK = ["--quiet", "--batch-size", "4"]
TRAINING = {"metrics.jsonl": _log, "curves.png": _is_there, "*.pkl": _is_there, "*.bin": _is_there, "*.pt": _is_there}
CASES = {
    "train": Case(
        lambda a, out: ["train", f"{a}/recipe.toml", "--data", f"{a}/pairs", "--init", f"{a}/init", "--out",
                        f"{out}/run", "--quiet"],
        TRAINING, ("metrics.jsonl", "training/checkpoint*/*", "run/training/checkpoint/*"), group=True,
    ),
    "embed a folder": Case(
        lambda a, out: ["embed", "--audio", f"{a}/sounds", "--image", f"{a}/photos", "--model", f"{a}/tiny", "--out",
                        f"{out}/all.npz", *QUICK]
    ),
    "embed to JSON": Case(
        lambda a, out: ["embed", "--image", f"{a}/photos", "--model", f"{a}/tiny", "--out", f"{out}/all.json", *QUICK]
    ),
    "index": Case(
        lambda a, out: ["index", f"{a}/sounds", f"{a}/photos", "--db", f"{out}/db", "--model", f"{a}/tiny", *QUICK],
        rows=_rows, growing=("*.lock", "db/*"),
    ),
    "convert": Case(lambda a, out: ["convert", f"{a}/released.pth", f"{out}/folder", "--quiet"]),
    "fit-gap": Case(
        lambda a, out: ["fit-gap", "--images", f"{a}/photos", "--sounds", f"{a}/sounds", "--model", f"{a}/tiny",
                        "--out", f"{out}/gap", *QUICK]
    ),
    "fit-map": Case(
        lambda a, out: ["fit-map", "--images", f"{a}/photos", "--to", f"{a}/other", "--imagebind",
                        f"{a}/tiny/imagebind", "--out", f"{out}/map", *QUICK],
        growing=("map/embedded/*",),
    ),
    "fit-class-map": Case(lambda a, out: ["fit-class-map", f"{a}/map.toml", "--out", f"{out}/map", "--quiet"]),
    "fit-classifier": Case(
        lambda a, out: ["fit-classifier", f"{a}/labels", "--model", f"{a}/tiny", "--out", f"{out}/heads", *QUICK]
    ),
    "generate": Case(
        lambda a, out: ["generate", "--audio", f"{a}/few", "--steps", "4", "--model", f"{a}/tiny", "--out",
                        f"{out}/pictures", *QUICK]
    ),
    "film": Case(
        lambda a, out: ["film", "--audio", f"{a}/few/000.wav", "--fps", "12", "--steps", "4", "--model", f"{a}/tiny",
                        "--out", f"{out}/film.mp4", "--sheet", f"{out}/sheet.png", *QUICK]
    ),
    "eval generate": Case(
        lambda a, out: ["eval", "generate", "--pairs", f"{a}/made.csv", "--model", f"{a}/tiny", "--out",
                        f"{out}/figures.json", *QUICK]
    ),
    "eval mini": Case(
        lambda a, out: ["eval", "mini", "--data", f"{a}/mini", "--model", f"{a}/tiny", "--out", f"{out}/scores",
                        "--limit", "1", "--judge-steps", "6", "--steps", "1", "--quiet"],
        {"scores.json": _scores, "index.html": _is_there, **TRAINING}, ("metrics.jsonl", "judge-6/checkpoint*/*"),
    ),
}  # fmt: skip
