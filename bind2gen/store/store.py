"""A store of embeddings of files: added, searched and removed by the same calls whatever keeps the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import InputError, NonFiniteError, ShapeError, StoreError
from ..imagebind.model import same_towers
from ..space.arithmetic import Embeds, blend
from .contract import Engine, Facts, Item, Selection
from .gallery import Galleries
from .lance import LanceEngine
from .milvus import MilvusEngine, is_milvus
from .places import Part, moved

if TYPE_CHECKING:
    from ..space.adapter import EmbeddingAdapter
    from .relevance import Relevance

LOCK_SUFFIX = ".lock"
UNIT = 1e-3  # how far from 1 a row's length may be


@dataclass(frozen=True, eq=False)
class Hit:
    """What a search found.

    Attributes:
        item: the row, with its thumbnail.
        score: cosine with the query, -1..1, where the row's modality lies.
        probability: 0..1 that it shows what the query is of; None where nothing was measured of such a pair.
    """

    item: Item
    score: float
    probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: path, modality, score, start and end in seconds or None, probability where it is known."""
        item = self.item
        told = {"path": item.path, "modality": item.modality, "score": round(self.score, 4)}
        told |= {"start": item.start, "end": item.end}
        return told if self.probability is None else told | {"probability": round(self.probability, 3)}


