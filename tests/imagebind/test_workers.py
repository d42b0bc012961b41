"""Inputs prepared in worker processes: the same pieces in the same order, and no process is left behind."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

from bind2gen.errors import Bind2GenError, Bind2GenWarning, UnreadableError
from bind2gen.imagebind.pace import Pace, in_words
from bind2gen.imagebind.processes import METHOD, start_server, usual_workers
from bind2gen.imagebind.workers import Piece, encoded, prepared

CPU = torch.device("cpu")
SOON = 30  # s; a worker that is told to end looks up once in 5


# Goes to the workers by its name, so it must lie where they find it.
MAKERS = """
import warnings

import torch

from bind2gen.errors import Bind2GenWarning, UnreadableError
from bind2gen.imagebind.workers import Piece


def numbered(part):
    for number in range(part):
        if part == 7:
            raise UnreadableError("seven.wav: wanted a sound")
        if part == 3 and not number:
            warnings.warn("three is odd", Bind2GenWarning, stacklevel=1)
        yield Piece({"x": torch.full((2, 3), 10.0 * part + number)}, (part, number))


def one(part):
    yield Piece({"x": torch.full((1, 2), float(part))}, part)


def large(part):
    yield Piece({"x": torch.zeros(1 << 20)}, part)  # more than a pipe holds
"""


@pytest.fixture
def makers(tmp_path, monkeypatch):
    (tmp_path / "makers_of_pieces.py").write_text(MAKERS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("makers_of_pieces")


def doubled(piece: Piece) -> torch.Tensor:
    return 2 * piece.arrays["x"]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_pieces_come_in_order_with_what_the_encoder_makes_of_them(workers, makers):
    before, pace = torch.get_rng_state(), Pace(CPU)
    found = list(encoded(makers.one, list(range(8)), doubled, workers=workers, pace=pace))
    assert [piece.about for piece, _ in found] == list(range(8))
    assert all(torch.equal(vectors, torch.full((1, 2), 2.0 * piece.about)) for piece, vectors in found)
    assert torch.equal(torch.get_rng_state(), before) and pace.workers == workers and pace.seconds > 0
    assert not multiprocessing.active_children()


def test_parts_may_make_several_pieces_and_warnings_and_errors_come_from_the_workers(makers):
    with pytest.warns(Bind2GenWarning, match="three is odd"):
        found = [piece.about for piece in prepared(makers.numbered, [2, 3, 0, 1], workers=2, pace=Pace(CPU))]
    assert sorted(found) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert all(found.index((part, 0)) < found.index((part, part - 1)) for part in (2, 3))
    with pytest.raises(UnreadableError, match="^seven.wav: wanted a sound$"):
        list(prepared(makers.numbered, [2, 7, 2], workers=2, pace=Pace(CPU)))
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_a_named_error(makers):
    pieces = prepared(makers.large, list(range(50)), workers=2, pace=Pace(CPU))
    next(pieces)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(Bind2GenError, match="a process that read files ended before it was done .*--workers 0"):
        list(pieces)
    assert not multiprocessing.active_children()


PARENT = """
import multiprocessing, sys, time
import torch
from bind2gen.imagebind.pace import Pace
from bind2gen.imagebind.workers import prepared
sys.path.insert(0, sys.argv[1])
from makers_of_pieces import large
pieces = prepared(large, list(range(50)), workers=2, pace=Pace(torch.device("cpu")))
next(pieces)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(METHOD != "forkserver", reason="has no server of processes")
def test_the_server_of_processes_outlives_what_all_processes_are_told(makers):
    """Without it a worker that is being started would fail with a traceback, beside the one line of who was told."""
    forkserver._forkserver._stop()  # one that others began
    start_server()
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGTERM)
    for _ in range(2):
        other = multiprocessing.get_context(METHOD).Process(target=int)
        other.start()
        other.join()
        assert (other.exitcode, forkserver._forkserver._forkserver_pid) == (0, server)
    pieces = prepared(makers.large, range(8), workers=1, pace=Pace(CPU))
    next(pieces)
    worker = multiprocessing.active_children()[-1]
    os.kill(worker.pid, signal.SIGTERM)  # it is not deaf to that
    with pytest.raises(Bind2GenError, match="ended before it was done"):
        list(pieces)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_of_a_killed_process_end_though_nobody_reads_what_they_made(makers, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], stdout=subprocess.PIPE)
    workers = child.stdout.readline().split()
    child.kill()
    child.wait()
    child.stdout.close()
    until = time.monotonic() + SOON
    while any(Path(f"/proc/{int(pid)}").exists() for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(workers) == 2 and not any(Path(f"/proc/{int(pid)}").exists() for pid in workers)


def test_the_slower_stage_binds_and_the_line_says_so():
    pace = Pace(torch.device("cuda"), workers=4, inputs=1000, decoding=40.0, encoding=5.0, seconds=10.5)
    assert pace.figures() == {
        "inputs": 1000, "seconds": 10.5, "per_second": 95.2, "workers": 4, "decoding_per_second": 100.0,
        "encoder_per_second": 200.0, "binds": "decoding",
    }  # fmt: skip
    assert in_words(pace.figures(), "image") == (
        "image: 1000 in 10.5 s, 95.2 a second (decoding 100 a second in 4 processes, encoder 200: decoding binds)"
    )
    pace.encoding = 20.0
    assert "encoder 50: the encoder binds" in in_words(pace.figures(), "image")
    assert usual_workers(20) == 0 < usual_workers(20_000) <= 8
