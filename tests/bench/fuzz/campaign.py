"""Processes that try damaged files, and one that watches: who hangs is killed, who dies is started anew behind it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import corpus
from .families import FAMILIES
from .worker import SECONDS, SPENT, TRIED, Seeds

HERE = Path(__file__).parent
WHOLE = 20_000  # inputs of which families' shares are
STUCK = 60 * SECONDS  # of the clock, where it waits for nothing to happen
TICK = os.sysconf("SC_CLK_TCK")
START = "import sys, json; sys.path[:0] = {places}; import fuzz.worker as w; w.main(json.loads(sys.argv[1]))"


@dataclass
class Report:
    """What came of a campaign: by family tried, refused, accepted, failed; and every failure."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros((len(FAMILIES), 5), np.int64))
    failures: list[dict] = field(default_factory=list)

    def table(self) -> str:
        """In Markdown."""
        rows = [*zip(FAMILIES, self.counts, strict=True), ("all", self.counts.sum(0))]
        lines = (
            f"| {name} | {' | '.join(map(str, row[:SPENT]))} | {row[SPENT] / 1000 / row[TRIED]:.1f} |"
            for name, row in rows
            if row[TRIED]
        )
        head = [
            "| loader | tried | refused | accepted | failed | ms of the processor each |",
            "|---|---|---|---|---|---|",
        ]
        return "\n".join([*head, *lines])

    def kinds(self) -> Counter[str]:
        """The ends of the failures' reasons, by how many there are of each."""
        return Counter(f"{one['family']}: {one['reason'].strip().splitlines()[-1][:200]}" for one in self.failures)


def shares(total: int, only: list[str] | None = None) -> dict[str, int]:
    """How many inputs each family gets of ``total``."""
    chosen = {name: family.share for name, family in FAMILIES.items() if not only or name in only}
    return {name: max(1, math.ceil(share * total / sum(chosen.values()))) for name, share in chosen.items()}


class _Child:
    """One process, and where it is."""

    def __init__(self, number: int, folder: Path, seed: int, tasks: list[tuple[str, int, int]]) -> None:
        self.number, self.folder, self.seed, self.tasks = number, folder, seed, list(tasks)
        self.state = np.memmap(folder / f"state-{number}", np.int64, "w+", shape=(len(FAMILIES) + 1, 5))
        self.failures: list[dict] = []
        self._start()

    def _start(self) -> None:
        order = {
            "number": self.number,
            "folder": str(self.folder),
            "corpus": str(self.folder / "corpus"),
            "seed": self.seed,
            "tasks": self.tasks,
        }
        self.state[-1, 2] = 0
        code = START.format(places=[str(HERE.parents[2]), str(HERE.parent)])
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "MALLOC_ARENA_MAX": "2",
            "PYTHONFAULTHANDLER": "1",
        }
        self.log = open(self.folder / f"log-{self.number}", "a")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(order)], stdout=self.log, stderr=self.log, env=environment
        )
        self.at, self.since, self.spent = None, time.monotonic(), 0.0

    def check(self) -> bool:
        """Whether it is done. One that hung or died goes on behind where it was."""
        code = self.process.poll()
        if code == 0:
            return True
        if code is None:
            now = tuple(self.state[-1, :2])
            if now != self.at:
                self.at, self.since, self.spent = now, time.monotonic(), self._spent()
            hung = self.state[-1, 2] and (self._spent() - self.spent > SECONDS or time.monotonic() - self.since > STUCK)
            if not hung:
                return False
            self.process.kill()
            self.process.wait()
            reason = f"hangs: more than {SECONDS:.0f} s"
        else:
            said = self.folder / f"spoken-{self.number}"
            words = said.read_text(errors="replace")[-3000:] if said.exists() else ""
            reason = f"died of {signal.Signals(-code).name if code < 0 else f'exit {code}'}: {words}"
            if not self.state[-1, 2]:
                raise RuntimeError(f"worker {self.number} fell over between two inputs: {reason}")
        self._fail(reason)
        return not self.tasks

    def _fail(self, reason: str) -> None:
        row, case = (int(x) for x in self.state[-1, :2])
        self.state[row] += [1, 0, 0, 1, 0]
        name = list(FAMILIES)[row]
        self.failures.append({"family": name, "case": case, "reason": reason})
        while self.tasks and self.tasks[0][0] != name:
            self.tasks.pop(0)
        self.tasks[0] = (name, case + 1, self.tasks[0][2])
        shutil.rmtree(self.folder / f"scratch-{self.number}", ignore_errors=True)
        self._start()

    def _spent(self) -> float:
        """Processor time, s."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return self.spent
        return (int(fields[11]) + int(fields[12])) / TICK

    def told(self) -> list[dict]:
        path = self.folder / f"failures-{self.number}.jsonl"
        return self.failures + [json.loads(line) for line in path.read_text().splitlines()]


def run(folder: Path, seed: int, counts: Mapping[str, int], *, first: int = 0, processes: int = 2) -> Report:
    """Try ``counts`` inputs of each family, those from number ``first``, in a folder for corpus and scratch."""
    if not (folder / "corpus").exists():
        corpus.write(folder / "corpus")
    children = []
    for number in range(processes):
        tasks = []
        for name, count in counts.items():
            bounds = [first + count * part // processes for part in (number, number + 1)]
            tasks.append((name, *bounds))
        children.append(_Child(number, folder, seed, tasks))
    waiting = set(children)
    try:
        while waiting:
            time.sleep(0.2)
            waiting = {child for child in waiting if not child.check()}
    finally:
        for child in children:
            child.process.kill()
    report = Report()
    for child in children:
        report.counts += child.state[:-1]
        report.failures += child.told()
        for name in ("state-", "failures-"):
            (folder / f"{name}{child.number}{'.jsonl' if name == 'failures-' else ''}").unlink()
    return report


def kept(folder: Path, failure: dict, seed: int, out: Path) -> Path:
    """The input of a failure once more, put where people find it."""
    family, case = failure["family"], failure["case"]
    target = out / f"{family}-{seed}-{case}"
    shutil.rmtree(target, ignore_errors=True)
    seeds = Seeds(family, folder / "corpus", target.parent / ".making")
    top, _, _ = seeds.damaged(seed, case)
    target.mkdir(parents=True)
    shutil.move(top, target / top.name)
    (target / "reason.txt").write_text(failure["reason"])
    shutil.rmtree(target.parent / ".making")
    return target
