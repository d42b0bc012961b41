"""The server of demo_load.py, ``bind2gen demo sound2image`` with a log of what happens to each job; and its reader."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any


def serve(port: int, log: str) -> None:
    """Serve until the process is told to end."""
    import gradio.queueing

    from bind2gen.cli import main
    from bind2gen.studio.worker import Worker

    lock = threading.Lock()

    def note(what: str, session: str, **more: Any) -> None:
        line = json.dumps({"what": what, "session": session, "at": time.time(), **more})
        with lock, open(log, "a", encoding="utf-8") as out:
            out.write(line + "\n")

    ask, push = Worker._ask, gradio.queueing.Queue.push

    def asked(self: Worker, work: Any, session: str, visitor: str, steps: int) -> Any:
        def noted(*given: Any) -> Any:
            note("begun", session, steps=steps, visitor=visitor)
            try:
                return work(*given)
            finally:
                note("ended", session)

        return ask(self, noted, session, visitor, steps)

    async def pushed(self: Any, body: Any, request: Any, username: Any) -> Any:
        at, answer = time.time(), await push(self, body, request, username)
        if answer[0]:
            note("arrived", body.session_hash, arrived=at, name=self.blocks.fns[body.fn_index].api_name)
        return answer

    Worker._ask, gradio.queueing.Queue.push = asked, pushed
    sys.exit(main(["demo", "sound2image", "--port", str(port), "--proxies", "127.0.0.1", "--quiet"]))


def read(log: Path) -> list[dict[str, Any]]:
    """Each job that the queue took: session, steps, and when it arrived, was begun and ended."""
    jobs: list[dict[str, Any]] = []
    newest: dict[str, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one["what"] == "arrived" and one["name"] in ("sound2image", "hear"):
            newest[one["session"]] = {"session": one["session"], "arrived": one["arrived"]}
            jobs.append(newest[one["session"]])
        elif one["what"] != "arrived" and one["session"] in newest:
            newest[one["session"]] |= {one["what"]: one["at"]} | {k: one[k] for k in ("steps",) if k in one}
    return jobs


def freed_after(jobs: list[dict[str, Any]], left: list[tuple[str, float]]) -> list[float]:
    """s that each job went on after its visitor had stopped it or was gone; 0 of one that was over or never begun."""
    found = []
    for session, at in left:
        theirs = [job for job in jobs if job["session"] == session and job["arrived"] < at]
        if theirs and "begun" in theirs[-1]:
            found.append(max(theirs[-1].get("ended", float("inf")) - at, 0.0))
    return found


def overtaken(jobs: list[dict[str, Any]]) -> list[float]:
    """s that each job of a list in order of arrival came after one that was begun later."""
    last, found = jobs[0] if jobs else {}, []
    for job in jobs:
        if job["begun"] < last["begun"]:
            found.append(job["arrived"] - last["arrived"])
        else:
            last = job
    return found


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
