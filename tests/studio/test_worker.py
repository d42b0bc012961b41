"""Taking turns: one thing at a time, an equal share for everybody, quick work between the steps of other work."""

from __future__ import annotations

import threading
import time

import pytest

from bind2gen.errors import ShapeError
from bind2gen.studio import Progress, Studio, worker
from bind2gen.studio.worker import Worker

PATIENCE = 30  # s, before a test that waits for a thread gives up


@pytest.fixture
def turns():
    turns = Turns()
    yield turns
    turns.worker.close()


class Turns:
    """A worker that is held by a first piece of work until :meth:`order` lets it go; what was asked for meanwhile."""

    def __init__(self):
        self.worker, self.done, self.threads = Worker(), [], []
        self.held, self.free = threading.Event(), threading.Event()
        self.ask("held", steps=0, work=lambda report, stop: (self.held.set(), self.free.wait(PATIENCE)))
        assert self.held.wait(PATIENCE)

    def ask(self, name, *, steps, visitor=None, work=None):
        """Ask in a thread, and wait until it is in the queue."""
        job = work or (lambda report, stop: self.done.append(name))
        run = self.worker.run(job, name, visitor=visitor or name, steps=steps)
        self.threads.append(threading.Thread(target=lambda: list(run)))
        self.threads[-1].start()
        wait_until(lambda: any(job.session == name for job in self.worker._jobs))

    def order(self):
        self.free.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        return self.done


def told(news):
    """All but the signs of life to those who wait, which a slow machine sees more of."""
    return [item for item in news if not isinstance(item, Progress)]


def wait_until(true):
    for _ in range(PATIENCE * 1000):
        if true():
            return
        time.sleep(0.001)
    pytest.fail("it never came")


def test_the_worker_does_one_thing_at_a_time_and_passes_errors_on():
    worker, inside, most = Worker(), [], []

    def work(report, stop):
        inside.append(1)
        most.append(len(inside))
        report("half")
        time.sleep(0.01)
        inside.pop()
        return "done"

    results = []
    threads = [threading.Thread(target=lambda: results.append(told(worker.run(work, "x")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [["half", "done"]] * 4 and max(most) == 1

    def fail(report, stop):
        raise ShapeError("no")

    with pytest.raises(ShapeError, match="no"):
        list(worker.run(fail, "x"))
    worker.close()


def test_work_that_is_stopped_before_its_turn_is_never_begun():
    worker, begun, release = Worker(), [], threading.Event()
    first = worker.run(lambda report, stop: (report("on"), release.wait(PATIENCE)), "one")
    assert next(first) == "on"
    ran = []
    waiting = threading.Thread(target=lambda: ran.append(told(worker.run(lambda r, s: begun.append(1) or 1, "two"))))
    waiting.start()
    while not worker.stop("two"):
        time.sleep(0.001)
    waiting.join(PATIENCE)
    assert ran == [[]]  # at once, and not when the first has ended
    release.set()
    list(first)
    assert begun == []
    worker.close()


# ---- shares ----


def test_a_small_drawing_does_not_wait_behind_nine_slides_of_others(turns):
    for k in range(9):
        turns.ask(f"slide {k}", steps=200)
    turns.ask("drawing", steps=20)
    turns.ask("found", steps=0)
    assert turns.order() == ["found", "drawing", *(f"slide {k}" for k in range(9))]


def test_nobodys_second_comes_before_anothers_first_whatever_sessions_he_names(turns):
    for k in range(3):
        turns.ask(f"greedy {k}", steps=20, visitor="greedy")
    turns.ask("modest", steps=20)
    assert turns.order() == ["greedy 0", "modest", "greedy 1", "greedy 2"]


def test_nor_does_it_wait_behind_those_of_the_same_address(turns):
    for k in range(9):
        turns.ask(f"slide {k}", steps=200, visitor="school")
    turns.ask("drawing", steps=20, visitor="school")
    assert turns.order() == ["drawing", *(f"slide {k}" for k in range(9))]


@pytest.mark.parametrize("visitor", [None, "school"])
def test_what_is_large_has_its_turn_however_many_small_ones_come(turns, visitor):
    turns.ask("slide", steps=200, visitor=visitor)

    def another(k):
        def work(report, stop):
            turns.done.append("drawing")
            if "slide" not in turns.done and k < 100:
                turns.ask(f"drawing {k + 1}", steps=20, visitor=visitor, work=another(k + 1))

        return work

    turns.ask("drawing 0", steps=20, visitor=visitor, work=another(0))
    turns.free.set()
    wait_until(lambda: "slide" in turns.done)
    assert 5 < turns.done.index("slide") < 60  # half of the steps among two, or five times its own in one house


def test_quick_work_is_done_between_the_steps_of_others_in_the_same_thread(turns):
    begun, asked, told = threading.Event(), threading.Event(), []

    def draw(report, stop):
        begun.set()
        assert asked.wait(PATIENCE)
        for step in range(3):
            turns.done.append(step)
            report(step)
        told.append(threading.get_ident())

    def hear(report, stop):
        turns.done.append("heard")
        told.append(threading.get_ident())
        report("quick work does not begin other work")

    def fail(report, stop):
        turns.done.append("failed")
        raise ShapeError("no")

    turns.ask("drawing", steps=3, work=draw)
    turns.free.set()
    assert begun.wait(PATIENCE)
    turns.ask("slide", steps=1)
    turns.ask("heard", steps=0, work=hear)
    turns.threads[0].join(PATIENCE)
    quiet = threading.Thread(target=lambda: pytest.raises(ShapeError, list, turns.worker.run(fail, "failed")))
    quiet.start()
    wait_until(lambda: len(turns.worker._waiting) == 3)
    asked.set()
    assert turns.order() == [0, "heard", 1, "failed", 2, "slide"]
    quiet.join(PATIENCE)
    assert told[0] == told[1]


def test_who_waits_is_told_and_who_leaves_while_waiting_is_never_begun(turns, monkeypatch):
    monkeypatch.setattr(worker, "SOON", 0.01)
    turns.ask("before", steps=5)
    leaving = turns.worker.run(lambda report, stop: turns.done.append("left"), "leaving", steps=9)
    assert next(leaving) == Progress(0, 0, doing="Waiting for your turn: 2 others come first.")
    leaving.close()
    assert turns.order() == ["before"] and not turns.worker.busy


def test_the_place_in_the_queue_is_the_one_that_comes_true(turns):
    """Five visitors, some of them twice; small work overtakes."""
    asked = [("a", 40, "x"), ("b", 10, "y"), ("c", 20, "x"), ("d", 5, "z"), ("e", 30, "y"), ("f", 1, "x")]
    for name, steps, visitor in asked:
        turns.ask(name, steps=steps, visitor=visitor)
    places = {job.session: turns.worker._before(job) for job in turns.worker._waiting}
    assert turns.order() == sorted(places, key=places.get)
    assert sorted(places.values()) == [1, 2, 3, 4, 5, 6]


def test_a_studio_counts_the_steps_of_all_pictures_and_hearing_is_quick(tiny_pipeline, monkeypatch):
    studio, asked = Studio(tiny_pipeline, words=("a", "b")), []
    monkeypatch.setattr(studio.worker, "run", lambda *_, **about: iter(asked.append(about) or ()))
    list(studio.draw({}, steps=7, pictures=3, visitor="x"))
    list(studio.slide({}, {}, steps=7, pictures=3, visitor="x"))
    assert studio.hear({}, visitor="x") == {}
    assert asked == [
        {"visitor": "x", "steps": 21}, {"visitor": "x", "steps": 35}, {"visitor": "x"},
    ]  # fmt: skip
