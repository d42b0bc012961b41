"""Who is let in: names of the server, pages of other sites, and the password, which guards every address."""

from __future__ import annotations

import base64

import httpx
import pytest
from PIL import Image

from bind2gen.cli import build_parser, demo
from bind2gen.cli.arguments import UsageError
from bind2gen.cli.demo import AUTH, UPLOAD_FOLDER

gradio_client = pytest.importorskip("gradio_client", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

NAME, PASSWORD = "Jürgen", "a:b secret"


@pytest.fixture(scope="module")
def visitors(page):
    return page.visitors


@pytest.mark.parametrize(
    ("host", "options", "called", "let_in"),
    [
        ("127.0.0.1", {}, "127.0.0.1:7860", True),
        ("127.0.0.1", {}, "LOCALHOST:1", True),
        ("127.0.0.1", {}, "demo.localhost", True),
        ("127.0.0.1", {}, "[::1]:7860", True),
        ("127.0.0.1", {}, "192.0.2.1", True),  # no name that somebody could have point here
        ("127.0.0.1", {}, "elsewhere.example", False),
        ("127.0.0.1", {}, "localhost.elsewhere.example", False),
        ("127.0.0.1", {}, "127.0.0.1.elsewhere.example:7860", False),
        ("127.0.0.1", {}, "elsewhere.example@127.0.0.1", False),
        ("127.0.0.1", {}, "elsewhere.example#localhost", False),
        ("127.0.0.1", {}, "", False),
        ("localhost", {}, "elsewhere.example", False),
        ("[::1]", {}, "elsewhere.example", False),
        ("127.0.0.1", {"root_path": "https://host.example/b2g"}, "host.example", True),
        ("127.0.0.1", {"root_path": "https://host.example/b2g"}, "elsewhere.example", False),
        ("127.0.0.1", {"anybody": True}, "elsewhere.example", True),
        ("0.0.0.0", {}, "workstation.example:7860", True),
        ("workstation.example", {}, "workstation", True),
    ],
)
def test_a_server_for_its_own_machine_goes_by_no_other_name(visitors, host, options, called, let_in):
    refusal = visitors.Names.of(host, **options).refusal("GET", headers(host=called))
    assert (refusal is None) == let_in and "\n" not in str(refusal)


def headers(**given):
    from starlette.datastructures import Headers

    return Headers({name.replace("_", "-"): value for name, value in given.items()})


@pytest.mark.parametrize(
    ("given", "let_in"),
    [
        ({}, True),  # a script
        ({"origin": "http://here.example:7860"}, True),
        ({"origin": "https://here.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "https://outside.example"}, True),
        ({"origin": "https://forwarded.example", "x_forwarded_host": "forwarded.example"}, True),
        ({"origin": "https://elsewhere.example", "sec_fetch_site": "same-origin"}, True),  # browsers lie not in it
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, False),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, False),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, True),  # a link to the page
        ({"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}, True),
    ],
)
def test_pages_of_other_sites_are_told_apart(visitors, given, let_in):
    names = visitors.Names.of("0.0.0.0", root_path="https://outside.example/below")
    assert (names.refusal("GET", headers(host="here.example:7860", **given)) is None) == let_in


def basic(password=PASSWORD, name=NAME):
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_the_door_opens_to_the_password_alone_and_shuts_after_ten_wrong_ones(visitors):
    now = [0.0]
    door = visitors.Door(f"{NAME}:{PASSWORD}", clock=lambda: now[0])
    assert door.refusal("a", basic()) is None and door.refusal("a", basic().replace("Basic", "basic")) is None
    assert door.refusal("a", None) == 401  # of who was not asked yet
    wrong = [
        basic("a"), basic(PASSWORD + " "), basic(PASSWORD[:-1]), basic(name="jürgen"), basic("", ""), "Basic",
        "Basic ???", "Bearer " + basic()[6:], basic()[6:], "Basic \xff",
    ]  # fmt: skip
    assert len(wrong) == visitors.WRONG
    assert [door.refusal("a", header) for header in wrong] == [401] * len(wrong)
    assert door.refusal("a", basic()) == door.refusal("a", basic("guess")) == 429
    assert door.refusal("b", basic()) is None
    now[0] = visitors.WAIT - 1
    assert door.refusal("a", basic()) == 429
    now[0] = visitors.WAIT + 1
    assert door.refusal("a", basic()) is None and not door._wrong


@pytest.fixture(scope="module")
def locked(page, tiny_pipeline, tmp_path_factory, small_server):
    """A small server with a password."""
    folder = tmp_path_factory.mktemp("locked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(UPLOAD_FOLDER, str(folder))
        server = small_server(page, tiny_pipeline, folder, auth=f"{NAME}:{PASSWORD}")
        yield server
        server.close()


def test_no_address_answers_without_the_password(locked, routes):
    upload = locked.upload("203.0.113.1", 100)
    assert upload.status_code == 401 and not any(path.suffix == ".wav" for path in locked.kept.folder.rglob("*"))
    kept = next(path for path in locked.kept.folder.rglob("*") if path.is_file())
    targets = {(method, target) for target in routes(locked) for method in ("GET", "HEAD", "POST", "OPTIONS")}
    targets |= {("GET", f"/gradio_api/file={kept}"), ("GET", "/none"), ("GET", "/gradio_api/file=/etc/passwd")}
    with httpx.Client(base_url=locked.url) as stranger:
        for method, target in targets:
            if target == "/gradio_api/startup-events":
                continue  # which tells nothing
            answer = stranger.request(method, target)
            asked = answer.headers.get("www-authenticate", "")
            assert answer.status_code == 401 and asked.startswith("Basic "), (method, target)
            assert "content-security-policy" in answer.headers and "\n" not in answer.text
    assert len(targets) > 200
    alive = httpx.get(f"{locked.url}gradio_api/startup-events")
    assert alive.status_code == 200 and alive.text == "false"


def test_a_script_with_the_password_draws_uploads_and_gets_its_picture(locked, tmp_path):
    caller = gradio_client.Client(
        locked.url, verbose=False, download_files=str(tmp_path), httpx_kwargs={"auth": (NAME, PASSWORD)}
    )
    files, *_ = caller.predict(text="a bee", steps=1, api_name="/sound2image")
    with Image.open(files[0]["image"]) as drawn:
        assert drawn.width > 0
    with pytest.raises(gradio_client.exceptions.AuthenticationError):
        gradio_client.Client(locked.url, verbose=False, httpx_kwargs={"auth": (NAME, "wrong")})


def test_guessing_ends_soon_and_for_that_address_only(locked):
    caller = httpx.Client(base_url=locked.url)

    def knock(visitor, password):
        return caller.get("config", headers={"x-forwarded-for": visitor, "authorization": basic(password)})

    assert [knock("203.0.113.9", f"guess {k}").status_code for k in range(12)] == [401] * 10 + [429] * 2
    refused = knock("203.0.113.9", PASSWORD)
    assert refused.status_code == 429 and "try again in 10 minutes" in refused.text
    assert knock("203.0.113.10", PASSWORD).status_code == 200
    caller.close()


def test_a_browser_asks_for_the_password_and_the_page_works(locked, browser, artefacts):
    context = browser.new_context(http_credentials={"username": NAME, "password": PASSWORD})
    tab, failed = context.new_page(), []
    tab.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    tab.goto(locked.url)
    tab.get_by_role("textbox", name="Words").fill("a bee")
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#status").get_by_text("Done in").wait_for(timeout=90_000)
    image = tab.locator("#pictures img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert [url for url in failed if not url.endswith("/favicon.ico")] == []
    context.close()


def test_the_password_is_taken_from_the_line_or_the_environment_and_shown_nowhere(monkeypatch, capsys):
    monkeypatch.delenv(AUTH, raising=False)
    assert build_parser().parse_args(["demo"]).auth is None and demo._auth_of_environment() == ""
    assert build_parser().parse_args(["demo", "--auth", "a:b:c"]).auth == "a:b:c"
    for bad in ("a", ":b", "a:"):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["demo", "--auth", bad])
        assert "wanted NAME:PASSWORD" in capsys.readouterr().err
        monkeypatch.setenv(AUTH, bad)
        with pytest.raises(UsageError, match=f"{AUTH}: wanted NAME:PASSWORD"):
            demo._auth_of_environment()
    monkeypatch.setenv(AUTH, "from:environment")
    assert demo._auth_of_environment() == "from:environment"
    with pytest.raises(SystemExit):
        build_parser().parse_args(["demo", "--help"])
    assert "from:environment" not in capsys.readouterr().out
