"""What scripts get who give less than everything, and the examples that the API page shows."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.files.bundled import example_sounds

gradio_client = pytest.importorskip("gradio_client", reason="the demos need Gradio: pip install 'bind2gen[demos]'")
construct_args = gradio_client.utils.construct_args

MIXED = ("audio", "text", "image", "depth", "thermal", "imu")
FILE, WORDS = ("file", None), ("a dog", None)
DRAWING = {"seed": (3, 0), "steps": (9, 20), "guidance": (1.5, 3.0)}
INPUTS = (
    dict.fromkeys(MIXED, FILE) | {"text": WORDS, "depth_sensor": ("drawn", "kinect_v1")}
    | {f"weight_{name}": (0.5, 1.0) for name in MIXED}
)  # fmt: skip
THINGS = {f"{kind}_{which}": FILE for kind in ("audio", "image") for which in ("first", "second")}
ENDPOINTS = {  # name -> the studio's method behind it; each parameter with a value, and what it is if it is left out
    "/sound2image": ("studio.draw", INPUTS | DRAWING | {"pictures": (2, 1)}),
    "/hear": ("studio.hear", INPUTS),
    "/arithmetic": (
        "studio.slide",
        THINGS | DRAWING | {"text_first": WORDS, "text_second": WORDS, "pictures": (3, 5), "amount": (0.7, 0.5)},
    ),
    "/detect": (
        "detecting.find",
        dict.fromkeys(("picture", "audio", "audio_second", "audio_third"), FILE) | {"text": WORDS},
    ),
}


@pytest.fixture
def handed(server, monkeypatch):
    """Call an endpoint with these parameters; the values that the studio is handed, which does nothing with them."""
    caller, asked = gradio_client.Client(server.url, verbose=False, httpx_kwargs={"timeout": 60}), []

    def record(*given, session, visitor, **named):
        asked.append((given, named))
        raise InputError("recorded")

    def call(name, **given):
        owner, method = ENDPOINTS[name][0].split(".")
        monkeypatch.setattr(getattr(server, owner), method, record)
        with pytest.raises(gradio_client.exceptions.AppError, match="recorded"):
            caller.predict(api_name=name, **given)
        return asked.pop()

    return call


def values(handed):
    """All that is within, in order of words; files by their names."""
    if isinstance(handed, dict | list | tuple):
        inner = handed.values() if isinstance(handed, dict) else handed
        return sorted((value for one in inner for value in values(one)), key=str)
    return [Path(handed).name.replace("tone.wav", "file") if isinstance(handed, str) else handed]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_parameters_that_are_left_out_are_left_out(handed, server, name, files):
    parameters = ENDPOINTS[name][1]
    tone = gradio_client.handle_file(str(files / "tone.wav"))
    full = {key: tone if value == "file" else value for key, (value, _) in parameters.items()}
    assert values(handed(name, **full)) == sorted((value for value, _ in parameters.values()), key=str)
    assert values(handed(name)) == sorted((default for _, default in parameters.values()), key=str)
    told = httpx.get(f"{server.url}gradio_api/info").json()["named_endpoints"][name]["parameters"]
    for key, (_, default) in parameters.items():
        some = {other: value for other, value in full.items() if other != key}
        # As the client does, and the server for other clients.
        assert construct_args(told, (), some) == construct_args(told, (), full | {key: default}), key


def test_a_text_alone_is_not_mixed_with_the_sound_that_the_page_starts_with(handed, server):
    [inputs], _ = handed("/sound2image", text="a dog")
    assert inputs == dict.fromkeys(MIXED) | {"text": "a dog"}
    first, second = handed("/arithmetic", text_second="a dog")[0]
    assert first == dict.fromkeys(("text", "audio", "image")) and second == first | {"text": "a dog"}
    page = httpx.get(server.url).text
    assert "cat.flac" in page and "a lion" in page  # which has its example all the same


@pytest.fixture
def snippets(server, monkeypatch):
    """Endpoint -> its examples as the page shows them, which end after few steps."""
    for name in ("draw", "slide"):
        work = getattr(server.studio, name)
        monkeypatch.setattr(server.studio, name, lambda *a, work=work, **k: work(*a, **k | {"steps": 1}))
    info = httpx.get(f"{server.url}gradio_api/info").json()["named_endpoints"]
    return {name: about["code_snippets"] for name, about in info.items()}


def test_the_snippets_of_the_api_page_run_as_they_are(snippets, server, bundled_side):
    assert set(ENDPOINTS) < set(snippets)
    for name, kinds in snippets.items():
        if name.startswith("/stop"):
            continue  # which take nothing
        said, place = io.StringIO(), {}
        with contextlib.redirect_stdout(said):
            exec(kinds["python"], place)  # noqa: S102  (it is what a reader does)
        assert place["result"] and said.getvalue(), name
        if name in ENDPOINTS:
            assert f"{server.url}gradio_api/file=" in kinds["python"]  # a file of this server, from itself
        if name == "/sound2image":
            assert Image.open(place["result"][0][0]["image"]).size == (bundled_side, bundled_side)
        if name == "/detect":
            assert place["result"][1]["boxes"]


def test_no_example_names_a_file_of_the_web(server):
    for address in ("gradio_api/info", "gradio_api/info?all_endpoints=true"):
        assert "githubusercontent" not in httpx.get(server.url + address).text  # where Gradio's own ones lie


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs bash and curl")
def test_the_snippet_for_the_shell_runs_with_ones_own_file(snippets):
    code = snippets["/hear"]["bash"].replace("/path/to/your/file", str(example_sounds()["dog"]))
    code = code.replace('"a cat"', "null")  # the example's words
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "event: complete" in done.stdout and '"label": "dog"' in done.stdout


def test_the_address_of_a_file_here_stands_for_it_and_no_other_address_does(server):
    caller = gradio_client.Client(server.url, verbose=False, httpx_kwargs={"timeout": 60})
    with open(example_sounds()["dog"], "rb") as file:
        [mine] = httpx.post(f"{server.url}gradio_api/upload", files={"files": ("my dog.flac", file)}).json()

    def hear(address):
        return caller.predict(audio=gradio_client.handle_file(address), api_name="/hear")

    for root in (server.url, "https://name.of.a.proxy/below/"):
        assert hear(f"{root}gradio_api/file={mine}")["label"] == "dog"
    elsewhere = (
        str(example_sounds()["dog"]),
        "/etc/passwd",
        f"{server.uploads}/../../a.wav",
        f"{server.uploads}0/a.wav",
    )
    for path in elsewhere:
        with pytest.raises(gradio_client.exceptions.AppError, match="wanted an uploaded file, got an address"):
            hear(f"{server.url}gradio_api/file={path}")
    assert not any(path.name == "passwd" for path in server.uploads.rglob("*"))
