"""What the engines of a store have in common: rows, facts about the whole, and the calls that a store is made of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from .. import __version__
from ..errors import Bind2GenError, InputError, StoreError
from ..files.parsed import parse_json

FORMAT = 1  # of the rows; a store of another one is refused
FILM = "film"  # the modality of a sum of pictures and sound track
LOTS = 1 << 32


@dataclass(frozen=True)
class Facts:
    """What holds for all rows of a store; kept in it.

    Attributes:
        width: D of the embeddings.
        model: label of the encoder, for messages.
        fingerprint: by tower, see :meth:`bind2gen.ImageBindModel.fingerprint`.
        settings: how files are indexed, plain JSON; the same in every run.
        source: what loads the encoder again (``model`` and ``imagebind`` of the command line).
        format: :data:`FORMAT` of the version that wrote it.
        bind2gen: that version.
    """

    width: int
    model: str = ""
    fingerprint: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    bind2gen: str = __version__

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Facts:
        """What :meth:`to_json` gave.

        Raises:
            StoreError: of another version, or damaged.
        """
        try:
            values = parse_json(text)
            version = values["format"], values.get("bind2gen", "unknown")
            known = {name: values[name] for name in (one.name for one in fields(cls)) if name in values}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{where}: no store of bind2gen, or damaged ({type(error).__name__}: {error})") from None
        if version[0] != FORMAT:
            raise StoreError(
                f"{where}: wanted a store of format {FORMAT}, this one is of format {version[0]!r} (bind2gen "
                f"{version[1]}); use that version, or index again into another place"
            )
        tables = all(isinstance(known.get(name, {}), dict) for name in ("fingerprint", "settings", "source"))
        prints = known.get("fingerprint", {}).values() if tables else ()
        if not tables or type(known.get("width")) is not int or known["width"] < 1 or not all(map(_is_print, prints)):
            raise StoreError(f"{where}: no store of bind2gen, or damaged: what it says of its rows makes no sense")
        return cls(**known)


def _is_print(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)


@dataclass(frozen=True, eq=False)
class Item:
    """One row: a whole file, or a window of one.

    Attributes:
        path: of the file.
        modality: of :data:`~bind2gen.MODALITIES`, or :data:`FILM`.
        vector: (D,) float32, unit norm.
        start, end: of the window in seconds; None where there is no time axis.
        size: bytes of the file. mtime_ns: when it was changed, in nanoseconds. Both from before it was read.
        thumbnail: a small picture of what the model saw, WebP; empty where there is none.
    """

    path: str
    modality: str
    vector: np.ndarray
    start: float | None = None
    end: float | None = None
    size: int = 0
    mtime_ns: int = 0
    thumbnail: bytes = b""

    @property
    def key(self) -> str:
        """The same for the same window of the same file: 128 bits in hexadecimal digits."""
        named = f"{self.path}\0{self.modality}\0{self.start}"
        return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def lot(self) -> float:
        """A number in 0..1 drawn by the key: a share of all rows is those under it."""
        return int(self.key[:8], 16) / LOTS


@dataclass(frozen=True)
class Selection:
    """Which rows a search looks at; all of these hold.

    Attributes:
        modality: None is any.
        where: an expression in the engine's own language; None is all.
        without: files that are left out.
        share: 0..1 of the rows, drawn by lot.
    """

    modality: str | None = None
    where: str | None = None
    without: Collection[str] = ()
    share: float = 1.0

    def expression(self, equals: str, quote: Callable[[str], str], brackets: str) -> str:
        """In the language of an engine that writes equality, texts and lists so; empty where all rows are meant."""
        parts = [f"({self.where})"] if self.where else []
        if self.modality is not None:
            parts.append(f"modality {equals} {quote(self.modality)}")
        if self.without:
            parts.append(f"path not in {listed(self.without, quote, brackets)}")
        if self.share < 1:
            parts.append(f"lot < {self.share:.9f}")
        return " and ".join(parts)


def listed(values: Collection[str], quote: Callable[[str], str], brackets: str) -> str:
    """Texts as a list in an engine's language."""
    return brackets[0] + ", ".join(map(quote, values)) + brackets[1]


class Engine(Protocol):
    """A database with one table of rows. Errors of its own come out as :class:`StoreError`."""

    address: str
    facts: Facts

    def count(self, chosen: Selection) -> int:
        """How many rows there are."""

    def modalities(self) -> set[str]:
        """Those that rows have."""

    def files(self) -> dict[str, tuple[int, int] | None]:
        """Path -> size and mtime_ns of all files; None where rows of one file disagree."""

    def replace(self, items: Sequence[Item]) -> None:
        """Put all rows of some files in place of those that were there."""

    def remove(self, paths: Collection[str]) -> None:
        """Take out all rows of some files."""

    def nearest(self, query: np.ndarray, count: int, chosen: Selection, *, exact: bool) -> list[Item]:
        """The rows of greatest cosine with ``query`` (D,) float32, unit norm; best first."""

    def rows(self, chosen: Selection, *, thumbnails: bool = False) -> list[Item]:
        """All rows chosen, in no order; without their thumbnails where these are not asked for."""

    def is_indexed(self) -> bool:
        """Whether there is one, so that nearest is approximate."""

    def build_index(self, kind: str) -> None:
        """Make nearest faster and approximate: ``"graph"`` or ``"ivf"``."""

    def version(self) -> object | None:
        """Another one after each change; None where the engine does not tell."""

    def tidy(self) -> None:
        """Merge small pieces and drop what is no longer needed; rows stay as they are."""

    def close(self) -> None:
        """Let go of files and connections."""


def no_store(address: str) -> str:
    """Why nothing can be opened there, and what to do."""
    return f"there is no store; `bind2gen index DIR --db {address}` makes one"


@contextmanager
def engine_errors(address: str, doing: str, where: str | None = None) -> Iterator[None]:
    """Turns what a database's client raises into one line.

    Args:
        doing: what was being done, for the message.
        where: the user's own expression in the question, which may be what is wrong.
    """
    try:
        yield
    except (Bind2GenError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (clients raise errors of many kinds, of Rust and of gRPC)
        reason = _reason(error)
        if where:
            raise InputError(f"where {where!r}: the store cannot answer that ({reason})") from error
        if "No space left" in reason:
            reason = "the disk is full; what was committed before is whole: make room and run again"
        raise StoreError(f"{address}: {doing} failed ({type(error).__name__}: {reason})") from error


CAUSES = {  # in what Rust's libraries say of a failure: the innermost that tells something -> as it is told
    r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>": r"\1: \2",
    "Failed to create temp dir": "it wants a folder for temporary files: name one that can be written to by TMPDIR",
    "BadScheme": "AWS_ALLOW_HTTP=true lets it go without encryption",
    "Failed to get AWS credentials": "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    r'(?:message|error): "([^"]*)"': r"\1",
}


def _reason(error: Exception) -> str:
    """In a line what a client's error comes down to."""
    text = " ".join(str(error).split())
    for pattern, told in CAUSES.items():
        if found := re.search(pattern, text):
            return found.expand(told)
    return text[:300]
