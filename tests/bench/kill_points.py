"""Commands that are killed, or told to end, at random moments, and what is there then and after they are run again.

    python tests/bench/kill_points.py [--kills 20] [--only embed index ...] [--signals 4]

kill -9: each command runs in a child that is forked after torch and the rest are imported, so that the moments, evenly
drawn over the command's own time, fall where something is written. Right after a kill every file under a final name
must be what an undisturbed run leaves, and after the same command was run once more the whole folder must be, byte for
byte, with nothing beside it.

--signals: SIGINT and SIGTERM to such children: exit code 130 or 143, one line on stderr, nothing left under names that
are no final ones; or the whole result and 0, where the signal came too late.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a child of a process with more threads hangs in the first product

import torch  # noqa: E402
from kill_cases import CASES, patch_size, prepare  # noqa: E402
from tqdm import tqdm  # noqa: E402

from bind2gen.cli import main as command_line  # noqa: E402
from bind2gen.files import own_folder  # noqa: E402


@dataclass
class Tally:
    """Of one operation."""

    tried: int = 0
    in_time: int = 0  # kills that came before the end
    failed: list[str] | None = None

    def fail(self, words: str) -> None:
        self.failed = [*(self.failed or []), words]


def forked(
    words: list[str], log: Path, delay: float | None = None, kind: int = signal.SIGKILL, *, group: bool = False
) -> tuple[int, float]:
    """Run a command line in a child, sent a signal after ``delay`` seconds: its exit code (-9: killed), and seconds."""
    sys.stdout.flush()
    log.write_text("")
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os._exit(command_line(words))
    if delay is not None:
        while time.monotonic() - started < delay and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:  # fmt: skip  # noqa: E501
            time.sleep(0.002)
        (os.killpg if group else os.kill)(child, kind)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - started


def tree(folder: Path, read: dict[str, Callable[[Path], object]]) -> dict[str, object]:
    """Relative path -> what its content is known by; ``read`` has names whose bytes differ between undisturbed runs."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        special = next((call for pattern, call in read.items() if path.match(pattern)), None)
        inside = any(parent.name.endswith(".lance") or parent.name == "checkpoint.old" for parent in path.parents)
        if path.is_file() and not inside and not name.startswith(own_folder.PREFIX) and f"/{own_folder.PREFIX}" not in name:  # fmt: skip  # noqa: E501
            found[name] = special(path) if special else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def left_over(folder: Path) -> list[str]:
    """Hidden folders of ours, and half checkpoints."""
    return [str(path) for path in folder.rglob("*") if path.name.startswith(own_folder.PREFIX) or path.name.endswith(".new")]  # fmt: skip  # noqa: E501


def killed(name: str, there: Path, kills: int, seed: int) -> Tally:
    """The campaign of one operation."""
    case, tally, drawn = CASES[name], Tally(), random.Random(f"{name} {seed}")
    work = there / "work" / name
    shutil.rmtree(work, ignore_errors=True)
    (work / "plain").mkdir(parents=True)
    code, seconds = forked(case.words(there, work / "plain"), work / "log")
    if code:
        tally.fail(f"undisturbed: exit {code}: {(work / 'log').read_text()[-300:]}")
        return tally
    wanted, rows = tree(work / "plain", case.read), case.rows and case.rows(work / "plain")
    out = work / "out"
    for number in range(kills):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for again in range(1 + number % 2):  # every other one is killed twice
            code, _ = forked(case.words(there, out), work / "log", drawn.uniform(0, seconds))
            tally.in_time += code == -signal.SIGKILL and not again
            if code not in (0, -signal.SIGKILL):
                tally.fail(f"{number}: exit {code}: {(work / 'log').read_text()[-300:]}")
        half = tree(out, case.read)
        wrong = [path for path in half if not case.grows(path) and half[path] != wanted.get(path)]
        if wrong:
            tally.fail(f"{number}: after the kill {wrong} are not what an undisturbed run leaves")
        code, _ = forked(case.words(there, out), work / "log")
        if code:
            tally.fail(f"{number}: run again: exit {code}: {(work / 'log').read_text()[-300:]}")
            continue
        found = tree(out, case.read)
        if found != wanted or (case.rows and case.rows(out) != rows):
            names = [path for path in {*found, *wanted} if found.get(path) != wanted.get(path)]
            tally.fail(f"{number}: run again, other content: {names or 'rows'}")
        if left := left_over(out):
            tally.fail(f"{number}: left over {left}")
        tally.tried += 1
    return tally


def signalled(name: str, there: Path, count: int, seed: int) -> dict[str, Tally]:
    """SIGINT and SIGTERM to children; where the command has workers, to these as well, as a terminal does."""
    case, drawn = CASES[name], random.Random(f"{name} {seed}")
    work, tallies = there / "work" / f"{name}-signals", {}
    shutil.rmtree(work, ignore_errors=True)
    (work / "plain").mkdir(parents=True)
    _, seconds = forked(case.words(there, work / "plain"), work / "log")
    for kind in (signal.SIGINT, signal.SIGTERM):
        tally = tallies[kind.name] = Tally()
        for number in range(count):
            out = work / f"{kind.name}-{number}"
            out.mkdir()
            delay = drawn.uniform(0.02, seconds)
            code, _ = forked(case.words(there, out), work / "log", delay, kind, group=case.group)
            told = (work / "log").read_text()
            said = [line for line in told.splitlines() if line and "warning" not in line and "note" not in line]
            tally.in_time += code != 0
            if code not in (0, 128 + kind) or len(said) != (code != 0):
                tally.fail(f"{number} after {delay:.2f} of {seconds:.2f} s: exit {code}: {told[-700:]}")
            if left := left_over(out):
                tally.fail(f"{number}: left over {left}")
            tally.tried += 1
            print(f"  {kind.name} after {delay:.2f} of {seconds:.2f} s: exit {code}: {' | '.join(said)}", flush=True)
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each operation")
    parser.add_argument("--signals", type=int, default=0, help="of each kind and command, instead of kills")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # another thread
    patch_size()
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        maker = multiprocessing.get_context("fork").Process(target=prepare, args=(there,))
        maker.start()  # saving models starts threads, and a process with threads is not to be forked
        maker.join()
        print("| operation | tried | came before the end | failed |\n|---|---|---|---|", flush=True)
        for name in args.only:
            run = signalled(name, there, args.signals, args.seed) if args.signals else {
                "kill -9": killed(name, there, args.kills, args.seed)
            }  # fmt: skip
            for kind, tally in run.items():
                failed = len(tally.failed or [])
                print(f"| {name}, {kind} | {tally.tried} | {tally.in_time} | {failed} |", flush=True)
                for words in tally.failed or []:
                    print(f"  {words}", flush=True)


if __name__ == "__main__":
    main()
