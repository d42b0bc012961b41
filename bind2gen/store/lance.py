"""The engine for one machine and for object stores: LanceDB, a table of files that are written once and never changed.

Each change is one commit that is there or not: a killed writer leaves files that no commit names, and readers see the
table as it was before.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from threading import Thread, current_thread
from threading import enumerate as enumerate_threads
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DependencyError, StoreError
from ..preprocess.muted import muted
from .contract import Facts, Item, Selection, engine_errors, listed, no_store

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import DBConnection

TABLE = "bind2gen"
FACTS = b"bind2gen"  # key in the schema's metadata
REGISTERED = "bind2gen"  # registry.NAME, which imports LanceDB
ANSWER = 30  # s that an object store has to say which tables it holds
KEPT_FOR = timedelta(hours=1)  # old versions, for those who still read them
PLAIN = ("path", "modality", "start", "end", "size", "mtime_ns")  # columns of an item as they are
GRAPH_EFFORT = 200  # candidates that a search of the graph keeps
PROBES = 40  # partitions that a search looks into
# The end of a file of Lance: where the columns' metadata begins, its table, that of the global buffers; how many
# buffers and columns, of an entry each; the version. As the documentation of Lance's file format has it.
END, ENTRY, MAGIC, VERSION = struct.Struct("<3Q2I2H4s"), 16, b"LANC", [0, 3]
SILENT = ("LanceDBBackgroundEventLoop", "tqdm_monitor")  # threads of libraries, which write nothing by themselves
REFINE = 10  # times as many rows are compared by their whole vectors as were asked for


class LanceEngine:
    """A LanceDB database with one table.

    Args:
        address: a folder, or what LanceDB connects to (``s3://bucket/path``).
        facts: of a new table; None opens the one that is there.

    Raises:
        StoreError: there is none, there is one already, or it is not ours.
        DependencyError: LanceDB is not installed.
    """

    def __init__(self, address: str, facts: Facts | None = None) -> None:
        self.address = address
        if (facts is None) != self.is_there(address):
            raise StoreError(f"{address}: {no_store(address) if facts is None else 'there is a store already'}")
        with engine_errors(address, "opening"):
            _refuse_damaged(Path(address, f"{TABLE}.lance"))
        with engine_errors(address, "opening"), muted():  # Rust prints of a damaged table where it fell over
            database = _connected(address)
            self._table = (
                database.open_table(TABLE) if facts is None else database.create_table(TABLE, schema=_schema(facts))
            )
            metadata = self._table.schema.metadata or {}
        self.facts = Facts.from_json(metadata.get(FACTS, b"null"), address)

    @staticmethod
    def is_there(address: str) -> bool:
        """Whether there is a table of ours, of whatever version."""
        if "://" not in address and not Path(address).is_dir():
            if Path(address).exists():
                raise StoreError(f"{address}: wanted a folder for the store, this is a file")
            return False
        with engine_errors(address, "opening"):
            return TABLE in _tables(address)

    def count(self, chosen: Selection) -> int:
        with _without_panics(self.address, "searching", chosen.where):
            return self._table.count_rows(_where(chosen))

    def modalities(self) -> set[str]:
        with _without_panics(self.address, "reading"):
            return set(self._scan(Selection(), ["modality"])["modality"].unique().to_pylist())

    def files(self) -> dict[str, tuple[int, int] | None]:
        with _without_panics(self.address, "reading"):
            rows = self._scan(Selection(), ["path", "size", "mtime_ns"]).group_by(["path", "size", "mtime_ns"])
            found: dict[str, tuple[int, int] | None] = {}
            for row in rows.aggregate([]).to_pylist():
                found[row["path"]] = None if row["path"] in found else (row["size"], row["mtime_ns"])
        return found

    def replace(self, items: Sequence[Item]) -> None:
        paths = dict.fromkeys(item.path for item in items)
        with _without_panics(self.address, "writing"):
            merge = self._table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(f"path in {listed(paths, _quoted, '()')}")
            merge.execute(_table(items, self.facts))

    def remove(self, paths: Collection[str]) -> None:
        with _without_panics(self.address, "writing"):
            self._table.delete(f"path in {listed(paths, _quoted, '()')}")

    def nearest(self, query: np.ndarray, count: int, chosen: Selection, *, exact: bool) -> list[Item]:
        with _without_panics(self.address, "searching", chosen.where):
            search = self._table.search(query, vector_column_name="vector").distance_type("cosine").limit(count)
            if expression := _where(chosen):
                search = search.where(expression, prefilter=True)
            search = search.bypass_vector_index() if exact else search.nprobes(PROBES).ef(max(GRAPH_EFFORT, count))
            if not exact:
                search = search.refine_factor(REFINE if count < GRAPH_EFFORT else 1)
            return _items(search.select([*PLAIN, "vector", "thumbnail", "_distance"]).to_arrow())

    def rows(self, chosen: Selection, *, thumbnails: bool = False) -> list[Item]:
        with _without_panics(self.address, "searching", chosen.where):
            return _items(self._scan(chosen, [*PLAIN, "vector", *(["thumbnail"] if thumbnails else [])]))

    def is_indexed(self) -> bool:
        with _without_panics(self.address, "reading"):
            return any("vector" in index.columns for index in self._table.list_indices())

    def build_index(self, kind: str) -> None:
        from lancedb.index import HnswSq, IvfPq

        shapes = {"graph": HnswSq(distance_type="cosine"), "ivf": IvfPq(distance_type="cosine")}
        with engine_errors(self.address, "building the index"):
            self._table.create_index("vector", config=shapes[kind])

    def version(self) -> int:
        with _without_panics(self.address, "reading"):
            return self._table.version

    def tidy(self) -> None:
        with engine_errors(self.address, "tidying up"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Under the store's lock nobody else is in the middle of a commit: what a killed writer left may go as well.
            self._table.optimize(cleanup_older_than=KEPT_FOR, delete_unverified="://" not in self.address)

    def close(self) -> None:
        """Nothing is held open."""

    def _scan(self, chosen: Selection, columns: list[str]) -> pa.Table:
        scan = self._table.search().select(columns)
        if expression := _where(chosen):
            scan = scan.where(expression)
        return scan.to_arrow()


def _refuse_damaged(table: Path) -> None:
    """Do nothing with files whose ends may be true.

    Of a buffer or column that is counted there Rust takes memory before it looks, and ends the process if there is
    not as much. What a killed writer left has no such end yet.

    Raises:
        StoreError: the tables of a file lie outside it.
    """
    for path in chain(table.glob("data/*"), table.glob("_indices/*/*")):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END.size))
            end = file.read()
        if len(end) < END.size or not end.endswith(MAGIC):
            continue
        _, columns, buffers, num_buffers, num_columns, *version, _ = END.unpack(end)
        if version >= VERSION and max(columns + ENTRY * num_columns, buffers + ENTRY * num_buffers) > size - END.size:
            raise StoreError(f"{path}: damaged: it says that it holds more than its {size:,} bytes; restore the file")


@contextmanager
def _without_panics(address: str, doing: str, where: str | None = None) -> Iterator[None]:
    """:func:`engine_errors`; where a damaged file fails, Rust's words on stderr are left out, for the error has them.

    Not where other threads may write there meanwhile or search at the same time, as in a demo.
    """
    with engine_errors(address, doing, where):
        if any(thread is not current_thread() and thread.name not in SILENT for thread in enumerate_threads()):
            yield
            return
        with muted() as said:
            yield
        for line in said:
            print(line, file=sys.stderr)


def _tables(address: str) -> list[str]:
    """Asked for from a thread of its own, which may be left behind: no setting of Lance's bounds the time it takes."""
    answer: Future[list[str]] = Future()

    def ask() -> None:
        try:
            answer.set_result(_connected(address).list_tables().tables)
        except BaseException as error:  # noqa: BLE001  (it is raised where the answer is waited for)
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(ANSWER)
    except TimeoutError:
        if answer.done():
            raise  # Lance's own
        raise StoreError(f"{address}: no answer within {ANSWER} s; mind the address, and AWS_ENDPOINT_URL") from None


def _connected(address: str) -> DBConnection:
    try:
        import lancedb
    except ImportError:
        raise DependencyError('a store needs LanceDB: pip install "bind2gen[lancedb]"') from None
    from . import registry  # noqa: F401  (tables name our embedding function, which must be registered)

    return lancedb.connect(address, read_consistency_interval=timedelta(0))  # 0: others' commits are seen at once


def _where(chosen: Selection) -> str | None:
    return chosen.expression("=", _quoted, "()") or None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _schema(facts: Facts) -> pa.Schema:
    import pyarrow as pa

    columns = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("lot", pa.float64()),
        pa.field("thumbnail", pa.binary()),
        pa.field("vector", pa.list_(pa.float32(), facts.width)),
    ]
    # So LanceDB itself embeds what its own `table.search("a dog")` is given.
    ours = {"name": REGISTERED, "model": dict(facts.source), "source_column": "path", "vector_column": "vector"}
    return pa.schema(columns, {FACTS: facts.to_json(), b"embedding_functions": json.dumps([ours])})


def _table(items: Sequence[Item], facts: Facts) -> pa.Table:
    import pyarrow as pa

    vectors = np.stack([item.vector for item in items]).astype(np.float32)
    columns = {name: [getattr(item, name) for item in items] for name in ("key", *PLAIN, "lot", "thumbnail")}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), facts.width)
    return pa.table(columns, schema=_schema(facts))


def _items(table: pa.Table) -> list[Item]:
    """Rows as items; vectors as views of one array."""
    width = table.schema.field("vector").type.list_size
    column = table["vector"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    plain = table.select([name for name in (*PLAIN, "thumbnail") if name in table.column_names]).to_pylist()
    return [Item(**row, vector=vector) for row, vector in zip(plain, vectors, strict=True)]
