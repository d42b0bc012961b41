"""What `index --ray local` costs beside one process, and that a killed worker changes nothing.

    python tests/bench/bench_ray.py FOLDER SCRATCH [--workers 2] [--kill] [--address local]

Indexes FOLDER with the bundled model in this process and then on Ray into two stores of SCRATCH, one thread each, and
compares the rows. CPU seconds count all processes, since the machine may be busy with more. --kill ends one worker
with SIGKILL after a third of the files.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers would otherwise wait for everybody else

import numpy as np
import psutil

from bind2gen.store import EmbeddingStore, cluster
from bind2gen.store.contract import Selection
from bind2gen.store.embedding import FileEmbedder
from bind2gen.store.encoder import Encoder
from bind2gen.store.indexing import Report, index_folders, locally

WORKER = "MapWorker"  # in the names of Ray's processes that hold a model


def make() -> FileEmbedder:
    return FileEmbedder(Encoder.load(modalities=["image", "audio"]), modalities=["image", "audio"])


def family() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def spent() -> dict[tuple[int, str], float]:
    """CPU seconds by process, of those that live."""
    found = {}
    for process in family():
        try:
            name = "a worker" if WORKER in " ".join(process.cmdline()) else "Ray's others"
            name = "this process" if process.pid == os.getpid() else name
            found[process.pid, name] = sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return found


class Watch:
    """Counts what comes back, and kills a worker on the way."""

    def __init__(self, kill_after: int | None) -> None:
        self.kill_after, self.files, self.seconds, self.first = kill_after, 0, {}, 0.0
        self.started = time.monotonic()

    def __call__(self, part: Any) -> None:
        self.files += part.files
        self.seconds |= spent()
        if self.first == 0:
            self.first = time.monotonic() - self.started
            self.loaded = dict(self.seconds)
        if self.kill_after is not None and self.files >= self.kill_after:
            [worker, *_] = [one for one in family() if WORKER in " ".join(one.cmdline())]
            worker.kill()
            print(f"killed {worker.pid} after {self.files} files", flush=True)
            self.kill_after = None


def indexed(place: Path, folder: Path, embed: Any, kill_after: int | None = None) -> tuple[dict, Report]:
    """Rows by file, modality and start."""
    before, wall, watch = spent(), time.monotonic(), Watch(kill_after)
    with EmbeddingStore.create(place, width=width()) as store:
        report = index_folders(store, [str(folder)], embed, advanced=watch)
        parts: Counter[str] = Counter()
        for (pid, name), seconds in (watch.seconds | spent()).items():
            parts[name] += seconds - before.get((pid, name), 0.0)
        loaded = sum(watch.loaded.values()) - sum(before.values())
        print(f"{place.name}: {report.embedded} files, {len(report.skipped)} skipped, {time.monotonic() - wall:.1f} s "
              f"(first rows after {watch.first:.1f} s and {loaded:.1f} CPU s); CPU s:",
              ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items()), flush=True)  # fmt: skip
        items = store._engine.rows(Selection(), thumbnails=True)
    return {(item.path, item.modality, item.start): item for item in items}, report


def width() -> int:
    return Encoder.load(modalities=["audio"]).model.config.embed_dim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--address", default="local")
    args = parser.parse_args()
    moved = {"out": 0, "back": 0}
    dumps, loads = cluster.pickle.dumps, cluster.pickle.loads

    def counted(name: str, packed: bytes) -> bytes:
        moved[name] += len(packed)
        return packed

    embedder = make()
    one, report = indexed(args.scratch / "one", args.folder, locally(embedder))
    cluster.pickle = type("Counting", (), {
        "dumps": staticmethod(lambda value: counted("out", dumps(value))),
        "loads": staticmethod(lambda packed: loads(counted("back", packed))),
    })  # fmt: skip
    on_ray = cluster.on_ray(partial(make), args.address, workers=args.workers)
    several, again = indexed(args.scratch / "ray", args.folder, on_ray, report.found // 3 if args.kill else None)
    assert one.keys() == several.keys(), "other rows"
    assert sorted(report.skipped) == sorted(again.skipped), "other files were skipped"
    worst = max(float(np.abs(one[key].vector - several[key].vector).max()) for key in one)
    same = sum(one[key].thumbnail == several[key].thumbnail and one[key].mtime_ns == several[key].mtime_ns
               for key in one)  # fmt: skip
    print(f"{len(one)} rows in both; embeddings differ by {worst:.1e} at most; {same} thumbnails and times are equal")
    print(f"a file: {moved['out'] / report.found:.0f} bytes to a worker, {moved['back'] / report.found:.0f} back")


if __name__ == "__main__":
    main()
