"""Embeddings of files kept and searched: in LanceDB on one machine, in Milvus where a team runs it."""

from __future__ import annotations

from contextlib import suppress

from .contract import FILM, Facts, Item
from .places import Part
from .store import EmbeddingStore, Hit

with suppress(ImportError):  # where LanceDB is installed, its registry knows us after `import bind2gen.store`
    from . import registry as registry

__all__ = ["FILM", "EmbeddingStore", "Facts", "Hit", "Item", "Part"]
