"""Sound to picture: any mix of inputs, pictures that clear up while you watch, and what the model heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from bind2gen.files.bundled import example_sounds
from bind2gen.studio import Drawing, Progress, Studio
from bind2gen.studio.files import VisitorFiles, file_name
from bind2gen.studio.inputs import DEPTH_SENSORS
from bind2gen.studio.limits import MAX_WEIGHT
from bind2gen.studio.understood import Understood, briefly

from . import api, opening, parts

TITLE = "Draw it"
KINDS = {  # modality -> label
    "audio": "Sound",
    "text": "Words",
    "image": "Picture",
    "depth": "Depth map",
    "thermal": "Infrared",
    "imu": "Motion",
}
EXPLANATION = "Captions say what was understood, which is not always what the picture shows."
UNKNOWN = "None of the things I know"
START = "Press Draw, or choose another sound first."
OPENED = "Drawn earlier from this sound, by this model."


def add(studio: Studio, kept: VisitorFiles) -> None:
    """Lay the widgets out within the open Blocks."""
    with gr.Row(elem_classes="b2g-columns"):
        with gr.Column(scale=5, min_width=320):
            first, shown = example_sounds().get(opening.SOUND), opening.opening_of(studio)
            inputs: dict[str, Any] = {"audio": parts.sound("Sound", value=first and str(first))}
            sounds = gr.Column()
            inputs["text"] = gr.Textbox(
                "",
                label="Words",
                placeholder="Optional, for example: a bird",
                max_length=studio.limits.characters,
                lines=1,
            )
            draw, stop = parts.buttons("Draw")
            gr.Markdown(parts.bounds(studio.limits), elem_classes="b2g-quiet")
            parts.kind_examples(studio.kinds, inputs["audio"], inputs["text"])
            heard = gr.Label(
                shown.heard if shown else None, label="What the model heard", num_top_classes=5, show_heading=False,
                elem_id="heard",
            )  # fmt: skip
        with sounds:
            parts.sound_examples(inputs["audio"], inputs["text"])
        with gr.Column(scale=6, min_width=320):
            stage = gr.HTML(_grid(_opened(shown)) if shown else parts.stage([]), padding=False, elem_id="pictures")
            status = parts.status(f"{OPENED} {START}" if shown else START, "status")
            gr.Markdown(EXPLANATION, elem_classes="b2g-quiet", elem_id="explanation")
            files = gr.Gallery(visible=False, label="pictures")
            details = gr.JSON(visible=False, label="details")
    with gr.Accordion("More to mix in", open=False):
        inputs |= _sensors(studio)
    with gr.Accordion("Weights", open=False):
        weights = _weights(studio)
    with gr.Accordion("Settings", open=False), gr.Row():
        seed, steps, guidance = parts.settings(studio)
        pictures = gr.Slider(1, studio.limits.pictures, 1, step=1, label="Pictures", info="with seeds in a row")

    mixed = [inputs[name] for name in ("audio", "text", "image", "depth", "depth_sensor", "thermal", "imu")]
    parts.on_go(
        draw, [inputs["text"]], ["pictures", "status"], fn=_draw(studio, kept),
        inputs=[*mixed, *weights, seed, steps, guidance, pictures], outputs=[files, heard, details, stage, status],
        api_name="sound2image",
    )  # fmt: skip
    parts.stopping(studio, stop, status, "stop")
    only_hear = gr.Button("Hear", visible=False)
    only_hear.click(_hear(studio), [*mixed, *weights], heard, api_name="hear", concurrency_id=parts.QUEUE)


def calls() -> api.Calls:
    """Examples of calls for the API page."""
    sound = {name: file for name, file in (("audio", example_sounds().get(opening.SOUND)),) if file}
    return {"/sound2image": {**sound, "text": "a cat", "seed": 1}, "/hear": {**sound, "text": "a cat"}}


def _sensors(studio: Studio) -> dict[str, Any]:
    """The inputs besides sound and words; those that the model has no tower for are hidden."""
    there = studio.modalities
    with gr.Row():
        image = parts.picture("Picture")
        thermal = parts.picture("Infrared picture")
        with gr.Column(min_width=240):
            depth = parts.file("Depth map", [".png", ".tiff", ".tif", ".exr", ".npy", ".pfm", ".pgm", ".jpg", ".jpeg"])
            sensor = gr.Dropdown(
                list(DEPTH_SENSORS), value=DEPTH_SENSORS[0], label="Depth camera",
                info="drawn: an 8-bit picture in which white is near",
            )  # fmt: skip
        imu = parts.file("Motion recording", [".csv", ".tsv", ".txt", ".npy", ".npz", ".gz"])
    for name, widget in (("image", image), ("thermal", thermal), ("depth", depth), ("depth", sensor), ("imu", imu)):
        widget.visible = name in there
    return {"image": image, "thermal": thermal, "depth": depth, "depth_sensor": sensor, "imu": imu}


def _weights(studio: Studio) -> list[gr.Slider]:
    gr.Markdown("Of what is given. 0 leaves it out, below 0 takes it away.", elem_classes="b2g-quiet")
    with gr.Row():
        return [
            gr.Slider(
                -MAX_WEIGHT, MAX_WEIGHT, 1.0, step=0.1, label=f"Weight: {label.lower()}", min_width=150,
                visible=name in studio.modalities,
            )
            for name, label in KINDS.items()
        ]  # fmt: skip


def _named(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(KINDS, values, strict=True))


def _draw(studio: Studio, kept: VisitorFiles) -> Any:
    def sound2image(
        audio: str | None = None,
        text: str | None = None,
        image: str | None = None,
        depth: str | None = None,
        depth_sensor: str = DEPTH_SENSORS[0],
        thermal: str | None = None,
        imu: str | None = None,
        weight_audio: float = 1.0,
        weight_text: float = 1.0,
        weight_image: float = 1.0,
        weight_depth: float = 1.0,
        weight_thermal: float = 1.0,
        weight_imu: float = 1.0,
        seed: int = 0,
        steps: int = 20,
        guidance: float | None = None,
        pictures: int = 1,
        request: gr.Request | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """Pictures of a blend of inputs. Gives previews while it draws; the last result counts."""
        visitor, inputs = parts.visitor(request), _named((audio, text, image, depth, thermal, imu))
        weights = _named((weight_audio, weight_text, weight_image, weight_depth, weight_thermal, weight_imu))
        about = {
            "words": text or "", "mixed": [name for name, value in inputs.items() if value], "weights": weights,
            "steps": steps, "guidance": studio.guidance if guidance is None else guidance,
        }  # fmt: skip
        with parts.shown_errors() as failed:
            news = studio.draw(
                inputs, weights=weights, seed=seed, steps=steps, guidance=guidance, pictures=pictures,
                depth_sensor=depth_sensor, session=parts.session(request), visitor=visitor,
            )  # fmt: skip
            for item in parts.to_the_end(news):
                yield _shown(item, partial(kept.save, visitor=visitor), about)
        if failed:
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), parts.alert(failed[0])
            raise failed[0]

    return sound2image


def _shown(item: Progress | Drawing, save: Callable[..., str], about: dict[str, Any]) -> tuple[Any, ...]:
    """Values of files, nearest words, details, stage and status."""
    if isinstance(item, Progress):
        previews = [parts.preview(picture) for picture in item.pictures]
        return gr.skip(), gr.skip(), gr.skip(), _grid(previews) if previews else gr.skip(), parts.progress(item)
    kept, heard, shown = [], next(iter(item.heard)), _understood(item)
    for picture, seed, score, word in zip(item.pictures, item.seeds, item.round_trip, item.shows, strict=True):
        more = {
            "heard": item.heard,
            "understood": item.understood,
            "seed": seed,
            "round_trip": round(score, 4),
            "nearest_word": word,
        }
        caption = f"{shown} · seed {seed}"
        kept.append(parts.kept(partial(save, about=about | more), picture, caption, file_name(heard, f"seed {seed}")))
    details = {
        "seeds": item.seeds, "round_trip": item.round_trip, "shows": item.shows, "heard": item.heard,
        "understood": item.understood, "notes": item.notes, "stopped": item.stopped, "seconds": round(item.seconds, 3),
    }  # fmt: skip
    status = parts.done(item.seconds, item.stopped, item.notes)
    words = UNKNOWN if _nothing_known(item.understood) else item.heard
    return [file for file, _ in kept], words, details, _grid([figure for _, figure in kept]), status


def _understood(item: Drawing | opening.Opening) -> str:
    """What was understood of all inputs, or the nearest word where a model has none that it knows."""
    return " and ".join(map(briefly, item.understood.values())) or next(iter(item.heard))


def _nothing_known(understood: dict[str, Understood]) -> bool:
    return bool(understood) and all(item["known"] is False for item in understood.values())


def _opened(shown: opening.Opening) -> list[str]:
    """The figures that the page begins with."""
    words = _understood(shown)
    return [
        parts.figure(
            parts.embedded_file(path), f"{words} · seed {seed}", name=file_name(words, f"seed {seed}", suffix=".webp")
        )
        for seed, path in shown.seeds.items()
    ]


def _grid(figures: list[str]) -> str:
    return parts.stage(figures, 1 if len(figures) == 1 else 2)


def _hear(studio: Studio) -> Any:
    def hear(
        audio: str | None = None,
        text: str | None = None,
        image: str | None = None,
        depth: str | None = None,
        depth_sensor: str = DEPTH_SENSORS[0],
        thermal: str | None = None,
        imu: str | None = None,
        weight_audio: float = 1.0,
        weight_text: float = 1.0,
        weight_image: float = 1.0,
        weight_depth: float = 1.0,
        weight_thermal: float = 1.0,
        weight_imu: float = 1.0,
        request: gr.Request | None = None,
    ) -> dict[str, float]:
        """The nearest words of a blend, without drawing it."""
        with parts.shown_errors() as failed:
            return studio.hear(
                _named((audio, text, image, depth, thermal, imu)),
                weights=_named((weight_audio, weight_text, weight_image, weight_depth, weight_thermal, weight_imu)),
                depth_sensor=depth_sensor, session=parts.session(request), visitor=parts.visitor(request),
            )  # fmt: skip
        raise failed[0]

    return hear
