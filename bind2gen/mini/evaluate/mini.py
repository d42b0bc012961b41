"""The bundled model's scores on data it was not trained on; ``bind2gen eval mini`` calls :func:`evaluate`.

The judge comes from :func:`bind2gen.mini.evaluate.judge.prepare_judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ...pipelines.unclip import ImageBindUnCLIPPipeline
from ...space.everyday import EVERYDAY_WORDS
from ...space.vocabulary import Vocabulary
from ...space.zero_shot import ZeroShotClassifier
from ..cuts import cut_outs
from ..data import AudioSet
from ..recipe import JUDGED
from . import drawing, sums, verdicts
from .held_out import MOTIONS, THERMAL, HeldOut
from .judge import JUDGE_LOOP, judge_features, judge_logits
from .likeness import PHOTOS_OF_A_CONCEPT, Closeness, Nearest, Variety, closeness, nearest, thumbnails, variety
from .others import KINDS, PHOTOS_OF_A_KIND, Judging, Others
from .scores import NO_DATA, NOT_IN_MODEL, Row, Scores
from .sheets import Evaluation, sheet
from .verdicts import Verdicts

SHEET_SEEDS, TRIPLES_A_ROW = 8, 8


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        steps: denoising steps.
        guidance: guidance scale; None is the pipeline's own.
        partial: why the scores are no full ones; goes into them.
        judge_steps: training steps of the judge, for the record.
        quiet: no progress bars.
        words: of which the nearest are told for what no one chose.
        sounds: what the model knows by its sound, see :func:`bind2gen.pipelines.detection.known_sounds`.
    """

    steps: int = 20
    guidance: float | None = None
    partial: tuple[str, ...] = ()
    judge_steps: int = JUDGE_LOOP.steps
    quiet: bool = False
    words: Sequence[str] | Vocabulary = EVERYDAY_WORDS
    sounds: ZeroShotClassifier | None = None

    def call(self) -> dict[str, float]:
        """Options for the pipeline's call."""
        guidance = {} if self.guidance is None else {"guidance_scale": self.guidance}
        return {"num_inference_steps": self.steps, **guidance}


@torch.no_grad()
def evaluate(
    pipe: ImageBindUnCLIPPipeline,
    judge: nn.Module,
    data: HeldOut,
    model: str,
    options: Options = Options(),
    others: Others | None = None,
) -> Evaluation:
    """Compute every row, variety, memorisation and speed.

    Args:
        judge: sees real photos only; it answers with the concepts of :data:`JUDGED`.
        model: name for the record.
        others: other people's data, to be judged on as well.

    Raises:
        ModalityError: the model has no image, text or audio tower.
    """
    judging = Judging(pipe, others or Others(), sounds=options.sounds, quiet=options.quiet)
    return _Run(pipe, judge, data, model, options).evaluation(judging)


