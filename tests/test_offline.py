"""Nothing is sent or fetched unasked: the library, the commands and the demo in a process that reaches itself alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bind2gen.files.bundled import example_sounds
from bind2gen.files.stopping import TERMINATED
from bind2gen.studio.files import PREFIX

ROOT = Path(__file__).parents[1]
WALL = ROOT / "tests" / "wall"
DEMO = os.path.join(ROOT, "demos", "pictures")
COMMANDS = [
    ["info"],
    ["generate", "--audio", "dog.flac", "--steps", "1", "--out", "a.png"],
    ["detect", f"{DEMO}/three.webp", "--audio", "dog.flac", "--out", "boxes.png"],
    ["embed", "--audio", "dog.flac", "--text", "a dog", "--out", "a.npz"],
    ["index", f"{DEMO}", "--db", "store"],
    ["search", "--db", "store", "--text", "a cat"],
    ["classify", "--audio", "dog.flac", "--labels", "dog", "cat"],
    ["inspect", "dog.flac", "--as", "audio", "--out", "look.png"],
]
SCRIPT = """
import contextlib, importlib, io, json, os, pkgutil, signal, sys, threading, time
import bind2gen
from bind2gen.cli import build_parser, main

for module in pkgutil.walk_packages(bind2gen.__path__, "bind2gen."):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(module.name)
[commands] = [action.choices for action in build_parser()._actions if isinstance(action.choices, dict)]
codes = {}
for name in commands:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([name, "--help"])
for arguments in json.loads(sys.argv[1]):
    codes[arguments[0]] = main(arguments)

def visit(port):
    import httpx  # and not gradio_client, for the hub's library within it asks the hub who may be calling
    api = f"http://127.0.0.1:{port}/gradio_api"
    while True:
        try:
            httpx.get(f"{api}/info", timeout=60)
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    def ask(name, **given):
        event = httpx.post(f"{api}/call/v2/{name}", json=given, timeout=60).json()["event_id"]
        return "event: complete" in httpx.get(f"{api}/call/{name}/{event}", timeout=300).text
    try:
        [picture] = httpx.post(f"{api}/upload", files={"files": open(sys.argv[3], "rb")}, timeout=60).json()
        codes["drawn"] = ask("sound2image", text="a dog", steps=1)
        codes["found"] = ask("detect", picture={"path": picture, "meta": {"_type": "gradio.FileData"}}, text="a dog")
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=visit, args=(sys.argv[2],)).start()
codes["demo"] = main(["demo", "--port", sys.argv[2], "--db", "store", "--quiet"])
print(json.dumps([sorted(commands), codes]))
"""


@pytest.mark.slow
def test_no_command_and_no_demo_reaches_for_the_network(tmp_path):
    pytest.importorskip("gradio", reason="the demos need Gradio: pip install 'bind2gen[demos]'")
    log, left = tmp_path / "log", tmp_path / "tmp" / f"{PREFIX}killed_1" / "token"
    left.mkdir(parents=True)
    (left / "photo.png").write_bytes(b"of a visitor of a server that was killed")
    (tmp_path / "dog.flac").write_bytes(example_sounds()["dog"].read_bytes())
    own = {"WALL_LOG": log, "HOME": tmp_path, "TMPDIR": tmp_path / "tmp", "PYTHONPATH": f"{WALL}{os.pathsep}{ROOT}"}
    environment = os.environ | {name: str(value) for name, value in own.items()}
    environment.pop("HF_HUB_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(COMMANDS), str(free_port()), f"{DEMO}/three.webp"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    known, codes = json.loads(done.stdout.splitlines()[-1])
    assert {command[0] for command in COMMANDS} <= set(known)
    assert codes.pop("drawn") and codes.pop("found")
    assert codes == dict.fromkeys((command[0] for command in COMMANDS), 0) | {"demo": TERMINATED}
    assert not log.exists(), log.read_text()
    assert not list((tmp_path / "tmp").glob(f"{PREFIX}*"))  # neither its own, when it was told to end, nor another's
    assert not (tmp_path / ".gradio").exists()


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_the_wall_of_these_tests_stands(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(WALL), "WALL_LOG": str(tmp_path / "log")}
    code = (
        "import subprocess, sys, urllib.request\n"
        "try: urllib.request.urlopen('http://name.of.a.stranger/', timeout=5)\n"
        "except OSError: pass\n"
        "subprocess.run([sys.executable, '-c', 'import socket\\nsocket.socket().connect((\"192.0.2.1\", 80))'])"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60)
    told = [json.loads(line)[:2] for line in (tmp_path / "log").read_text().splitlines()]
    assert told == [["getaddrinfo", "name.of.a.stranger"], ["connect", "192.0.2.1"]]
