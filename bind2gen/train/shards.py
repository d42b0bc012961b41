"""Pairs in tar shards of WebDataset's kind: members that share the name before the first dot are one sample.

``000001.jpg`` with ``000001.wav`` (or ``.npy``, ``.csv`` ...); where both are pictures the modality stands before the
suffix, ``000001.depth.png``. Captions are ``000001.txt``, concepts ``000001.cls``; ``000001.json`` may hold
``concept``, ``split``, ``text`` and settings like ``depth.sensor``. Shards must not be compressed: samples are read
where they lie.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import EmptyInputError, InputError, UnreadableError
from ..files.atomic import written_whole
from ..files.parsed import parse_json
from ..modality import MODALITIES
from ..preprocess.sources import one_line
from .pairs import CSV_NAME, TRAIN_SPLIT, CsvPairs, Item, NamedBytes, PairSet, concept_group, front_settings

OPEN_SHARDS = 16  # whose tables of contents a process keeps
PICTURES = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "ppm", "tif", "tiff"))
SOUNDS = frozenset(("wav", "flac", "ogg", "opus", "mp3", "m4a", "aac"))
VIDEOS = frozenset(("mp4", "mkv", "webm", "avi", "mov"))
NOTES = {"txt": "text", "cls": "concept", "json": "json"}


@dataclass(frozen=True)
class Member:
    """Where a file lies in its shard."""

    name: str
    offset: int
    size: int


Parts = dict[str, Member]  # by modality, and "concept" and "json"


def role_of(suffix: str, modality: str) -> str | None:
    """What a member is, by what follows the first dot of its name: a modality, ``concept``, ``json`` or nothing known.

    Arrays, tables and other files that say nothing of themselves are the trained modality's.
    """
    parts = [part for part in suffix.lower().split(".") if part != "gz"]
    if len(parts) != 1:
        return parts[0] if parts and parts[0] in MODALITIES else None
    last = parts[0]
    if last in NOTES:
        return NOTES[last]
    if last in PICTURES:
        return "image"
    if last in SOUNDS:
        return "audio"
    if last in VIDEOS:
        return "video"
    return modality if modality != "audio" else None


def read_contents(shard: Path, modality: str) -> list[tuple[str, Parts]]:
    """Samples of one shard, in order, from its headers alone.

    Raises:
        UnreadableError: it is compressed, truncated or no tar.
    """
    samples: dict[str, Parts] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.removeprefix("./").rpartition("/")
                key, dot, suffix = base.partition(".")
                if not member.isfile() or not key or not dot:
                    continue
                role = role_of(suffix, modality)
                if role is None:
                    continue
                sample = samples.setdefault(f"{folder}/{key}" if folder else key, {})
                if role in sample:
                    raise UnreadableError(
                        f"{shard}: {sample[role].name} and {member.name} both look like {role}; say what the second is "
                        f"in its name, as in {key}.{modality}.{suffix}"
                    )
                sample[role] = Member(member.name, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise UnreadableError(
            f"{shard}: wanted a whole tar, not compressed; cannot read it ({one_line(error)})"
        ) from None
    return list(samples.items())


class ShardPairs(PairSet):
    """Samples of shards that have an input and an anchor, read one by one where they lie.

    Args:
        shards: tar files.
        modality, anchor: what a sample must have.
        split: which samples to take, by their ``.json``.
        by_concept: pairs of one concept belong together; without it, only copies of one sample do.
        buffer: a pass goes from shard to shard, each sample moved by less than this, as by a shuffle buffer.
        index: file to remember the shards' sample counts in, so that they are read through only once.

    Raises:
        UnreadableError, EmptyInputError: a shard cannot be read; no sample has both.
    """

    def __init__(
        self,
        shards: list[Path],
        modality: str,
        anchor: str,
        *,
        split: str = TRAIN_SPLIT,
        by_concept: bool = False,
        buffer: int = 10_000,
        index: Path | None = None,
    ) -> None:
        self.shards, self.modality, self.anchor = shards, modality, anchor
        self.split, self.by_concept, self.buffer = split, by_concept, buffer
        self._contents: OrderedDict[int, list[tuple[str, Parts]]] = OrderedDict()
        counts = self._counts(index)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        if not len(self):
            raise EmptyInputError(
                f"{shards[0].parent}: wanted samples with {anchor} and {modality} of split {split!r} in "
                f"{len(shards)} shards, found none"
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_contents": OrderedDict()}  # each worker process opens its own

    def groups(self) -> Iterator[int]:
        if not self.by_concept:
            yield from range(len(self))
            return
        for number, path in enumerate(self.shards):
            for key, sample in self._table(number):
                with suppress(InputError):  # read() tells of it
                    yield concept_group(self._notes(path, sample).get("concept"), key)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        shards = rng.permutation(len(self.shards))
        straight = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in shards])
        # The order of noisy places: two samples change places only where they are less than the buffer apart.
        return straight[np.argsort(np.arange(len(self)) + rng.uniform(0, self.buffer, len(self)), kind="stable")]

    def read(self, index: int) -> Item:
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        path = self.shards[shard]
        key, sample = self._table(shard)[index - self._starts[shard]]
        name = f"{path.name}/{sample[self.modality].name}"
        notes = self._notes(path, sample)
        anchor = notes.get("text", "") if self.anchor == "text" else self._bytes(path, sample["image"])
        group = concept_group(notes.get("concept"), name) if self.by_concept else index
        content = self._bytes(path, sample[self.modality])
        return Item(name, content, anchor, group, front_settings(notes, name))

    def _counts(self, index: Path | None) -> list[int]:
        known = _remembered(index) if index is not None and index.exists() else {}
        counts = {}
        for number, path in enumerate(self.shards):
            stat = path.stat()
            mark = f"{path.name} {stat.st_size} {stat.st_mtime_ns} {self.modality} {self.anchor} {self.split}"
            counts[mark] = known[mark] if mark in known else len(self._table(number))
        if index is not None and counts != known:
            with written_whole(index) as temporary:
                temporary.write_text(json.dumps(counts, indent=1))
        return list(counts.values())

    def _table(self, shard: int) -> list[tuple[str, Parts]]:
        """Samples of one shard that count; the last few shards' are kept."""
        if shard not in self._contents:
            path = self.shards[shard]
            whole = read_contents(path, self.modality)
            self._contents[shard] = [(key, sample) for key, sample in whole if self._counts_in(path, sample)]
            while len(self._contents) > OPEN_SHARDS:
                self._contents.popitem(last=False)
        self._contents.move_to_end(shard)
        return self._contents[shard]

    def _counts_in(self, path: Path, sample: Parts) -> bool:
        notes = self._notes(path, sample) if "json" in sample else {}
        captioned = self.anchor == "text" and notes.get("text")
        complete = self.modality in sample and (self.anchor in sample or captioned)
        return bool(complete) and (notes.get("split") or TRAIN_SPLIT) == self.split

    def _notes(self, path: Path, sample: Parts) -> dict:
        """What a sample's ``.json``, ``.txt`` and ``.cls`` say."""
        notes = {}
        if "json" in sample:
            try:
                notes = parse_json(self._bytes(path, sample["json"]).read())
                if not isinstance(notes, dict):
                    raise ValueError(f"wanted an object, got {type(notes).__name__}")
            except ValueError as error:
                where = f"{path.name}/{sample['json'].name}"
                raise UnreadableError(f"{where}: wanted JSON, cannot read it ({one_line(error)})") from None
        for role in ("text", "concept"):
            if role in sample:
                notes[role] = self._bytes(path, sample[role]).read().decode(errors="replace").strip()
        return notes

    def _bytes(self, path: Path, member: Member) -> NamedBytes:
        name = f"{path.name}/{member.name}"
        try:
            with open(path, "rb") as file:
                content = os.pread(file.fileno(), member.size, member.offset)
        except OSError as error:
            raise UnreadableError(f"{name}: cannot be read ({one_line(error.strerror)})") from None
        if len(content) != member.size:
            raise UnreadableError(f"{name}: the shard ends within this file")
        return NamedBytes(content, name)


def _remembered(index: Path) -> dict[str, int]:
    """The counts that an earlier run wrote; those of a damaged file are counted again."""
    try:
        found = parse_json(index.read_bytes())
    except ValueError:
        return {}
    return {mark: count for mark, count in found.items() if type(count) is int} if isinstance(found, dict) else {}


def open_pairs(
    data: Path, modality: str, anchor: str, *, split: str, by_concept: bool, buffer: int, index: Path | None = None
) -> PairSet:
    """The pairs of a folder: ``pairs.csv`` if it has one, else its ``*.tar`` shards. A csv's own path is taken too.

    Raises:
        InputError: the folder has neither; or what is there cannot be used.
    """
    if data.is_file():
        return CsvPairs(data, modality, anchor, split=split, by_concept=by_concept)
    if (data / CSV_NAME).is_file():
        return CsvPairs(data / CSV_NAME, modality, anchor, split=split, by_concept=by_concept)
    if shards := sorted(data.glob("*.tar")):
        return ShardPairs(shards, modality, anchor, split=split, by_concept=by_concept, buffer=buffer, index=index)
    raise UnreadableError(
        f"{data}: wanted a folder with {CSV_NAME} (columns {anchor} and {modality}) or with *.tar shards, found neither"
    )
