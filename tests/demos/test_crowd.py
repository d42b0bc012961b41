"""Many visitors: who came first is served first, and neither who leaves nor who dawdles holds anybody up.

The same with 32 users for minutes is ``tests/bench/demo_load.py``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import httpx
import pytest

pytest.importorskip("gradio", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

STEPS = 50
IDLE = 300  # connections
DAWDLERS = 8


@pytest.fixture
def begun(small, monkeypatch):
    """Sessions in the order in which the worker begins their work."""
    order, choose = [], small.studio.worker._choose

    def noted(quick):
        job = choose(quick)
        if job is not None:
            order.append(job.session)
        return job

    monkeypatch.setattr(small.studio.worker, "_choose", noted)
    return order


@pytest.fixture
def steps(small):
    """How many steps were denoised; each waits for leave, of which there is enough as long as nobody takes it away."""
    done, leave = [], threading.Event()
    leave.set()

    def step(*given):
        done.append(1)
        leave.wait(60)

    hook = small.studio.pipe.unet.register_forward_pre_hook(step)
    yield done, leave
    leave.set()
    hook.remove()


@contextlib.contextmanager
def connection(small, request: str):
    """An open connection on which a request was begun."""
    address = httpx.URL(small.url)
    with socket.create_connection((address.host, address.port), timeout=60) as line:
        line.sendall(request.format(host=f"{address.host}:{address.port}").encode())
        yield line


def listening(small, session):
    return connection(small, f"GET /gradio_api/queue/data?session_hash={session} HTTP/1.1\r\nHost: {{host}}\r\n\r\n")


def of(small, session):
    """The worker's jobs of a session."""
    return [job for job in small.studio.worker._jobs if job.session == session]


def test_equal_drawings_are_begun_in_the_order_in_which_they_came(small, held, begun):
    sessions = [f"visitor {k}" for k in range(10)]
    for k, session in enumerate(sessions):
        assert small.join(f"203.0.113.{k}", session).status_code == 200
        small.wait_until(lambda session=session: of(small, session))
    held.set()
    assert all("Done in" in small.news(session) for session in sessions)
    assert begun == sessions


def test_who_stops_makes_room_after_the_step_at_hand(small, steps, begun):
    done, leave = steps
    leave.clear()
    small.join("203.0.113.1", "stops", STEPS)
    small.wait_until(lambda: done)
    small.join("203.0.113.2", "waits", 1)
    small.wait_until(lambda: of(small, "waits"))
    stop = next(key for key, fn in small.blocks.fns.items() if fn.api_name == "stop")
    asked = {"fn_index": stop, "session_hash": "stops", "data": []}
    assert small.post("run/stop", "203.0.113.1", json=asked).status_code == 200
    so_far = len(done)
    leave.set()
    assert "Done in" in small.news("waits") and begun == ["stops", "waits"]
    assert len(done) <= so_far + 2  # one of his steps may have begun, one is of who came next
    assert "Stopped; this is as far as it got." in small.news("stops")


def test_who_is_gone_while_he_is_drawn_for_makes_room(small, steps, begun):
    done, leave = steps
    small.join("203.0.113.1", "goes", STEPS)
    leave.clear()
    with listening(small, "goes") as line:
        small.wait_until(lambda: done)
        assert line.recv(1000)
    while of(small, "goes"):  # a step now and then, until somebody has noticed
        so_far = len(done)
        leave.set()
        small.wait_until(lambda so_far=so_far: len(done) > so_far or not of(small, "goes"))
        leave.clear()
        time.sleep(0.2)
    leave.set()
    assert len(done) < STEPS
    small.join("203.0.113.2", "next", 1)
    assert "Done in" in small.news("next")


def test_who_is_gone_while_he_waits_is_never_begun(small, held, begun):
    for session in ("goes", "stays"):
        small.join("203.0.113.1", session)
        small.wait_until(lambda session=session: of(small, session))
    with listening(small, "goes") as line:
        assert line.recv(1000)
    small.wait_until(lambda: not of(small, "goes"))
    held.set()
    assert "Done in" in small.news("stays") and begun == ["stays"]


def test_who_asks_and_never_listens_is_given_up(small, page, held, begun, monkeypatch):
    monkeypatch.setattr(page, "HEARD", 1.5)
    for session in ("deaf", "listens"):
        small.join("203.0.113.1", session)
        small.wait_until(lambda session=session: of(small, session))
    with listening(small, "listens") as line:
        small.wait_until(lambda: not of(small, "deaf"))
        assert of(small, "listens") and line.recv(1000)
        held.set()
        small.wait_until(lambda: not of(small, "listens"))
    assert begun == ["listens"] and page.UNHEARD in small.news("deaf")


def test_slow_uploads_and_silent_connections_hold_nobody_up(small, capfd):
    part = b"Content-Disposition: form-data; name=files; filename=slow.wav"
    body = b"--b\r\n" + part + b"\r\n\r\n" + b"x" * 1000 + b"\r\n--b--\r\n"
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connection(small, head)) for _ in range(DAWDLERS)]
        for _ in range(IDLE):
            stack.enter_context(connection(small, ""))
        for k in range(5):
            for line in slow:
                line.sendall(body[20 * k : 20 * k + 20])
            assert small.upload("203.0.113.3", 1000).status_code == 200
        small.join("203.0.113.3", "quick")
        assert "Done in" in small.news("quick")
        slow[0].sendall(body[100:])
        assert slow[0].recv(1000).startswith(b"HTTP/1.1 200")
    small.upload("203.0.113.3", 1000)  # the others have broken off by now
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_server_takes_as_many_connections_as_it_may():
    resource = pytest.importorskip("resource")
    from bind2gen.cli.demo import _take_all_connections

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        _take_all_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_news_that_nobody_fetches_are_forgotten(small, monkeypatch, capfd):
    queue = small.blocks._queue
    for k in range(5):
        small.join("203.0.113.4", f"never listens {k}")
        small.wait_until(lambda: not small.studio.worker.busy)
    assert {f"never listens {k}" for k in range(5)} <= set(queue.pending_messages_per_session)
    assert not queue.event_analytics  # who asked for what and when
    monkeypatch.setattr(small.kept, "age", 0.1)
    small.wait_until(lambda: not queue.pending_messages_per_session and not queue.pending_event_ids_session)
    assert "session_not_found" in small.news("never listens 1")
    assert "Traceback" not in "".join(capfd.readouterr())
