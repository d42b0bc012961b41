"""Widgets and words that the demos share."""

from __future__ import annotations

import base64
import html
import io
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from PIL.Image import Image

from bind2gen.bundled import example_sounds
from bind2gen.errors import Bind2GenError
from bind2gen.sounds import concept_of
from bind2gen.studio import DetectionStudio, Limits, Progress, Studio

from .guard import uploads_only

logger = logging.getLogger("bind2gen.demos")

QUEUE = "model"  # events that use the model run one at a time
RANDOM_SEEDS = 1_000_000
TOAST = 15  # s that an error stays
PREVIEW = 512  # pixels, longer side


@contextmanager
def shown_errors() -> Iterator[list[gr.Error]]:
    """Within the block: what goes wrong ends it, and is put into the list as the page shows it: one line, no traceback.

    The caller raises it, after it has said so in the page as well.
    """
    failed: list[gr.Error] = []
    try:
        yield failed
    except Bind2GenError as error:
        failed.append(_toast(" ".join(str(error).split())))
    except Exception as error:
        logger.exception("a demo failed")
        kind = type(error).__name__
        advice = "try fewer or smaller pictures" if kind == "OutOfMemoryError" else "the server's log says more"
        failed.append(_toast(f"something unforeseen went wrong ({kind}); {advice}"))


def _toast(message: str) -> gr.Error:
    return gr.Error(html.escape(message, quote=False), duration=TOAST, print_exception=False)


def alert(error: gr.Error) -> str:
    """An error as a line of status, which stays when the toast has gone."""
    return f'<div class="b2g-status" role="alert"><span>{error.message}</span></div>'


def session(request: gr.Request | None) -> str:
    """Whose click it was: one for each open page or client."""
    return (request.session_hash if request else None) or ""


def visitor(request: gr.Request | None) -> str:
    """Who it was, by his address: he may have many sessions, for he names them himself."""
    return request.client.host if request and request.client else ""


# ---- inputs ----


def sound(label: str, *, value: str | None = None) -> gr.Audio:
    """Record or upload. Not editable: Gradio fetches its sound editor from elsewhere."""
    return uploads_only(
        gr.Audio(
            value, label=label, sources=["upload", "microphone"], type="filepath", editable=False, interactive=True,
            buttons=[],
        )
    )  # fmt: skip


def picture(label: str) -> gr.Image:
    return uploads_only(gr.Image(label=label, sources=["upload", "clipboard"], type="filepath", height=200, buttons=[]))


def file(label: str, kinds: list[str]) -> gr.File:
    return uploads_only(gr.File(label=label, file_types=kinds, type="filepath", height=160))


def example_labels() -> tuple[list[str], list[str]]:
    """Files and names of the bundled, synthesised sounds."""
    sounds = example_sounds()
    return [str(path) for path in sounds.values()], [concept_of(name) for name in sounds]


def sound_examples(target: gr.Audio) -> None:
    """One button for each bundled sound, which lays it into ``target``."""
    files, names = example_labels()
    if files:
        gr.Examples(
            [[path] for path in files], [target], example_labels=names, label="Example sounds, synthesised",
            examples_per_page=len(files), api_visibility="private", elem_id=f"examples-{target._id}",
        )  # fmt: skip


def settings(studio: Studio) -> tuple[gr.Number, gr.Slider, gr.Slider]:
    """Seed with a button that draws a new one, steps and guidance."""
    limits = studio.limits
    with gr.Row(equal_height=True, elem_classes="b2g-seed"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, min_width=120, scale=3)
        other = gr.Button("New seed", size="sm", min_width=90, scale=1)
    steps = gr.Slider(1, limits.steps, 20, step=1, label="Steps", info="more: slower, finer")
    guidance = gr.Slider(
        0, limits.guidance, studio.guidance, step=0.5, label="Guidance", info="how closely the input is followed"
    )
    other.click(lambda: random.randrange(RANDOM_SEEDS), None, seed, api_visibility="private", queue=False)
    return seed, steps, guidance


def buttons(draw: str) -> tuple[gr.Button, gr.Button]:
    """The main button, and one that stops."""
    with gr.Row(elem_classes="b2g-buttons"):
        go = gr.Button(draw, variant="primary", scale=3, min_width=140)
        stop = gr.Button("Stop", variant="secondary", scale=1, min_width=80)
    return go, stop


