"""The bundled model's training: what is trained, on what, in which order. Seeded and resumable.

    python -m bind2gen.train.mini STAGE --data DIR --out DIR

Stages, in order: ``image_text``; then ``audio``, ``thermal``, ``imu``, ``depth``, ``unet`` and ``decoder``,
independent of each other; ``detector``, after ``audio``; ``package`` (writes the pipeline folder). DIR of ``--data``
holds ``images``, ``crops``, ``frames`` and ``audio`` as csv plus tar, and ``imu/*.csv.gz``.
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from ..errors import Bind2GenError
from ..hosts.patch_autoencoder import PatchAutoencoder
from ..imagebind.model import ImageBindModel
from ..preprocess import text
from ..preprocess.audio import Waveform, transform
from ..preprocess.sources import one_line
from .align import TEMPERATURES, train_modality
from .autoencoder import fit_autoencoder, train_decoder
from .conditions import Conditions, conditions_of
from .data import AudioSet, ImageSet, load_audio, load_images, split
from .host import build_tokenizer, fit_normalizer, train_unet
from .loop import LoopConfig, half_precision, weights_of
from .mini_recipe import (
    ALIGNED,
    FIGURES,
    IMAGE_SIZE,
    JUDGED,
    TEMPLATES,
    audio_settings,
    mini_config,
    text_settings,
)
from .pairings import Anchors, Source, paired, sounds
from .raycast import figures
from .recipe import load_stages
from .sensed import HeldOut, held_out_items, source
from .towers import Captioned, embed_names, embed_photos, train_image_text
from .typical import cut_outs, looks_of, typical_photos

logger = logging.getLogger(__name__)

TYPICAL = 160  # photos of each concept that a sound is to be drawn like


def clips_of(waveform: np.ndarray, sample_rate: int) -> torch.Tensor:
    """(1, S, 1, mel bins, frames): the clips of one sound."""
    return transform(Waveform(torch.from_numpy(waveform)[None], sample_rate), audio_settings())[None]


@dataclass(frozen=True)
class Run:
    """One training run: where the data is, where the stages' folders go, and what earlier stages made."""

    data: Path
    out: Path
    start: Path | None = None  # an earlier run's folder, whose weights the stages begin with

    @cached_property
    def images(self) -> tuple[ImageSet, ImageSet]:
        """Photos to train on, photos to judge on."""
        return split(load_images(self.data))

    @cached_property
    def figures(self) -> ImageSet:
        """Synthetic pictures of people who walk, sit and stand: what the IMU tower is paired with."""
        return figures(FIGURES, np.random.default_rng(0), IMAGE_SIZE)

    @cached_property
    def captioned(self) -> Captioned:
        """Photos and synthetic figures with their captions."""
        photos, judged_on = self.images
        return Captioned(photos + self.figures, judged_on, self.tokenize, TEMPLATES)

    @cached_property
    def sounds(self) -> tuple[AudioSet, AudioSet]:
        return split(load_audio(self.data))

    @cached_property
    def text_settings(self) -> text.TextSettings:
        return text_settings(self.out)

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        return text.transform(texts, self.text_settings)

    def imagebind(self, *stages: str, begin: str | None = None, modalities: list[str] | None = None) -> ImageBindModel:
        """The encoder with the towers that the named stages trained, and what stage ``begin`` begins with."""
        torch.manual_seed(0)
        model = ImageBindModel(mini_config(), modalities)
        folders = {stage: self.out / stage for stage in stages}
        if begin and self.start:
            folders[begin] = self.start / begin
        for stage, folder in folders.items():
            towers = ("vision", "text") if stage == "image_text" else (stage,)
            trained = weights_of(folder)
            model.load_state_dict({k: v for k, v in trained.items() if k.split(".")[1] in towers}, strict=False)
        return model.eval()

    @cached_property
    def linear_autoencoder(self) -> PatchAutoencoder:
        """Fitted, not mended: all that the latents depend on."""
        return fit_autoencoder(self.images[0]).eval()

    def autoencoder(self) -> PatchAutoencoder:
        """The autoencoder with its trained decoder."""
        model = copy.deepcopy(self.linear_autoencoder)
        model.load_state_dict(weights_of(self.out / "decoder"))
        return model.eval()

    def conditions(self) -> Conditions:
        """Latents and embeddings of the training photos, computed once and kept in a file."""
        path, images = self.out / "conditions.safetensors", self.images[0]
        if not path.exists():
            model = self.imagebind("image_text")
            with torch.no_grad():
                classes = embed_names(model, self.tokenize, list(JUDGED), TEMPLATES)
            looks = looks_of(cut_outs(images), model, classes, JUDGED)
            typical = typical_photos(images, looks, JUDGED, TYPICAL)
            made = conditions_of(images, typical, self.linear_autoencoder, model)
            save_file(vars(made) | {"scaling_factor": torch.tensor(made.scaling_factor, dtype=torch.float64)}, path)
        tensors = load_file(path)
        return Conditions(**tensors | {"scaling_factor": tensors["scaling_factor"].item()})

    def host_tokenizer(self) -> CLIPTokenizer:
        bpe = text.tokenizer(self.text_settings)
        return build_tokenizer(bpe.encoder, list(bpe.bpe_ranks))

    def source(self, modality: str) -> Source:
        """Altered training items of an aligned modality."""
        if modality == "audio":
            return sounds(self.sounds[0], audio_settings())
        return source(self.data, modality)

    def anchors(self, model: ImageBindModel, modality: str) -> Anchors:
        """Frozen embeddings of the pictures that a modality is paired with: photos, or the synthetic figures."""
        pictures = self.figures if modality == "imu" else self.images[0]
        with torch.no_grad(), half_precision():
            return Anchors(embed_photos(model, pictures.pixels), pictures.concepts())

    def held_out(self, modality: str) -> tuple[list[torch.Tensor], np.ndarray]:
        """Held-out items, each part (n, S, *sample), and their concepts in the same order."""
        if modality == "audio":
            data = self.sounds[1]
            data = data.take(np.isin(data.concepts(), JUDGED))
            return [clips_of(w, data.sample_rate) for w in data.waveforms], data.concepts()
        return held_out_items(self.data, modality)


