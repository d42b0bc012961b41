"""The demo under a crowd: errors, order, waiting, and whether the memory of the server stays where it is.

    python tests/bench/demo_load.py [--users 32] [--minutes 5] [--browsers 2] [--steps 4] [--idle 500]

Users come through gradio_client and through browsers (Chromium), each request from another address (an X-Forwarded-For
that the server is told to believe). They draw with words or with an uploaded sound, ask only what is heard, stop, or
leave in the middle: sockets are closed, tabs are shut. Beside them some send an upload byte by byte, and many
connections say nothing. The server notes when jobs arrive, are begun and end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from noted_demo import freed_after, overtaken, read

FIRST = 60  # s, after which memory may not grow
GROWTH = 5  # percent
SLOW = 4  # uploads that trickle
PATIENCE = 240  # s, more than anybody waits
PAUSE = 1.0  # s before who was refused asks again
AT_ONCE = 0.5  # s within which two who come may change places on their way through the threads of a busy machine
FREED, STEPS_MORE = 2.0, 4  # s, and steps, that a job may go on after its visitor has stopped or left
WORDS = ("a cat", "a dog", "a clock", "a lion", "a bird", "a train")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


# ---- the crowd ----


class Crowd:
    """Users in threads until the time is over; what became of each request is counted."""

    def __init__(self, url: str, options: argparse.Namespace) -> None:
        self.url, self.options, self.over = url, options, threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.errors: list[str] = []
        self.left: list[tuple[str, float]] = []  # sessions, and when their visitor stopped what runs or was gone
        self._lock, self._addresses = threading.Lock(), iter(range(1 << 24))

    def address(self) -> dict[str, str]:
        """A visitor whom nobody has seen."""
        with self._lock:
            n = next(self._addresses)
        return {"x-forwarded-for": f"100.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"}

    def told(self, outcome: str, error: object = None) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if error is not None:
                self.errors.append(f"{outcome}: {type(error).__name__} {' '.join(str(error).split())}"[:300])

    def run(self, user: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        while not self.over.is_set():
            with self.counted():
                user(chance)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Whatever goes wrong within is counted, and followed by a pause."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  (of which none is wanted but one)
            if refused(error):
                self.told("refused")
            else:
                self.told("failed", error)
            self.over.wait(PAUSE)

    def scripts(self, chance: random.Random) -> None:
        """One visit through gradio_client."""
        from gradio_client import Client, handle_file

        from bind2gen.files.bundled import example_sounds

        options = {"headers": self.address(), "httpx_kwargs": {"timeout": PATIENCE}}
        client = Client(self.url, verbose=False, download_files=self.options.folder, **options)
        sound = handle_file(str(chance.choice(list(example_sounds().values()))))
        while not self.over.is_set():
            given = {"text": chance.choice(WORDS), "steps": self.options.steps, "seed": chance.randrange(1000)}
            client.headers |= self.address()
            with self.counted():
                kind = chance.random()
                if kind < 0.2:
                    client.predict(audio=sound, api_name="/hear")
                elif kind < 0.4:
                    client.predict(audio=sound, **given | {"text": None}, api_name="/sound2image")
                elif kind < 0.8:
                    client.predict(**given, api_name="/sound2image")
                else:
                    self.stopped(client, given, chance)
                self.told("stopped" if kind >= 0.8 else "finished")

    def stopped(self, client: Any, given: dict[str, Any], chance: random.Random) -> None:
        job = client.submit(**given | {"steps": 50}, api_name="/sound2image")
        self.over.wait(chance.uniform(0.5, 3))
        client.predict(api_name="/stop")
        self.left.append((client.session_hash, time.time()))
        job.result(timeout=PATIENCE)

    def leavers(self, chance: random.Random) -> None:
        """Join the queue, listen a while, and close the socket in the middle."""
        import httpx

        session, headers = uuid.uuid4().hex, self.address()
        data = [None, chance.choice(WORDS), None, None, "drawn", None, None, *[1.0] * 6, 0, 50, 3.0, 1]
        body = {"fn_index": self.options.fn, "session_hash": session, "data": data}
        httpx.post(f"{self.url}gradio_api/queue/join", json=body, headers=headers, timeout=PATIENCE).raise_for_status()
        until = time.time() + chance.uniform(0.5, 6)
        news = f"{self.url}gradio_api/queue/data?session_hash={session}"
        with contextlib.suppress(httpx.ReadTimeout), httpx.stream("GET", news, headers=headers, timeout=5) as answer:
            for _ in answer.iter_raw():
                if time.time() > until:
                    break
        self.left.append((session, time.time()))
        self.told("left")
        self.over.wait(chance.uniform(1, 4))

    def browser(self, seed: int) -> None:
        """Visits in tabs, of which every third is shut while it waits or draws."""
        from playwright.sync_api import sync_playwright

        chance = random.Random(seed)
        with sync_playwright() as engine:
            shown = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            while not self.over.is_set():
                context = shown.new_context(extra_http_headers=self.address())
                try:
                    self.tab(context.new_page(), chance)
                except Exception as error:  # noqa: BLE001  (counted, and none is wanted)
                    self.told("failed", error)
                context.close()
            shown.close()

    def tab(self, tab: Any, chance: random.Random) -> None:
        tab.set_default_timeout(1000 * PATIENCE)
        tab.goto(self.url)
        button = tab.get_by_role("button", name="Draw", exact=True)
        button.wait_for()
        tab.get_by_role("textbox", name="Words").fill(chance.choice(WORDS))
        button.click()
        if chance.random() < 1 / 3:
            tab.wait_for_timeout(chance.uniform(500, 4000))
            self.told("tab shut")
            return
        status = tab.locator("#status")
        said = status.get_by_text("Done in").or_(tab.get_by_test_id("toast-body")).first
        said.wait_for()
        words = said.inner_text()
        if "Done in" in words:
            self.told("finished in a browser")
        elif "currently busy" in words:  # as the page puts what the queue says
            self.told("refused")
            tab.wait_for_timeout(1000 * PAUSE)
        else:
            self.told("failed", RuntimeError(words))

    def trickle(self, seed: int) -> None:
        """An upload of a byte a second."""
        host, port = self.url.removeprefix("http://").rstrip("/").split(":")
        head = b"--b\r\nContent-Disposition: form-data; name=files; filename=slow.wav\r\n\r\n"
        with socket.create_connection((host, int(port))) as line:
            line.sendall(
                f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                f"Content-Length: 1000000\r\n\r\n".encode()
                + head
            )
            while not self.over.wait(1):
                line.sendall(b"x")


def refused(error: Exception) -> bool:
    """By the bounded queue, in its own words."""
    words = str(error)
    return "Queue is full" in words or "jobs are waiting already" in words or "503 Service Unavailable" in words


# ---- what came of it ----


def measured(process: Any, crowd: Crowd, seconds: float) -> Iterator[tuple[float, float]]:
    """s since the begin and MB of the server, each second."""
    begun = time.monotonic()
    while (past := time.monotonic() - begun) < seconds:
        yield past, process.memory_info().rss / 1e6
        crowd.over.wait(1)


def table(crowd: Crowd, log: Path, memory: list[tuple[float, float]], seconds: float) -> list[str]:
    """Lines of the result; what was not kept says so."""
    jobs = read(log)
    done = [job for job in jobs if "ended" in job]
    lines = [f"{name:<28}{count:>8}" for name, count in sorted(crowd.outcomes.items())]
    lines += [f"{'jobs done a minute':<28}{60 * len(done) / seconds:>8.1f}"]
    for name, begin, end in (("waiting, s", "arrived", "begun"), ("working, s", "begun", "ended")):
        for kind, draws in (("drawings", True), ("hearing", False)):
            took = [job[end] - job[begin] for job in done if bool(job["steps"]) == draws] or [float("nan")]
            half, most = np.percentile(took, (50, 95))
            lines.append(f"{name + ' ' + kind:<28}{half:>8.2f} p50{most:>8.2f} p95")
    drawn = sorted((j for j in done if j["steps"] == crowd.options.steps), key=lambda job: job["arrived"])
    apart = overtaken(drawn)
    words = f"of {len(drawn)} equal drawings, which had come {max(apart, default=0):.2f} s apart at most"
    lines.append(f"{'out of order':<28}{len(apart):>8} {words}")
    freed = freed_after(jobs, crowd.left)
    lines.append(f"{'slot freed after, s':<28}{max(freed, default=0):>8.2f} at most, {len(freed)} stopped or left")
    at = {name: next((mb for past, mb in memory if past >= when), float("nan"))
          for name, when in (("1 min", FIRST), ("the end", memory[-1][0]))}  # fmt: skip
    most = max((mb for past, mb in memory if past >= FIRST), default=float("nan"))
    growth = 100 * (most / at["1 min"] - 1)
    lines += [f"{'memory at ' + name + ', MB':<28}{mb:>8.0f}" for name, mb in at.items()]
    lines.append(f"{'most after 1 min, percent':<28}{growth:>8.1f} more")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    lines.append(f"{'load average':<28}{load:>8}")
    step = np.median([(job["ended"] - job["begun"]) / job["steps"] for job in drawn] or [0])
    late = max(freed, default=0) > FREED + STEPS_MORE * step
    kept = not (crowd.errors or late) and max(apart, default=0) < AT_ONCE and growth < GROWTH
    return [*lines, *crowd.errors[:20], "all kept" if kept else "NOT KEPT"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    defaults = {"users": 32, "minutes": 5.0, "browsers": 2, "steps": 4, "idle": 500, "port": 7961}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        options.folder = folder
        print("\n".join(campaign(options, Path(folder) / "log")))


def campaign(options: argparse.Namespace, log: Path) -> list[str]:
    import httpx
    import psutil

    command = [sys.executable, str(Path(__file__).with_name("noted_demo.py")), str(options.port), str(log)]
    url, seconds = f"http://127.0.0.1:{options.port}/", 60 * options.minutes
    server = subprocess.Popen(command)
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                config = httpx.get(f"{url}config", timeout=60).json()
                break
            if server.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.5)
        options.fn = next(fn["id"] for fn in config["dependencies"] if fn["api_name"] == "sound2image")
        crowd = Crowd(url, options)
        idle = [socket.create_connection(("127.0.0.1", options.port)) for _ in range(options.idle)]
        leavers = options.users // 8
        users = [crowd.leavers] * leavers + [crowd.scripts] * (options.users - leavers - options.browsers)
        threads = [threading.Thread(target=crowd.run, args=(user, k)) for k, user in enumerate(users)]
        threads += [threading.Thread(target=crowd.browser, args=(k,)) for k in range(options.browsers)]
        threads += [threading.Thread(target=crowd.trickle, args=(k,)) for k in range(SLOW)]
        for thread in threads:
            thread.start()
        memory = list(measured(psutil.Process(server.pid), crowd, seconds))
        crowd.over.set()
        for thread in threads:
            thread.join(600)
        for line in idle:
            line.close()
        return table(crowd, log, memory, seconds)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
