"""Arithmetic: slide from one thing to another, add them, take one out of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from bind2gen.bundled import example_sounds
from bind2gen.studio import Progress, Slide, Studio
from bind2gen.studio.files import VisitorFiles

from . import api, parts

TITLE = "Arithmetic"
EXPLANATION = "The picture in the middle of the slide is that of the sum. All pictures share one seed."
WORDS = "a bird"
EXAMPLES = (("a bird", "sea"), ("a dog", "insect"), ("a clock", "frog"), ("a police van", "airplane"))


def add(studio: Studio, kept: VisitorFiles) -> None:
    """Lay the widgets out within the open Blocks."""
    sounds = {name: str(path) for name, path in example_sounds().items()}
    with gr.Row(elem_classes="b2g-columns"):
        with gr.Column(min_width=300):
            gr.Markdown("### First thing")
            first = _thing(studio, "first", words=WORDS)
        with gr.Column(min_width=300):
            gr.Markdown("### Second thing")
            second = _thing(studio, "second", sound=sounds.get("sea"))
    pairs = [(words, name) for words, name in EXAMPLES if name in sounds]
    if pairs:
        gr.Examples(
            [[words, sounds[name]] for words, name in pairs], [first[0], second[1]], label="Example pairs",
            example_labels=[f"{words} → {name}" for words, name in pairs], api_visibility="private",
        )  # fmt: skip
    slide, stop = parts.buttons("Slide")
    status = gr.HTML(parts.said("Write or record two things, then press Slide."), padding=False, elem_id="slide-status")
    strip = gr.HTML(padding=False, elem_id="strip")
    rest = gr.HTML(padding=False, elem_id="differences")
    with gr.Accordion("Settings", open=False), gr.Row():
        pictures = gr.Slider(3, studio.limits.slide, 5, step=2, label="Pictures of the slide")
        amount = gr.Slider(
            0, 1, 0.5, step=0.05, label="Taken away", info="how much of the one is taken out of the other"
        )
        seed, steps, guidance = parts.settings(studio)
    files = gr.Gallery(visible=False, label="pictures")
    differences = gr.Gallery(visible=False, label="differences")
    animation = gr.File(visible=False, label="animation")
    event = slide.click(
        _slide(studio, kept), [*first, *second, pictures, amount, seed, steps, guidance],
        [files, differences, animation, strip, rest, status],
        api_name="arithmetic", concurrency_id=parts.QUEUE, show_progress="minimal", show_progress_on=[status],
    )  # fmt: skip
    parts.stopping(studio, stop, event, status, "stop_arithmetic")


def calls() -> api.Calls:
    """Examples of calls for the API page."""
    sound = example_sounds().get("sea")
    second = {"audio_second": sound} if sound else {"text_second": "the sea"}
    return {"/arithmetic": {"text_first": WORDS, **second, "pictures": 3}}


def _thing(studio: Studio, which: str, *, words: str = "", sound: str | None = None) -> list[Any]:
    """Words, sound and picture; what is given of them is blended."""
    text = gr.Textbox(words, label=f"Words ({which})", max_length=studio.limits.characters, lines=1)
    audio = parts.sound(f"Sound ({which})", value=sound)
    with gr.Accordion(f"Picture ({which})", open=False):
        image = parts.picture(f"Picture ({which})")
    return [text, audio, image]


def _slide(studio: Studio, kept: VisitorFiles) -> Any:
    def arithmetic(
        text_first: str | None = None,
        audio_first: str | None = None,
        image_first: str | None = None,
        text_second: str | None = None,
        audio_second: str | None = None,
        image_second: str | None = None,
        pictures: int = 5,
        amount: float = 0.5,
        seed: int = 0,
        steps: int = 20,
        guidance: float | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """A slide from the first thing to the second, their differences, and the slide as an animated WebP."""
        visitor = parts.visitor(request)
        with parts.shown_errors() as failed:
            news = studio.slide(
                {"text": text_first, "audio": audio_first, "image": image_first},
                {"text": text_second, "audio": audio_second, "image": image_second},
                pictures=pictures, amount=amount, seed=seed, steps=steps, guidance=guidance,
                session=parts.session(request), visitor=visitor,
            )  # fmt: skip
            for item in parts.to_the_end(news):
                yield _shown(item, int(pictures), partial(kept.save, visitor=visitor))
        if failed:
            yield *[gr.skip()] * 5, parts.alert(failed[0])
            raise failed[0]

    return arithmetic


def _shown(item: Progress | Slide, count: int, save: Callable[..., str]) -> tuple[Any, ...]:
    """Values of files, differences, animation, strip, the rest and status."""
    if isinstance(item, Progress):
        previews = [(parts.preview(picture), "") for picture in item.pictures]
        grid = parts.stage(previews[:count], count) if previews else gr.skip()
        rest = parts.stage(previews[count:], 3) if previews[count:] else gr.skip()
        return gr.skip(), gr.skip(), gr.skip(), grid, rest, parts.progress(item)
    words = [f"{fraction:.0%} · {word}" for fraction, word in zip(item.fractions, item.words, strict=True)]
    strip = [(save(picture), caption) for picture, caption in zip(item.pictures, words, strict=False)]
    names = ("first − second", "second − first")
    differences = [(save(picture), name) for picture, name in zip(item.differences, names, strict=False)]
    moving = save(item.animation, ".webp") if item.animation else None
    rest = [parts.figure(parts.address(path), caption) for path, caption in differences]
    if moving:
        rest.append(parts.moving(parts.address(moving), "the slide, moving"))
    return (
        strip, differences, moving, _grid(strip, count), parts.grid(rest, 3),
        parts.done(item.seconds, item.stopped, item.notes, EXPLANATION),
    )  # fmt: skip


def _grid(files: list[tuple[str, str]], columns: int) -> str:
    return parts.stage([(parts.address(path), caption) for path, caption in files], columns)
