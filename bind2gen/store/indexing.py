"""Folders into a store: what is new or changed is embedded and committed as it goes; a kill loses the last seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from ..errors import Bind2GenError, InputError, StoreError
from .contract import Item
from .embedding import Embedded
from .store import EmbeddingStore
from .walking import Found, Skipped, walk

CHUNK = 64  # files that are embedded together
COMMIT_SECONDS = 5.0  # of work that a kill may lose
COMMIT_ROWS = 10_000  # 40 MB of 1024-wide embeddings in memory
INDEXED_FROM = 100_000  # rows from which a graph pays

Embed = Callable[[Iterator[list[Found]]], Generator[Embedded]]


@dataclass
class Report:
    """What a run did.

    Attributes:
        found: files in the folders. unchanged: of these, what the store had as they are. embedded: files read anew.
        rows: put into the store.
        skipped: left out, and why.
        gone: files of these folders that the store has and the folders no longer.
        pruned: whether their rows were taken out.
    """

    found: int = 0
    unchanged: int = 0
    embedded: int = 0
    rows: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    pruned: bool = False


def locally(embed: Callable[[Sequence[Found]], Embedded]) -> Embed:
    """In this process, one chunk after another."""
    return lambda chunks: (embed(chunk) for chunk in chunks)


def index_folders(
    store: EmbeddingStore,
    folders: Sequence[str],
    embed: Embed,
    *,
    prune: bool = False,
    started: Callable[[int], None] = lambda files: None,
    advanced: Callable[[Embedded], None] = lambda part: None,
) -> Report:
    """Bring a store up to date with the files in some folders.

    Args:
        embed: chunks of files to their rows, see :func:`locally` and :func:`~bind2gen.store.cluster.on_ray`.
        prune: take out rows of files that are gone; not of those in folders that could not be read.
        started: called with how many files are to be read. advanced: called after each chunk.

    Raises:
        InputError: one of the folders is not there.
        StoreError: another process is writing, or it cannot be written; what was committed is whole.
    """
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputError(f"{folder}: wanted a folder, there is none")
    with store.writing():
        report = Report(pruned=prune)
        known = store.files()
        todo, there = [], set()
        for one in walk(folders, leave_out=os.path.abspath(store.address)):
            there.add(one.path)
            if isinstance(one, Skipped):
                report.skipped.append(one)
            elif known.get(one.path) == (one.size, one.mtime_ns):
                report.unchanged += 1
            else:
                todo.append(one)
        report.found = report.unchanged + len(todo)
        report.gone = _gone(known, there, [os.path.abspath(folder) for folder in folders])
        started(len(todo))
        if todo:
            _embed_all(store, todo, embed, report, advanced)
        if prune:
            store.remove(report.gone)
        if report.rows or (prune and report.gone):
            store.tidy()
            if len(store) >= INDEXED_FROM and not store.is_indexed:
                store.build_index()
    return report


def _embed_all(
    store: EmbeddingStore, todo: list[Found], embed: Embed, report: Report, advanced: Callable[[Embedded], None]
) -> None:
    chunks = (todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK))
    waiting: list[Item] = []
    committed = time.monotonic()
    try:
        with closing(embed(chunks)) as parts:
            for part in parts:
                waiting += part.items
                report.skipped += part.skipped
                report.embedded += len({item.path for item in part.items})
                if len(waiting) >= COMMIT_ROWS or time.monotonic() - committed > COMMIT_SECONDS:
                    report.rows, waiting = report.rows + _committed(store, waiting), []
                    committed = time.monotonic()
                advanced(part)
    except (KeyboardInterrupt, Bind2GenError) as error:
        if not isinstance(error, StoreError):  # what it says would fail again
            _committed(store, waiting)
        raise
    report.rows += _committed(store, waiting)


def _committed(store: EmbeddingStore, items: list[Item]) -> int:
    store.add(items)
    return len(items)


def _gone(known: Iterable[str], there: set[str], folders: Sequence[str]) -> list[str]:
    """Files of the store under some folders that are not there, and not under what could not be read."""

    def below(path: str, places: Iterable[str]) -> bool:
        return any(path.startswith(os.path.join(place, "")) for place in places)

    missing = [path for path in known if path not in there and below(path, folders)]
    unread = [path for path in there if os.path.isdir(path)]  # skipped folders: their files may well be there
    return sorted(path for path in missing if not below(path, unread))
