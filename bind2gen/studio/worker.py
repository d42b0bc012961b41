"""One worker for everything that touches the model: a pipeline's scheduler has state, so two calls may not mingle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from .results import Progress

Report = Callable[[Any], None]
Work = Callable[[Report, threading.Event], Any]
YIELDS = 5  # times its own steps that work lets later work of the same visitor, if it is smaller, go before
SOON, SIGN = 0.2, 1.0  # s to the first, and between later signs of life to those who wait; who has left is noticed


@dataclass(eq=False)
class _Job:
    """What was asked for; of one visitor's, that with the least ``turn`` comes first."""

    work: Work
    session: str
    visitor: str
    steps: int
    turn: float
    stop: threading.Event = field(default_factory=threading.Event)
    news: SimpleQueue[Any] = field(default_factory=SimpleQueue)
    done: Future[Any] = field(default_factory=Future)

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        if error is None:
            self.done.set_result(result)
        else:
            self.done.set_exception(error)
        self.news.put(self.done)


class Worker:
    """Runs one piece of work at a time in a thread of its own, and gives every visitor an equal share of it.

    Fair queueing: next comes what would be done first if all visitors were served at the same time. So what is small
    comes before what is large, and nobody's second piece before another's first; but what is large comes too. The same
    among the work of one visitor, who may be a whole school. Work without denoising steps touches no scheduler and is
    quick: it is done between the steps of others.

    The same thread all the time: a new one for each would set up the threads of the linear algebra again.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "bind2gen-studio")
        self._lock = threading.Lock()
        self._jobs: list[_Job] = []  # whose results somebody waits for
        self._waiting: list[_Job] = []  # those of them that were not begun
        self._steps = 0  # begun so far
        self._now = 0.0  # steps done for each visitor, had all been served at the same time
        self._shares: dict[str, float] = {}  # visitor -> steps done for him, counted from when he came

    def run(self, work: Work, session: str, *, visitor: str | None = None, steps: int = 0) -> Iterator[Any]:
        """Give what ``work`` reports, and at last its result; nothing if it was stopped before it began.

        Who waits is told by a :class:`Progress` from time to time. The work is told to stop when the caller closes this
        generator, or with :meth:`stop`.

        Args:
            work: ``(report, stop) -> result``; it looks at ``stop.is_set()`` from time to time.
            session: whose work it is.
            visitor: who shares the machine with others; default is the session.
            steps: denoising steps that it takes for all its pictures; 0 is quick work, done between those of others.

        Raises:
            What the work raises.
        """
        job = self._ask(work, session, session if visitor is None else visitor, steps)
        try:
            self._executor.submit(self._take)
            patience = SOON
            while (item := self._next_news(job, patience)) is not job.done:
                patience = SIGN
                yield item
            if (result := job.done.result()) is not None:
                yield result
        finally:
            job.stop.set()
            with self._lock:
                self._jobs.remove(job)
                if job in self._waiting:
                    self._waiting.remove(job)

    def stop(self, session: str) -> bool:
        """Tell all work of a session to stop; whether there was any."""
        with self._lock:
            jobs = [job for job in self._jobs if job.session == session]
            dropped = [job for job in jobs if job in self._waiting]
            self._waiting = [job for job in self._waiting if job not in dropped]
        for job in jobs:
            job.stop.set()
        for job in dropped:
            job.finish()
        return bool(jobs)

    @property
    def busy(self) -> bool:
        """Whether anybody waits for a result."""
        with self._lock:
            return bool(self._jobs)

    def close(self) -> None:
        """Stop everything and let the thread end."""
        with self._lock:
            sessions = {job.session for job in self._jobs}
        for session in sessions:
            self.stop(session)
        self._executor.shutdown(wait=True, cancel_futures=True)

    # ---- how ----

    def _ask(self, work: Work, session: str, visitor: str, steps: int) -> _Job:
        with self._lock:
            job = _Job(work, session, visitor, steps, self._steps + YIELDS * max(steps, 1))
            if all(one.visitor != visitor for one in self._waiting):
                self._shares[visitor] = max(self._shares.get(visitor, 0.0), self._now)
            self._jobs.append(job)
            self._waiting.append(job)
        return job

    def _next_news(self, job: _Job, patience: float) -> Any:
        while True:
            try:
                return job.news.get(timeout=patience)
            except Empty:
                patience = SIGN
                with self._lock:
                    if job in self._waiting:
                        return Progress(0, 0, doing=f"Waiting for your turn: {_queued(self._before(job))}.")

    def _before(self, job: _Job) -> int:
        """How many are served before a job that waits, if nobody else comes."""
        waiting, shares, before = list(self._waiting), dict(self._shares), 1  # the one that is served now
        while (first := _first(waiting, shares)) is not job:
            waiting.remove(first)
            shares[first.visitor] += max(first.steps, 1)
            before += 1
        return before

    def _choose(self, quick: bool) -> _Job | None:
        """Take out whose turn it is."""
        job = _first([job for job in self._waiting if not (quick and job.steps)], self._shares)
        if job is None:
            return None
        self._waiting.remove(job)
        cost, here = max(job.steps, 1), {one.visitor for one in self._jobs}
        self._steps += cost
        self._now += cost / len(here)
        self._shares[job.visitor] += cost
        self._shares = {who: had for who, had in self._shares.items() if who in here or had > self._now}
        return job

    def _take(self, *, quick: bool = False) -> None:
        """Do whose turn it is; of quick work only, within the steps of other work."""
        with self._lock:
            job = self._choose(quick)
        if job is None:
            return

        def report(item: Any) -> None:
            job.news.put(item)
            if job.steps:
                self._take(quick=True)

        try:
            result = None if job.stop.is_set() else job.work(report, job.stop)
        except BaseException as error:  # noqa: BLE001  (told to whoever asked)
            job.finish(error=error)
        else:
            job.finish(result)


def _first(waiting: list[_Job], shares: Mapping[str, float]) -> _Job | None:
    """Whose turn it is: of each visitor the job with the least turn, of those the one that would be done first."""
    firsts: dict[str, _Job] = {}
    for job in sorted(waiting, key=lambda one: one.turn):
        firsts.setdefault(job.visitor, job)
    return min(firsts.values(), key=lambda one: shares[one.visitor] + max(one.steps, 1), default=None)


def _queued(before: int) -> str:
    return "you are next" if before == 1 else f"{before} others come first"
