"""A million embeddings: build time, recall, time of a search, memory and disk of our stores beside FAISS alone.

    python tests/bench/bench_store.py FOLDER --rows 200000 [--kinds exact ivf graph faiss-flat ...] [--queries 200]

Made-up vectors, clustered as real ones are: a thousand concepts of very different sizes, each with a few dozen
directions in which its members differ, and a little noise in all. Queries are further members. Each row of the table is
a process of its own, whose peak memory is that of searching, or of building where it says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

CONCEPTS, DIRECTIONS = 1000, 48
SPREAD, NOISE = 0.9, 0.25  # of members around their concept's middle, whose length is 1
CHUNK = 20_000  # rows
NEAREST = 10
STORES = ("exact", "ivf", "graph")
FAISS = {"faiss-flat": "SQfp16", "faiss-ivf": "IVF1024,SQ8", "faiss-graph": "HNSW32,SQ8"}
PROBES, EFFORT = 40, 200  # of FAISS, those of our engine


def members(rows: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """Unit vectors (n, width) float32, n at most CHUNK. All seeds share their concepts."""
    same = np.random.default_rng(0)
    middles = same.standard_normal((CONCEPTS, width), np.float32) + 0.5 * same.standard_normal(width, np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    ways = same.standard_normal((32, DIRECTIONS, width), np.float32) / np.sqrt(width)  # shared by some concepts
    sizes = same.pareto(1.2, CONCEPTS) + 0.1
    rng = np.random.default_rng(seed)
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        concept = rng.choice(CONCEPTS, count, p=sizes / sizes.sum())
        x = middles[concept] + NOISE * rng.standard_normal((count, width), np.float32) / np.sqrt(width)
        place = SPREAD * rng.standard_normal((count, DIRECTIONS), np.float32) / np.sqrt(DIRECTIONS)
        for way in range(len(ways)):
            here = concept % len(ways) == way
            x[here] += place[here] @ ways[way]
        yield x / np.linalg.norm(x, axis=1, keepdims=True)


def truth(args: argparse.Namespace) -> np.ndarray:
    """(queries, NEAREST) numbers of the nearest rows."""
    [queries] = members(args.queries, args.width, seed=2)
    best = np.zeros((len(queries), 0), np.float32)
    places = np.zeros((len(queries), 0), np.int64)
    for number, chunk in enumerate(members(args.rows, args.width, seed=1)):
        best = np.concatenate([best, queries @ chunk.T], 1)
        numbers = np.broadcast_to(np.arange(len(chunk)) + number * CHUNK, (len(queries), len(chunk)))
        places = np.concatenate([places, numbers], 1)
        order = np.argsort(-best, axis=1)[:, :NEAREST]
        best, places = np.take_along_axis(best, order, 1), np.take_along_axis(places, order, 1)
    return places


def build_store(args: argparse.Namespace, kind: str) -> None:
    from bind2gen.store import EmbeddingStore, Item

    place = args.folder / "store"
    if not place.exists():
        with EmbeddingStore.create(place, width=args.width) as store:
            for number, chunk in enumerate(members(args.rows, args.width, seed=1)):
                store.add([Item(f"/{number * CHUNK + i}", "image", row) for i, row in enumerate(chunk)])
            store.tidy()
    if kind != "exact":
        with EmbeddingStore.open(place) as store:
            store.build_index(kind)


def search_store(args: argparse.Namespace, kind: str) -> Callable[[np.ndarray], list[int]]:
    from bind2gen.store import EmbeddingStore

    store = EmbeddingStore.open(args.folder / "store")
    return lambda query: [int(hit.item.path[1:]) for hit in store.search(query, NEAREST, exact=kind == "exact")]


def build_faiss(args: argparse.Namespace, kind: str) -> None:
    import faiss

    index = faiss.index_factory(args.width, FAISS[kind], faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(
            np.concatenate([chunk for chunk, _ in zip(members(args.rows, args.width, 1), range(3), strict=False)])
        )
    for chunk in members(args.rows, args.width, seed=1):
        index.add(chunk)
    faiss.write_index(index, str(args.folder / kind))


def search_faiss(args: argparse.Namespace, kind: str) -> Callable[[np.ndarray], list[int]]:
    import faiss

    index = faiss.read_index(str(args.folder / kind))
    if "ivf" in kind:
        index.nprobe = PROBES
    if "graph" in kind:
        index.hnsw.efSearch = EFFORT
    return lambda query: index.search(query[None], NEAREST)[1][0].tolist()


def measure(args: argparse.Namespace, kind: str) -> dict:
    """Build in one process, search in another."""
    if args.step == "build":
        (build_faiss if kind in FAISS else build_store)(args, kind)
        return {"build_cpu_s": time.process_time(), "build_GiB": _peak()}
    [queries] = members(args.queries, args.width, seed=2)
    search = (search_faiss if kind in FAISS else search_store)(args, kind)
    for query in queries[:10]:
        search(query)
    found, took, used = [], [], time.process_time()
    for query in queries:
        started = time.monotonic()
        found.append(search(query))
        took.append(1000 * (time.monotonic() - started))
    used = 1000 * (time.process_time() - used) / len(queries)  # of all threads, whatever else the machine does
    wanted = np.load(args.folder / "truth.npy")
    recall = np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(found, wanted.tolist(), strict=True)])
    return {"recall": recall, "p50_ms": np.percentile(took, 50), "p99_ms": np.percentile(took, 99), "cpu_ms": used,
            "search_GiB": _peak()}  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _disk(place: Path) -> float:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", default=[*STORES, *FAISS])
    parser.add_argument("--step", choices=("build", "search"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps({name: round(float(value), 4) for name, value in measure(args, args.kinds[0]).items()}))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if not (args.folder / "truth.npy").exists():
        np.save(args.folder / "truth.npy", truth(args))
    for kind in args.kinds:
        row = {"kind": kind, "rows": args.rows}
        for step in ("build", "search"):
            words = [sys.executable, __file__, str(args.folder), "--rows", str(args.rows), "--width", str(args.width),
                     "--queries", str(args.queries), "--kinds", kind, "--step", step]  # fmt: skip
            row |= json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        row["disk_GiB"] = round(_disk(args.folder / (kind if kind in FAISS else "store")), 3)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