def stopping(studio: Studio | DetectionStudio, stop: gr.Button, event: Any, status: gr.HTML, name: str) -> None:
    """Let the button stop this visitor's work, or take it out of the queue."""

    def stopped(request: gr.Request) -> str:
        return said("Stopped.") if studio.stop(session(request)) else said("Nothing to stop.")

    stop.click(stopped, None, status, cancels=[event], queue=False, api_name=name)


# ---- outputs ----


def to_the_end(news: Iterator[Any]) -> Iterator[Any]:
    """The news, and after them that it was stopped, if there was no result: Gradio sends the last value once more."""
    with closing(news):
        item = None
        for item in news:
            yield item
    if item is None or isinstance(item, Progress):
        yield Progress(0, 0, doing="Stopped.")


def stage(figures: Sequence[tuple[str, str]], columns: int = 1, *, empty: str = "The picture appears here.") -> str:
    """Pictures in a grid, as large as there is room, captions below them.

    Args:
        figures: source and caption of each; what is not captioned is a preview.
        empty: what is said while there are none.
    """
    if not figures:
        return f'<div class="b2g-stage b2g-empty"><p>{html.escape(empty)}</p></div>'
    return grid([figure(source, caption) for source, caption in figures], columns)


def grid(figures: Sequence[str], columns: int) -> str:
    """Markup of figures in columns."""
    return f'<div class="b2g-stage" style="--columns: {columns}">{"".join(figures)}</div>'


def figure(source: str, caption: str) -> str:
    """One picture; with a caption also a link that saves it."""
    words = html.escape(caption)
    image = f'<img src="{html.escape(source)}" alt="{words or "preview"}">'
    if not caption:
        return f"<figure>{image}</figure>"
    return f"<figure>{image}<figcaption><span>{words}</span> {_save(source, words)}</figcaption></figure>"


def moving(source: str, caption: str) -> str:
    """A picture that moves, with a way to put it out of sight (WCAG 2.2.2)."""
    words = html.escape(caption)
    image = f'<img src="{html.escape(source)}" alt="{words}">'
    save = f"<figcaption><span></span> {_save(source, words)}</figcaption>"
    return f"<figure><details open><summary>{words}</summary>{image}</details>{save}</figure>"


def _save(source: str, words: str) -> str:
    return f'<a href="{html.escape(source)}" download aria-label="Save the picture: {words}">Save</a>'


def preview(image: Image, *, largest: int = PREVIEW) -> str:
    """A picture within the page itself, for those that are gone in a moment; at most ``largest`` pixels a side."""
    small = image.copy()
    small.thumbnail((largest, largest))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def address(path: str) -> str:
    """Where the page finds a file of the upload folder; relative, so that it holds behind proxies."""
    return f"gradio_api/file={quote(path)}"


def said(words: str, more: str = "") -> str:
    """A line of status; screen readers speak it. ``more`` is markup."""
    return f'<div class="b2g-status" role="status"><span>{html.escape(words)}</span>{more}</div>'


def progress(news: Progress) -> str:
    """A bar and its number, or what is being done."""
    if not news.steps:
        return said(news.doing)
    words = news.doing or (f"Step {news.step} of {news.steps}" if news.step else "Reading and encoding")
    bar = f'<progress max="{news.steps}" value="{news.step}" aria-label="{news.doing or "Denoising"}"></progress>'
    return f'<div class="b2g-status">{bar}<span>{words}</span></div>'


def done(seconds: float, stopped: bool, notes: tuple[str, ...], explanation: str = "") -> str:
    """The last line of status, and what the library assumed or repaired."""
    words = "Stopped; this is as far as it got." if stopped else f"Done in {seconds:.1f} s."
    more = f"<p>{html.escape(explanation)}</p>" if explanation else ""
    return said(words, more + "".join(f"<p>Note: {html.escape(note)}</p>" for note in notes))


def bounds(limits: Limits) -> str:
    """The limits in a sentence."""
    return f"At most {limits.megabytes:g} MB a file and {limits.seconds:g} s of sound."


STYLE = Path(__file__).with_name("style.css")
