"""Widgets and words that the demos share."""

from __future__ import annotations

import base64
import html
import io
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from PIL.Image import Image

from bind2gen.errors import Bind2GenError
from bind2gen.files.bundled import concept_of, example_sounds
from bind2gen.files.pictures import enlarged, exif_text
from bind2gen.studio import DetectionStudio, Limits, Progress, Studio
from bind2gen.studio.searching import SearchStudio

logger = logging.getLogger("bind2gen.demos")

QUEUE = "model"  # events that use the model run one at a time
RANDOM_SEEDS = 1_000_000
TOAST = 15  # s that an error stays
COMING = 1.0  # s that what was asked for just before may take to the studio, on a busy machine
PREVIEW = 512  # pixels, longer side
LEAST_SAVED = 512  # pixels, longer side


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


def session(request: gr.Request | None) -> str:
    """Whose click it was: one for each open page or client."""
    return (request.session_hash if request else None) or ""


def visitor(request: gr.Request | None) -> str:
    """Who it was, by his address: he may have many sessions, for he names them himself."""
    return request.client.host if request and request.client else ""


# ---- inputs ----


def sound(label: str, *, value: str | None = None) -> gr.Audio:
    """Record or upload. Not editable: Gradio fetches its sound editor from elsewhere."""
    return gr.Audio(
        value, label=label, sources=["upload", "microphone"], type="filepath", editable=False, interactive=True,
        elem_classes="b2g-sound", buttons=[],
    )  # fmt: skip


def picture(label: str) -> gr.Image:
    return gr.Image(
        label=label, sources=["upload", "clipboard"], type="filepath", height=200, buttons=[],
        elem_classes="b2g-picture",
    )  # fmt: skip


def file(label: str, kinds: list[str]) -> gr.File:
    return gr.File(label=label, file_types=kinds, type="filepath", height=160)


def example_labels() -> tuple[list[str], list[str]]:
    """Files and names of the bundled, synthesised sounds."""
    sounds = example_sounds()
    return [str(path) for path in sounds.values()], [concept_of(name) for name in sounds]


def sound_examples(audio: gr.Audio, text: gr.Textbox, elem_id: str = "example-sounds") -> None:
    """One button for each bundled sound, which takes the place of words."""
    files, names = example_labels()
    if files:
        gr.Examples(
            [[path, ""] for path in files], [audio, text], example_labels=names, label="Example sounds, synthesised",
            examples_per_page=len(files), api_visibility="private", elem_id=elem_id,
        )  # fmt: skip


def kind_examples(kinds: Sequence[str], audio: gr.Audio, text: gr.Textbox) -> None:
    """One button for each thing that the model draws, which takes the place of a sound."""
    if kinds:
        names = gr.Examples(
            [[kind] for kind in kinds], [text], label=f"It draws these {len(kinds)} things; draw one by its name",
            examples_per_page=len(kinds), api_visibility="private", elem_id="kinds",
        )  # fmt: skip
        # Not by a column of nothing, which Gradio leaves out.
        names.dataset.click(lambda: None, None, audio, api_visibility="private", queue=False)


def settings(studio: Studio) -> tuple[gr.Number, gr.Slider, gr.Slider]:
    """Seed with a button that draws a new one, steps and guidance."""
    limits = studio.limits
    with gr.Row(equal_height=True, elem_classes="b2g-seed"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, min_width=120, scale=3)
        other = gr.Button("New seed", size="sm", min_width=90, scale=1)
    steps = gr.Slider(
        1, limits.steps, 20, step=1, label="Steps", info="6 do for the bundled model; more: slower, finer"
    )
    guidance = gr.Slider(
        0, limits.guidance, studio.guidance, step=0.5, label="Guidance", info="how closely the input is followed"
    )
    other.click(lambda: random.randrange(RANDOM_SEEDS), None, seed, api_visibility="private", queue=False)
    return seed, steps, guidance


def buttons(draw: str) -> tuple[gr.Button, gr.Button]:
    """The main button, and one that stops."""
    with gr.Row(elem_classes="b2g-buttons", elem_id=f"buttons-{draw.lower()}"):
        go = gr.Button(draw, variant="primary", scale=3, min_width=140)
        stop = gr.Button("Stop", variant="secondary", scale=1, min_width=80)
    return go, stop


def on_go(go: gr.Button, words: Sequence[gr.Textbox], places: Sequence[str], **event: Any) -> None:
    """What the button starts, or Enter in one of the texts; button and result come into view.

    Args:
        places: ids of where the result appears.
        event: of ``gr.on``. The status line says what happens, so Gradio covers nothing with its own.
    """
    triggers = [go.click, *(text.submit for text in words)]
    gr.on(
        triggers,
        None,
        js=f"() => bind2gen.show(...{[go.parent.elem_id, *places]})",
        api_visibility="private",
        queue=False,
    )
    gr.on(triggers, **event, concurrency_id=QUEUE, show_progress="hidden", trigger_mode="once")


