"""The engine that teams run: Milvus, on a server by its address, or in this process with its Lite engine in a file.

Chosen over Qdrant (1.20): its filters are texts, as LanceDB's are, so that ``where`` goes to the engine and nobody
parses it; and its engine for one process writes 6,000 rows a second, where Qdrant's local mode wrote 40.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DependencyError, StoreError
from ..modality import MODALITIES
from .contract import FILM, Facts, Item, Selection, engine_errors, listed, no_store

if TYPE_CHECKING:
    from pymilvus import MilvusClient

COLLECTION = "bind2gen"
FACTS = "bind2gen"  # property of the collection
SUFFIX = ".db"  # of a file of the Lite engine
TOKEN = "MILVUS_TOKEN"  # environment variable: "user:password" or a key of a server
PLAIN = ("path", "modality", "start", "end", "size", "mtime_ns")
LONGEST = {"key": 64, "path": 8192, "modality": 32, "thumbnail": 65_535}  # bytes; the last is Milvus's own limit
AT_A_TIME = 1000  # rows a message, of 64 MB at most
SHAPES: dict[str, dict[str, Any]] = {
    "exact": {"index_type": "FLAT"},
    "graph": {"index_type": "HNSW", "params": {"M": 24, "efConstruction": 200}},
    "ivf": {"index_type": "IVF_FLAT", "params": {"nlist": 1024}},
}
_clients: Counter[str] = Counter()  # of this process, by address
EFFORT = {"ef": 200, "nprobe": 40}  # candidates of a graph, partitions of an IVF index that are looked into


def is_milvus(address: str) -> bool:
    """Whether an address is a Milvus server's or a file of its Lite engine."""
    return address.startswith(("http://", "https://", "tcp://")) or address.endswith(SUFFIX)


