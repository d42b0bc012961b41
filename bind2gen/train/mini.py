"""The bundled model's recipe: what is trained, on what, in which order. Seeded and resumable.

    python -m bind2gen.train.mini STAGE --data DIR --out DIR

Stages, in order: ``autoencoder`` and ``image_text`` (independent of each other), ``audio``, ``unet``, ``decoder``,
``package`` (writes the pipeline folder). DIR of ``--data`` holds ``images``, ``crops`` and ``audio`` as csv plus tar.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

from ..adapter import EmbeddingAdapter
from ..imagebind.config import ImageBindConfig, TowerConfig
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipeline import ImageBindUnCLIPPipeline
from ..preprocess import text
from ..preprocess.audio import AudioSettings
from ..preprocess.image import ImageSettings
from .autoencoder import build_autoencoder, train_autoencoder
from .data import AudioSet, ImageSet, load_audio, load_images, recording, split
from .fit_adapter import fit_linear_map
from .host import (
    Conditions,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    conditions_of,
    embedding_noise_schedule,
    fit_normalizer,
    noise_schedule,
    train_unet,
)
from .loop import LoopConfig, weights_of
from .towers import embed_altered, embed_names, train_audio, train_image_text

logger = logging.getLogger(__name__)

EMBED_DIM = 256
IMAGE_SIZE = 64  # pixels
CLIP_SECONDS = 4.0
MEL_BINS = 64
MEL_FRAMES = 400  # 398 frames of 10 ms in 4 s, padded
VOCABULARY = 8192  # the first merges of CLIP's table; rarer words become several tokens
CONTEXT = 32  # tokens
ALTERED_COPIES = 3  # of each training sound, to fit the map from sounds to images
GUIDANCE_SCALE = 3.0  # default of the packaged pipeline

TOWERS: dict[str, TowerConfig] = {
    "vision": TowerConfig(
        192, 6, 4, "patches", (3, IMAGE_SIZE, IMAGE_SIZE), kernel=(1, 1), stride=(1, 1), stem_channels=(48, 96, 192),
        bias_kv=False, drop_path=0.1,
    ),
    "text": TowerConfig(
        128, 2, 4, "tokens", (CONTEXT,), vocab_size=VOCABULARY, stem_norm=False, bias_kv=False, causal=True,
        logit_scale=1 / 0.07, learned_logit_scale=True,
    ),
    "audio": TowerConfig(
        192, 4, 4, "patches", (1, MEL_BINS, MEL_FRAMES), kernel=(2, 2), stride=(2, 2), stem_channels=(32, 64, 128),
        drop_path=0.2, logit_scale=20.0,
    ),
}  # fmt: skip

STAGES: dict[str, LoopConfig] = {
    "autoencoder": LoopConfig(3200, 32, 1.2e-3, weight_decay=1e-4, ema_decay=0.99),
    "image_text": LoopConfig(1400, 128, 1e-3, weight_decay=0.1, ema_decay=0.99, save_every=100),
    "audio": LoopConfig(1200, 64, 8e-4, weight_decay=0.1, ema_decay=0.99, save_every=100),
    "unet": LoopConfig(6800, 64, 6e-4, warmup_steps=300, weight_decay=0.01, ema_decay=0.999, save_every=250),
    "decoder": LoopConfig(2000, 32, 6e-4, weight_decay=1e-4, ema_decay=0.995, save_every=250),
}

# Caption templates, in the spirit of CLIP's prompt set; {} is a concept or one of its finer labels.
TEMPLATES = (
    "{}", "a {}", "a photo of a {}", "a picture of a {}", "a photo of the {}", "a blurry photo of a {}",
    "a close-up of a {}", "a small photo of a {}", "an image of a {}", "one {}",
)  # fmt: skip


# The concepts with plenty of both sound and photos; the others are trained too, but too thin to judge.
JUDGED = (
    "dog", "cat", "bird", "frog", "cow", "sheep", "pig", "insect", "sea", "train", "car", "police van", "keyboard",
    "clock", "helicopter", "airplane", "drone",
)  # fmt: skip


def mini_config() -> ImageBindConfig:
    """The small ImageBind: vision, text and audio towers of the common classes."""
    return ImageBindConfig(EMBED_DIM, TOWERS)


def image_settings() -> ImageSettings:
    return ImageSettings(size=IMAGE_SIZE)


def audio_settings() -> AudioSettings:
    return AudioSettings(num_mel_bins=MEL_BINS, target_length=MEL_FRAMES, clip_duration=CLIP_SECONDS, policy="cover")


def text_settings(folder: Path) -> text.TextSettings:
    """Settings with the shortened vocabulary, which is written to ``folder``."""
    return text.TextSettings(context_length=CONTEXT, vocabulary=str(write_vocabulary(folder)))


def write_vocabulary(folder: Path) -> Path:
    """The head of CLIP's merge table (MIT licence, as shipped with open_clip), so that ids stay below VOCABULARY."""
    lines = (
        gzip.decompress(files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    )
    merges = VOCABULARY - 2 * 256 - 2  # byte tokens with and without end-of-word, two special tokens
    path = folder / "bpe.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines[: merges + 1]).encode(), mtime=0))
    return path


@dataclass(frozen=True)
class Run:
    """One training run: where the data is, where the stages' folders go, and what earlier stages made."""

    data: Path
    out: Path

    @cached_property
    def images(self) -> tuple[ImageSet, ImageSet]:
        """Photos to train on, photos to judge on."""
        return split(load_images(self.data))

    @cached_property
    def sounds(self) -> tuple[AudioSet, AudioSet]:
        return split(load_audio(self.data))

    @cached_property
    def text_settings(self) -> text.TextSettings:
        return text_settings(self.out)

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        return text.transform(texts, self.text_settings)

    def imagebind(self, *stages: str) -> ImageBindModel:
        """The encoder with the towers that the named stages trained."""
        torch.manual_seed(0)
        model = ImageBindModel(mini_config())
        for stage in stages:
            towers = {"image_text": ("vision", "text"), "audio": ("audio",)}[stage]
            for name, weights in weights_of(self.out / stage).items():
                if name.split(".")[1] in towers:
                    model.get_parameter(name).data.copy_(weights)
        return model.eval()

    def autoencoder(self) -> nn.Module:
        """The autoencoder, with the decoder of the ``decoder`` stage once that has run."""
        model = build_autoencoder()
        model.load_state_dict(weights_of(self.out / ("decoder" if (self.out / "decoder").exists() else "autoencoder")))
        return model.eval()

    def conditions(self) -> Conditions:
        """Latents and embeddings of the training photos, computed once and kept in a file."""
        path = self.out / "conditions.safetensors"
        if not path.exists():
            made = conditions_of(self.images[0], self.autoencoder(), self.imagebind("image_text"))
            tensors = {"latents": made.latents, "image_embeds": made.image_embeds}
            save_file(tensors | {"scaling_factor": torch.tensor(made.scaling_factor, dtype=torch.float64)}, path)
        tensors = load_file(path)
        return Conditions(tensors["latents"], tensors["image_embeds"], tensors["scaling_factor"].item())

    def host_tokenizer(self) -> CLIPTokenizer:
        bpe = text.tokenizer(self.text_settings)
        return build_tokenizer(bpe.encoder, list(bpe.bpe_ranks))

    def class_embeds(self, model: ImageBindModel) -> dict[str, torch.Tensor]:
        """Text embedding of each judged concept."""
        with torch.no_grad():
            return dict(zip(JUDGED, embed_names(model, self.tokenize, list(JUDGED), TEMPLATES), strict=True))


def run_autoencoder(run: Run, config: LoopConfig) -> None:
    torch.manual_seed(0)
    train_autoencoder(build_autoencoder(), *run.images, config, run.out / "autoencoder")


def run_decoder(run: Run, config: LoopConfig) -> None:
    """Go on with the decoder alone: the latents, and so the UNet, stay as they are."""
    model = build_autoencoder()
    model.load_state_dict(weights_of(run.out / "autoencoder"))
    train_autoencoder(model, *run.images, config, run.out / "decoder", decoder_only=True)


def run_image_text(run: Run, config: LoopConfig) -> None:
    torch.manual_seed(0)
    model = ImageBindModel(mini_config(), modalities=["image", "text"])
    train_image_text(model, *run.images, run.tokenize, TEMPLATES, config, run.out / "image_text")


def run_audio(run: Run, config: LoopConfig) -> None:
    model = run.imagebind("image_text")
    classes = run.class_embeds(model)
    train_audio(model, *run.sounds, *run.images, classes, audio_settings(), config, run.out / "audio")


def run_unet(run: Run, config: LoopConfig) -> None:
    images, _ = run.images
    conditions = run.conditions()
    normalizer = fit_normalizer(conditions.image_embeds[:, 0])
    train_unet(images, conditions, run.host_tokenizer(), TEMPLATES, normalizer, config, run.out / "unet")


def mean_by_concept(embeds: torch.Tensor, concepts: np.ndarray) -> dict[str, torch.Tensor]:
    """Mean unit-norm embedding of each concept, (D,)."""
    embeds = nn.functional.normalize(embeds, dim=-1)
    return {name: embeds[torch.from_numpy(concepts == name)].mean(0) for name in sorted(set(concepts))}


def fit_adapter(run: Run, model: ImageBindModel) -> EmbeddingAdapter:
    """Mean embeddings of images, sounds and texts (concepts weighted alike), and a linear map from sounds to images.

    The map is fitted on altered copies of the training sounds: the audio tower knows the plain ones too well.
    """
    sounds = run.sounds[0]
    background = sounds.take(sounds.concepts() == "")
    sounds = sounds.take(sounds.concepts() != "")
    photos = mean_by_concept(run.conditions().image_embeds[:, 0], run.images[0].concepts())
    with torch.no_grad():
        texts = embed_names(model, run.tokenize, list(photos), TEMPLATES)
        heard = [embed_altered(model, sounds, background, audio_settings(), seed) for seed in range(ALTERED_COPIES)]
    heard, concepts = torch.cat(heard), np.tile(sounds.concepts(), ALTERED_COPIES)
    means = {
        "image": torch.stack(list(photos.values())).mean(0),
        "audio": torch.stack(list(mean_by_concept(heard, concepts).values())).mean(0),
        "text": texts.mean(0),
    }
    wanted = torch.stack([photos[name] for name in concepts])
    groups = torch.tensor([zlib.crc32(recording(s).encode()) for s in sounds.samples]).repeat(ALTERED_COPIES)
    learned, ridge = fit_linear_map(heard - means["audio"], wanted - means["image"], groups)
    logger.info("audio to image map: relative ridge %g", ridge)
    return EmbeddingAdapter.from_means(means, maps={"audio": learned})


def package(run: Run, folder: Path) -> None:
    """Put the trained parts together and save them in half precision, in diffusers' layout."""
    imagebind = run.imagebind("image_text", "audio")
    conditions, tokenizer = run.conditions(), run.host_tokenizer()
    autoencoder = run.autoencoder()
    autoencoder.register_to_config(scaling_factor=conditions.scaling_factor)
    parts = nn.ModuleDict({"unet": build_unet(EMBED_DIM), "text_encoder": build_text_encoder(tokenizer)})
    parts.load_state_dict(weights_of(run.out / "unet"))
    processor = ImageBindProcessor.for_config(
        imagebind.config, text=run.text_settings, image=image_settings(), audio=audio_settings()
    )
    processor.check(imagebind.config)
    pipe = ImageBindUnCLIPPipeline(
        imagebind=imagebind,
        processor=processor,
        adapter=fit_adapter(run, imagebind),
        image_normalizer=fit_normalizer(conditions.image_embeds[:, 0]),
        image_noising_scheduler=embedding_noise_schedule(),
        tokenizer=tokenizer,
        text_encoder=parts["text_encoder"].eval(),
        unet=parts["unet"].eval(),
        scheduler=DPMSolverMultistepScheduler.from_config(noise_schedule().config),
        vae=autoencoder,
        guidance_scale=GUIDANCE_SCALE,
    )
    pipe.to(torch.float16).save_pretrained(folder)
    for part in ("imagebind", "text_encoder"):
        # transformers loads in the dtype that config.json names, diffusers in float32: they must not disagree.
        config = folder / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    table = folder / "tokenizer" / "tokenizer.json"
    table.write_text(json.dumps(json.loads(table.read_text()), separators=(",", ":")))  # half the size


RUN_STAGE: dict[str, Callable[[Run, LoopConfig], None]] = {
    "autoencoder": run_autoencoder,
    "image_text": run_image_text,
    "audio": run_audio,
    "unet": run_unet,
    "decoder": run_decoder,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bind2gen.train.mini", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=[*RUN_STAGE, "package"])
    parser.add_argument("--data", type=Path, required=True, help="folder with images, crops and audio as csv plus tar")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and metrics")
    parser.add_argument("--to", type=Path, help="package: folder for the finished pipeline")
    parser.add_argument("--steps", type=int, help="train for another number of steps than the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads; leave one core free where others work")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.data, options.out)
    if options.stage == "package":
        if options.to is None:
            parser.error("package: --to FOLDER is missing")
        package(run, options.to)
        return
    config = STAGES[options.stage]
    RUN_STAGE[options.stage](run, replace(config, steps=options.steps) if options.steps else config)


if __name__ == "__main__":
    main()
