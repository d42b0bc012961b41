"""How worker processes are begun, and how many. Without torch: a command begins them while it imports that itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver, resource_tracker

# A forked process has no part of this one's threads (torch's, tqdm's, LanceDB's) but the locks that they held. One that
# is forked from a server, which has imported everything and begun nothing, has neither; where there is none, spawned.
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
FEW = 500  # files; for fewer small ones workers take longer to start than they save
MOST = 8  # workers, where nobody says how many


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers(files: int) -> int:
    """How many worker processes to read so many files in."""
    return 0 if files < FEW else min(MOST, processors())


def start_server() -> None:
    """Let the server of new processes import what they need, while this one does something else."""
    if METHOD != "forkserver":
        return
    multiprocessing.get_context(METHOD).set_forkserver_preload(["bind2gen.imagebind.processor"])
    # Ctrl-C reaches all processes of a terminal, and so may being told to end: while it imports, the server would print
    # a traceback, and without it a worker that is being started would. It ends with this process.
    resource_tracker.ensure_running()  # the server would start it, and unblock signals after that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_for_server() -> None:
    """Until it has imported everything."""
    if METHOD == "forkserver":
        first = multiprocessing.get_context(METHOD).Process(target=int)
        first.start()
        first.join()
