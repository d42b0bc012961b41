"""What a command reads: files, what lies in folders, standard input; checked before any weights are loaded."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EmptyInputError, InputError, UnreadableError
from ..files.bundled import resolve_example
from ..files.endings import FILMS, PICTURES, SOUNDS
from ..files.own_folder import own_folder
from ..modality import MODALITIES, clip_mask_key
from .arguments import UsageError
from .batches import Batch, BatchReader
from .reporting import FAILED, one_line, progress, say

if TYPE_CHECKING:
    import torch

    from ..imagebind.model import ImageBindModel
    from ..imagebind.pace import Pace
    from ..imagebind.processor import ImageBindProcessor
    from .sensors import SensorOptions

STDIN = "-"
IN_FOLDERS = {  # what is taken of a folder; files that are named are read whatever they are called
    "audio": (*SOUNDS, *FILMS), "image": PICTURES, "video": FILMS,
    "depth": (*PICTURES, ".exr", ".npy", ".npz", ".csv"), "thermal": (*PICTURES, ".exr", ".npy", ".npz", ".csv"),
}  # fmt: skip


@dataclass
class Inputs:
    """What was given, and what of it could not be read.

    Attributes:
        named: modality -> inputs as they were given, of folders the files in them.
        files: the same as the readers take them: example sounds and standard input as files.
        keep_going: leave out what cannot be read, instead of ending the run.
        skipped: what was left out, and why.
    """

    named: dict[str, list[str]]
    files: dict[str, list[str]]
    keep_going: bool
    skipped: list[dict[str, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.named.values()))

    def skip(self, modality: str, number: int, error: InputError) -> None:
        """Leave out an input, and say so; or raise, where the run is to end with the first that cannot be read."""
        reason = re.sub(rf"^{modality}\[\d+\]: ", "", one_line(error))  # a number within its batch says nothing here
        if not self.keep_going:
            advice = "; --keep-going leaves such inputs out" if self.count > 1 else ""
            raise type(error)(reason + advice) from error
        name = self.named[modality][number]
        self.skipped.append({"input": name, "reason": reason})
        say(f"bind2gen: skipped: {reason if name in reason else f'{name}: {reason}'}")

    def encoded(
        self, modality: str, encode: Callable[[list[str]], Sequence[torch.Tensor]], batch_size: int, done: Callable
    ) -> dict[int, torch.Tensor]:
        """Number of each input that can be read -> its embedding (D,).

        Args:
            encode: files to their embeddings.
            done: called with how many inputs were read.
        """
        files, rows = self.files[modality], {}
        for start in range(0, len(files), batch_size):
            part = range(start, min(start + batch_size, len(files)))
            try:
                rows |= zip(part, encode([files[i] for i in part]), strict=True)
            except InputError as error:
                if len(part) == 1 or not self.keep_going:
                    self.skip(modality, start, error)
                    continue
                for i in part:
                    try:
                        rows[i] = encode([files[i]])[0]
                    except InputError as error:
                        self.skip(modality, i, error)
            done(len(part))
        return rows

    def embedded(
        self,
        encoder: ImageBindModel,
        processor: ImageBindProcessor,
        sensors: SensorOptions,
        *,
        batch_size: int,
        quiet: bool,
        workers: int = 0,
        paces: dict[str, Pace] | None = None,
    ) -> dict[str, dict[int, torch.Tensor]]:
        """Modality -> number of each input that can be read -> its embedding, (D,) float32 unit norm.

        Args:
            workers: processes that read files; 0 reads in this one.
            paces: of each modality, put there.
        """
        from ..imagebind.pace import Pace

        found = {}
        with progress("encode", total=self.count, quiet=quiet) as bar:
            for name in self.files:
                encoder.tower(name)  # refuses a modality that the model does not have before reading files
                pace = (paces if paces is not None else {}).setdefault(name, Pace(encoder.device))
                reader = BatchReader(name, processor, sensors, self.keep_going, None if workers else encoder.device)
                found[name] = self._rows(
                    encoder, reader, batch_size, 0 if name == "text" else workers, pace, bar.update
                )
        return found

    def _rows(
        self, encoder: ImageBindModel, reader: BatchReader, batch_size: int, workers: int, pace: Pace, done: Callable
    ) -> dict[int, torch.Tensor]:
        import torch

        from ..imagebind.workers import Piece, encoded

        name, files = reader.modality, self.files[reader.modality]
        kind, rows = MODALITIES[name], dict[int, torch.Tensor]()

        def encode(piece: Piece) -> torch.Tensor:
            if kind.input_key not in piece.arrays:  # nothing of it could be read
                return torch.empty(0)
            clips = piece.arrays[kind.input_key].to(encoder.device, non_blocking=True)
            with torch.no_grad():
                return encoder.encode(name, clips, clip_mask=piece.arrays.get(clip_mask_key(kind)))

        batches = [Batch(first, files[first : first + batch_size]) for first in range(0, len(files), batch_size)]
        for piece, vectors in encoded(reader, batches, encode, workers=workers, pace=pace):
            rows |= zip(piece.about.numbers, vectors.to(encoder.device), strict=True)
            for number, error in piece.about.errors:
                self.skip(name, number, error)
            pace.inputs += piece.about.count
            done(piece.about.count)
        return rows

    def blended(self, found: Mapping[str, Mapping[int, torch.Tensor]]) -> tuple[dict[str, torch.Tensor], list[int]]:
        """What :meth:`embedded` found, for blends: (N, D) of each modality, (1, D) of one that all share; N numbers.

        Raises:
            InputError: no blend is whole.
        """
        import torch

        count = max(map(len, self.files.values()))
        own = {name for name, files in self.files.items() if len(files) == count}
        kept = [i for i in range(count) if all(i in found[name] for name in own)]
        if not kept or not all(found.values()):
            raise InputError(f"none of the {self.count} inputs can be used: {self.skipped[0]['reason']}")
        rows = {name: torch.stack([rows[i] for i in (kept if name in own else [0])]) for name, rows in found.items()}
        return rows, kept

    def placed(self, found: Mapping[str, Mapping[int, torch.Tensor]]) -> tuple[dict[str, torch.Tensor], list[int]]:
        """What :meth:`embedded` found, all for one picture: (N, D) of each modality.

        Raises:
            InputError: one could not be read.
        """
        import torch

        if self.skipped:
            raise InputError(f"an input of the picture is missing: {self.skipped[0]['reason']}")
        return {name: torch.stack(list(rows.values())) for name, rows in found.items()}, [0]

    def finished(self) -> int:
        """The exit code, after the last input."""
        if not self.skipped:
            return 0
        say(f"bind2gen: error: {len(self.skipped)} of {self.count} inputs could not be read and were left out")
        return FAILED


def read_inputs(given: Mapping[str, Sequence[str]], *, keep_going: bool | None = False) -> Inputs:
    """Look at everything that was given; without ``keep_going`` every file is there, readable and not empty.

    Args:
        given: modality -> files, folders (of IMU each is a recording, else the files in it), ``-``, or texts.
        keep_going: None is where a folder was given.

    Raises:
        UnreadableError, EmptyInputError: naming the file; with ``keep_going`` only if all of a modality are so.
        UsageError: standard input is to be read twice.
    """
    if sum(list(values).count(STDIN) for values in given.values()) > 1:
        raise UsageError(f"{STDIN}: standard input can be read only once")
    named, folders = {}, False
    for name, values in given.items():
        parts = [_lines() if value == STDIN and name == "text" else _expanded(value, name) for value in values]
        folders = folders or any(part != [value] for part, value in zip(parts, values, strict=True) if value != STDIN)
        named[name] = [value for part in parts for value in part]
    keep_going = folders if keep_going is None else keep_going
    files = {name: [_file(value, name) for value in values] for name, values in named.items()}
    for name, values in files.items():
        _check(name, values, keep_going)
    return Inputs(named, files, keep_going)


def _check(name: str, values: Sequence[str], keep_going: bool) -> None:
    problems = []
    for value in values:
        try:
            if name == "text" and not value.strip():
                raise EmptyInputError("--text: wanted a sentence, got an empty one")
            if name != "text":
                check_file(value, name)
        except InputError as problem:
            problems.append(problem)
    if problems and (not keep_going or len(problems) == len(values)):
        raise problems[0]


def _lines() -> list[str]:
    lines = [line.strip() for line in sys.stdin.read().splitlines() if line.strip()]
    if not lines:
        raise EmptyInputError(f"--text {STDIN}: wanted a sentence a line on standard input, got none")
    return lines


def _expanded(value: str, modality: str) -> list[str]:
    if modality not in IN_FOLDERS or not os.path.isdir(value):
        return [value]
    endings, folder = IN_FOLDERS[modality], Path(value)
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in endings and path.is_file())
    if not found:
        raise UnreadableError(
            f"{value}: this is a folder without {modality} files ({' '.join(endings)}); folders in it are not searched"
        )
    return found


def _file(value: str, modality: str) -> str:
    """The path to read; pipes, which can be read only once, are copied."""
    if modality == "text":
        return value
    path = resolve_example(value) if modality == "audio" else value
    if path == STDIN:
        return _copied(sys.stdin.buffer, "stdin")
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with open(path, "rb") as pipe:
            return _copied(pipe, Path(path).name)
    return path


def _copied(stream: Iterable[bytes], name: str) -> str:
    kept = ExitStack()
    atexit.register(kept.close)
    copy = kept.enter_context(own_folder()) / name
    with copy.open("wb") as file:
        shutil.copyfileobj(stream, file)
    return str(copy)


def check_file(value: str, modality: str) -> None:
    """One input is there, readable and not empty; raises as :func:`read_inputs`."""
    path = Path(value)
    if path.is_dir():
        if modality == "imu":  # phones export a folder; what is in it the loader finds out
            return
        raise UnreadableError(f"{value}: wanted one {modality} file, this is a folder")
    if not path.exists():
        raise UnreadableError(f"{value}: no such file")
    if not os.access(path, os.R_OK):
        raise UnreadableError(f"{value}: may not be read (permissions)")
    if path.is_file() and path.stat().st_size == 0:
        raise EmptyInputError(f"{value}: the file is empty (0 bytes)")


@dataclass
class Search:
    """What is to be searched, and for what; all of it there and readable.

    Attributes:
        pictures: to be searched; None where it is a film.
        targets: where each picture goes with its boxes drawn in, or None.
        prompts: modality -> inputs, each a prompt.
        against: modality -> inputs that are not meant.
        towers: of the encoder that these need.
    """

    pictures: Inputs | None
    targets: list[Path | None]
    prompts: dict[str, list[str]]
    against: dict[str, list[str]]
    towers: set[str] = field(default_factory=set)
