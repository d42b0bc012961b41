"""Ctrl-C and being told to end: whatever saves or puts away on the one does so on the other too."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143  # what shells report of SIGINT and SIGTERM
SOON = 0.05  # s


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def told_by_signals() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated`, where nobody has said otherwise."""
    # Signals come to the main thread only; a host of this process may mind SIGTERM itself.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _terminate)
        sys.unraisablehook, before = _come_again, sys.unraisablehook
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sys.unraisablehook = before


@contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come within the block are minded after it: for what may not be left half done."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    if threading.current_thread() is not threading.main_thread() or None in before.values():
        yield
        return
    came: list[int] = []
    for number in numbers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            os.kill(os.getpid(), number)


def ended(stop: KeyboardInterrupt) -> tuple[str, int]:
    """What to say, and the exit code."""
    words, code = ("terminated", TERMINATED) if isinstance(stop, Terminated) else ("interrupted", INTERRUPTED)
    return "; ".join([words, *map(str, stop.args)]), code


def _come_again(lost: sys.UnraisableHookArgs) -> None:
    """Of a signal that fell into a call from C (FFmpeg reading through us), which cannot pass it on."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        return sys.__unraisablehook__(lost)
    number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
    timer = threading.Timer(SOON, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def _terminate(*_: object) -> NoReturn:
    raise Terminated
