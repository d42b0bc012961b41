"""The wall around Gradio: what is let in, from where, and what every answer says to browsers."""

from __future__ import annotations

import httpx
import pytest

pytest.importorskip("gradio", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

PROTECTION = {"content-security-policy", "referrer-policy", "x-content-type-options"}


def test_of_all_that_gradio_serves_only_what_is_listed_is_let_in(server, raw, routes):
    """Routes that another version adds are refused until somebody has looked at them."""
    let_in = set()
    for target in routes(server):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            if method == "GET" and ("startup-events" in target or "heartbeat" in target):
                continue  # which last
            status, _, body = raw(method, target, Content_Length="0")
            if status != 405 and b"does no such thing" not in body and b"fetches nothing" not in body:
                let_in.add(f"{method} {target.rstrip('/')}")
    assert let_in == {
        "GET ", "GET /config", "GET /favicon.ico", "GET /manifest.json", "GET /robots.txt", "GET /theme.css",
        "GET /assets/x", "GET /static/x", "GET /svelte/x",
        *(f"GET /gradio_api/{name}" for name in (
            "info", "openapi.json", "app_id", "user", "login_check", "theme.css", "queue/data", "queue/status",
            "upload_progress", "call/x/1", "call/v2/x/1", "call/v2/x",
        )),
        *(f"POST /gradio_api/{name}" for name in (
            "upload", "queue/join", "cancel", "reset", "run/x", "api/x", "call/x", "call/v2/x",
        )),
    }  # fmt: skip


def test_every_answer_is_protected(server, raw):
    files = {"files": ("a.png", b"x")}
    [path] = httpx.post(f"{server.url}gradio_api/upload", files=files).json()
    own = server.url.rstrip("/")
    answers = [
        raw("GET", "/"), raw("HEAD", "/"), raw("GET", "/assets/none.js"),
        raw("GET", "/config"), raw("GET", f"/gradio_api/file={path}"),
        raw("GET", "/gradio_api/file=/etc/passwd"), raw("GET", "/gradio_api/queue/data"),
        raw("GET", "/gradio_api/queue/data?session_hash=none"), raw("GET", "/none"),
        raw("POST", "/gradio_api/call/none", Content_Length="0"),
        raw("POST", "/gradio_api/upload", Content_Length=str(1 << 40)), raw("PUT", "/config"),
        raw("OPTIONS", "/", Origin=own, Access_Control_Request_Method="POST"),
        raw("GET", "/", Origin="https://elsewhere.example"), raw("GET", "/", Host="elsewhere.example"),
    ]  # fmt: skip
    assert {200, 403, 404, 413, 422} <= {status for status, _, _ in answers}
    for status, headers, _ in answers:
        assert set(headers) >= PROTECTION and headers["x-content-type-options"] == "nosniff", status


def test_pages_of_other_sites_get_nothing_and_no_leave_to_ask(server, raw):
    own = server.url.rstrip("/")
    for headers in (
        {"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site", "Origin": own},
        {"Host": "elsewhere.example"}, {"Host": "elsewhere.example", "Origin": "http://elsewhere.example"},
        {"Host": "127.0.0.1.elsewhere.example"}, {"Host": "elsewhere.example@127.0.0.1"}, {"Host": ""},
    ):  # fmt: skip
        for method, target in (("GET", "/config"), ("POST", "/gradio_api/upload"), ("OPTIONS", "/")):
            status, told, body = raw(method, target, **headers)
            assert status == 403 and b"\n" not in body, (headers, method)
            assert not any(name.startswith("access-control") for name in told), (headers, method)
    status, _, _ = raw("POST", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert status == 403  # a form of theirs
    for headers in (
        {"Origin": own}, {"Sec_Fetch_Site": "same-origin", "Origin": "https://rewritten.by.a.proxy"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, {"Host": "localhost:1"}, {"Host": "[::1]:1"},
    ):  # fmt: skip
        assert raw("GET", "/config", **headers)[0] == 200, headers  # a link to the page among them
