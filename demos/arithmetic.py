"""Arithmetic: slide from one thing to another, add them, take one out of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from bind2gen.files.bundled import example_sounds
from bind2gen.studio import Progress, Slide, Studio
from bind2gen.studio.files import VisitorFiles, file_name

from . import api, parts

TITLE = "Arithmetic"
EXPLANATION = "The picture in the middle of the slide is that of the sum. All pictures share one seed."
WORDS, SOUND = "a lion", "dog"
EXAMPLES = ((WORDS, SOUND), ("a wolf", "cat"), ("a horse", "dog"), ("a rooster", "bird"))


def add(studio: Studio, kept: VisitorFiles) -> None:
    """Lay the widgets out within the open Blocks."""
    sounds = {name: str(path) for name, path in example_sounds().items()}
    with gr.Row(elem_classes="b2g-columns"):
        with gr.Column(min_width=300):
            gr.Markdown("## First thing", elem_classes="b2g-heading")
            first = _thing(studio, "first", words=WORDS)
        with gr.Column(min_width=300):
            gr.Markdown("## Second thing", elem_classes="b2g-heading")
            second = _thing(studio, "second", sound=sounds.get(SOUND))
    pairs = [(words, name) for words, name in EXAMPLES if name in sounds]
    if pairs:
        gr.Examples(
            [[words, sounds[name]] for words, name in pairs], [first[0], second[1]], label="Example pairs",
            example_labels=[f"{words} → {name}" for words, name in pairs], api_visibility="private",
        )  # fmt: skip
    slide, stop = parts.buttons("Slide")
    status = parts.status("Write or record two things, then press Slide.", "slide-status")
    gr.Markdown(EXPLANATION, elem_classes="b2g-quiet")
    strip = gr.HTML(parts.stage([], empty="The slide appears here."), padding=False, elem_id="strip")
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
    parts.on_go(
        slide, [first[0], second[0]], ["slide-status", "strip"], fn=_slide(studio, kept),
        inputs=[*first, *second, pictures, amount, seed, steps, guidance],
        outputs=[files, differences, animation, strip, rest, status], api_name="arithmetic",
    )  # fmt: skip
    parts.stopping(studio, stop, status, "stop_arithmetic")


def calls() -> api.Calls:
    """Examples of calls for the API page."""
    sound = example_sounds().get(SOUND)
    second = {"audio_second": sound} if sound else {"text_second": "a dog"}
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
        about = {"amount": amount, "seed": seed, "steps": steps}
        with parts.shown_errors() as failed:
            news = studio.slide(
                {"text": text_first, "audio": audio_first, "image": image_first},
                {"text": text_second, "audio": audio_second, "image": image_second},
                pictures=pictures, amount=amount, seed=seed, steps=steps, guidance=guidance,
                session=parts.session(request), visitor=visitor,
            )  # fmt: skip
            for item in parts.to_the_end(news):
                yield _shown(item, int(pictures), partial(kept.save, visitor=visitor, about=about))
        if failed:
            yield *[gr.skip()] * 5, parts.alert(failed[0])
            raise failed[0]

    return arithmetic


def _shown(item: Progress | Slide, count: int, save: Callable[..., str]) -> tuple[Any, ...]:
    """Values of files, differences, animation, strip, the rest and status."""
    if isinstance(item, Progress):
        previews = [parts.preview(picture) for picture in item.pictures]
        grid = parts.stage(previews[:count], count) if previews else gr.skip()
        rest = parts.stage(previews[count:], 3) if previews[count:] else gr.skip()
        return gr.skip(), gr.skip(), gr.skip(), grid, rest, parts.progress(item)
    way = f"{item.words[0]} to {item.words[-1]}"
    strip = [
        parts.kept(save, picture, f"{fraction:.0%} · {word}", file_name(way, f"{fraction:.0%}"))
        for picture, fraction, word in zip(item.pictures, item.fractions, item.words, strict=False)
    ]
    names = (("first − second", "first minus second"), ("second − first", "second minus first"))
    differences = [
        parts.kept(save, picture, shown, file_name(way, name))
        for picture, (shown, name) in zip(item.differences, names, strict=False)
    ]
    moving = save(item.animation, file_name(way, suffix=".webp")) if item.animation else None
    rest = [figure for _, figure in differences]
    if moving:
        rest.append(parts.moving(parts.address(moving), "the slide, moving"))
    return (
        [file for file, _ in strip], [file for file, _ in differences], moving,
        parts.stage([figure for _, figure in strip], count), parts.stage(rest, 3) if rest else "",
        parts.done(item.seconds, item.stopped, item.notes),
    )  # fmt: skip