class EmbeddingStore:
    """Embeddings of files in a database. :class:`bind2gen.EmbeddingIndex` is the same in memory, without files.

    Made by :meth:`create` or :meth:`open`; ``with`` closes it.

    Attributes:
        facts: width, model and how its files are indexed.
        address: where it is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.facts, self.address = engine.facts, engine.address
        self._galleries = Galleries(engine)

    @classmethod
    def create(
        cls,
        address: str | Path,
        *,
        width: int,
        model: str = "",
        fingerprint: Mapping[str, Sequence[float]] | None = None,
        settings: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> Self:
        """A new store.

        Args:
            address: a folder or an object store's address for LanceDB, a file ending in ``.db`` or
                ``http://host:port`` for Milvus.
            width, model, fingerprint, settings, source: see :class:`Facts`.

        Raises:
            StoreError: there is one already, or the place cannot be written to.
            DependencyError: the engine is not installed.
        """
        facts = Facts(width, model, dict(fingerprint or {}), dict(settings or {}), dict(source or {}))
        return cls(_engine(address)(str(address), facts))

    @classmethod
    def open(
        cls, address: str | Path, *, fingerprint: Mapping[str, Sequence[float]] | None = None, model: str = ""
    ) -> Self:
        """One that is there.

        Args:
            address: as of :meth:`create`.
            fingerprint: of the encoder that is to be used with it; None is not checked.
            model: its label, for the message.

        Raises:
            StoreError: there is none, it is another version's, or another model's: spaces do not mix.
            DependencyError: the engine is not installed.
        """
        store = cls(_engine(address)(str(address)))
        same = same_towers(store.facts.fingerprint, fingerprint or {})
        if fingerprint is not None and not (same and all(same)):
            store.close()
            raise StoreError(
                f"{address}: made by another model ({store.facts.model or 'unknown'}) than {model or 'this one'}, and "
                "spaces do not mix: use that model, or index into another store"
            )
        return store

    def __len__(self) -> int:
        """Rows: a file has several where it is long or a film."""
        return self._engine.count(Selection())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and connections."""
        self._engine.close()

    def count(self, *, modality: str | None = None, where: str | None = None) -> int:
        """Rows of a modality, or of an expression in the engine's language."""
        return self._engine.count(Selection(modality, where))

    def files(self) -> dict[str, tuple[int, int] | None]:
        """Path -> size in bytes and time of change in ns, as they were when it was embedded; None: to be done again."""
        return self._engine.files()

    def add(self, items: Sequence[Item]) -> None:
        """Put rows of whole files in; rows of these files that were there go. One commit: all of it or nothing.

        Raises:
            ShapeError: a vector of another width or not of unit length. NonFiniteError: NaN or infinity in it.
            StoreError: it cannot be written (full disk); what was committed before is whole.
        """
        for item in items:
            where, vector = f"{item.path}: {item.modality}", np.asarray(item.vector)
            if vector.shape != (self.facts.width,):
                raise ShapeError(f"{where}: wanted an embedding ({self.facts.width},), got {vector.shape}")
            if not np.isfinite(vector).all():
                raise NonFiniteError(f"{where}: wanted a finite embedding, found NaN or infinity")
            if abs(float(np.linalg.norm(vector)) - 1) > UNIT:
                raise ShapeError(f"{where}: wanted unit length, got {np.linalg.norm(vector):.4g}")
        if items:
            with self.writing(timeout=-1):
                self._engine.replace(items)

    def remove(self, paths: Collection[str]) -> None:
        """Take all rows of some files out."""
        if paths:
            with self.writing(timeout=-1):
                self._engine.remove(paths)

    @property
    def is_indexed(self) -> bool:
        """Whether :meth:`build_index` was called, so that searches are approximate."""
        return self._engine.is_indexed()

    def build_index(self, kind: str = "graph") -> None:
        """Make searches of many rows faster, and approximate: a graph, or ``"ivf"`` (smaller, built faster).

        Some thousands of rows at least; below a hundred thousand the exact search is fast enough.
        """
        if kind not in ("graph", "ivf"):
            raise InputError(f"build_index: wanted 'graph' or 'ivf', got {kind!r}")
        with self.writing(timeout=-1):
            self._engine.build_index(kind)

    def tidy(self) -> None:
        """Merge small pieces, bring the index up to date, drop versions older than an hour; rows stay as they are."""
        with self.writing(timeout=-1):
            self._engine.tidy()

    @contextmanager
    def writing(self, timeout: float = 0) -> Iterator[None]:
        """Within the block no other process of this machine writes; of servers and object stores anybody may.

        Args:
            timeout: seconds to wait for another writer; -1 for ever.

        Raises:
            StoreError: there is another one.
        """
        if "://" in self.address:
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(
            self.address.rstrip("/") + LOCK_SUFFIX, is_singleton=True
        )  # of a killed writer the system frees
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise StoreError(f"{self.address}: another process is writing to it; try again when it is done") from None
        except OSError as error:
            raise StoreError(f"{self.address}: cannot be written to ({error.strerror or error})") from None
        try:
            yield
        finally:
            lock.release()

    def search(
        self,
        query: Embeds | Sequence[Part],
        count: int = 10,
        *,
        modality: str | None = None,
        where: str | None = None,
        without: Collection[str] = (),
        adapter: EmbeddingAdapter | None = None,
        relevance: Relevance | None = None,
        diversity: float = 0.0,
        whiten: bool | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Find the rows that are nearest to a query, best first.

        Args:
            query: (D,) that lies where the rows lie, or the parts of a sum, which ``adapter`` moves there.
            count: at most; fewer where there are fewer.
            modality: to look among; None is all that there are, each with the query moved to where it lies.
            where: an expression in the engine's own language (SQL of LanceDB, Milvus' own), over path, modality,
                start, end, size and mtime_ns.
            without: files that are not to be found, such as the query's own.
            adapter: of the model, over the modality gap.
            relevance: of the model, for the probabilities of hits.
            diversity, whiten: as of :class:`bind2gen.EmbeddingIndex`; ``whiten`` is by default done where diversity is
                above 0. A store of more rows than :data:`~bind2gen.store.gallery.GALLERY` is whitened by so many drawn
                by lot, and what is found is chosen from the :data:`~bind2gen.space.index.CANDIDATES` that are nearest
                to the sum and to each of its parts.
            exact: compare with every row, though there is an index.

        Raises:
            InputError: ``where`` is not understood, or a number is out of range. ShapeError: another width.
            StoreError: it cannot be read.
        """
        parts = [Part(None, query)] if isinstance(query, Embeds) else list(query)
        if count < 1 or not parts:
            raise InputError(f"search: wanted a query and 1 or more rows, got {len(parts)} parts and {count} rows")
        for part in parts:
            if tuple(np.shape(part.vector)) != (self.facts.width,):
                raise ShapeError(f"query: wanted ({self.facts.width},), got {tuple(np.shape(part.vector))}")
        names = self._galleries.modalities()
        wanted = names if modality is None else [modality]
        hits = [
            hit
            for name in wanted
            for hit in self._found(
                parts, count, name, Selection(None if names == [name] else name, where, tuple(without)),
                adapter=adapter, relevance=relevance, diversity=diversity, whiten=whiten, exact=exact,
            )
        ]  # fmt: skip
        return hits if len(wanted) == 1 else sorted(hits, key=_worth, reverse=True)[:count]

    def _found(
        self, parts: list[Part], count: int, name: str, chosen: Selection, *, adapter: EmbeddingAdapter | None,
        relevance: Relevance | None, diversity: float, whiten: bool | None, exact: bool,
    ) -> list[Hit]:  # fmt: skip
        """Of one modality."""
        vectors, weights = [moved(part, name, adapter) for part in parts], [part.weight for part in parts]
        query = blend(vectors, weights).numpy()
        whiten = bool(diversity) if whiten is None else whiten
        if diversity or whiten:
            found = self._galleries.varied(vectors, weights, count, chosen, diversity=diversity, whiten=whiten)
        else:
            found = self._engine.nearest(query, count, chosen, exact=exact)
        scores = [float(item.vector @ query) for item in found]
        kind = (parts[0].modality or name, name) if len(parts) == 1 else None
        told = [relevance.probability(*kind, score) if relevance and kind else None for score in scores]
        return [Hit(*row) for row in zip(found, scores, told, strict=True)]


def _engine(address: str | Path) -> type[LanceEngine] | type[MilvusEngine]:
    return MilvusEngine if is_milvus(str(address)) else LanceEngine


def is_there(address: str | Path) -> bool:
    """Whether there is a store at an address, of whatever version or model.

    Raises:
        StoreError: the place cannot be asked.
    """
    address = str(address)
    return _engine(address).is_there(address)


def _worth(hit: Hit) -> tuple[float, float]:
    return (hit.score if hit.probability is None else hit.probability), hit.score
