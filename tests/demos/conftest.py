"""One server with the bundled model for all tests of the demos, and files that visitors upload."""

from __future__ import annotations

import http.client
import importlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.cli.demo import UPLOAD_FOLDER, demos
from bind2gen.files.bundled import bundled_path, example_sounds
from bind2gen.pipelines.detection import ImageBindDetectionPipeline
from bind2gen.space.everyday import words_of
from bind2gen.store import EmbeddingStore, Item
from bind2gen.store.encoder import Encoder
from bind2gen.studio import DetectionStudio, Studio
from bind2gen.studio.detecting import known_weakness
from bind2gen.studio.files import VisitorFiles
from bind2gen.studio.searching import SearchStudio

RATE = 16_000  # Hz
PATIENCE = 90_000  # ms of a browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """What is served."""

    url: str
    studio: Studio
    detecting: DetectionStudio
    searching: SearchStudio
    blocks: Any
    uploads: Path
    kept: VisitorFiles


@pytest.fixture(scope="session")
def page() -> Any:
    """The module that builds the page."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    pytest.importorskip("gradio", reason="the demos need Gradio: pip install 'bind2gen[demos]'")
    return importlib.import_module(f"{demos().__name__}.page")


@pytest.fixture(scope="session")
def server(page, tmp_path_factory) -> Iterator[Server]:
    uploads = tmp_path_factory.mktemp("uploads")
    before = os.environ.get(UPLOAD_FOLDER)
    os.environ[UPLOAD_FOLDER] = str(uploads)
    studio, words = page.sound2image.opening.bundled_studio(), words_of(bundled_path() / "imagebind")
    studio.warm()
    detection = ImageBindDetectionPipeline.from_pretrained(modalities=["audio", "text"])
    detecting = DetectionStudio(detection, words=words, worker=studio.worker, note=known_weakness(bundled_path()))
    detecting.warm()
    searching = SearchStudio(*library(page, studio, tmp_path_factory.mktemp("library")), worker=studio.worker)
    searching.warm()
    kept = VisitorFiles(uploads)
    studios = {"sound2image": studio, "detect": detecting, "arithmetic": studio, "search": searching}
    blocks = page.build(studios, kept)
    url = page.launch(blocks, kept, megabytes=studio.limits.megabytes, host="127.0.0.1", port=None)
    yield Server(url, studio, detecting, searching, blocks, uploads, kept)
    blocks.close(verbose=False)
    studio.close()
    searching.close()
    os.environ.pop(UPLOAD_FOLDER)
    if before is not None:
        os.environ[UPLOAD_FOLDER] = before


def library(page: Any, studio: Studio, folder: Path) -> tuple[Encoder, EmbeddingStore]:
    """The demos' own pictures and the bundled sounds, as ``bind2gen index`` would keep them."""
    encoder = Encoder(studio.pipe.imagebind, studio.pipe.processor, studio.pipe.adapter)
    pictures = sorted(Path(page.__file__).with_name("pictures").rglob("*.webp"))
    files = {"image": pictures, "audio": sorted(example_sounds().values())}
    store = EmbeddingStore.create(folder / "db", width=encoder.model.config.embed_dim)
    store.add([
        Item(_named(path), name, vector.numpy(), thumbnail=path.read_bytes() if name == "image" else b"")
        for name, paths in files.items()
        for path, vector in zip(paths, encoder.embed(name, list(map(str, paths))), strict=True)
    ])  # fmt: skip
    return encoder, store


def _named(path: Path) -> str:
    """The opening's pictures, all of which are of a cat, have numbers for names."""
    return str(path.with_name(f"cat-{path.name}") if path.parent.name == "opening" else path)


