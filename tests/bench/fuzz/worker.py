"""A process that tries one damaged file after another, and may die of it: the parent knows by ``state`` of which.

What it watches itself: what is raised, what is written on stdout and stderr by whatever library, warnings, numbers
that are not finite, and the most memory taken.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

TRIED, REFUSED, ACCEPTED, FAILED, SPENT = range(5)  # columns of a family's counts
MEMORY = 1536 << 20  # bytes that one input may take, beyond what the process holds at rest
SECONDS = 10.0  # of processor time that one input may take; see campaign.py
C_LIBRARY = ctypes.CDLL(None)


class Seeds:
    """The whole files of one family, and damaged ones made of them in a folder."""

    def __init__(self, family: str, corpus: Path, scratch: Path) -> None:
        self.family, self.scratch, self.places = family, scratch / family, []
        for number in sorted(os.listdir(corpus / family), key=int):
            place = self.scratch / number
            if not place.exists():
                shutil.copytree(corpus / family / number, place)
            files = sorted(
                path.relative_to(place) for path in place.rglob("*") if path.is_file() and ".old" not in path.name
            )
            self.places.append((place, {path: (corpus / family / number / path).read_bytes() for path in files}))

    def damaged(self, seed: int, case: int) -> tuple[Path, Path, bytes]:
        """What is to be opened, the file that is damaged, and its content before."""
        from .mutation import mutated

        rng = Random(f"{seed} {self.family} {case}")
        place, files = self.places[rng.randrange(len(self.places))]
        name = rng.choice(list(files))
        others = [next(iter(other.values())) for _, other in self.places]
        top = place / name.parts[0]
        target = place / name
        if len(files) > 1 and rng.random() < 0.04:
            target.unlink()
        else:
            target.write_bytes(mutated(files[name], name.name, others, rng))
        return top, target, files[name]


def main(order: dict[str, Any]) -> None:
    """Go through ``order["tasks"]``: [family, first case, end]."""
    from bind2gen.cli.reporting import quiet_models

    from . import families

    folder, seed = Path(order["folder"]), order["seed"]
    state = np.memmap(folder / f"state-{order['number']}", np.int64, "r+", shape=(len(families.FAMILIES) + 1, 5))
    names = list(families.FAMILIES)
    failures = open(folder / f"failures-{order['number']}.jsonl", "a")  # noqa: SIM115  (to the end of the process)
    spoken = _silenced(folder / f"spoken-{order['number']}")
    logging.getLogger().addHandler(logging.NullHandler())  # what is logged is no chatter, and silent by itself
    quiet = quiet_models(quiet=True)
    quiet.__enter__()
    scratch = folder / f"scratch-{order['number']}"
    for name, first, end in order["tasks"]:
        row = names.index(name)
        seeds = Seeds(name, Path(order["corpus"]), scratch)
        load = families.FAMILIES[name].load
        for reason in _warmed(load, seeds):  # a whole file that is refused is a fault of ours
            failures.write(json.dumps({"family": name, "case": -1, "reason": reason}) + "\n")
        for case in range(first, end):
            state[-1] = row, case, 1, 0, 0
            top, target, content = seeds.damaged(seed, case)
            forget_peak()
            before = status_of("VmRSS")
            begun = time.process_time()
            outcome, reason = _tried(load, top)
            spent = int(1e6 * (time.process_time() - begun))
            if words := spoken():
                outcome, reason = FAILED, f"wrote {words[:400]!r}; {reason or ''}"
            if (taken := status_of("VmHWM") - before) > MEMORY:
                outcome, reason = FAILED, f"took {taken >> 20} MiB; {reason or ''}"
            if outcome == FAILED:
                failures.write(json.dumps({"family": name, "case": case, "reason": reason}) + "\n")
                failures.flush()
            state[row] += [1, outcome == REFUSED, outcome == ACCEPTED, outcome == FAILED, spent]
            state[-1, 2] = 0
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _warmed(load: Any, seeds: Seeds) -> Iterator[str]:
    for place, files in seeds.places:
        outcome, reason = _tried(load, place / next(iter(files)).parts[0])
        if outcome != ACCEPTED:
            yield f"whole {next(iter(files))}: {reason}"
    resource.setrlimit(resource.RLIMIT_AS, (status_of("VmSize") + 3 * MEMORY, resource.RLIM_INFINITY))


def _tried(load: Any, path: Path) -> tuple[int, str | None]:
    from bind2gen.errors import Bind2GenError, Bind2GenWarning

    from .families import arrays

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries in libraries, which Python shows to nobody
        try:
            found = load(path)
        except Bind2GenError as error:
            outcome, reason = REFUSED, str(error)
            if not reason or not _printable(reason) or len(reason) > 2000:
                return FAILED, f"not one line: {reason[:2000]!r}"
        except BaseException as error:  # noqa: BLE001  (which is what is looked for)
            return FAILED, "".join(traceback.format_exception(error))[-3000:]
        else:
            outcome, reason = ACCEPTED, None
            for value in arrays(found):
                finite = np.isfinite(value).all() if isinstance(value, np.ndarray | float) else value.isfinite().all()
                if not finite:
                    return FAILED, "NaN or infinity came out"
    for warning in heard:
        if not issubclass(warning.category, Bind2GenWarning) or not _printable(str(warning.message)):
            return FAILED, f"{warning.category.__name__} of {warning.filename}:{warning.lineno}: {warning.message}"
    return outcome, reason


def _printable(text: str) -> bool:
    return all(c.isprintable() or "\ud800" <= c <= "\udfff" for c in text)  # names of files may hold halves


def _silenced(path: Path) -> Any:
    """Send stdout and stderr to a file; gives a function for what has come since it was last asked."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)

    def spoken() -> str:
        sys.stdout.flush()
        C_LIBRARY.fflush(None)
        if not os.fstat(handle).st_size:
            return ""
        words = path.read_bytes().decode(errors="replace")
        os.ftruncate(handle, 0)
        return words

    return spoken


def status_of(key: str) -> int:
    """Bytes, of /proc/self/status."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) << 10
    raise KeyError(key)


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
