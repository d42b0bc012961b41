"""Embedding on Ray: the same store as from one process, also where a worker dies; and what is said where it fails."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bind2gen.cli import main
from bind2gen.errors import Bind2GenError, Bind2GenWarning, DependencyError, HostError, InputError
from bind2gen.store import EmbeddingStore, cluster, indexing
from bind2gen.store.contract import Selection
from bind2gen.store.embedding import Embedded
from bind2gen.store.walking import Found

ray = pytest.importorskip("ray")
NICENESS = "RAY_worker_niceness"


@pytest.fixture(scope="module")
def running() -> Iterator[None]:
    """A cluster in this machine, to which everything connects by itself; its processes share the processors fairly."""
    before = os.environ.get(NICENESS)
    os.environ[NICENESS] = "0"
    handler = signal.getsignal(signal.SIGTERM)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    signal.signal(signal.SIGTERM, handler)  # Ray would keep it
    yield
    ray.shutdown()
    os.environ.pop(NICENESS) if before is None else os.environ.update({NICENESS: before})


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight pictures and one that is broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\0\0 nothing more")
    return folder


def rows(place: Path) -> dict[tuple, np.ndarray]:
    with EmbeddingStore.open(place) as store:
        items = store._engine.rows(Selection(), thumbnails=True)
    return {(i.path, i.modality, i.start, i.size, i.mtime_ns, i.thumbnail): i.vector for i in items}


@pytest.mark.slow
def test_two_workers_make_the_store_that_one_process_makes(running, photos, tiny_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(indexing, "CHUNK", 2)
    told = {}
    for name, words in {"one": [], "ray": ["--ray", "local", "--workers", "2"]}.items():
        code = main(["index", str(photos), "--db", str(tmp_path / name), "--model", str(tiny_folder), "--json", *words])
        out, err = capsys.readouterr()
        told[name] = json.loads(out) | {"db": ""}
        assert (code, err) == (1, f"bind2gen: skipped: {told[name]['skipped'][0]['reason']}\n")
    assert told["one"].pop("pace")["inputs"] == 9  # of a cluster nothing of the kind is known
    assert told["one"] == told["ray"] and told["ray"]["embedded"] == 8
    one, several = rows(tmp_path / "one"), rows(tmp_path / "ray")
    assert one.keys() == several.keys() and len(one) == 8
    assert max(np.abs(one[key] - several[key]).max() for key in one) < 1e-5


def found_file(path: Path) -> Found:
    state = path.stat()
    return Found(str(path), state.st_size, state.st_mtime_ns)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_what_it_was_at_is_done_again(running, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "CHUNK", 3)
    folder, once = tmp_path / "files", tmp_path / "once"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}").write_bytes(b"x" * (number + 1))

    def make():
        import os
        import signal

        import numpy as np

        from bind2gen.store import Item
        from bind2gen.store.embedding import Embedded

        def embed(files):
            if any(file.size == 5 for file in files) and not os.path.exists(once):
                open(once, "a").close()
                os.kill(os.getpid(), signal.SIGKILL)
            rows = {file: np.eye(9, dtype=np.float32)[file.size - 1] for file in files}
            return Embedded(len(files), [Item(f.path, "image", row, size=f.size, mtime_ns=f.mtime_ns)
                                         for f, row in rows.items()], [])  # fmt: skip

        return embed

    with EmbeddingStore.create(tmp_path / "store", width=9) as store:
        report = indexing.index_folders(store, [str(folder)], cluster.on_ray(make, workers=1))
    assert once.exists() and (report.embedded, report.skipped) == (9, [])
    found = {Path(key[0]).name: vector for key, vector in rows(tmp_path / "store").items()}
    assert found.keys() == {f"{number}" for number in range(9)}
    assert all(vector[int(name)] == 1 for name, vector in found.items())


@pytest.fixture
def answer(monkeypatch):
    """What a worker answers for one chunk, as the writer takes it; in this process."""
    diary = SimpleNamespace(add=SimpleNamespace(remote=cluster._diary()().add))
    monkeypatch.setattr(ray, "get", lambda found: found)

    def call(make, files: list[Found], version: str = cluster.__version__):
        worker = cluster._Worker(make, diary, version)
        [packed] = worker({"number": [0], "files": [pickle.dumps(files)]})["answer"]
        return lambda: cluster._taken(pickle.loads(packed))

    return call


def test_what_goes_wrong_in_a_worker_is_told_by_the_writer_with_its_machine(answer, photos, monkeypatch):
    file = found_file(photos / "0.png")

    def refusing():
        raise HostError("model: no such folder")

    with pytest.raises(HostError, match=r"^on [\w.-]+: model: no such folder$"):
        answer(refusing, [file])()
    with pytest.raises(DependencyError, match=r"wanted bind2gen 0\.0 as where the run began"):
        answer(lambda: None, [file], version="0.0")()

    def warning(files):
        import warnings

        warnings.warn("silent", Bind2GenWarning, stacklevel=1)
        return Embedded(len(files), [], [])

    with pytest.warns(Bind2GenWarning, match="^silent$"):
        assert answer(lambda: warning, [file])() == Embedded(1, [], [])
    with monkeypatch.context() as patched:
        patched.setattr(os.path, "exists", lambda path: False)
        unseen = answer(lambda: lambda files: Embedded(len(files), [], []), [file])
    with pytest.raises(InputError, match=r"0\.png: the Ray worker on .* does not see this file; the folders must be"):
        unseen()
    os.remove(file.path)
    assert unseen() == Embedded(1, [], [])  # gone from here too


def test_a_file_over_which_workers_die_is_listed_and_those_beside_it_are_embedded(answer, photos):
    files = [found_file(photos / f"{number}.png") for number in range(4)]

    class Death(BaseException):
        """As sudden as a signal, to what it goes through."""

    def embed(some):
        if files[2] in some:
            raise Death
        return Embedded(len(some), [file.path for file in some], [])

    for _ in range(1 + cluster.DEATHS):  # all together, then alone
        with pytest.raises(Death):
            answer(lambda: embed, files)
    part = answer(lambda: embed, files)()
    assert (part.files, part.items) == (4, [files[0].path, files[1].path, files[3].path])
    [(path, reason)] = part.skipped
    assert path == files[2].path and reason.startswith("2 workers died while they read it")


@pytest.mark.parametrize(
    ("workers", "gpus", "wanted"),
    [
        (None, None, (4, 4, 0.0)),  # one for each four CPUs
        (3, None, (3, 6, 0.0)),
        (5, 0, (5, 3, 0.0)),
        (18, None, (18, 1, 0.0)),
        (19, None, "wanted 19 workers with a CPU and 0 GPUs each, the cluster's 2 machines have room for 18"),
        (1, 1, "have room for 0"),
    ],
)
def test_workers_get_the_processors_there_are(workers, gpus, wanted, monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [
        {"Alive": True, "Resources": {"CPU": 6.0}}, {"Alive": True, "Resources": {"CPU": 12.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ])  # fmt: skip
    if isinstance(wanted, tuple):
        assert cluster._share(workers, gpus) == wanted
    else:
        with pytest.raises(Bind2GenError, match=wanted):
            cluster._share(workers, gpus)


def test_one_worker_a_gpu_and_halves_of_one(monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}, {"Alive": True, "Resources": {"CPU": 32.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert cluster._share(None, None) == (2, 4, 1.0)
    assert cluster._share(None, 0.5) == (4, 2, 0.5)
    assert cluster._share(2, 0) == (2, 16, 0.0)


def test_addresses_that_are_none_and_those_where_nobody_answers(monkeypatch):
    for address in ("ray://127.0.0.1:10001", "somewhere", "host:", ":6379"):
        with pytest.raises(InputError, match="wanted local, auto or host:port of the cluster's head"):
            cluster.on_ray(dict, address)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Bind2GenError, match=rf"Ray at 127.0.0.1:{port}: nobody answers there; mind the address"):
        cluster.on_ray(dict, f"127.0.0.1:{port}")
    monkeypatch.setattr(cluster, "ANSWER", 1)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # though the other tests' cluster may run
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(Bind2GenError, match=r"cannot be connected to \(no answer within 1 s\); of a cluster that"):
            list(cluster.on_ray(dict, address)(iter([])))


def test_without_ray_its_extra_is_named_and_options_of_it_need_it(monkeypatch, capsys, tmp_path):
    assert main(["index", str(tmp_path), "--db", str(tmp_path / "db"), "--gpus-per-worker", "2"]) == 2
    assert "--gpus-per-worker: there is no --ray" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert main(["index", str(tmp_path), "--db", str(tmp_path / "db"), "--ray", "local"]) == 1
    assert capsys.readouterr().err == 'bind2gen: error: embedding on a cluster needs Ray: pip install "bind2gen[ray]"\n'
    assert not (tmp_path / "db").exists()
