"""Files of a store to what the model takes: recognised, read in batches, long recordings window by window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import InputError, UnreadableError
from ..imagebind.processor import ImageBindProcessor
from ..imagebind.timeline import stream_windows
from ..imagebind.workers import Piece
from ..modality import MODALITIES, clip_mask_key
from ..preprocess.imu import Stated
from .contents import Content, recognise
from .thumbnails import thumbnail
from .walking import Found, Skipped

DEFAULT_MODALITIES = ("image", "audio", "video")
LONG = 2  # windows; a longer recording has one row a window, a shorter one a single row
KINDS = {  # of content -> what it can be indexed as, the first that is asked for
    "picture": ("image", "thermal", "depth"), "measured": ("depth", "thermal", "image"),
    "table": ("imu",), "words": ("text",), "sound": ("audio",),
}  # fmt: skip


class Show(NamedTuple):
    """Of one embedding to be: number of its file in the chunk, seconds where there are any, a small picture."""

    file: int
    start: float | None
    end: float | None
    thumbnail: bytes


class About(NamedTuple):
    """Of a piece: number of its chunk, modality, and its rows."""

    chunk: int
    modality: str
    rows: list[Show]


class End(NamedTuple):
    """After a chunk's last piece: what was left out, and whose windows do not count: (number of file, modality)."""

    chunk: int
    skipped: list[Skipped]
    spoiled: list[tuple[int, str]]


def plain(modality: str, path: str, processor: ImageBindProcessor) -> Any:
    return path


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        modalities: as what files are indexed. Of depth and thermal one at most: pictures do not say which they are.
        window, hop: s, of long recordings; None is the model's clip of sound, and half of the window.
        batch_size: inputs at a time.
        load: modality, path and processor to what the processor takes; for options of sensors.
        stated: what is said of motion files.
    """

    modalities: Sequence[str] = DEFAULT_MODALITIES
    window: float | None = None
    hop: float | None = None
    batch_size: int = 16
    load: Callable[[str, str, ImageBindProcessor], Any] = plain
    stated: Stated | None = None

    def said(self) -> dict[str, Any]:
        """All of these by name, as they are."""
        return {one.name: getattr(self, one.name) for one in fields(Reading)}


@dataclass(frozen=True)
class FileReader(Reading):
    """Turns chunks of files, each with its number, into pieces; goes to other processes by pickle.

    Attributes:
        processor: of the model.
        device: where inputs are made; None is the CPU.
    """

    processor: ImageBindProcessor
    device: torch.device | None = None

    @property
    def seconds(self) -> float:
        """Of a window."""
        return self.window or self.processor.audio.clip_duration

    def __call__(self, chunk: tuple[int, Sequence[Found]]) -> Iterator[Piece]:
        number, files = chunk
        end = End(number, [], [])
        whole: dict[str, list[tuple[int, Found, Content]]] = defaultdict(list)
        for place, file in enumerate(files):
            modality = ""
            try:
                content = recognise(file.path)
                for modality in self._asked(content):
                    if modality == "imu" or self._is_long(content):
                        yield from self._windows(number, modality, place, file.path)
                    else:
                        whole[modality].append((place, file, content))
            except InputError as error:
                end.skipped.append(Skipped(file.path, str(error)))
                end.spoiled.append((place, modality))  # all of a recording's windows or none
        for modality, members in whole.items():
            for start in range(0, len(members), self.batch_size):
                yield from self._whole(number, modality, members[start : start + self.batch_size], end)
        yield Piece({}, end)

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
        self, number: int, modality: str, members: Sequence[tuple[int, Found, Content]], end: End
    ) -> Iterator[Piece]:
        """Files of one modality in one piece, or each alone where one of them is broken."""
        try:
            raws = [
                _words(file.path) if modality == "text" else self.load(modality, file.path, self.processor)
                for _, file, _ in members
            ]
            features = self.processor(**{modality: raws}, device=self.device)
        except InputError as error:
            if len(members) == 1:
                end.skipped.append(Skipped(members[0][1].path, str(error)))
                return
            for member in members:
                yield from self._whole(number, modality, [member], end)
            return
        clips = features[MODALITIES[modality].input_key]  # (B, S, *sample)
        rows = [
            Show(place, None if content.seconds is None else 0.0, content.seconds,
                 thumbnail(modality, sample, self.processor))
            for (place, _, content), sample in zip(members, clips, strict=True)
        ]  # fmt: skip
        mask = features.get(clip_mask_key(MODALITIES[modality]))
        arrays = {"clips": clips} if mask is None else {"clips": clips, "mask": mask}
        yield Piece(arrays, About(number, modality, rows))

    def _windows(self, number: int, modality: str, place: int, path: str) -> Iterator[Piece]:
        """Windows of a long recording, while it is being read."""
        window = self.window if modality == "imu" else self.seconds
        hop = self.hop if modality == "imu" or self.hop else self.seconds / 2
        batches = stream_windows(
            path, modality, self.processor, window=window, hop=hop, batch_size=self.batch_size, stated=self.stated
        )
        for times, clips in batches:
            rows = [
                Show(place, start, end, thumbnail(modality, sample, self.processor))
                for (start, end), sample in zip(times.tolist(), clips, strict=True)
            ]
            yield Piece({"clips": clips}, About(number, modality, rows))


def _words(path: str) -> str:
    """What a text file says."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: wanted a text in UTF-8, cannot read it ({error})") from None
