"""Inputs prepared in worker processes while those before them are being encoded, in their order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..errors import Bind2GenError, Bind2GenWarning
from ..files.stopping import held_back
from .pace import Pace
from .processes import METHOD, start_server, wait_for_server

AHEAD = 2  # pieces that each worker has ready before they are asked for
NICENESS = 10  # of workers where the encoder computes on the same processors: they take what it leaves
ADVICE = "it may have run out of memory, or a damaged file may have broken its reader; --workers 0 reads in one process"


@dataclass
class Piece:
    """Some prepared inputs.

    Attributes:
        arrays: what the model takes, by name. NumPy's between processes: these go through a pipe, where torch's take
            shared memory, of which containers have 64 MB.
        about: whatever is to be known of them.
    """

    arrays: dict[str, Any]
    about: Any

    def pin_memory(self) -> Piece:
        """Called by the loader's own thread, so that copies to the GPU need not be waited for."""
        return Piece({name: torch.from_numpy(array).pin_memory() for name, array in self.arrays.items()}, self.about)


Prepare = Callable[[Any], Iterable[Piece]]


@dataclass
class _Answer:
    """What a worker gives: a piece or an error, the seconds that it took, and warnings."""

    piece: Piece | None
    seconds: float
    error: Bind2GenError | None = None
    warned: Sequence[str] = ()

    def pin_memory(self) -> _Answer:
        return _Answer(self.piece and self.piece.pin_memory(), self.seconds, self.error, self.warned)


def encoded(
    prepare: Prepare, parts: Sequence[Any], encode: Callable[[Piece], torch.Tensor], *, workers: int, pace: Pace
) -> Iterator[tuple[Piece, torch.Tensor]]:
    """Pieces of all parts with their embeddings on the CPU.

    On a GPU a piece is copied and encoded while this process waits for nothing but the piece before it.

    Args:
        prepare: a part to its pieces; in the workers, so it goes there by pickle. Worker ``w`` takes the parts ``w``,
            ``w + workers`` ..., and pieces come by turns of one from each: in order, where each part makes one.
        encode: of a piece, whose ``arrays`` are tensors; those on the GPU, which the model takes, are on their way.
        workers: 0 prepares in this process.

    Raises:
        Bind2GenError: a worker died; what ``prepare`` raises.
    """
    waiting = None
    for piece in prepared(prepare, parts, workers=workers, pace=pace):
        tensors = {name: torch.as_tensor(array) for name, array in piece.arrays.items()}
        piece = Piece(tensors, piece.about)
        launched = piece, pace.timed(lambda piece=piece: encode(piece))
        if waiting is not None:
            yield waiting[0], waiting[1]()
        waiting = launched
    if waiting is not None:
        yield waiting[0], waiting[1]()
    pace.end()


def prepared(prepare: Prepare, parts: Sequence[Any], *, workers: int, pace: Pace) -> Iterator[Piece]:
    """Pieces of all parts; see :func:`encoded`."""
    workers = min(workers, len(parts))
    pace.begin(workers)
    if not workers:
        for answer in _answers(prepare, parts, time.perf_counter):
            pace.decoding += answer.seconds
            yield answer.piece
        return
    start_server()
    clock = time.perf_counter if pace.apart else time.process_time  # beside an encoder they wait for a processor, too
    pieces = _Pieces(prepare, parts, clock)
    loader = DataLoader(
        pieces, None, num_workers=workers, prefetch_factor=AHEAD, pin_memory=pace.device.type == "cuda",
        worker_init_fn=_deaf if pace.apart else _deaf_and_nice, multiprocessing_context=METHOD,
        generator=torch.Generator().manual_seed(0),  # torch's global one stays as it is
    )  # fmt: skip
    wait_for_server()
    with warnings.catch_warnings(), held_back():  # an iterator that is half made complains when it goes
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than processors
        answers = iter(loader)
    try:
        while (answer := _next(answers)) is not None:
            pace.decoding += answer.seconds
            for message in answer.warned:
                warnings.warn(message, Bind2GenWarning, stacklevel=2)
            if answer.error is not None:
                raise answer.error
            yield answer.piece
    finally:
        del answers  # the workers end now, not when garbage is collected


def _next(answers: Iterator[_Answer]) -> _Answer | None:
    try:
        return next(answers, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).split("\n")[0].rstrip(".")
        raise Bind2GenError(f"a process that read files ended before it was done ({reason}); {ADVICE}") from None


class _Pieces(IterableDataset):
    """Those of a worker's own share of the parts."""

    def __init__(self, prepare: Prepare, parts: Sequence[Any], clock: Callable[[], float]) -> None:
        self.prepare, self.parts, self.clock = prepare, parts, clock

    def __iter__(self) -> Iterator[_Answer]:
        mine = get_worker_info()
        answers = _answers(self.prepare, self.parts[mine.id :: mine.num_workers], self.clock)
        while True:
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    answer = next(answers, None)
            except Bind2GenError as error:
                answer = _Answer(None, 0.0, error)
            if answer is None:
                return
            if answer.piece is not None:
                answer.piece.arrays = {name: tensor.numpy() for name, tensor in answer.piece.arrays.items()}
            answer.warned = [str(one.message) for one in caught if issubclass(one.category, Bind2GenWarning)]
            yield answer


def _answers(prepare: Prepare, parts: Iterable[Any], clock: Callable[[], float]) -> Iterator[_Answer]:
    for part in parts:
        pieces, started = iter(prepare(part)), clock()
        for piece in pieces:
            yield _Answer(piece, clock() - started)
            started = clock()


def _deaf(worker: int) -> None:
    """Ctrl-C is told to all processes of a terminal; workers end when the run does, which says what was done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if METHOD == "forkserver":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # which their server has blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _deaf_and_nice(worker: int) -> None:
    _deaf(worker)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever for somebody to read what it has made."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
