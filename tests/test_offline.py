"""Nothing is sent or fetched unasked: the library, the commands and the demo in a process that reaches itself alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bind2gen.files.bundled import example_sounds
from bind2gen.studio.files import PREFIX

ROOT = Path(__file__).parents[1]
DEMO = os.path.join(ROOT, "demos", "pictures")
# What Python runs at its start; so also in the processes that a command begins.
WALL = """
import json, os, socket, sys, traceback
HERE = ("127.", "localhost", "::1", "0.0.0.0")

def outside(host):
    host = host.decode() if isinstance(host, bytes) else host
    return host is not None and host != "" and not str(host).startswith(HERE)

def refuse(what, host):
    with open(os.environ["WALL_LOG"], "a") as log:
        log.write(json.dumps([what, str(host), traceback.format_stack()]) + "\\n")
    raise OSError(101, "the network is out of reach in this test")

def walled(name, host_of):
    known = getattr(socket if name.startswith("get") else socket.socket, name)
    def call(*args, **options):
        host = host_of(args, options)
        return refuse(name, host) if outside(host) else known(*args, **options)
    setattr(socket if name.startswith("get") else socket.socket, name, call)

def of_address(args, options):
    address = args[-1]
    return address[0] if isinstance(address, tuple) else None  # of a Unix socket

for name in ("connect", "connect_ex", "sendto"):
    walled(name, of_address)
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
    walled(name, lambda args, options: args[0] if args else options.get("host"))
"""
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
    (tmp_path / "wall").mkdir()
    (tmp_path / "wall" / "sitecustomize.py").write_text(WALL, encoding="utf-8")
    log, left = tmp_path / "log", tmp_path / "tmp" / f"{PREFIX}killed_1" / "token"
    left.mkdir(parents=True)
    (left / "photo.png").write_bytes(b"of a visitor of a server that was killed")
    (tmp_path / "dog.flac").write_bytes(example_sounds()["dog"].read_bytes())
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in offline}
    environment |= {"PYTHONPATH": f"{tmp_path / 'wall'}{os.pathsep}{ROOT}", "WALL_LOG": str(log), "HOME": str(tmp_path)}
    environment["TMPDIR"] = str(tmp_path / "tmp")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(COMMANDS), str(free_port()), f"{DEMO}/three.webp"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    known, codes = json.loads(done.stdout.splitlines()[-1])
    assert {command[0] for command in COMMANDS} <= set(known)
    assert codes.pop("drawn") and codes.pop("found")
    assert codes == dict.fromkeys([*(command[0] for command in COMMANDS), "demo"], 0)
    assert not log.exists(), log.read_text()
    assert not list((tmp_path / "tmp").glob(f"{PREFIX}*"))  # neither its own, when it was told to end, nor another's


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_the_wall_of_these_tests_stands(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WALL, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "WALL_LOG": str(tmp_path / "log")}
    code = (
        "import subprocess, sys, urllib.request\n"
        "try: urllib.request.urlopen('http://name.of.a.stranger/', timeout=5)\n"
        "except OSError: pass\n"
        "subprocess.run([sys.executable, '-c', 'import socket\\nsocket.socket().connect((\"192.0.2.1\", 80))'])"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60)
    told = [json.loads(line)[:2] for line in (tmp_path / "log").read_text().splitlines()]
    assert told == [["getaddrinfo", "name.of.a.stranger"], ["connect", "192.0.2.1"]]
