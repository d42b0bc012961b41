"""A store on each engine, and rows to put in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bind2gen.store import EmbeddingStore, Item

WIDTH = 16
ENGINES = {"lance": "store", "milvus": "store.db"}  # -> name of the folder or file
PRINTS = {"vision": [0.5, -0.25], "audio": [1.0, 2.0]}


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address where nothing is yet."""
    return str(tmp_path / ENGINES[request.param])


@pytest.fixture
def store(place: str) -> EmbeddingStore:
    with EmbeddingStore.create(place, width=WIDTH, model="toy", fingerprint=PRINTS) as made:
        yield made


@pytest.fixture
def make_items() -> Callable[..., list[Item]]:
    """``count`` rows of different files in random directions."""

    def make(count: int, *, prefix: str = "/photos/", modality: str = "image", seed: int = 0) -> list[Item]:
        vectors = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return [
            Item(
                f"{prefix}{number}.png", modality, vector, size=number, mtime_ns=10**18 + number, thumbnail=b"\0web\xff"
            )
            for number, vector in enumerate(vectors)
        ]

    return make
