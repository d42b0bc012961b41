"""What strangers try who talk to the server without the page: to read files, to have it fetch some, to go too far."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from functools import partial

import httpx
import pytest

from bind2gen.errors import InputError
from bind2gen.files.bundled import example_sounds

pytest.importorskip("gradio", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

SECRET = "the secret of the server"
PATIENCE = 60  # s
FILE_KINDS = {"audio", "image", "file"}
HERE = {"127.0.0.1", "localhost", "::1"}


@pytest.fixture(scope="module")
def trap():
    """A server of somebody else; whoever connects is counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        calls, over = [], threading.Event()

        def listen():
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                calls.append(connection)
                connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", calls
        over.set()
        thread.join()


@pytest.fixture
def asked_for(monkeypatch):
    """Names whose addresses anybody in this process, so also the server, wanted to know."""
    names, known = [], socket.getaddrinfo

    def lookup(host, *args, **options):
        name = host.decode() if isinstance(host, bytes) else host
        if name in HERE or name is None:
            return known(host, *args, **options)
        names.append(name)
        raise socket.gaierror(-2, "no such name in a test")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return names


@pytest.fixture
def idle_studios(server, monkeypatch):
    """No work is done; what the studios are handed is noted."""
    handed = []

    def noted(*given, **named):
        handed.append((given, named))
        raise InputError("handed over")

    for studio, names in ((server.studio, ("draw", "hear", "slide")), (server.detecting, ("find",)),
                          (server.searching, ("find",))):  # fmt: skip
        for name in names:
            monkeypatch.setattr(studio, name, noted)
    return handed


@pytest.fixture
def hostile(server, trap, tmp_path):
    """Files and addresses that are none of one's own uploads."""
    secret, link = tmp_path / "secret.wav", server.uploads / "link.wav"
    secret.write_text(SECRET)
    link.symlink_to(secret)
    (server.uploads / "folder-link").symlink_to(tmp_path)
    up = "../" * len(server.uploads.parts)
    yield [
        str(secret), str(link), str(server.uploads / "folder-link" / "secret.wav"), f"{server.uploads}/{up}etc/passwd",
        f"file://{secret}", f"{trap[0]}/a.wav", "http://name.of.a.stranger/a.wav", "ftp://name.of.a.stranger/a.wav",
        f"{server.url}gradio_api/file={secret}", f"{server.url}gradio_api/file={link}", "/proc/self/environ",
        str(server.uploads), "", "\0", "a" * 5000, "~/.ssh/id_rsa", "pyproject.toml",
        f"//name.of.a.stranger{secret}", 7, None, {"path": str(secret)}, [str(secret)],
    ]  # fmt: skip
    link.unlink()
    (server.uploads / "folder-link").unlink()


