"""Embedding on a Ray cluster: chunks of files go to workers that each hold the model, their rows to the one writer."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from ..errors import Bind2GenError, Bind2GenWarning, DependencyError, InputError
from .embedding import Embedded
from .indexing import Embed
from .walking import Found, Skipped

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LOCAL, HERE = "local", "auto"  # a cluster that we start in this machine; the one that it belongs to
KNOCK, ANSWER = 5, 30  # s that a machine has to take a connection, and Ray on it to answer
CPUS = 4  # of a worker where there are no GPUs and nobody says how many workers there should be
DEATHS = 2  # of workers that read a file alone, before it is left out
OBJECTS = 512 * 2**20  # bytes of memory for what is under way in a cluster of our own: Ray would take 30 % of all

PROBE = "import sys, ray; ray.init(sys.argv[1], logging_level='CRITICAL', log_to_driver=False)"
TOKEN = "of a cluster that asks for a token set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN if it is not in ~/.ray"


def on_ray(
    make: Callable[[], Callable[[Sequence[Found]], Embedded]],
    address: str = LOCAL,
    *,
    workers: int | None = None,
    gpus: float | None = None,
) -> Embed:
    """Chunks of files to their rows on Ray Data, for :func:`~bind2gen.store.indexing.index_folders`.

    Nothing is connected to before there is something to embed. Chunks come back as they are done. What a worker was at
    when it died is done again, file by file; a file over which workers die again and again is skipped.

    Args:
        make: called once in each worker, where it loads the model; gives what turns files into rows there, such as
            :class:`~bind2gen.store.embedding.FileEmbedder`. Goes to the workers by pickle.
        address: ``local``, workers in this machine; ``auto``, the cluster that this machine is part of; or
            ``host:port`` of that cluster's head. A connection that Ray has already is used, and left as it is.
        workers: how many; None is one for each GPU, or for each four CPUs.
        gpus: of each worker, or a part of one; None is 1 where the cluster has any.

    Raises:
        DependencyError: Ray is not installed.
        InputError: no such address; a worker does not see the files.
        Bind2GenError: nobody answers there, or the cluster is too small; what a worker's ``make`` raised.
    """
    check_cluster(address)

    def embed(chunks: Iterator[list[Found]]) -> Iterator[Embedded]:
        with _connected(address), _ray_errors(address):
            yield from _streamed(list(chunks), make, *_share(workers, gpus))

    return embed


def check_cluster(address: str) -> None:
    """Whether Ray is installed and somebody listens at an address of :func:`on_ray`, within five seconds.

    Raises:
        DependencyError, InputError, Bind2GenError: as of :func:`on_ray`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise DependencyError('embedding on a cluster needs Ray: pip install "bind2gen[ray]"') from None
    if address in (LOCAL, HERE):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        advice = "where Ray's own client would be used, run this on a machine of the cluster, with auto"
        raise InputError(f"Ray at {address}: wanted {LOCAL}, {HERE} or host:port of the cluster's head; {advice}")
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK).close()
    except (OSError, OverflowError) as error:
        advice = f"mind the address, whose port is 6379 if nobody chose another ({error})"
        raise Bind2GenError(f"Ray at {address}: nobody answers there; {advice}") from None


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Within the block there is a cluster; it goes, or we leave it, at the end."""
    import ray

    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # that of its log file stays
            logging.getLogger("ray.data").removeHandler(handler)
    if ray.is_initialized():
        yield
        return
    quiet = {"include_dashboard": False, "logging_level": logging.CRITICAL, "log_to_driver": False}
    if address != LOCAL:
        _probe(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, **quiet, **({"object_store_memory": OBJECTS} if address == LOCAL else {}))
    except Exception as error:  # noqa: BLE001  (of many kinds: other versions, full disks, ports that are taken)
        raise Bind2GenError(f"Ray at {address}: cannot be started ({_last_line(error)})") from error
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray would end this process by it, for good
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Connect from another process first: where nobody answers, Ray tries for minutes and may end its process."""
    try:
        subprocess.run(
            [sys.executable, "-c", PROBE, address], timeout=ANSWER, check=True, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {ANSWER} s"
    except subprocess.CalledProcessError as error:
        reason = _last_line(error.stderr)
    else:
        return
    raise Bind2GenError(f"Ray at {address}: cannot be connected to ({reason}); {TOKEN}")


def _share(workers: int | None, gpus: float | None) -> tuple[int, int, float]:
    """How many workers, and the CPUs and GPUs of each: as many CPUs as let all of them fit into the machines."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = float(any(node.get("GPU") for node in nodes)) if gpus is None else gpus

    def room(cpus: int) -> int:
        return sum(int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else 1e9)) for node in nodes)

    workers = workers or max(1, room(1 if gpus else CPUS))
    for cpus in range(max(int(node.get("CPU", 0)) for node in nodes), 0, -1):
        if room(cpus) >= workers:
            return workers, cpus, gpus
    raise Bind2GenError(
        f"Ray: wanted {workers} workers with a CPU and {gpus:g} GPUs each, the cluster's {len(nodes)} machines have "
        f"room for {room(1)}"
    )


def _streamed(
    chunks: list[list[Found]], make: Callable[[], Any], workers: int, cpus: int, gpus: float
) -> Iterator[Embedded]:
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    DataContext.get_current().enable_progress_bars = False
    beside_us = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    diary = ray.remote(_diary()).options(num_cpus=0, scheduling_strategy=beside_us).remote()
    rows = [{"number": number, "files": pickle.dumps(chunk)} for number, chunk in enumerate(chunks)]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Worker, batch_size=1, compute=ActorPoolStrategy(size=min(workers, len(rows))), num_cpus=cpus, num_gpus=gpus,
        fn_constructor_args=(make, diary, __version__),
    )  # fmt: skip
    for batch in done.iter_batches(batch_size=None):
        for packed in batch["answer"]:
            yield _taken(pickle.loads(packed))


class _Answer(NamedTuple):
    """What a worker says of a chunk: its rows or why there are none, files that it does not see, and warnings."""

    host: str
    part: Embedded | Bind2GenError
    unseen: Sequence[str] = ()
    warned: Sequence[str] = ()


def _taken(answer: _Answer) -> Embedded:
    for path in answer.unseen:
        if os.path.exists(path):  # else it is gone from here too
            advice = "the folders must be mounted at the same place on all machines, and readable there"
            raise InputError(f"{path}: the Ray worker on {answer.host} does not see this file; {advice}")
    for message in answer.warned:
        warnings.warn(message, Bind2GenWarning, stacklevel=2)
    if isinstance(answer.part, Bind2GenError):
        raise type(answer.part)(f"on {answer.host}: {answer.part}") from answer.part
    return answer.part


def _diary() -> type:
    """Class of an actor that knows what was begun and not ended; local, so that its process need not import us."""

    class Diary:
        def __init__(self) -> None:
            self._open: Counter[int | str] = Counter()

        def add(self, what: int | str, step: int) -> int:
            """Begin (1) a chunk or a file, or end it (-1): how often it was begun and never ended before."""
            self._open[what] += step
            return self._open[what] - step

    return Diary


class _Worker:
    """Lives in a process of its own somewhere in the cluster."""

    def __init__(self, make: Callable[[], Any], diary: Any, version: str) -> None:
        self._diary = diary
        self._embed: Callable[[Sequence[Found]], Embedded] | Bind2GenError
        try:
            if version != __version__:
                raise DependencyError(f"wanted bind2gen {version} as where the run began, this is {__version__}")
            self._embed = make()
        except Bind2GenError as error:
            self._embed = error

    def __call__(self, batch: Mapping[str, ArrayLike]) -> dict[str, list[bytes]]:
        [number], [packed] = batch["number"], batch["files"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer = self._answer(int(number), pickle.loads(packed))
        ours = [str(one.message) for one in caught if issubclass(one.category, Bind2GenWarning)]
        return {"answer": [pickle.dumps(answer._replace(warned=ours))]}

    def _answer(self, number: int, files: list[Found]) -> _Answer:
        host = platform.node()
        if isinstance(self._embed, Bind2GenError):
            return _Answer(host, self._embed)
        unseen = [file.path for file in files if not os.path.exists(file.path)]
        try:
            return _Answer(host, self._rows(number, files), unseen)
        except Bind2GenError as error:
            return _Answer(host, error, unseen)

    def _rows(self, number: int, files: list[Found]) -> Embedded:
        import ray

        def add(what: int | str, step: int) -> int:
            return ray.get(self._diary.add.remote(what, step))

        if add(number, 1) == 0:
            return self._embed(files)
        parts = []  # a worker died over these files, so one by one
        for file in files:
            if add(file.path, 1) < DEATHS:
                parts.append(self._embed([file]))
            else:
                reason = f"{DEATHS} workers died while they read it: it breaks its reader, or takes too much memory"
                parts.append(Embedded(1, [], [Skipped(file.path, reason)]))
            add(file.path, -1)
        return Embedded(len(files), *(sum(lists, []) for lists in zip(*(part[1:] for part in parts), strict=True)))


@contextmanager
def _ray_errors(address: str) -> Iterator[None]:
    """Turns what comes from a worker's process, with its traceback, into one line."""
    try:
        yield
    except (Bind2GenError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (Ray's are of many kinds, and hold those of workers)
        raise Bind2GenError(f"Ray at {address}: {_last_line(error)}") from error


def _last_line(error: object) -> str:
    """What a traceback ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
