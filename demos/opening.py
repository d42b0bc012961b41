"""What the page shows before anybody has pressed a button: pictures that the bundled model drew of an example sound.

``python demos/opening.py`` draws them anew, after the bundled model was trained anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bind2gen.files.bundled import DETECTOR_PART, ENCODER_PART, bundled_path, example_sounds
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline
from bind2gen.space.everyday import words_of
from bind2gen.studio import Studio
from bind2gen.studio.understood import Understanding

FOLDER = Path(__file__).with_name("pictures") / "opening"
INDEX, FILE = FOLDER / "heard.json", "{}.webp"
SOUND = "cat"  # name of the example that the page begins with
SEEDS = 4  # the first ones; nothing is picked
QUALITY = 90  # of 100


@dataclass(frozen=True)
class Opening:
    """A result as :class:`~bind2gen.studio.Drawing` has it, with files instead of pictures.

    Attributes:
        seeds: seed -> file.
        heard: nearest words with their probabilities.
        understood: modality -> what it is.
    """

    seeds: dict[int, Path]
    heard: dict[str, float]
    understood: dict[str, dict[str, Any]]


def opening_of(studio: Studio) -> Opening | None:
    """None for other models than the bundled one: the pictures would not be theirs."""
    source = studio.pipe.config.get("_name_or_path")
    if not source or Path(source).resolve() != bundled_path() or not INDEX.is_file():
        return None
    kept = json.loads(INDEX.read_text(encoding="utf-8"))
    return Opening({seed: FOLDER / FILE.format(seed) for seed in range(SEEDS)}, kept["heard"], kept["understood"])


def bundled_studio() -> Studio:
    """The bundled model as ``bind2gen demo`` serves it."""
    pipe, words = ImageBindUnCLIPPipeline.from_pretrained(bundled_path()), words_of(bundled_path() / ENCODER_PART)
    pipe.set_progress_bar_config(disable=True)
    known = Understanding.where_known(pipe, bundled_path() / DETECTOR_PART, words)
    return Studio(pipe, words=words, understanding=known)


def main() -> None:
    studio = bundled_studio()
    drawing = list(studio.draw({"audio": str(example_sounds()[SOUND])}, pictures=SEEDS))[-1]
    studio.close()
    for seed, picture in zip(drawing.seeds, drawing.pictures, strict=True):
        picture.save(FOLDER / FILE.format(seed), quality=QUALITY, method=6)
    kept = {"heard": drawing.heard, "understood": drawing.understood}
    INDEX.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