class MilvusEngine:
    """One collection of a Milvus database.

    Args:
        address: ``http://host:19530``, or a path that ends in ``.db``.
        facts: of a new collection; None opens the one that is there.

    Raises:
        StoreError: there is none, there is one already, it is not ours, or another process holds the file.
        DependencyError: pymilvus is not installed.
    """

    def __init__(self, address: str, facts: Facts | None = None) -> None:
        self.address = address
        if (facts is None) != self.is_there(address):
            raise StoreError(f"{address}: {no_store(address) if facts is None else 'there is a store already'}")
        with engine_errors(address, "opening"):
            self._client = _connected(address)
            if facts is not None:
                self._create(facts)
            self._client.load_collection(COLLECTION)  # one that was opened anew is not in memory
            properties = self._client.describe_collection(COLLECTION)["properties"]
        self.facts = Facts.from_json(properties.get(FACTS, "null"), address)

    @staticmethod
    def is_there(address: str) -> bool:
        """Whether there is a collection of ours, of whatever version."""
        if "://" not in address and not Path(address).exists():
            return False
        with engine_errors(address, "opening"):
            client = _connected(address)
            try:
                return client.has_collection(COLLECTION)
            finally:
                _let_go(client, address)

    def _create(self, facts: Facts) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for name, longest in LONGEST.items():
            schema.add_field(name, DataType.VARCHAR, is_primary=name == "key", max_length=longest)
        for name in ("start", "end", "lot"):
            schema.add_field(name, DataType.DOUBLE, nullable=True)
        for name in ("size", "mtime_ns"):
            schema.add_field(name, DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=facts.width)
        properties = {FACTS: facts.to_json()}
        index = self._index("exact")
        self._client.create_collection(COLLECTION, schema=schema, index_params=index, properties=properties)

    def _index(self, kind: str) -> Any:
        params = self._client.prepare_index_params()
        params.add_index("vector", metric_type="COSINE", **SHAPES[kind])
        return params

    def count(self, chosen: Selection) -> int:
        with engine_errors(self.address, "searching", chosen.where):
            [row] = self._client.query(
                COLLECTION, filter=_where(chosen), output_fields=["count(*)"], consistency_level="Strong"
            )
            return row["count(*)"]

    def modalities(self) -> set[str]:
        return {name for name in (*MODALITIES, FILM) if self.count(Selection(name))}

    def files(self) -> dict[str, tuple[int, int] | None]:
        found: dict[str, tuple[int, int] | None] = {}
        with engine_errors(self.address, "reading"):
            for row in self._scan(Selection(), ["path", "size", "mtime_ns"]):
                state = (row["size"], row["mtime_ns"])
                found[row["path"]] = state if found.get(row["path"], state) == state else None
        return found

    def replace(self, items: Sequence[Item]) -> None:
        paths = dict.fromkeys(item.path for item in items)
        rows = [_row(item) for item in items]
        with engine_errors(self.address, "writing"):
            # Milvus has no transactions: rows of before go last, and a kill in between leaves both, which
            # :meth:`files` shows as a file to be read again.
            before = {row["key"] for row in self._scan(Selection(), ["key"], _in("path", paths))}
            for start in range(0, len(rows), AT_A_TIME):
                self._client.upsert(COLLECTION, rows[start : start + AT_A_TIME])
            if gone := before - {row["key"] for row in rows}:
                self._client.delete(COLLECTION, filter=_in("key", gone))

    def remove(self, paths: Collection[str]) -> None:
        with engine_errors(self.address, "writing"):
            self._client.delete(COLLECTION, filter=_in("path", paths))

    def nearest(self, query: np.ndarray, count: int, chosen: Selection, *, exact: bool) -> list[Item]:
        with engine_errors(self.address, "searching", chosen.where):
            if exact and self.is_indexed():
                raise StoreError(f"{self.address}: an exact search needs a collection without a graph or IVF index")
            [hits] = self._client.search(
                COLLECTION, [query.astype(np.float32)], limit=count, filter=_where(chosen),
                output_fields=[*PLAIN, "vector", "thumbnail"], consistency_level="Strong",
                search_params={"params": EFFORT | {"ef": max(EFFORT["ef"], count)}},
            )  # fmt: skip
            return [_item(hit["entity"]) for hit in hits]

    def rows(self, chosen: Selection, *, thumbnails: bool = False) -> list[Item]:
        columns = [*PLAIN, "vector", *(["thumbnail"] if thumbnails else [])]
        with engine_errors(self.address, "searching", chosen.where):
            return [_item(row) for row in self._scan(chosen, columns)]

    def is_indexed(self) -> bool:
        with engine_errors(self.address, "reading"):
            return self._client.describe_index(COLLECTION, "vector")["index_type"] != "FLAT"

    def build_index(self, kind: str) -> None:
        with engine_errors(self.address, "building the index"):
            self._client.release_collection(COLLECTION)
            self._client.drop_index(COLLECTION, "vector")
            self._client.create_index(COLLECTION, self._index(kind))
            self._client.load_collection(COLLECTION)

    def version(self) -> None:
        return None

    def tidy(self) -> None:
        """Milvus does so by itself."""

    def close(self) -> None:
        _let_go(self._client, self.address)

    def _scan(self, chosen: Selection, columns: list[str], expression: str | None = None) -> Iterator[dict]:
        wanted = _where(chosen) if expression is None else expression
        rows = self._client.query_iterator(
            COLLECTION, batch_size=AT_A_TIME, filter=wanted, output_fields=columns, consistency_level="Strong"
        )
        while batch := rows.next():
            yield from batch
        rows.close()


def _connected(address: str) -> MilvusClient:
    try:
        from pymilvus import MilvusClient
    except ImportError:
        raise DependencyError('a store on Milvus needs its client: pip install "bind2gen[milvus]"') from None
    for name in ("pymilvus", "milvus_lite", "grpc._server"):  # they log a traceback of each error that is raised too
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = MilvusClient(address, token=os.environ.get(TOKEN, ""))
    except Exception as error:  # noqa: BLE001  (its message does not say why)
        if "://" in address:
            raise
        advice = "another process has it open, or it is damaged; a Milvus server takes several"
        raise StoreError(f"{address}: cannot be opened as a Milvus file: {advice}") from error
    _clients[address] += 1
    return client


def _let_go(client: MilvusClient, address: str) -> None:
    """Close a client, and after the last of an address its Lite engine, so that other processes can open the file."""
    client.close()
    _clients[address] -= 1
    if not _clients[address] and "://" not in address:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(address)


def _where(chosen: Selection) -> str:
    return chosen.expression("==", _quoted, "[]")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _in(column: str, values: Collection[str]) -> str:
    return f"{column} in {listed(values, _quoted, '[]')}"


def _row(item: Item) -> dict[str, Any]:
    row = {name: getattr(item, name) for name in ("key", *PLAIN, "lot")}
    return row | {"vector": item.vector.astype(np.float32), "thumbnail": base64.b64encode(item.thumbnail).decode()}


def _item(row: dict[str, Any]) -> Item:
    plain = {name: row[name] for name in PLAIN}
    vector = np.asarray(row["vector"], np.float32)
    return Item(**plain, vector=vector, thumbnail=base64.b64decode(row.get("thumbnail", "")))
