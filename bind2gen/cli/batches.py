"""Batches of what a command reads, for the encoder; sent to worker processes, so it holds no more than they need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError
from ..modality import MODALITIES, clip_mask_key

if TYPE_CHECKING:
    import torch

    from ..imagebind.processor import ImageBindProcessor
    from ..imagebind.workers import Piece
    from .sensors import SensorOptions


class Batch(NamedTuple):
    """Inputs that follow each other: the number of the first, and the files or texts."""

    first: int
    files: list[str]


class Read(NamedTuple):
    """What became of a batch: numbers of those that are in the piece, and what is wrong with others."""

    count: int
    numbers: list[int]
    errors: list[tuple[int, InputError]]


@dataclass(frozen=True)
class BatchReader:
    """Turns a batch of one modality into a piece.

    Attributes:
        modality: of all.
        processor, sensors: that read.
        keep_going: read on after an input that cannot be read; else its batch ends there.
        device: where inputs are made; None is the CPU.
    """

    modality: str
    processor: ImageBindProcessor
    sensors: SensorOptions
    keep_going: bool
    device: torch.device | None = None

    def __call__(self, batch: Batch) -> Iterator[Piece]:
        from ..imagebind.workers import Piece

        numbers = list(range(batch.first, batch.first + len(batch.files)))
        try:
            yield Piece(self._features(batch.files), Read(len(numbers), numbers, []))
        except InputError as error:
            if len(numbers) == 1 or not self.keep_going:
                yield Piece({}, Read(len(numbers), [], [(batch.first, error)]))
            else:
                yield self._one_by_one(numbers, batch.files)

    def _features(self, files: list[str]) -> dict[str, torch.Tensor]:
        raws = [self.sensors.load(self.modality, file, self.processor) for file in files]
        return dict(self.processor(**{self.modality: raws}, device=self.device))

    def _one_by_one(self, numbers: list[int], files: list[str]) -> Piece:
        from ..imagebind.fronts import padded
        from ..imagebind.workers import Piece

        kind, good, errors = MODALITIES[self.modality], dict[int, Any](), []
        for number, file in zip(numbers, files, strict=True):
            try:
                good[number] = self._features([file])[kind.input_key][0]  # (S, *sample)
            except InputError as error:
                errors.append((number, error))
        if not good:
            return Piece({}, Read(len(numbers), [], errors))
        clips, mask = padded(list(good.values()))
        arrays = {kind.input_key: clips} if mask is None else {kind.input_key: clips, clip_mask_key(kind): mask}
        return Piece(arrays, Read(len(numbers), list(good), errors))
