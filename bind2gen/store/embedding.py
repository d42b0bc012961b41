"""Files to rows of a store: read in this process or in others, encoded here, broken ones listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from ..errors import InputError
from ..imagebind.pace import Pace
from ..imagebind.workers import Piece, encoded
from .contract import FILM, Item
from .encoder import Encoder
from .reading import About, End, FileReader, Reading, Show
from .walking import Found, Skipped


class Embedded(NamedTuple):
    """What became of some files: how many there were, their rows, and what was left out."""

    files: int
    items: list[Item]
    skipped: list[Skipped]


class Row(NamedTuple):
    """One embedding of a file, (D,) on the CPU, before what is known of the file is put to it."""

    modality: str
    vector: torch.Tensor
    shown: Show


@dataclass
class _Chunk:
    """What has come of a chunk of files; rows by number of the file."""

    rows: dict[int, list[Row]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    spoiled: set[int] = field(default_factory=set)  # files of which the model made NaN

    def take(self, about: About, vectors: torch.Tensor, files: Sequence[Found]) -> None:
        for vector, shown in zip(vectors, about.rows, strict=True):
            if shown.file in self.spoiled:
                continue
            rows = self.rows.setdefault(shown.file, [])
            if bool(vector.isfinite().all()):
                rows.append(Row(about.modality, vector, shown))
                continue
            where = "it" if shown.start is None else f"{shown.start:g} to {shown.end:g} s"
            reason = f"{about.modality}: the model gives NaN or infinity for {where}"
            self.skipped.append(Skipped(files[shown.file].path, reason))
            self.spoiled.add(shown.file)
            self.without(shown.file, about.modality)

    def without(self, file: int, modality: str) -> None:
        """All of a recording's windows or none."""
        self.rows[file] = [row for row in self.rows.get(file, []) if row.modality != modality]


@dataclass(frozen=True)
class FileEmbedder(Reading):
    """Turns files into rows.

    Attributes:
        encoder: with the towers of ``modalities``.
    """

    encoder: Encoder

    def __post_init__(self) -> None:
        for modality in self.modalities:
            self.encoder.model.tower(modality)
        if {"depth", "thermal"} <= set(self.modalities):
            raise InputError("modalities: wanted depth or thermal, not both: a picture does not say which it is")

    def __call__(self, files: Sequence[Found]) -> Embedded:
        """Rows of some files; all rows of a file come together."""
        [found] = self.stream([files])
        return found

    def stream(
        self, chunks: Iterable[Sequence[Found]], *, workers: int = 0, pace: Pace | None = None
    ) -> Iterator[Embedded]:
        """Rows of chunks of files, of each as it is done.

        Args:
            workers: processes that read files; 0 reads in this one.
            pace: of this run, counted here.

        Raises:
            Bind2GenError: a worker died.
        """
        chunks, begun = list(chunks), dict[int, _Chunk]()
        pace = pace or Pace(self.encoder.model.device)
        device = None if workers else self.encoder.model.device
        reader = FileReader(self.encoder.processor, device, **self.said())
        parts = list(enumerate(chunks))
        for piece, vectors in encoded(reader, parts, self._encode, workers=workers, pace=pace):
            number = piece.about.chunk
            chunk, files = begun.setdefault(number, _Chunk()), chunks[number]
            if isinstance(piece.about, About):
                chunk.take(piece.about, vectors, files)
                continue
            pace.inputs += len(files)
            yield self._finished(begun.pop(number), files, piece.about)

    @torch.no_grad()
    def _encode(self, piece: Piece) -> torch.Tensor:
        if isinstance(piece.about, End):
            return torch.empty(0)
        model = self.encoder.model
        clips = piece.arrays["clips"].to(model.device, non_blocking=True)
        return model.encode(piece.about.modality, clips, clip_mask=piece.arrays.get("mask"))

    def _finished(self, chunk: _Chunk, files: Sequence[Found], end: End) -> Embedded:
        for file, modality in end.spoiled:
            chunk.without(file, modality)
        items = [
            Item(file.path, row.modality, row.vector.numpy(), row.shown.start, row.shown.end, file.size, file.mtime_ns,
                 row.shown.thumbnail)
            for number, file in enumerate(files) for found in [chunk.rows.get(number, [])]
            for row in (*found, *self._sums(found))
        ]  # fmt: skip
        return Embedded(len(files), items, end.skipped + chunk.skipped)

    def _sums(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Of a film the sums of pictures and sound over the same windows, where pictures lie."""
        sounds = [row for row in rows if row.modality == "audio"]
        if not sounds:
            return
        window = self.window or self.encoder.processor.audio.clip_duration
        starts = np.array([row.shown.start or 0.0 for row in sounds])
        for row in (row for row in rows if row.modality == "video"):
            nearest = int(np.abs(starts - (row.shown.start or 0.0)).argmin())
            if abs(starts[nearest] - (row.shown.start or 0.0)) <= window / 4:
                both = {"video": row.vector[None], "audio": sounds[nearest].vector[None]}
                yield row._replace(modality=FILM, vector=self.encoder.adapter(both, anchored=False)[0].cpu())
