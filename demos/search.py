"""Search: what in a store of files is like a sound, words, a picture, or the sum of them."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from bind2gen.files.bundled import example_sounds
from bind2gen.studio import Finds, Found, Progress
from bind2gen.studio.files import VisitorFiles
from bind2gen.studio.searching import MOST, SearchStudio

from . import api, parts

TITLE = "Search"
COLUMNS, COUNT = 4, 12
ANYTHING = "anything"
SOUND = "dog"
EMPTY = "What is found appears here."
START = "Record a sound, write words, or both, then press Search."
UNSEEN = "Nothing here is likely to be what you mean; these are the nearest."
PLURALS = {
    "image": "pictures", "audio": "sounds", "video": "films' pictures", "film": "films, seen and heard",
    "text": "texts", "depth": "depth maps", "thermal": "infrared pictures", "imu": "motion recordings",
}  # fmt: skip


def add(studio: SearchStudio, kept: VisitorFiles) -> None:
    """Lay the widgets out within the open Blocks."""
    kinds = [(f"{PLURALS[name]} ({count})", name) for name, count in studio.counts.items()]
    with gr.Row(elem_classes="b2g-columns"):
        with gr.Column(scale=5, min_width=320, elem_id="search-inputs"):
            first = parts.sound("Sound to search by")
            words = gr.Textbox(
                "", label="Words to search by", max_length=studio.limits.characters, lines=1,
                placeholder="Optional, for example: at the sea",
            )  # fmt: skip
            with gr.Accordion("More to search by, or to leave out", open=False):
                second = parts.sound("Second sound")
                picture = parts.picture("Picture to search by")
                without = gr.Textbox("", label="But not", max_length=studio.limits.characters, lines=1)
            parts.sound_examples(first, words, elem_id="search-sounds")
            modality = gr.Dropdown([(ANYTHING, ANYTHING), *kinds], value=_first(kinds), label="Find")
            search, stop = parts.buttons("Search")
            gr.Markdown(f"Several inputs are added up. {parts.bounds(studio.limits)}", elem_classes="b2g-quiet")
        with gr.Column(scale=6, min_width=320):
            stage = gr.HTML(parts.stage([], empty=EMPTY), padding=False, elem_id="found")
            status = parts.status(START, "search-status")
            details = gr.JSON(visible=False, label="details")
    count = gr.Slider(1, MOST, COUNT, step=1, label="How many", visible=False)
    parts.on_go(
        search, [words, without], ["found"], fn=_search(studio),
        inputs=[first, words, second, picture, without, modality, count], outputs=[details, stage, status],
        api_name="search",
    )  # fmt: skip
    parts.stopping(studio, stop, status, "stop_search")


def calls() -> api.Calls:
    """Examples of calls for the API page."""
    sound = example_sounds().get(SOUND)
    return {"/search": {"audio": sound, "count": 5} if sound else {"text": "a dog", "count": 5}}


def _first(kinds: list[tuple[str, str]]) -> str:
    """Pictures, where there are any: that is what people look for."""
    names = [name for _, name in kinds]
    return "image" if "image" in names else ANYTHING


def _search(studio: SearchStudio) -> Any:
    def search(
        audio: str | None = None,
        text: str | None = None,
        audio_second: str | None = None,
        image: str | None = None,
        without: str | None = None,
        modality: str = ANYTHING,
        count: int = COUNT,
        request: gr.Request | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """The files that are nearest to the sum of what is given, less what the words "without" name; best first."""
        with parts.shown_errors() as failed:
            news = studio.find(
                [{"audio": audio, "text": text, "image": image}, {"audio": audio_second}], without=without,
                modality=None if modality == ANYTHING else modality, count=count,
                session=parts.session(request), visitor=parts.visitor(request),
            )  # fmt: skip
            for item in parts.to_the_end(news):
                if isinstance(item, Progress):
                    yield gr.skip(), gr.skip(), parts.progress(item)
                else:
                    yield _details(item), _shown(item), parts.done(item.seconds, False, _notes(item))
        if failed:
            yield gr.skip(), gr.skip(), parts.alert(failed[0])
            raise failed[0]

    return search


def _details(item: Finds) -> dict[str, Any]:
    results = [
        {"name": one.name, "modality": one.modality, "score": round(one.score, 4), "probability": one.probability,
         "start": one.start, "end": one.end}
        for one in item.found
    ]  # fmt: skip
    told = {"results": results, "nothing_relevant": item.nothing}
    return told | {"notes": item.notes, "seconds": round(item.seconds, 3)}


def _notes(item: Finds) -> tuple[str, ...]:
    return (UNSEEN, *item.notes) if item.nothing else item.notes


def _shown(item: Finds) -> str:
    return parts.stage([_figure(one) for one in item.found], COLUMNS, empty="Nothing was found.")


def _figure(one: Found) -> str:
    sure = f"{one.score:.2f}" if one.probability is None else f"{one.probability:.0%}"
    when = "" if one.start is None else f", {one.start:.1f} to {one.end:.1f} s"
    name = html.escape(one.name)
    source = f"data:image/webp;base64,{base64.b64encode(one.thumbnail).decode()}"
    image = f'<img src="{source}" alt="{name}">' if one.thumbnail else f'<p class="b2g-none">{one.modality}</p>'
    caption = f"<span>{name}</span> <small>{one.modality} {sure}{when}</small>"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
