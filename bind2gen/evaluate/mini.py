"""Scores of the bundled model on data it was not trained on: one command, a table, JSON and pictures.

python -m bind2gen.evaluate.mini --data DIR --out DIR [--model DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from tqdm.auto import tqdm

from ..bundled import bundled_path
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipeline import ImageBindUnCLIPPipeline
from ..train.contrastive import zero_shot_accuracy
from ..train.data import AudioSet, ImageSet, load_audio, load_images, split
from ..train.mini import JUDGED, TEMPLATES
from ..train.towers import embed_photos, embed_sounds, rank_one
from .judge import judge_logits, train_judge

SHEET_SEEDS = 8
BATCH = 32  # pictures generated at a time


@dataclass(frozen=True)
class Scores:
    """Shares of right answers over the judged concepts, 0..1; ``chance`` is one over their number.

    ``generated_by_concept`` is the judge's verdict on pictures from held-out sounds, one seed each.
    """

    chance: float
    image_to_text: float
    audio_to_text: float
    audio_to_image: float
    generated: float
    generated_mean_class: float
    judge_on_photos: float
    judge_mean_class: float
    held_out_sounds: int
    held_out_photos: int
    generated_by_concept: dict[str, float]

    def table(self) -> str:
        """A Markdown table."""
        rows = [
            ("image -> text, zero-shot top-1", self.image_to_text),
            ("audio -> text, zero-shot top-1 (emergent)", self.audio_to_text),
            ("audio -> image, right concept at rank 1", self.audio_to_image),
            ("picture from sound, right under the judge", self.generated),
            ("the same, mean over concepts", self.generated_mean_class),
            ("the judge on held-out real photos", self.judge_on_photos),
            ("the same, mean over concepts", self.judge_mean_class),
            ("chance", self.chance),
        ]
        return "\n".join(
            ["| what | score |", "|---|---|", *(f"| {name} | {100 * value:.1f} % |" for name, value in rows)]
        )


@torch.no_grad()
def class_embeddings(model: ImageBindModel, processor: ImageBindProcessor) -> torch.Tensor:
    """Text embeddings of the judged concepts, (C, D)."""
    ids = [processor(text=[t.format(name) for t in TEMPLATES])["input_ids"][:, 0] for name in JUDGED]
    return model.encode("text", torch.stack(ids))


def generate(pipe: ImageBindUnCLIPPipeline, sounds: AudioSet, seeds: list[int], **options: float) -> np.ndarray:
    """One picture a sound, (N, H, W, 3) uint8; picture i depends on sound i and seed i alone."""
    pictures = []
    for start in tqdm(range(0, len(seeds), BATCH), desc="pictures", disable=None):
        part = slice(start, start + BATCH)
        audio = [(waveform, sounds.sample_rate) for waveform in sounds.waveforms[part]]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        pictures += [np.asarray(p) for p in pipe(audio=audio, generator=generators, **options).images]
    return np.stack(pictures)


def concept_targets(concepts: np.ndarray) -> torch.Tensor:
    return torch.tensor([JUDGED.index(c) for c in concepts])


@torch.no_grad()
def score(
    pipe: ImageBindUnCLIPPipeline, judge: nn.Module, sounds: AudioSet, photos: ImageSet, **options: float
) -> tuple[Scores, np.ndarray]:
    """Compute every row; returns the scores and the generated pictures, in the order of ``sounds``."""
    model, processor = pipe.imagebind, pipe.processor
    classes = class_embeddings(model, processor)
    photo_embeds = embed_photos(model, photos.pixels)
    sound_embeds = embed_sounds(model, sounds, processor.audio)
    heard, seen = concept_targets(sounds.concepts()), concept_targets(photos.concepts())
    pictures = generate(pipe, sounds, list(range(len(sounds.samples))), **options)
    drawn = judge_logits(judge, pictures).argmax(1) == heard
    right = judge_logits(judge, photos.pixels).argmax(1) == seen
    by_concept = {name: drawn[heard == k].float().mean().item() for k, name in enumerate(JUDGED)}
    return Scores(
        chance=1 / len(JUDGED),
        image_to_text=zero_shot_accuracy(photo_embeds, classes, seen),
        audio_to_text=zero_shot_accuracy(sound_embeds, classes, heard),
        audio_to_image=rank_one(sound_embeds, photo_embeds, sounds.concepts(), photos.concepts()),
        generated=drawn.float().mean().item(),
        generated_mean_class=float(np.mean(list(by_concept.values()))),
        judge_on_photos=right.float().mean().item(),
        judge_mean_class=float(np.mean([right[seen == k].float().mean().item() for k in range(len(JUDGED))])),
        held_out_sounds=len(heard),
        held_out_photos=len(seen),
        generated_by_concept=by_concept,
    ), pictures


def contact_sheet(pipe: ImageBindUnCLIPPipeline, sounds: AudioSet, **options: float) -> Image.Image:
    """Rows: the first held-out sound of each judged concept; columns: seeds 0 to 7. Nothing is picked."""
    first = [int(np.flatnonzero(sounds.concepts() == name)[0]) for name in JUDGED]
    chosen = np.repeat(first, SHEET_SEEDS)
    repeated = AudioSet([sounds.waveforms[i] for i in chosen], [sounds.samples[i] for i in chosen], sounds.sample_rate)
    pictures = generate(pipe, repeated, list(range(SHEET_SEEDS)) * len(JUDGED), **options)
    side, margin = pictures.shape[1], 90
    sheet = Image.new("RGB", (margin + SHEET_SEEDS * side, len(JUDGED) * side), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(JUDGED):
        pen.text((4, row * side + side // 2 - 6), name, fill="black")
        for column in range(SHEET_SEEDS):
            picture = Image.fromarray(pictures[row * SHEET_SEEDS + column])
            sheet.paste(picture, (margin + column * side, row * side))
    return sheet


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bind2gen.evaluate.mini", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images, crops and audio as csv plus tar")
    parser.add_argument("--out", type=Path, required=True, help="folder for the judge, scores.json and pictures")
    parser.add_argument("--model", type=Path, help="pipeline folder; default is the bundled one")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=None, help="guidance scale; default is the pipeline's")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    images, judged_images = split(load_images(options.data))
    judge = train_judge(images, judged_images, list(JUDGED), options.out / "judge")
    judged_images = judged_images.take(np.isin(judged_images.concepts(), JUDGED))
    _, sounds = split(load_audio(options.data))
    sounds = sounds.take(np.isin(sounds.concepts(), JUDGED))
    pipe = ImageBindUnCLIPPipeline.from_pretrained(options.model or bundled_path("mini"))
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": options.steps}
    if options.guidance is not None:
        call["guidance_scale"] = options.guidance
    scores, _ = score(pipe, judge, sounds, judged_images, **call)
    (options.out / "scores.json").write_text(json.dumps(asdict(scores), indent=1))
    contact_sheet(pipe, sounds, **call).save(options.out / "contact_sheet.png")
    sys.stdout.write(scores.table() + "\n")


if __name__ == "__main__":
    main()