def described(path):
    return {"path": path, "url": path, "orig_name": "a.wav", "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def ask(server):
    """Join the queue as the page does; the last message, and all of them as text."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as caller:
        yield partial(join, caller)


def join(caller, fn, data, session=None):
    session = session or uuid.uuid4().hex
    body = {"fn_index": fn["id"], "session_hash": session, "data": data}
    joined = caller.post("gradio_api/queue/join", content=json.dumps(body), headers=JSON)
    assert joined.status_code == 200, joined.text
    text = caller.get("gradio_api/queue/data", params={"session_hash": session}).text
    messages = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    [done] = [message for message in messages if message["msg"] == "process_completed"]
    return done, text


JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def functions(server):
    """All functions of the page, those that the API page hides as well, with the kinds and values of their inputs."""
    config = httpx.get(f"{server.url}config").json()
    parts = {part["id"]: part for part in config["components"]}
    found = []
    for fn in config["dependencies"]:
        inputs = [parts[one] for one in fn["inputs"]]
        values = [part["props"].get("value") if part["type"] not in FILE_KINDS else None for part in inputs]
        found.append({"id": fn["id"], "name": fn["api_name"], "kinds": [p["type"] for p in inputs], "values": values})
    return found


def kept_files(server):
    return {path for path in server.uploads.rglob("*") if path.is_file() and not path.is_symlink()}


def test_no_file_but_an_upload_is_taken_by_any_input_of_any_function(
    server, ask, functions, hostile, idle_studios, trap, asked_for
):
    before, tried = kept_files(server), 0
    for fn in functions:
        for place, kind in enumerate(fn["kinds"]):
            if kind == "state":
                continue  # is none of what is sent
            for path in hostile if fn["name"] == "hear" and place in (0, 1) else hostile[:2] + hostile[5:7]:
                data = list(fn["values"])
                data[place] = described(path)
                done, text = ask(fn, data)
                assert not done["success"] and "\\n" not in str(done["output"]["error"]), (fn["name"], place, path)
                assert "wanted" in done["output"]["error"] and SECRET not in text, (fn["name"], place, path)
                tried += 1
    assert tried > 250 and idle_studios == []
    assert trap[1] == asked_for == [] and kept_files(server) == before


def test_who_has_clicked_on_an_example_gets_no_further(server, ask, functions, hostile, idle_studios, trap, asked_for):
    """Gradio puts new components in the place of those whose example was chosen, for this visitor alone."""
    session = uuid.uuid4().hex
    for fn in functions:
        if fn["name"].startswith("load_example"):
            done, _ = ask(fn, [0], session)
            assert done["success"]
    for fn in functions:
        if fn["name"] in ("hear", "detect", "arithmetic", "search"):
            place = fn["kinds"].index("audio")
            for path in hostile[:2] + hostile[5:7]:
                data = list(fn["values"])
                data[place] = described(path)
                done, _ = ask(fn, data, session)
                assert not done["success"] and "wanted an uploaded file" in done["output"]["error"], (fn["name"], path)
    assert idle_studios == trap[1] == asked_for == []


def test_an_upload_of_ones_own_is_taken_without_the_addresses_that_come_with_it(
    server, ask, functions, idle_studios, trap, asked_for
):
    [mine] = upload(server, "dog.flac", example_sounds()["dog"].read_bytes())
    [fn] = [fn for fn in functions if fn["name"] == "hear"]
    ask(fn, [described(mine) | {"url": f"{trap[0]}/a.wav"}, *fn["values"][1:]])
    [[inputs], _] = idle_studios[0]
    assert inputs["audio"] == mine and trap[1] == asked_for == []


def upload(server, name, content):
    return httpx.post(f"{server.url}gradio_api/upload", files={"files": (name, content)}).json()


def test_no_address_leads_out_of_the_uploads(server, raw, hostile, trap, asked_for):
    paths = [path for path in hostile if isinstance(path, str) and path]
    quoted = [httpx.URL("http://x/", params={"a": path}).query.decode().removeprefix("a=") for path in paths]
    twice = [path.replace("%", "%25") for path in quoted]
    up = "../" * 12
    targets = [f"/gradio_api/file={path}" for path in [*quoted, *twice, "", "%00", ".env"]]
    for folder in ("assets", "static", "svelte", "gradio_api/custom_component/audio/client/component", "theme.css",
                   "gradio_api/file", "file=", "gradio_api/stream/a/b/1", "pwa_icon", "gradio_api/runs"):  # fmt: skip
        for way in (f"{up}etc/passwd", up.replace("/", "%2f") + "etc%2fpasswd", f"{up.replace('.', '%2e')}etc/passwd",
                    "/etc/passwd", "..%5c..%5cetc%5cpasswd"):  # fmt: skip
            targets.append(f"/{folder}/{way}")
    targets += [f"/gradio_api/proxy={trap[0]}/a", f"/proxy={trap[0]}/a", f"/gradio_api/file={trap[0]}/a",
                f"/gradio_api/file%3D{trap[0]}/a", f"/gradio_api/file= {trap[0].replace(':', '%3A')}/a"]  # fmt: skip
    for target in targets:
        status, _, body = raw("GET", target.replace(" ", "%20"))
        assert status in (400, 403, 404), target
        assert SECRET.encode() not in body and b"root:" not in body, target
    assert trap[1] == asked_for == []


def test_pages_and_drawings_among_uploads_are_handed_out_as_files_to_save(server):
    for name in ("a.html", "a.svg", "a.js", "a.xml"):
        [path] = upload(server, name, b"<script>alert(1)</script>")
        answer = httpx.get(f"{server.url}gradio_api/file={path}")
        assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] == "application/octet-stream"


# Name -> places of numbers and choices; of weights that of the words, for the others' inputs are not given.
NUMBERS = {"sound2image": (8, 13, 14, 15, 16), "arithmetic": range(6, 11), "search": (5, 6), "detect": (5,)}
ABSURD = (-1e9, 1e10, 1e308, float("nan"), float("inf"), -float("inf"), "5", "x" * 100_000, True, [], [1], {"a": 1})
HUGE = "1" + "0" * 400  # more than a float holds


@pytest.mark.parametrize("name", NUMBERS)
def test_what_widgets_would_not_allow_is_refused_in_a_line_before_any_work(server, ask, functions, scene, name, capfd):
    [fn] = [fn for fn in functions if fn["name"] == name]
    given = ["a dog" if kind == "textbox" else value for kind, value in zip(fn["kinds"], fn["values"], strict=True)]
    if name == "detect":
        [picture] = upload(server, "three.webp", scene.read_bytes())
        given[0] = described(picture)
    drawn = []
    hook = server.studio.pipe.unet.register_forward_pre_hook(lambda *_: drawn.append(1))
    for place in NUMBERS[name]:
        for value in [*ABSURD, int(HUGE)]:
            data = list(given)
            data[place] = value
            done, _ = ask(fn, data)
            assert not done["success"], (place, value)
            error = done["output"]["error"]
            assert "wanted" in error and len(error) < 250 and "\n" not in error, (place, value)
    hook.remove()
    assert drawn == [] and "Traceback" not in "".join(capfd.readouterr())


def test_inputs_of_the_wrong_kind_number_or_depth_are_one_line(server, ask, functions, capfd):
    deep = json.loads("[" * 500 + "]" * 500)
    for fn in functions:
        if fn["name"] in ("sound2image", "hear", "arithmetic", "detect", "search"):
            for data in ([], [None] * 40, [deep] * len(fn["values"]), ["text"] * len(fn["values"])):
                done, text = ask(fn, data)
                assert not done["success"] and done["output"]["error"], (fn["name"], str(data)[:40])
                assert "\n" not in done["output"]["error"] and "object at" not in text
        if fn["kinds"] == ["dataset"]:
            for number in (10**9, 1e9, "x", None, [0], {"a": 0}):
                done, _ = ask(fn, [number])
                assert not done["success"] and done["output"]["error"].startswith("wanted"), number
    for body in ("{", "[]", "1", '{"data": 1}', '{"data": [' + "9" * 5000 + "]}", "\xff"):
        status = httpx.post(f"{server.url}gradio_api/call/hear", content=body, headers=JSON).status_code
        assert 400 <= status < 500, body[:20]
    assert "Traceback" not in "".join(capfd.readouterr())