def stopping(studio: Studio | DetectionStudio | SearchStudio, stop: gr.Button, line: gr.HTML, name: str) -> None:
    """Let the button stop this visitor's work; what was working tells how far it got, or that it was in the queue."""

    def stopped(request: gr.Request) -> Any:
        until = time.monotonic() + COMING
        while not studio.stop(session(request)):
            if time.monotonic() > until:
                return said("Nothing to stop.")
            time.sleep(0.1)
        return gr.skip()

    stop.click(stopped, None, line, queue=False, show_progress="hidden", api_name=name)


# ---- outputs ----


def status(words: str, elem_id: str) -> gr.HTML:
    """The line that says what happens: one live region for good, for screen readers only notice what changes in one."""
    return gr.HTML(said(words), padding=False, elem_id=elem_id, js_on_load="element.setAttribute('role', 'status')")


def to_the_end(news: Iterator[Any]) -> Iterator[Any]:
    """The news, and after them that it was stopped, if there was no result: Gradio sends the last value once more."""
    with closing(news):
        item = None
        for item in news:
            yield item
    if item is None or isinstance(item, Progress):
        yield Progress(0, 0, doing="Stopped.")


def stage(figures: Sequence[str], columns: int = 1, *, empty: str = "The picture appears here.") -> str:
    """Figures in a grid, as large as there is room, or what is said while there are none."""
    if not figures:
        return f'<div class="b2g-stage b2g-empty"><p>{html.escape(empty)}</p></div>'
    return f'<div class="b2g-stage" style="--columns: {columns}">{"".join(figures)}</div>'


def figure(source: str, caption: str, *, file: str | None = None, name: str | None = None) -> str:
    """A picture with its caption, and a link that saves it.

    Args:
        file: what is saved, if not the picture as it is shown; ``name``: under which name, if not its own.
    """
    image = f'<img src="{html.escape(source)}" alt="{html.escape(caption)}">'
    return f"<figure>{image}{_caption(caption, file or source, name)}</figure>"


def kept(save: Callable[..., str], picture: Image, caption: str, name: str) -> tuple[tuple[str, str], str]:
    """Keep a picture; its file and caption, and the figure, whose link saves it large enough to be looked at."""
    file, large = save(picture, name), enlarged(picture, LEAST_SAVED)
    saved = file if large is picture else save(large, name)
    return (file, caption), figure(address(file), caption, file=address(saved))


def moving(source: str, caption: str) -> str:
    """A picture that moves, with a way to put it out of sight (WCAG 2.2.2)."""
    words = html.escape(caption)
    image = f'<img src="{html.escape(source)}" alt="{words}">'
    shown = f"<details open><summary>{words}</summary>{image}</details>"
    return f"<figure>{shown}{_caption('', source, None, 'the slide, moving')}</figure>"


def _caption(caption: str, file: str, name: str | None, what: str = "") -> str:
    words, named = html.escape(caption), f'="{html.escape(name)}"' if name else ""
    label = f"Save the picture: {words or what}"
    link = f'<a href="{html.escape(file)}" download{named} aria-label="{label}">Save</a>'
    return f"<figcaption><span>{words}</span> {link}</figcaption>"


def preview(image: Image) -> str:
    """A picture that is gone in a moment, without a caption."""
    return f'<figure><img src="{embedded(image)}" alt="preview" decoding="sync"></figure>'


def embedded(image: Image, *, largest: int = PREVIEW, about: Mapping[str, Any] | None = None) -> str:
    """A picture within the page itself, at most ``largest`` pixels a side; ``about`` is written into it."""
    small = image.copy()
    small.thumbnail((largest, largest))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=90, exif=exif_text(about or {}))
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def embedded_file(path: Path) -> str:
    """A WebP file within the page itself."""
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"


def address(path: str) -> str:
    """Where the page finds a file of the upload folder; relative, so that it holds behind proxies."""
    return f"gradio_api/file={quote(path)}"


def said(words: str, more: str = "") -> str:
    """A line of status. ``more`` is markup."""
    return f'<div class="b2g-status"><span>{html.escape(words)}</span>{more}</div>'


def alert(error: gr.Error) -> str:
    """An error as a line of status, which stays when the toast has gone."""
    return f'<div class="b2g-status b2g-alert"><span>{error.message}</span></div>'


def progress(news: Progress) -> str:
    """A bar and its number, or what is being done; screen readers are not told of every step."""
    if not news.steps:
        return said(news.doing)
    words = news.doing or (f"Step {news.step} of {news.steps}" if news.step else "Reading and encoding")
    bar = f'<progress max="{news.steps}" value="{news.step}" aria-label="{news.doing or "Drawing"}"></progress>'
    return f'<div class="b2g-status">{bar}<span aria-hidden="true">{words}</span></div>'


def done(seconds: float, stopped: bool, notes: tuple[str, ...]) -> str:
    """The last line of status, and what the library assumed or repaired."""
    words = "Stopped; this is as far as it got." if stopped else f"Done in {seconds:.1f} s."
    return said(words, "".join(f"<p>Note: {html.escape(note)}</p>" for note in notes))


def bounds(limits: Limits) -> str:
    """The limits in a sentence."""
    return f"At most {limits.megabytes:g} MB a file; of a sound the first {limits.seconds:g} s are heard."


STYLE, SCRIPT = (Path(__file__).with_name(name) for name in ("style.css", "page.js"))
