"""Audio-prompted detection: what in the picture makes these sounds, with a threshold that can be moved afterwards."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from bind2gen.files.bundled import concept_of, example_sounds
from bind2gen.studio import DetectionStudio, Progress, Spotting
from bind2gen.studio.detecting import FLOOR
from bind2gen.studio.files import VisitorFiles, file_name
from bind2gen.studio.scenes import read_scenes

from . import api, parts

TITLE = "Find it"
PICTURES = Path(__file__).with_name("pictures")  # made by bind2gen.mini.scenes
SOUNDS = 3
QUICK = "threshold"  # events that touch no network, so they do not wait for those that do
KEPT = 900  # s that a finding waits for another threshold
STEP = 0.01  # of the slider
EMPTY = "The picture with its boxes appears here."
START = "Choose a picture and a sound, or an example, then press Find."


def add(studio: DetectionStudio, kept: VisitorFiles) -> None:
    """Lay the widgets out within the open Blocks."""
    with gr.Row(elem_classes="b2g-columns"):
        with gr.Column(scale=5, min_width=320, elem_id="detect-inputs"):
            picture = parts.picture("Picture to search")
            first = parts.sound("Sound 1")
            with gr.Accordion("More sounds", open=False):
                more = [parts.sound(f"Sound {number}") for number in range(2, SOUNDS + 1)]
            words = gr.Textbox(
                "", label="Words", max_length=studio.limits.characters, lines=1,
                placeholder="Optional, for example: a dog, a police van",
            )  # fmt: skip
            _examples(picture, [first, *more], words)
            find, stop = parts.buttons("Find")
            gr.Markdown(f"{studio.note} {parts.bounds(studio.limits)}", elem_classes="b2g-quiet")
        with gr.Column(scale=6, min_width=320):
            stage = gr.HTML(parts.stage([], empty=EMPTY), padding=False, elem_id="boxes")
            threshold = gr.Slider(
                FLOOR, 1, round(studio.threshold, 2), step=STEP, label="Threshold", elem_id="threshold",
                info="boxes that score less are hidden at once; nothing is computed again",
            )  # fmt: skip
            legend = gr.HTML(padding=False, elem_id="legend")
            status = parts.status(START, "detect-status")
            file = gr.Image(visible=False, label="picture", type="filepath")
            details = gr.JSON(visible=False, label="details")
    finding = gr.State(None, time_to_live=KEPT)
    parts.on_go(
        find, [words], ["boxes"], fn=_find(studio, kept), inputs=[picture, first, *more, words, threshold],
        outputs=[file, details, stage, legend, status, finding], api_name="detect",
    )  # fmt: skip
    threshold.input(
        _move(studio), [threshold, finding], [details, stage, legend, status], api_name="detect_threshold",
        concurrency_id=QUICK, concurrency_limit=4, show_progress="hidden", trigger_mode="always_last",
    )  # fmt: skip
    parts.stopping(studio, stop, status, "stop_detect")


def calls() -> api.Calls:
    """Examples of calls for the API page."""
    scene = next(iter(read_scenes(PICTURES)), None)
    found = {"picture": PICTURES / scene.file, "text": ", ".join(map(concept_of, scene.sounds))} if scene else {}
    return {"/detect": found, "/detect_threshold": {"threshold": 0.5}}


def _examples(picture: gr.Image, sounds: list[gr.Audio], words: gr.Textbox) -> None:
    """Pictures of our own making, each with the sounds and words to look for."""
    scenes, files = read_scenes(PICTURES), example_sounds()
    scenes = [scene for scene in scenes if all(name in files for name in scene.sounds)]
    if not scenes:
        return
    rows = []
    for scene in scenes:
        paths = [str(files[name]) for name in scene.sounds] + [None] * SOUNDS
        rows.append([str(PICTURES / scene.file), *paths[:SOUNDS], scene.words])
    gr.Examples(
        rows, [picture, *sounds, words], label="Examples, drawn by the bundled model", api_visibility="private",
        example_labels=[scene.title for scene in scenes], elem_id="detect-examples",
    )  # fmt: skip


def _find(studio: DetectionStudio, kept: VisitorFiles) -> Any:
    def detect(
        picture: str | None = None,
        audio: str | None = None,
        audio_second: str | None = None,
        audio_third: str | None = None,
        text: str | None = None,
        threshold: float | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Boxes around what makes the sounds and what the words (with commas between them) name."""
        with parts.shown_errors() as failed:
            sounds, visitor = [audio, audio_second, audio_third], parts.visitor(request)
            news = studio.find(picture, sounds, words=text, session=parts.session(request), visitor=visitor)
            for item in parts.to_the_end(news):
                if isinstance(item, Progress):
                    yield *[gr.skip()] * 4, parts.progress(item), gr.skip()
                else:
                    item = item if threshold is None else item.at(threshold)
                    path = kept.save(item.draw(), _name(item, ".png"), visitor=visitor, about=_about(item))
                    yield path, *_shown(item, parts.address(path), fresh=True), item
        if failed:
            yield *[gr.skip()] * 4, parts.alert(failed[0]), gr.skip()
            raise failed[0]

    return detect


