"""Example pictures for audio-prompted detection, drawn by the bundled models; no photo is needed.

``python -m bind2gen.mini.scenes demos/pictures`` makes them anew, after the bundled model was trained anew. What is
pasted is a square.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torchvision.ops import box_iou

from ..files.bundled import bundled_path, example_sounds
from ..pipelines.detection import ImageBindDetectionPipeline
from ..pipelines.unclip import ImageBindUnCLIPPipeline
from ..studio.scenes import INDEX, Scene

logger = logging.getLogger(__name__)

SIZE = (320, 240)  # pixels
TRIES = 12  # pictures of each thing, of which the detector's favourite is taken
STEPS = 20
SAME = 0.5  # overlap of a box with the square that was pasted, from which it is right
QUALITY = 90  # of 100
Place = tuple[int, int, int]  # left, top and side in pixels


@dataclass(frozen=True)
class Recipe:
    """How a scene is put together.

    Attributes:
        scene: what comes of it.
        background, seed: the concept drawn over the whole picture, and with which seed.
        things: concept -> place.
    """

    scene: Scene
    background: str
    seed: int
    things: Mapping[str, Place]


RECIPES = (
    Recipe(
        Scene("A siren and barking: where?", "street.webp", ("police_van", "dog")),
        "sea", 1, {"police_van": (16, 84, 140), "dog": (196, 24, 116)},
    ),
    Recipe(
        Scene("Three sounds at once", "three.webp", ("clock", "bird", "cat")),
        "sea", 2, {"clock": (10, 10, 112), "bird": (192, 10, 120), "cat": (96, 124, 112)},
    ),
    Recipe(
        Scene("A sound and a word", "shore.webp", ("bird",), "a clock"),
        "sea", 4, {"bird": (20, 96, 128), "clock": (184, 16, 120)},
    ),
    Recipe(
        Scene("A sound whose source is not there", "quiet.webp", ("dog",)),
        "sea", 0, {"clock": (176, 60, 124), "car": (20, 70, 130)},
    ),
)  # fmt: skip


def make_scenes(
    pipe: ImageBindUnCLIPPipeline,
    detection: ImageBindDetectionPipeline,
    folder: str | os.PathLike[str],
    *,
    recipes: Sequence[Recipe] = RECIPES,
    tries: int = TRIES,
) -> list[Scene]:
    """Draw the pictures of these recipes into a folder, with their index; the same models draw the same pictures.

    Args:
        pipe: draws backgrounds and things, each from its example sound and its name.
        detection: says which of several drawings of a thing it finds best.
        tries: drawings of each thing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        picture = _drawn(pipe, recipe.background, [recipe.seed])[0].resize((SIZE[0], SIZE[0]), Image.Resampling.BICUBIC)
        top = (SIZE[0] - SIZE[1]) // 2
        picture = picture.crop((0, top, SIZE[0], top + SIZE[1]))
        for concept, place in recipe.things.items():
            picture, score = _with_thing(pipe, detection, picture, concept, place, tries)
            logger.info("%s: %s is found with a score of %.2f", recipe.scene.file, concept, score)
        picture.save(folder / recipe.scene.file, quality=QUALITY, method=6)
    scenes = [recipe.scene for recipe in recipes]
    (folder / INDEX).write_text(json.dumps([asdict(scene) for scene in scenes], indent=1) + "\n", encoding="utf-8")
    return scenes


def _with_thing(
    pipe: ImageBindUnCLIPPipeline,
    detection: ImageBindDetectionPipeline,
    picture: Image.Image,
    concept: str,
    place: Place,
    tries: int,
) -> tuple[Image.Image, float]:
    """The picture with the drawing of a thing that is found best there, and its score."""
    left, top, side = place
    square = torch.tensor([[left, top, left + side, top + side]]).float()
    sound = example_sounds().get(concept)
    prompts = detection.prompts(**({"text": _said(concept)} if sound is None else {"audio": str(sound)}))
    best: tuple[Image.Image, float] = (picture, -1.0)
    for drawing in _drawn(pipe, concept, range(tries)):
        scene = picture.copy()
        scene.paste(drawing.resize((side, side), Image.Resampling.BICUBIC), (left, top))
        found = detection.find(detection.encode_image(scene), prompts, threshold=0.0)
        right = box_iou(torch.from_numpy(found.xyxy), square)[:, 0].numpy() >= SAME
        score = float(found.scores[right].max(initial=0.0))
        if score > best[1]:
            best = (scene, score)
    return best


def _drawn(pipe: ImageBindUnCLIPPipeline, concept: str, seeds: Sequence[int]) -> list[Image.Image]:
    """Pictures of a concept, one a seed."""
    sound = example_sounds().get(concept)
    given = {"text": _said(concept)} | ({} if sound is None else {"audio": str(sound)})
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(**given, num_images_per_prompt=len(generators), num_inference_steps=STEPS, generator=generators).images


def _said(concept: str) -> str:
    return f"a {concept.replace('_', ' ')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ImageBindUnCLIPPipeline.from_pretrained(bundled_path())
    pipe.set_progress_bar_config(disable=True)
    detection = ImageBindDetectionPipeline.from_pretrained(modalities=["audio", "text"])
    make_scenes(pipe, detection, options.folder)


if __name__ == "__main__":
    main()
