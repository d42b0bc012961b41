"""The children of ``test_killed.py``: ``python killed_campaign.py FOLDER``; a line a writer, exit code 1 at a fault."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bind2gen.cli.files import save_picture
from bind2gen.files import atomic
from bind2gen.files.atomic import written_together
from bind2gen.files.embeddings import EmbeddingSet, save_embeddings
from bind2gen.files.films import save_film
from bind2gen.files.own_folder import PREFIX
from bind2gen.pipelines.calibration import Calibration
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.vocabulary import Vocabulary
from bind2gen.train import loop
from bind2gen.train.loop import LoopConfig, train, weights_of
from bind2gen.train.maps.folder import write_fit

EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
GONE = 9
Write = Callable[[Path], object]


def child(write: Write, folder: Path, last: int = -1) -> int:
    """Write in a child that ends before its step ``last``; the exit code, or how many steps there were."""
    ear, mouth = os.pipe()
    pid = os.fork()
    if pid:
        os.close(mouth)
        with os.fdopen(ear) as told:
            said = told.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, GONE), f"{folder}: exit {code}"
        return int(said) if code == 0 else -1
    steps, inside = 0, str(folder)

    def hear(event: str, arguments: tuple) -> None:
        nonlocal steps
        if event not in EVENTS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if inside not in str(arguments[0]):
            return
        if steps == last:
            os._exit(GONE)
        steps += 1

    sys.addaudithook(hear)
    try:
        write(folder)
        os.write(mouth, str(steps).encode())
    except BaseException as error:  # noqa: BLE001
        print(f"{folder}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def here(write: Write, folder: Path) -> None:
    """Write as a process would that has just been started."""
    atomic._swept.clear()
    write(folder)


def content(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(PREFIX) or part in without for part in path.parts)
    }


def campaign(name: str, write: Write, place: Path, *, first: Write | None = None, key: str | None = None) -> int:
    """Kill ``write`` before each of its steps; ``first`` wrote what it replaces; without ``key`` nothing loads."""
    folder = place / "out"

    def begun() -> dict[str, bytes]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if first:
            here(first, folder)
        return content(folder)

    old = begun()
    steps = child(write, folder)
    new = content(folder)
    for step in range(steps):
        begun()
        assert child(write, folder, step) == -1
        now = content(folder)
        for path, value in now.items():
            assert value in (new.get(path), old.get(path)), f"{name}: {path} is half there before step {step}"
        mixed = not any(all(whole.get(path) == value for path, value in now.items()) for whole in (old, new))
        assert key is None or key not in now or not mixed, f"{name}: {key} in a mixture before step {step}"
        here(write, folder)
        assert content(folder) == new, f"{name}: not the same once more, after step {step}"
        left = [str(path) for path in folder.rglob(f"{PREFIX}*")]
        assert not left, f"{name}: {left} left after step {step}"
    print(f"killed: {name} {steps}", flush=True)
    return steps


def training(folder: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    config = LoopConfig(3, 2, 0.1, warmup_steps=1, precision="no", ema_decay=0.9, log_every=1, save_every=2)
    train(model, lambda step, rng: (model(torch.randn(2, 3)).square().mean(), {}), config, folder / "run")


def trainings(place: Path) -> int:
    """As :func:`campaign`; of a run that goes on only what comes out at the end is the same."""

    def told(folder: Path) -> tuple[list, list[str]]:
        rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        values = [value.tolist() for value in weights_of(folder / "run").values()]
        names = sorted(path.name for path in (folder / "run").iterdir() if path.name != "checkpoint.old")
        return [values, [{k: v for k, v in row.items() if k != "samples_per_s"} for row in rows]], names

    folder = place / "out"
    folder.mkdir(parents=True)
    steps = child(training, folder)
    wanted = told(folder)
    for step in range(steps):
        shutil.rmtree(folder)
        folder.mkdir()
        assert child(training, folder, step) == -1
        here(training, folder)
        assert told(folder) == wanted, f"training: other weights, log or files after a kill before step {step}"
    print(f"killed: training {steps}", flush=True)
    return steps


def fit(value: float, folder: Path) -> None:
    means = {"image": torch.full((8,), value), "audio": torch.full((8,), -value)}
    write_fit(folder / "fit", EmbeddingAdapter.from_means(means), f"card {value}", {"value": value})


def together(value: str, folder: Path) -> None:
    with written_together(folder) as fresh:
        (fresh / "part").mkdir()
        for name in ("config.json", "model.safetensors", "part/config.json", "notes.txt"):
            (fresh / name).write_text(f"{name} {value}")


def main(place: Path) -> None:
    torch.set_num_threads(1)
    logging.disable()
    loop.plot_curves = lambda folder: None  # Matplotlib takes a second, and its picture is written as others are
    noise = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    rows = EmbeddingSet({"audio": noise}, {"audio": list("abcd")}, {"model": "m"})
    pictures = [Image.new("RGB", (32, 32), (k, 2 * k, 9)) for k in range(3)]
    for suffix in ("npz", "safetensors"):
        write = lambda folder, suffix=suffix: save_embeddings(folder / f"a.{suffix}", rows)  # noqa: E731
        campaign(
            f"embeddings {suffix}", write, place / suffix, first=lambda f, s=suffix: (f / f"a.{s}").write_text("old")
        )
    campaign("picture", lambda f: save_picture(pictures[1], f / "a.png", {"seed": 1}), place / "png")

    def film(folder: Path) -> None:
        from bind2gen.cli.files import written

        with written(folder / "a.mp4") as temporary:
            save_film(temporary, pictures, fps=4)

    campaign("film", film, place / "film")
    campaign("vocabulary", lambda f: Vocabulary(("a", "b"), torch.eye(2)).save(f / "w.npz"), place / "words")
    campaign("calibration", lambda f: Calibration().save(f), place / "calibration", first=Calibration(0.1).save)
    campaign("fit", partial(fit, 1.0), place / "fit", first=partial(fit, 2.0), key="fit/config.json")
    campaign("together", partial(together, "new"), place / "parts", first=partial(together, "old"), key="config.json")
    trainings(place / "training")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
