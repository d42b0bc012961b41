"""Stores whose files a disk has damaged: one line, and nothing of Rust's on stderr, nor its end of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bind2gen.errors import StoreError
from bind2gen.store import EmbeddingStore, Item

pytest.importorskip("lancedb")
WIDTH = 8
# In a process of its own: where other threads might write on stderr, Rust is let alone, and pytest-xdist has some.
READ = """
import sys
from pathlib import Path
import numpy as np
from bind2gen.errors import StoreError
from bind2gen.store import EmbeddingStore

folder, file, places = sys.argv[1], Path(sys.argv[2]), range(*map(int, sys.argv[3:6]))
whole = file.read_bytes()
for place in places:
    file.write_bytes(whole[:place] + bytes([255 ^ whole[place]]) + whole[place + 1 :])
    try:
        with EmbeddingStore.open(folder) as store:
            print(len(store.search(np.eye(1, 8, dtype=np.float32)[0], 3)), len(store.files()))
    except StoreError as error:
        print("refused", error)
"""


@pytest.fixture
def file(tmp_path) -> Path:
    """The only data file of a store."""
    with EmbeddingStore.create(tmp_path / "store", width=WIDTH, model="toy") as store:
        rows = enumerate(np.eye(6, WIDTH, dtype=np.float32))
        store.add([Item(f"/a/{i}.wav", "audio", row, size=i, mtime_ns=i, thumbnail=b"x") for i, row in rows])
    [found] = (tmp_path / "store").rglob("data/*.lance")
    return found


def test_a_damaged_store_is_refused_in_one_line(file, tmp_path):
    order = [tmp_path / "store", file, 2, size := file.stat().st_size, 16]  # lengths within the pages among them
    told = subprocess.run([sys.executable, "-c", READ, *map(str, order)], capture_output=True, text=True, timeout=300)
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert len(lines) == len(range(2, size, 16))  # one each
    assert sum(line.startswith("refused") for line in lines) >= 10


def test_what_the_end_of_a_file_counts_is_held_against_its_length(file, tmp_path):
    """16 bytes of memory for each of four billion buffers end the process where there is no such memory."""
    whole = file.read_bytes()
    file.write_bytes(whole[:-16] + b"\xff\xff\xff\xff" + whole[-12:])
    with pytest.raises(StoreError, match=f"{file.name}: damaged: it says that it holds more than its {len(whole):,}"):
        EmbeddingStore.open(tmp_path / "store")
    file.with_name("left.lance").write_bytes(whole[:50])  # of a killed writer
    file.write_bytes(whole)
    with EmbeddingStore.open(tmp_path / "store") as store:
        assert len(store) == 6
