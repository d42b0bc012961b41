"""One call of a pipeline at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from ...errors import HostError


class _Turn:
    def __init__(self) -> None:
        self.lock, self.owner = threading.Lock(), 0


_turns: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()  # by scheduler, not on it: locks can't be copied or saved
_turns_lock = threading.Lock()


@contextmanager
def one_at_a_time(scheduler: Any) -> Iterator[None]:
    """Let other threads wait until a scheduler is free: it counts the steps of one call, and pipelines share it.

    Raises:
        HostError: the waiting would never end, as it is a callback that calls its own pipeline.
    """
    with _turns_lock:
        turn = _turns.setdefault(scheduler, _Turn())
    if turn.owner == threading.get_ident():
        raise HostError(
            f"scheduler: wanted one that is free, this {type(scheduler).__name__} is in the middle of the call whose "
            'callback calls again; use a second pipeline, type(pipe)(**pipe.components | {"scheduler": '
            "copy.deepcopy(pipe.scheduler)})"
        )
    with turn.lock:
        turn.owner = threading.get_ident()
        try:
            yield
        finally:
            turn.owner = 0