def _move(studio: DetectionStudio) -> Any:
    def detect_threshold(threshold: float, finding: Spotting | None = None) -> tuple[Any, ...]:
        """The last finding of this visitor with another threshold; no network runs."""
        if finding is None:
            return gr.skip(), gr.skip(), gr.skip(), parts.said(START)
        with parts.shown_errors() as failed:
            moved = finding.at(threshold)
            drawn = parts.embedded(moved.draw(), largest=studio.limits.shown, about=_about(moved))
            return _shown(moved, drawn, fresh=False)
        raise failed[0]

    return detect_threshold


def _about(item: Spotting) -> dict[str, Any]:
    """What is told of a finding, and written into its picture."""
    prompts = [
        {"label": prompt.label, "kind": prompt.kind, "nearest": prompt.nearest, "colour": colour, "boxes": count}
        for prompt, colour, count in item.legend()
    ]
    return {"threshold": item.threshold, "boxes": item.boxes(), "prompts": prompts, "size": item.size}


def _name(item: Spotting, suffix: str) -> str:
    """Of the picture's file: what was looked for, sounds by what they were heard as."""
    found = (next(iter(one.nearest), one.label) if one.kind == "audio" else one.label for one in item.prompts)
    return file_name(*found, f"above {item.threshold:.2f}", suffix=suffix)


def _shown(item: Spotting, source: str, *, fresh: bool) -> tuple[Any, ...]:
    """Values of details, stage, legend and status."""
    details = {**_about(item), "notes": item.notes, "seconds": round(item.seconds, 3)}
    count = len(details["boxes"])
    caption = f"{count} box{'' if count == 1 else 'es'} above {item.threshold:.2f}"
    words = "" if count else "Nothing in the picture " + _matches(item)
    took = f"Done in {item.seconds:.1f} s." if fresh else f"{caption}."
    notes = "".join(f"<p>Note: {html.escape(note)}</p>" for note in item.notes)
    stage = parts.stage([parts.figure(source, caption, name=_name(item, ".png" if fresh else ".webp"))])
    return details, stage, _legend(item), parts.said(f"{took} {words}".strip(), notes)


def _matches(item: Spotting) -> str:
    kinds = {prompt.kind for prompt in item.prompts}
    if kinds == {"audio"}:
        return "makes this sound." if len(item.prompts) == 1 else "makes any of these sounds."
    return "is what the words name." if kinds == {"text"} else "makes these sounds or is what the words name."


def _legend(item: Spotting) -> str:
    """A line a prompt: its colour, its nearest words, how many boxes, and clearly if there is none."""
    lines = []
    for prompt, colour, count in item.legend():
        near = ", ".join(f"{html.escape(word)} {share:.0%}" for word, share in prompt.nearest.items() if share >= 0.01)
        heard = f"heard as {near}" if prompt.kind == "audio" else f"nearest: {near}"
        none = "nothing here makes it" if prompt.kind == "audio" else "not in the picture"
        found = f"{count} box{'' if count == 1 else 'es'}" if count else none
        lines.append(
            f'<li class="{"" if count else "b2g-none"}"><span class="b2g-swatch" style="background: {colour}"></span>'
            f"<span><b>{html.escape(prompt.label)}</b> <small>{heard}</small></span><b>{found}</b></li>"
        )
    return f'<ul class="b2g-legend" aria-label="What was looked for">{"".join(lines)}</ul>'
