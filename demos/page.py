"""The page: demos as tabs, or one alone; and how it is served."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import ModuleType
from typing import Any

import gradio as gr
from gradio.server_messages import ProcessCompletedMessage
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from bind2gen.studio import DetectionStudio, Studio
from bind2gen.studio.files import VisitorFiles
from bind2gen.studio.limits import MEGABYTE
from bind2gen.studio.searching import SearchStudio

from . import api, arithmetic, detect, parts, search, sound2image, visitors
from .guard import Guard
from .uploads import uploads_only

DEMOS: dict[str, ModuleType] = {
    "sound2image": sound2image, "detect": detect, "arithmetic": arithmetic, "search": search,
}  # fmt: skip
HEADING = "# bind2gen\nGive it a sound, and see what it looks like, or where it is."
JOBS, JOBS_EACH = 24, 12  # at a time: of all visitors, and of one address, behind which there may be a school
HEARD, LOOK = 60, 1.0  # s within which who asked for something must listen to what is told of it; between two looks
UNHEARD = f"given up, for nobody listened to its news within {HEARD} s"
SESSIONS = 100  # whose last finding is kept in memory for its threshold
TRUSTED = "FORWARDED_ALLOW_IPS"  # where uvicorn finds whose X-Forwarded-For it may believe; by default this machine's
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
SYSTEM_MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")


def build(studios: Mapping[str, Studio | DetectionStudio | SearchStudio], files: VisitorFiles) -> gr.Blocks:
    """The page with these demos; several are tabs.

    Args:
        studios: name of a demo -> what it works with; ``detect`` needs a :class:`DetectionStudio`, ``search`` a
            :class:`SearchStudio`.
        files: in the folder that Gradio was given; what lies there afterwards belongs to the page.
    """
    with gr.Blocks(title="bind2gen", analytics_enabled=False) as blocks:
        gr.Markdown(HEADING, elem_classes="b2g-heading")
        if len(studios) == 1:
            for name, studio in studios.items():
                DEMOS[name].add(studio, files)
        else:
            with gr.Tabs():
                for name, studio in studios.items():
                    with gr.Tab(DEMOS[name].TITLE, id=name):
                        DEMOS[name].add(studio, files)
    uploads_only(blocks)
    api.describe(blocks, {path: call for name in studios for path, call in DEMOS[name].calls().items()})
    files.keep_present()
    # Who comes next is settled by the studio's worker, which is fair; Gradio's own queue is not.
    return blocks.queue(max_size=JOBS, default_concurrency_limit=JOBS, api_open=False)


def theme() -> gr.themes.Base:
    """Calm, with fonts of the system; colours with the contrast of 4.5 to 1 that WCAG asks of text."""
    look = gr.themes.Soft(
        primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=SYSTEM_MONO
    )
    plain = {
        "block_label_background_fill": "*block_background_fill", "block_label_text_color": "*neutral_600",
        "block_title_background_fill": "transparent", "block_title_text_color": "*neutral_600",
        "button_primary_background_fill": "*primary_700", "button_primary_background_fill_hover": "*primary_800",
        "color_accent": "*primary_700", "link_text_color": "*primary_700",
        "body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600",
        "input_placeholder_color": "*neutral_500",
    }  # fmt: skip
    dark = {
        "block_label_background_fill_dark": "*block_background_fill", "block_label_text_color_dark": "*neutral_300",
        "block_title_background_fill_dark": "transparent", "block_title_text_color_dark": "*neutral_300",
        "button_primary_background_fill_dark": "*primary_700",
        "button_primary_background_fill_hover_dark": "*primary_800",
        "button_secondary_background_fill_hover_dark": "*neutral_600", "link_text_color_dark": "*primary_300",
        "body_text_color_subdued_dark": "*neutral_300", "block_info_text_color_dark": "*neutral_300",
        "input_placeholder_color_dark": "*neutral_300",
    }  # fmt: skip
    return look.set(
        **plain, **dark, block_title_padding="0", block_label_padding="*spacing_sm *spacing_md",
        block_border_width="1px", block_label_border_width="0px", block_label_shadow="none", block_shadow="none",
    )  # fmt: skip


def launch(
    blocks: gr.Blocks,
    files: VisitorFiles,
    *,
    megabytes: float,
    host: str,
    port: int | None,
    share: bool = False,
    proxies: str = "",
    root_path: str = "",
    auth: str = "",
    jobs_each: int = JOBS_EACH,
) -> str:
    """Serve the page in a thread and return its address.

    Args:
        files: as of :func:`build`; they are swept as long as the page is served.
        megabytes: of one upload at most.
        proxies: addresses and networks, with commas, whose X-Forwarded-For tells who a visitor is.
        root_path: where a proxy serves the page, such as ``/tools/b2g``; all addresses in it begin there.
        auth: ``NAME:PASSWORD`` that all must know; empty lets everybody in.
        jobs_each: that one address may have at a time.

    Raises:
        OSError: the port is taken.
    """
    os.environ[TRUSTED] = proxies
    names = visitors.Names.of(host, root_path=root_path, anybody=bool(share or proxies))
    guarded = partial(Guard, files=files, megabytes=megabytes, names=names, door=visitors.Door(auth) if auth else None)
    _bound_jobs(blocks, jobs_each)
    _, url, shared = blocks.launch(
        server_name=host,
        server_port=port,
        share=share,
        root_path=root_path,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        max_file_size=int(megabytes * MEGABYTE),
        state_session_capacity=SESSIONS,
        app_kwargs={"lifespan": _served(blocks, files, guarded)},
        footer_links=["api"],
        run_history=False,  # it would offer to store what visitors do
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css_paths=parts.STYLE,
        head=f"<script>{parts.SCRIPT.read_text(encoding='utf-8')}</script>",
        _frontend=False,  # do not ask for the page now: on a busy machine Gradio gives up after 3 s
    )
    return shared or url


def _bound_jobs(blocks: gr.Blocks, each: int) -> None:
    """Let one address have so many jobs at a time. Gradio bounds those that wait alone, whosever they are."""
    queue = blocks._queue
    push = queue.push
    queue.ANALYTICS_MAX_EVENTS = 0  # a table of who asked for what and when, summed up after each job

    async def bounded(body: Any, request: Any, username: str | None) -> tuple[bool, Any, str]:
        jobs = _jobs(queue)
        if sum(event.request.client.host == request.client.host for event in jobs) >= each:
            raise HTTPException(429, f"wanted at most {each} jobs at a time from one address; wait for one to end")
        if len(jobs) >= queue.max_size:
            return False, f"{len(jobs)} jobs are waiting already; try again in a moment", "queue_full"
        return await push(body=body, request=request, username=username)

    queue.push = bounded


def _jobs(queue: Any) -> list[Any]:
    """Gradio's events that wait or run."""
    waiting = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
    return [*waiting, *(event for running in queue.active_jobs if running for event in running)]


