"""Files to rows of a store: recognised, read in batches, long recordings window by window, broken ones listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import InputError, UnreadableError
from ..imagebind.processor import ImageBindProcessor
from ..imagebind.timeline import stream_windows
from ..modality import MODALITIES, clip_mask_key
from ..preprocess.imu import Stated
from .contents import Content, recognise
from .contract import FILM, Item
from .encoder import Encoder
from .thumbnails import thumbnail
from .walking import Found, Skipped

DEFAULT_MODALITIES = ("image", "audio", "video")
LONG = 2  # windows; a longer recording has one row a window, a shorter one a single row
KINDS = {  # of content -> what it can be indexed as, the first that is asked for
    "picture": ("image", "thermal", "depth"), "measured": ("depth", "thermal", "image"),
    "table": ("imu",), "words": ("text",), "sound": ("audio",),
}  # fmt: skip


class Embedded(NamedTuple):
    """What became of some files: how many there were, their rows, and what was left out."""

    files: int
    items: list[Item]
    skipped: list[Skipped]


class Row(NamedTuple):
    """One embedding of a file, (D,) on the CPU, before what is known of the file is put to it."""

    modality: str
    vector: torch.Tensor
    start: float | None
    end: float | None
    thumbnail: bytes


def _plain(modality: str, path: str, processor: ImageBindProcessor) -> Any:
    return path


@dataclass(frozen=True)
class FileEmbedder:
    """Turns files into rows.

    Attributes:
        encoder: with the towers of ``modalities``.
        modalities: as what files are indexed. Of depth and thermal one at most: pictures do not say which they are.
        window, hop: s, of long recordings; None is the model's clip of sound, and half of the window.
        batch_size: inputs at a time.
        load: modality, path and processor to what the processor takes; for options of sensors.
        stated: what is said of motion files.
    """

    encoder: Encoder
    modalities: Sequence[str] = DEFAULT_MODALITIES
    window: float | None = None
    hop: float | None = None
    batch_size: int = 16
    load: Callable[[str, str, ImageBindProcessor], Any] = _plain
    stated: Stated | None = None

    def __post_init__(self) -> None:
        for modality in self.modalities:
            self.encoder.model.tower(modality)
        if {"depth", "thermal"} <= set(self.modalities):
            raise InputError("modalities: wanted depth or thermal, not both: a picture does not say which it is")

    @property
    def seconds(self) -> float:
        """Of a window."""
        return self.window or self.encoder.processor.audio.clip_duration

    def __call__(self, files: Sequence[Found]) -> Embedded:
        """Rows of some files; all rows of a file come together."""
        skipped: list[Skipped] = []
        rows: dict[Found, list[Row]] = {file: [] for file in files}
        whole: dict[str, list[tuple[Found, Content]]] = defaultdict(list)
        for file in files:
            try:
                content = recognise(file.path)
                for modality in self._asked(content):
                    if modality == "imu" or self._is_long(content):
                        rows[file] += list(self._windows(modality, file.path))  # all of it or nothing
                    else:
                        whole[modality].append((file, content))
            except InputError as error:
                skipped.append(Skipped(file.path, str(error)))
        for modality, members in whole.items():
            for start in range(0, len(members), self.batch_size):
                self._whole(modality, members[start : start + self.batch_size], rows, skipped)
        items = [
            Item(file.path, row.modality, row.vector.numpy(), row.start, row.end, file.size, file.mtime_ns,
                 row.thumbnail)
            for file, found in rows.items() for row in (*found, *self._sums(found))
        ]  # fmt: skip
        return Embedded(len(files), items, skipped)

    def _asked(self, content: Content) -> list[str]:
        """As what a file is to be embedded."""
        if content.kind == "film":
            return [name for name, there in (("video", True), ("audio", content.sound)) if there and
                    name in self.modalities]  # fmt: skip
        return [name for name in KINDS.get(content.kind, ()) if name in self.modalities][:1]

    def _is_long(self, content: Content) -> bool:
        played = content.kind in ("film", "sound")
        return played and (content.seconds is None or content.seconds > LONG * self.seconds)

    def _whole(
        self, modality: str, members: Sequence[tuple[Found, Content]], rows: dict[Found, list[Row]],
        skipped: list[Skipped],
    ) -> None:  # fmt: skip
        """Embed files of one modality in one batch, or each alone where one of them is broken."""
        try:
            found = self._batch(modality, members)
        except InputError as error:
            if len(members) == 1:
                skipped.append(Skipped(members[0][0].path, str(error)))
            else:
                for member in members:
                    self._whole(modality, [member], rows, skipped)
            return
        for (file, _), row in zip(members, found, strict=True):
            if bool(row.vector.isfinite().all()):
                rows[file].append(row)
            else:
                skipped.append(Skipped(file.path, f"{modality}: the model gives NaN or infinity for it"))

    def _batch(self, modality: str, members: Sequence[tuple[Found, Content]]) -> list[Row]:
        model, processor, kind = self.encoder.model, self.encoder.processor, MODALITIES[modality]
        raws = [
            _words(file.path) if modality == "text" else self.load(modality, file.path, processor)
            for file, _ in members
        ]
        features = processor(**{modality: raws}, device=model.device)
        clips = features[kind.input_key]  # (B, S, *sample)
        with torch.no_grad():
            vectors = model.encode(modality, clips, clip_mask=features.get(clip_mask_key(kind))).cpu()
        return [
            Row(modality, vector, None if content.seconds is None else 0.0, content.seconds,
                thumbnail(modality, sample, processor))
            for vector, sample, (_, content) in zip(vectors, clips, members, strict=True)
        ]  # fmt: skip

    def _windows(self, modality: str, path: str) -> Iterator[Row]:
        """One row a window of a long recording, while it is being read."""
        model, processor = self.encoder.model, self.encoder.processor
        window = self.window if modality == "imu" else self.seconds
        hop = self.hop if modality == "imu" or self.hop else self.seconds / 2
        batches = stream_windows(
            path, modality, processor, window=window, hop=hop, batch_size=self.batch_size, stated=self.stated
        )
        for times, clips in batches:
            with torch.no_grad():
                vectors = model.encode(modality, clips.to(model.device)).cpu()
            for (start, end), vector, sample in zip(times.tolist(), vectors, clips, strict=True):
                if not bool(vector.isfinite().all()):
                    raise InputError(f"{modality}: the model gives NaN or infinity for {start:g} to {end:g} s")
                yield Row(modality, vector, start, end, thumbnail(modality, sample, processor))

    def _sums(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Of a film the sums of pictures and sound over the same windows, where pictures lie."""
        sounds = [row for row in rows if row.modality == "audio"]
        if not sounds:
            return
        starts = np.array([row.start or 0.0 for row in sounds])
        for row in (row for row in rows if row.modality == "video"):
            nearest = int(np.abs(starts - (row.start or 0.0)).argmin())
            if abs(starts[nearest] - (row.start or 0.0)) <= self.seconds / 4:
                both = {"video": row.vector[None], "audio": sounds[nearest].vector[None]}
                yield row._replace(modality=FILM, vector=self.encoder.adapter(both, anchored=False)[0].cpu())


def _words(path: str) -> str:
    """What a text file says."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: wanted a text in UTF-8, cannot read it ({error})") from None
