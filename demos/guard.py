"""What the page and the server may reach: the page only this server, the server nothing that a visitor names."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Guard:
    """ASGI middleware: adds the headers, and refuses to fetch what lies elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if FETCHES.match(scope["path"].removeprefix(scope.get("root_path", ""))):
            await PlainTextResponse("this server fetches nothing from elsewhere", 403)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, guarded)


def uploads_only(component: Any) -> Any:
    """Make a file component hand over uploaded files as they are: nothing is decoded, downloaded or converted.

    Gradio would download an address given in place of a file, and opens pictures itself, without our limits. Set on the
    component and not by a subclass, for Gradio writes interface files beside the source of subclasses.

    Returns:
        The component.
    """
    keep = component.async_move_resource_to_block_cache

    async def local(path: Any) -> str | None:
        if re.match(r"\s*[a-z]+:/", str(path or ""), re.IGNORECASE):
            raise gr.Error("wanted an uploaded file, got an address", print_exception=False)
        return await keep(path)

    component.async_move_resource_to_block_cache = local
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component