def _served(
    blocks: gr.Blocks, files: VisitorFiles, guarded: Callable[[ASGIApp], ASGIApp]
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """As long as the server runs: it is guarded, and what is old is deleted, known to Gradio or not."""

    async def sweep() -> None:
        idle: dict[str, float] = {}
        while True:
            await asyncio.sleep(files.check)
            gone = await asyncio.to_thread(files.sweep)
            for known in blocks.temp_file_sets:
                known -= gone
            idle = _forget(blocks, idle, files)

    async def hang_up() -> None:
        unread: dict[str, tuple[Any, float]] = {}
        while True:
            await asyncio.sleep(LOOK)
            unread = await _drop_unheard(blocks, unread)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        # Around all of it: what Gradio adds by itself stands before the middleware that it is given.
        app.middleware_stack = guarded(app.middleware_stack)
        tasks = [asyncio.create_task(sweep()), asyncio.create_task(hang_up())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return lifespan


async def _drop_unheard(blocks: gr.Blocks, unread: dict[str, tuple[Any, float]]) -> dict[str, tuple[Any, float]]:
    """End jobs whose news nobody reads: who asked was gone before he listened, which Gradio does not notice.

    Returns:
        Session -> its oldest unread piece of news, and since when it has been that.
    """
    queue, now, found = blocks._queue, time.monotonic(), {}
    for session in {event.session_hash for event in _jobs(queue)}:
        news = getattr(queue.pending_messages_per_session.get(session), "_queue", ())
        if news:
            oldest, since = unread.get(session, (None, now))
            found[session] = (news[0], since if oldest is news[0] else now)
            if found[session][1] <= now - HEARD:
                for event in (event for event in _jobs(queue) if event.session_hash == session):
                    queue.send_message(event, ProcessCompletedMessage(output={"error": UNHEARD}, success=False))
                await queue.clean_events(session_hash=session)
    return found


def _forget(blocks: gr.Blocks, idle: dict[str, float], files: VisitorFiles) -> dict[str, float]:
    """Forget news that nobody fetched, as old as files may be; since when each session has had no job."""
    queue, now = blocks._queue, files.clock()
    news, jobs = queue.pending_messages_per_session, queue.pending_event_ids_session
    busy = {event.session_hash for event in _jobs(queue)}
    idle = {name: idle.get(name, now) for name in {*news, *jobs} - busy}
    for session in [name for name, since in idle.items() if since <= now - files.age]:
        for known in (idle, news, jobs):
            known.pop(session, None)
    return idle
