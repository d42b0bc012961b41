"""Indexing that is killed, again and again, and begun anew."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from bind2gen.store import EmbeddingStore

CHILD = """
import sys, time
import numpy as np
from bind2gen.store import EmbeddingStore, Item
from bind2gen.store import indexing
from bind2gen.store.embedding import Embedded
indexing.CHUNK, indexing.COMMIT_SECONDS = 3, 0.0

def embed(files):
    time.sleep(0.05)
    print("chunk", flush=True)
    vectors = [np.random.default_rng(file.size).standard_normal(8) for file in files]
    items = [Item(f.path, "image", (v / np.linalg.norm(v)).astype(np.float32), float(part), None, f.size, f.mtime_ns)
             for f, v in zip(files, vectors) for part in range(3)]
    return Embedded(len(files), items, [])

with EmbeddingStore.open(sys.argv[1]) as store:
    print(indexing.index_folders(store, [sys.argv[2]], indexing.locally(embed)).embedded)
"""


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_store(place, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(90):
        (folder / f"{number}").write_bytes(b"x" * (number + 1))
    EmbeddingStore.create(place, width=8).close()
    committed = 0
    for seed in range(2):
        child = subprocess.Popen([sys.executable, "-c", CHILD, place, folder], stdout=subprocess.PIPE)
        for _ in range(4):
            assert child.stdout.readline() == b"chunk\n"
        time.sleep(float(np.random.default_rng(seed).uniform(0, 0.3)))
        child.kill()
        child.wait()
        child.stdout.close()
        with EmbeddingStore.open(place) as store:
            there = {path for path, state in store.files().items() if state is not None}
            assert len(there) >= committed + 9 and len(there) < 90  # three of the chunks were committed, at least
            committed = len(there)
    done = subprocess.run([sys.executable, "-c", CHILD, place, folder], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) <= 90 - committed
    with EmbeddingStore.open(place) as store:
        assert len(store) == 270 and set(store.files()) == {str(path) for path in folder.iterdir()}
        assert store.files()[str(folder / "7")] == (8, (folder / "7").stat().st_mtime_ns)
