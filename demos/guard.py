"""What the page and the server may reach: the page only this server, the server nothing that a visitor names."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bind2gen.errors import TooLargeError
from bind2gen.studio.files import SMALLEST, VisitorFiles
from bind2gen.studio.limits import MEGABYTE

# Whatever a component of Gradio would like to fetch from elsewhere, the browser does not.
POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio hands its configuration over in an inline script, and fills templates by evaluating them.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
# Gradio fetches these addresses on behalf of whoever asks.
FETCHES = re.compile(r"(/gradio_api)?/(file[=/]\s*[a-z]+:/|proxy=)", re.IGNORECASE)
UPLOAD = re.compile(r"(/gradio_api)?/upload/?")
# What the page and scripts send. The rest of what Gradio takes writes files of its own or works outside of the queue.
POSTS = re.compile(r"(/gradio_api)?/(upload|queue/join|cancel|reset|call/.+|run/.+|api/.+)/?")
WRITES = re.compile(r"(/gradio_api)?/deep_link/?")
OURS = re.compile(r"https?://[^?#]+?/gradio_api/file=([^?#]+)", re.IGNORECASE)  # address of a file that lies here
ENVELOPE = 64 << 10  # bytes of a request around its file
MESSAGE = 1 << 20  # bytes of any other request
NETWORK = 64  # bits: who has one address of IPv6 has all that share these


class Guard:
    """ASGI middleware: adds the headers, fetches nothing from elsewhere, and bounds what a visitor sends.

    Behind it, the client's address is the visitor's: a whole network with IPv6.

    Args:
        files: that uploads are counted in.
        megabytes: of one upload at most; a request holds one.
    """

    def __init__(self, app: ASGIApp, *, files: VisitorFiles, megabytes: float) -> None:
        self.app, self.files = app, files
        self.largest = int(megabytes * MEGABYTE) + ENVELOPE  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host, port = scope.get("client") or ("", 0)
        scope["client"] = (visitor_at(host), port)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if FETCHES.match(path):
            await _refuse(403, "this server fetches nothing from elsewhere", scope, receive, send)
        elif WRITES.fullmatch(path) or scope["method"] == "POST" and not POSTS.fullmatch(path):
            await _refuse(403, "this server does no such thing", scope, receive, send)
        else:
            await self._bounded(UPLOAD.fullmatch(path) is not None, scope, receive, send)

    async def _bounded(self, upload: bool, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is sent, as long as it may be."""
        bound, taken, refused = self.largest if upload else MESSAGE, 0, None
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > bound:
            await _refuse(413, _too_large(bound), scope, receive, send)
            return

        def count(size: int) -> None:
            nonlocal taken, refused
            taken += size
            try:
                if taken > bound:
                    raise TooLargeError(_too_large(bound))
                if upload:
                    self.files.charge(scope["client"][0], size)
            except TooLargeError as error:
                refused = str(error)
                raise MultiPartException(refused) from None  # at which Gradio deletes what it has of the upload

        async def counted() -> Message:
            message = await receive()
            count(len(message.get("body", b"")))
            return message

        async def guarded(message: Message) -> None:
            if refused is not None:
                return  # whatever the server makes of it, it is told below
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            if upload and scope["method"] == "POST":
                count(SMALLEST)
            await self.app(scope, counted, guarded)
        except Exception:
            if refused is None:
                raise
        if refused is not None:
            await _refuse(413, refused, scope, receive, send)


def _too_large(bound: int) -> str:
    return f"wanted a request of at most {bound / MEGABYTE:.0f} MB with one file in it; send files one by one"


async def _refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(why, status)(scope, receive, send)


def visitor_at(host: str) -> str:
    """Whom an address stands for: itself, or its network with IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), NETWORK), strict=False))


def uploads_only(component: Any) -> Any:
    """Make a file component hand over uploaded files as they are: nothing is decoded, downloaded or converted.

    Gradio would download an address given in place of a file, and opens pictures itself, without our limits. An address
    of a file on this server stands for that file. Set on the component and not by a subclass, for Gradio writes
    interface files beside the source of subclasses.

    Returns:
        The component.
    """
    keep = component.async_move_resource_to_block_cache

    async def local(path: Any) -> str | None:
        here = OURS.fullmatch(str(path or "").strip())
        if here:
            path = Path(unquote(here[1])).resolve()
        if re.match(r"\s*[a-z]+:/", str(path or ""), re.IGNORECASE) or (
            here and not path.is_relative_to(Path(component.GRADIO_CACHE).resolve())
        ):
            raise gr.Error("wanted an uploaded file, got an address", print_exception=False)
        return await keep(path)

    component.async_move_resource_to_block_cache = local
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component