class Small:
    """A server behind a proxy on this machine, with the toy model and small limits."""

    def __init__(self, page: Any, pipe: Any, folder: Path, **options: Any) -> None:
        self.kept = VisitorFiles(folder, check=0.05, megabytes=8, each=1)
        self.studio = Studio(pipe, words=("a", "bee", "cab", "dad"))
        self.blocks = page.build({"sound2image": self.studio, "arithmetic": self.studio}, self.kept)
        self.url = page.launch(
            self.blocks, self.kept, megabytes=0.1, host="127.0.0.1", port=None, proxies="127.0.0.1", jobs_each=2,
            **options,
        )  # fmt: skip
        self.fn = next(key for key, fn in self.blocks.fns.items() if fn.api_name == "sound2image")

    def close(self) -> None:
        self.blocks.close(verbose=False)
        self.studio.close()

    def post(self, path: str, visitor: str, kind: str | None = None, **options: Any) -> httpx.Response:
        headers = {"x-forwarded-for": visitor} | ({"content-type": kind} if kind else {})
        return httpx.post(f"{self.url}gradio_api/{path}", headers=headers, **options)

    def ask(self, visitor: str, name: str = "sound2image") -> httpx.Response:
        return self.post(f"call/v2/{name}", visitor, json={"text": "a bee"} | ({} if name == "hear" else {"steps": 1}))

    def join(self, visitor: str, session: str, steps: int = 1) -> httpx.Response:
        """As the page asks for a drawing."""
        data = [None, "a bee", None, None, "drawn", None, None, *[1.0] * 6, 0, steps, 3.0, 1]
        return self.post("queue/join", visitor, json={"fn_index": self.fn, "session_hash": session, "data": data})

    def news(self, session: str) -> str:
        """All that a session is told, to the end."""
        return httpx.get(f"{self.url}gradio_api/queue/data?session_hash={session}", timeout=PATIENCE / 1000).text

    def upload(self, visitor: str, *sizes: int) -> httpx.Response:
        files = [("files", (f"{k}.wav", b"x" * size)) for k, size in enumerate(sizes)]
        return self.post("upload", visitor, files=files)

    @staticmethod
    def wait_until(true: Callable[[], object]) -> None:
        for _ in range(PATIENCE // 10):
            if true():
                return
            time.sleep(0.01)
        pytest.fail("it never came")


@pytest.fixture(scope="session")
def raw(server) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """A request whose address no client library tidies up: status, headers, body."""
    address = httpx.URL(server.url)

    def request(method: str, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE / 1000)
        connection.putrequest(method, target, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    return request


@pytest.fixture(scope="session")
def small_server() -> type[Small]:
    return Small


@pytest.fixture(scope="session")
def routes() -> Callable[[Any], set[str]]:
    """Addresses of all that a server's Gradio serves, with a letter or number for what they leave open."""

    def found(server: Any) -> set[str]:
        routers = [getattr(route, "original_router", None) for route in server.blocks.app.routes]
        paths = {route.path for route in server.blocks.app.routes if hasattr(route, "path")}
        paths |= {route.path for router in routers if router for route in router.routes}
        return {re.sub(r"\{\w*id\}", "1", re.sub(r"\{(?!\w*id\})[^}]+\}", "x", path)) for path in paths}

    return found


@pytest.fixture(scope="module")
def small(page, tiny_pipeline, tmp_path_factory) -> Iterator[Small]:
    folder = tmp_path_factory.mktemp("visitors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(UPLOAD_FOLDER, str(folder))
        server = Small(page, tiny_pipeline, folder)
        yield server
        server.close()


@pytest.fixture
def held(small) -> Iterator[threading.Event]:
    """Nothing is done as long as the test runs, or until the event is set."""
    free, begun = threading.Event(), threading.Event()
    work = small.studio.worker.run(lambda report, stop: (begun.set(), free.wait(60)), "held", steps=1)
    thread = threading.Thread(target=lambda: list(work))
    thread.start()
    assert begun.wait(60)
    yield free
    free.set()
    thread.join(60)
    small.wait_until(lambda: not small.studio.worker.busy)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """Open the page; at the end, nothing but this server must have been asked for anything."""
    contexts, strangers, faults = [], [], []

    def opened(width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        tab = context.new_page()
        tab.on(
            "request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else strangers.append(r.url)
        )
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(server.url)
        tab.get_by_role("button", name="Draw", exact=True).wait_for()
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert strangers == []
    assert faults == []


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Good and bad uploads."""
    folder = tmp_path_factory.mktemp("files")
    soundfile.write(folder / "tone.wav", 0.3 * np.sin(np.arange(2 * RATE) / 6), RATE)
    (folder / "text.wav").write_text("this is no sound " * 50)
    (folder / "empty.wav").write_bytes(b"")
    with open(folder / "huge.wav", "wb") as file:
        file.truncate(500 << 20)  # sparse
    Image.new("1", (8_000, 8_000)).save(folder / "bomb.png")  # 8 kB, 64 megapixels
    return folder


@pytest.fixture(scope="session")
def scene(page) -> Path:
    """An example picture with a clock, a bird and a cat in it."""
    return Path(page.__file__).with_name("pictures") / "three.webp"


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Path:
    """Where screenshots go: kept by CI if it says where."""
    folder = os.environ.get("BIND2GEN_CI_OUTPUT")
    if folder is None:
        return tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)
