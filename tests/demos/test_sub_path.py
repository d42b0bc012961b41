"""Behind a proxy that serves the page under a sub-path, and takes the sub-path off on the way in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from PIL import Image

from bind2gen.cli.demo import UPLOAD_FOLDER
from bind2gen.studio import Studio
from bind2gen.studio.files import VisitorFiles

gradio_client = pytest.importorskip("gradio_client", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

PATH = "/tools/b2g"
HOPS = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}  # headers of one connection


class Proxy(BaseHTTPRequestHandler):
    """Passes on what is asked for below the sub-path; anything else is noted, and not found."""

    def pass_on(self) -> None:
        if not self.path.startswith(f"{PATH}/"):
            if self.path != "/favicon.ico":  # which browsers ask every host for
                self.server.astray.append(self.path)
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOPS}
        headers |= {"x-forwarded-host": self.headers["host"], "accept-encoding": "identity"}
        url = self.server.target + self.path.removeprefix(PATH)
        with httpx.stream(self.command, url, content=body, headers=headers, timeout=60) as answer:
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name not in HOPS:
                    self.send_header(name, value)
            self.end_headers()
            for part in answer.iter_raw():
                self.wfile.write(part)
                self.wfile.flush()

    do_GET = do_POST = do_HEAD = pass_on

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy(page, tiny_pipeline, tmp_path_factory) -> Iterator[ThreadingHTTPServer]:
    """A proxy before a server that was told the sub-path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.astray, server.url = [], f"http://127.0.0.1:{server.server_port}{PATH}/"
    folder = tmp_path_factory.mktemp("below")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(UPLOAD_FOLDER, str(folder))
        studio, kept = Studio(tiny_pipeline, words=("a", "bee")), VisitorFiles(folder)
        blocks = page.build({"sound2image": studio}, kept)
        local = page.launch(blocks, kept, megabytes=1, host="127.0.0.1", port=None, root_path=PATH)
        server.target = local.split(PATH)[0].rstrip("/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        server.server_close()
        blocks.close(verbose=False)
        studio.close()


def test_a_script_draws_through_the_proxy(proxy, tmp_path):
    caller = gradio_client.Client(proxy.url, verbose=False, download_files=str(tmp_path))
    files, *_, markup, _ = caller.predict(text="a bee", steps=1, api_name="/sound2image")
    with Image.open(files[0]["image"]) as drawn:
        assert drawn.width > 0
    source = markup["value"] if isinstance(markup, dict) else markup
    shown = source.split('<img src="')[1].split('"')[0]
    assert httpx.get(proxy.url + shown).status_code == 200  # relative to the page
    assert proxy.astray == []


def test_a_visitor_draws_through_the_proxy(proxy, browser):
    tab = browser.new_page()
    failed = []
    tab.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    tab.goto(proxy.url)
    tab.get_by_role("textbox", name="Words").fill("a bee")
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#status").get_by_text("Done in").wait_for(timeout=60_000)
    image = tab.locator("#pictures img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    tab.close()
    assert failed == proxy.astray == []