class _Run:
    """One evaluation: what several rows need is computed once here."""

    def __init__(
        self, pipe: ImageBindUnCLIPPipeline, judge: nn.Module, data: HeldOut, model: str, options: Options
    ) -> None:
        self.pipe, self.judge, self.data, self.model, self.options = pipe, judge, data, model, options
        self.seen, self.heard = data.photos.concepts(), data.sounds.concepts()
        self.side = data.photos.pixels.shape[1]  # the judge's
        self.shown = np.concatenate([data.training.pixels, cut_outs(data.training).pixels])  # to the host, in training
        self.names = [name for name in JUDGED if name in set(self.heard)]
        self.photo_embeds = self._embed("image", list(data.photos.pixels))
        self.sound_embeds = self._embed("audio", drawing.with_rate(data.sounds))
        # Moved over the gap between the modalities, where photos' embeddings lie.
        self.moved_embeds = drawing.understood(pipe, audio=self.sound_embeds)
        self.pictures = drawing.at_side(self._draw(data.sounds, range(len(self.heard))), self.side)
        first = np.array([np.flatnonzero(self.heard == name)[0] for name in self.names])
        self.by_seed = self._draw_seeds(first)  # (C, S, H, W, 3)

    def evaluation(self, judging: Judging) -> Evaluation:
        found = self._verdicts()
        rows = {name: Row.of(answers) for name, answers in found.items()}
        rows["audio_to_image"] = replace(rows["audio_to_image"], chance=verdicts.rank_one_chance(self.heard, self.seen))
        rows["thermal_to_text"] = self._other("thermal", THERMAL)
        rows["imu_to_text"] = self._other("imu", MOTIONS)
        embeds = self.photo_embeds, self.sound_embeds, self.moved_embeds
        rows["sum_of_image_and_sound"], other_ways = sums.judge_sums(self.pipe, *embeds, self.seen, self.heard)
        others, measured_otherwise = judging.rows()
        moved = verdicts.nearest_item(self.moved_embeds, self.photo_embeds, self.heard, self.seen, JUDGED)
        other_ways["audio_to_image, moved over the gap"] = moved.accuracy()
        closest, memorisation = self._memorisation()
        scores = Scores(
            model=self.model,
            partial=list(self.options.partial),
            rows=rows | others,
            settings=self._settings(),
            other_ways=other_ways | measured_otherwise,
            variety=self._variety(),
            memorisation=memorisation,
            seconds_per_picture=self._seconds(),
        )
        chosen, sounds = judging.unchosen(self.options.words)
        pictures = self._sheets(closest, memorisation)
        if chosen is not None:
            pictures["photos_with_words.webp"] = (chosen, "Photos that no one chose, with their five nearest words")
        confusions = {
            "Audio to text: heard (rows), named (columns), percent": found["audio_to_text"],
            "Generated pictures: heard (rows), what the judge sees (columns), percent": found["generated"],
        }
        return Evaluation(scores, pictures, confusions, sounds)

    def _embed(self, modality: str, items: Sequence[Any]) -> torch.Tensor:
        return drawing.embed(self.pipe, modality, items, quiet=self.options.quiet)

    def _draw(self, sounds: AudioSet, seeds: Sequence[int]) -> np.ndarray:
        return drawing.generate(self.pipe, sounds, seeds, quiet=self.options.quiet, **self.options.call())

    def _draw_seeds(self, first: np.ndarray) -> np.ndarray:
        """Seeds 0 to 7 of one sound a concept."""
        sounds, chosen = self.data.sounds, np.repeat(first, SHEET_SEEDS)
        pictures = self._draw(sounds.take(chosen), list(range(SHEET_SEEDS)) * len(first))
        return pictures.reshape(len(first), SHEET_SEEDS, *pictures.shape[1:])

    def _verdicts(self) -> dict[str, Verdicts]:
        classes = drawing.class_embeddings(self.pipe, JUDGED)
        by_telephone = self._embed("audio", drawing.with_rate(drawing.through_a_telephone(self.data.sounds)))
        back = drawing.reconstruct(self.pipe, self.data.photos.pixels, quiet=self.options.quiet)
        judged = {"generated": (self.pictures, self.heard), "judge_on_photos": (self.data.photos.pixels, self.seen),
                  "judge_on_reconstructions": (back, self.seen)}  # fmt: skip
        return {
            "audio_to_text": verdicts.nearest_class(self.sound_embeds, classes, self.heard, JUDGED),
            "telephone_to_text": verdicts.nearest_class(by_telephone, classes, self.heard, JUDGED),
            "image_to_text": verdicts.nearest_class(self.photo_embeds, classes, self.seen, JUDGED),
            "audio_to_image": verdicts.nearest_item(
                self.sound_embeds, self.photo_embeds, self.heard, self.seen, JUDGED
            ),
        } | {
            name: verdicts.from_scores(judge_logits(self.judge, pixels), wanted, JUDGED)
            for name, (pixels, wanted) in judged.items()
        }

    def _other(self, modality: str, names: tuple[str, ...]) -> Row:
        """Zero-shot over the concepts of a modality that not every model has."""
        data = getattr(self.data, modality)
        if modality not in self.pipe.imagebind.towers:
            return Row(why=NOT_IN_MODEL)
        if data is None:
            return Row(why=NO_DATA)
        # One channel, as an infrared file is read.
        greys = (Image.fromarray(picture).convert("L") for picture in getattr(data, "pixels", ()))
        items = data.recordings if modality == "imu" else list(greys)
        classes = drawing.class_embeddings(self.pipe, names)
        answers = verdicts.nearest_class(self._embed(modality, items), classes, data.concepts(), names)
        return Row.of(answers)

    def _variety(self) -> Variety | None:
        flat = drawing.at_side(self.by_seed.reshape(-1, *self.by_seed.shape[2:]), self.side)
        by_seed = flat.reshape(*self.by_seed.shape[:2], *flat.shape[1:])
        seeds = list(zip(by_seed, self._embed("image", list(flat)).unflatten(0, by_seed.shape[:2]), strict=True))
        photos = []
        for name in self.names:
            chosen = np.flatnonzero(self.seen == name)[:PHOTOS_OF_A_CONCEPT]
            photos.append((self.data.photos.pixels[chosen], self.photo_embeds[chosen]))
        return variety(seeds, photos)

    def _memorisation(self) -> tuple[dict[str, Nearest], dict[str, Closeness | None]]:
        """Nearest training photos of the pictures, and how near they are beside those of held-out photos.

        The host learns from photos cut to their objects: these are searched too, and held-out photos are cut as well.
        """
        held_out = cut_outs(self.data.photos).pixels
        closest, compared = {}, {}
        for space, represent in (("pixels", thumbnails), ("judge", lambda p: judge_features(self.judge, p))):
            gallery = represent(self.shown)
            found = [nearest([represent(p), represent(p[:, :, ::-1])], gallery) for p in (self.pictures, held_out)]
            closest[space] = found[0]
            compared[space] = closeness(found[0], self.heard, found[1], self.seen)
        return closest, compared

    def _seconds(self) -> float:
        return drawing.seconds_per_picture(self.pipe, drawing.with_rate(self.data.sounds)[0], **self.options.call())

    def _settings(self) -> dict[str, Any]:
        guidance = self.options.guidance
        return {
            "steps": self.options.steps,
            "guidance": self.pipe.config.guidance_scale if guidance is None else guidance,
            "seeds": "picture of the n-th sound: n, from 0",
            "judge_steps": self.options.judge_steps,
            "pairs_seed": sums.SEED,
            "sums_are_retrieved_by": "sound moved over the gap by the adapter, both whitened by the gallery, "
            f"summed 1:1, maximal marginal relevance with diversity {sums.DIVERSITY}",
            "other_audio_to_image": f"up to {PHOTOS_OF_A_KIND} photos of each of {KINDS} kinds, held-out ones first",
        }

    def _sheets(
        self, closest: dict[str, Nearest], compared: dict[str, Closeness | None]
    ) -> dict[str, tuple[Image.Image, str]]:
        medians = ", ".join(f"{space} {c.median_of_photos:.2f}" for space, c in compared.items() if c is not None)
        nearest_photos = [self.shown[near.places] for near in closest.values()]
        distances = zip(*(near.distances for near in closest.values()), strict=True)
        captions = [f"{name[:8]} {p:.0f} {j:.2f}" for name, (p, j) in zip(self.heard, distances, strict=True)]
        beside = zip(zip(self.pictures, *nearest_photos, strict=True), ([line] for line in captions), strict=True)
        return {
            "contact_sheet.webp": (
                sheet([(row, [name]) for name, row in zip(self.names, self.by_seed, strict=True)]),
                "The first held-out sound of each concept, seeds 0 to 7, nothing picked",
            ),
            "nearest_training_photos.webp": (
                sheet(list(beside), TRIPLES_A_ROW),
                "Each generated picture, its nearest training photo by pixels and by the judge's features, and "
                f"both distances (median of held-out photos: {medians})",
            ),
        }
