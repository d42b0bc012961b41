"""One worker for everything that touches the model: a pipeline's scheduler has state, so two calls may not mingle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

Report = Callable[[Any], None]
Work = Callable[[Report, threading.Event], Any]


class Worker:
    """Runs one piece of work at a time, in the order of asking, in a thread of its own.

    The same thread all the time: a new one for each would set up the threads of the linear algebra again.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "bind2gen-studio")
        self._lock = threading.Lock()
        self._stops: dict[str, set[threading.Event]] = {}

    def run(self, work: Work, session: str) -> Iterator[Any]:
        """Give what ``work`` reports, and at last its result; nothing if it was stopped before it began.

        The work is told to stop when the caller closes this generator, or with :meth:`stop`.

        Args:
            work: ``(report, stop) -> result``; it looks at ``stop.is_set()`` from time to time.
            session: whose work it is.

        Raises:
            What the work raises.
        """
        stop, news = threading.Event(), SimpleQueue()
        with self._lock:
            self._stops.setdefault(session, set()).add(stop)
        future: Future[Any] = self._executor.submit(lambda: None if stop.is_set() else work(news.put, stop))
        future.add_done_callback(news.put)
        try:
            while (item := news.get()) is not future:
                yield item
            if (result := future.result()) is not None:
                yield result
        finally:
            stop.set()
            with self._lock:
                self._stops[session].discard(stop)
                if not self._stops[session]:
                    del self._stops[session]

    def stop(self, session: str) -> bool:
        """Tell all work of a session to stop; whether there was any."""
        with self._lock:
            stops = tuple(self._stops.get(session, ()))
        for stop in stops:
            stop.set()
        return bool(stops)

    @property
    def busy(self) -> bool:
        """Whether anybody waits for a result."""
        with self._lock:
            return bool(self._stops)

    def close(self) -> None:
        """Stop everything and let the thread end."""
        with self._lock:
            sessions = tuple(self._stops)
        for session in sessions:
            self.stop(session)
        self._executor.shutdown(wait=True, cancel_futures=True)