def run_decoder(run: Run, config: LoopConfig) -> None:
    vision = run.imagebind("image_text").towers["vision"]
    train_decoder(copy.deepcopy(run.linear_autoencoder), *run.images, vision, config, run.out / "decoder")


def run_image_text(run: Run, config: LoopConfig) -> None:
    model = run.imagebind(begin="image_text", modalities=["image", "text"])
    train_image_text(model, run.captioned, config, run.out / "image_text")


def align(run: Run, modality: str, config: LoopConfig) -> None:
    """A tower against the frozen images. No text is used; it only measures what emerges."""
    model = run.imagebind("image_text", begin=modality)
    pairs = paired(run.source(modality), run.anchors(model, modality))
    judge = HeldOut(modality, *run.held_out(modality), partial(embed_names, model, run.tokenize, templates=TEMPLATES))
    train_modality(model, modality, pairs, TEMPERATURES[modality], config, run.out / modality, evaluate=judge)


def run_unet(run: Run, config: LoopConfig) -> None:
    images, _ = run.images
    conditions = run.conditions()
    normalizer = fit_normalizer(conditions.of_photos())
    start = weights_of(run.start / "unet") if run.start else None
    train_unet(images, conditions, run.host_tokenizer(), TEMPLATES, normalizer, config, run.out / "unet", start)


def run_detector(run: Run, config: LoopConfig) -> None:
    from .mini_detector import train_mini_detector  # which needs this module

    train_mini_detector(run, config)


RUN_STAGE: dict[str, Callable[..., None]] = {
    "image_text": run_image_text,
    **{name: partial(align, modality=name) for name in ALIGNED},
    "unet": run_unet,
    "decoder": run_decoder,
    "detector": run_detector,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bind2gen.train.mini", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=[*RUN_STAGE, "package"])
    parser.add_argument("--data", type=Path, required=True, help="folder with images, crops and audio as csv plus tar")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and metrics")
    parser.add_argument("--to", type=Path, help="package: folder for the finished pipeline")
    parser.add_argument("--start", type=Path, help="folder of an earlier run, whose weights this one trains further")
    parser.add_argument("--steps", type=int, help="train for another number of steps than the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads; leave one core free where others work")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.stage == "package" and options.to is None:
        parser.error("package: --to FOLDER is missing")
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.data, options.out, options.start)
    try:
        if options.stage == "package":
            from .mini_package import package

            package(run, options.to)
        else:
            config = load_stages("mini")[options.stage]
            RUN_STAGE[options.stage](run, config=replace(config, steps=options.steps or config.steps))
    except Bind2GenError as error:
        parser.exit(1, f"{parser.prog}: error: {one_line(error)}\n")


if __name__ == "__main__":
    main()
