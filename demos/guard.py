"""What may reach the server, and what the page may reach: a wall around Gradio, which has more doors than we use.

What is let in is listed; whatever else Gradio serves, or will serve in another version, is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bind2gen.errors import TooLargeError
from bind2gen.studio.files import SMALLEST, VisitorFiles
from bind2gen.studio.limits import MEGABYTE

from .visitors import Door, Names, visitor_at

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
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
# Gradio fetches these addresses on behalf of whoever asks.
FETCHES = re.compile(r"(/gradio_api)?/(file[=/]\s*[a-z]+:/|proxy=)", re.IGNORECASE)
UPLOAD = re.compile(r"(/gradio_api)?/upload/?")
# What the page and scripts send. The rest of what Gradio takes writes files of its own or works outside of the queue.
POSTS = re.compile(r"(/gradio_api)?/(upload|queue/join|cancel|reset|call/.+|run/.+|api/.+)/?")
# What they get: the page and its pieces, the description of the endpoints, results.
PIECES = r"config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|((assets|static|svelte)/.+)"
ANSWERS = (
    r"info|openapi\.json|app_id|user|login_check|startup-events|theme\.css|upload_progress"
    r"|queue/(data|status)|heartbeat/[^/]+|call/.+"
)
GETS = re.compile(rf"/({PIECES})?/?|/gradio_api/({ANSWERS})/?")
FILE = re.compile(r"/gradio_api/file=(.+)", re.DOTALL)
ALIVE = "/gradio_api/startup-events"  # tells nothing; Gradio asks it when it starts, and containers whether it lives
ENVELOPE = 64 << 10  # bytes of a request around its file
MESSAGE = 1 << 20  # bytes of any other request


class Guard:
    """ASGI middleware: lets in what is listed, from our own page and scripts, and bounds what a visitor sends.

    Behind it, the client's address is the visitor's: a whole network with IPv6.

    Args:
        files: that uploads are counted in; nothing outside of their folder is served as a file.
        megabytes: of one upload at most; a request holds one.
        names: that this server goes by.
        door: asks for the password; None lets everybody in.
    """

    def __init__(
        self, app: ASGIApp, *, files: VisitorFiles, megabytes: float, names: Names, door: Door | None = None
    ) -> None:
        self.app, self.files, self.names, self.door = app, files, names, door
        self.largest = int(megabytes * MEGABYTE) + ENVELOPE  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # of which there are none
            return
        host, port = scope.get("client") or ("", 0)
        scope["client"] = (visitor_at(host), port)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        refusal = self._refusal(scope["method"], path, scope["client"][0], Headers(scope=scope))
        if refusal is not None:
            await _refuse(*refusal, scope, receive, send)
        else:
            await self._bounded(UPLOAD.fullmatch(path) is not None, scope, receive, send)

    def _refusal(self, method: str, path: str, visitor: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason, or None for what is let in."""
        if refusal := self.names.refusal(method, headers):
            return 403, refusal
        if self.door and path != ALIVE and (status := self.door.refusal(visitor, headers.get("authorization"))):
            return status, self.door.WORDS[status]
        if FETCHES.match(path):
            return 403, "this server fetches nothing from elsewhere"
        if method == "POST" and POSTS.fullmatch(path):
            return None
        if method in ("GET", "HEAD"):
            if GETS.fullmatch(path):
                return None
            if (file := FILE.fullmatch(path)) and lies_in(file[1], self.files.folder):
                return None
        return 403, "this server does no such thing"

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
                message["headers"] = [*message["headers"], *_encoded(HEADERS)]
            await send(message)

        try:
            if upload and scope["method"] == "POST":
                count(SMALLEST)
            await self.app(scope, counted, guarded)
        except ClientDisconnect:
            return  # in the middle of what he sent
        except Exception as error:
            if isinstance(error.__cause__, HTTPException):  # Gradio has told it already, in the middle of its answer
                await send({"type": "http.response.body", "body": b""})
            elif refused is None:
                raise
        if refused is not None:
            await _refuse(413, refused, scope, receive, send)


def lies_in(path: str, folder: Path) -> bool:
    """Whether a path, with its links followed, is that of a file in a folder that is resolved."""
    try:
        found = Path(path).resolve()
        return found.is_relative_to(folder) and found.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero in it, links in a circle
        return False


def _too_large(bound: int) -> str:
    return f"wanted a request of at most {bound / MEGABYTE:.0f} MB with one file in it; send files one by one"


async def _refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = HEADERS | (Door.ASKS if status == 401 else {})
    await PlainTextResponse(why, status, headers)(scope, receive, send)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
