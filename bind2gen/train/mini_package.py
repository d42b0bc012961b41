"""The bundled model's parts put together: the adapter's fit, and the pipeline folder."""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import nn

from ..adapter import EmbeddingAdapter
from ..detection import DETECTOR_PART
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipeline import ImageBindUnCLIPPipeline
from .conditions import concept_means, mean_by_concept
from .data import recording
from .fit_adapter import fit_linear_map
from .host import build_text_encoder, build_unet, embedding_noise_schedule, fit_normalizer, noise_schedule
from .loop import weights_of
from .mini import Run
from .mini_recipe import (
    ALIGNED,
    EMBED_DIM,
    TEMPLATES,
    audio_settings,
    depth_settings,
    image_settings,
    imu_settings,
    thermal_settings,
)
from .pairings import embed_altered
from .raycast import POSTURES
from .towers import embed_names

logger = logging.getLogger(__name__)

ALTERED_COPIES = 3  # of each training sound, to fit the map from sounds to images
# What a picture of a movement shows: the photos have people, but do not say what these do.
PICTURED_AS = {name: "person" for name in POSTURES}
SAMPLER = "sde-dpmsolver++"  # fresh noise at every step mends what a small network got wrong at an earlier one
GUIDANCE_SCALE, GUIDANCE_RESCALE = 3.0, 0.7  # defaults of the packaged pipeline


def fit_adapter(run: Run, model: ImageBindModel, modalities: tuple[str, ...] = ALIGNED) -> EmbeddingAdapter:
    """Mean embeddings of images, texts and aligned modalities (concepts weighted alike), and linear maps to images.

    Maps are fitted on altered copies of the training items: the towers know the plain ones too well. They lead to
    the mean photo of a concept; its anchor there is what the host draws best, the mean of its typical photos.
    """
    conditions, pictured = run.conditions(), run.images[0].concepts()
    photos = mean_by_concept(conditions.of_photos(), pictured)
    typical = concept_means(conditions.of_photos(), pictured, conditions.typical.numpy())
    anchors = tuple(torch.stack(list(means.values())) for means in (photos, typical))
    with torch.no_grad():
        texts = embed_names(model, run.tokenize, list(photos), TEMPLATES)
    means = {"image": torch.stack(list(photos.values())).mean(0), "text": texts.mean(0)}
    maps = {}
    for modality in modalities:
        source = run.source(modality)
        embeds = torch.cat([embed_altered(model, source, seed) for seed in range(ALTERED_COPIES)])
        concepts = np.tile(source.concepts(), ALTERED_COPIES)
        means[modality] = torch.stack(list(mean_by_concept(embeds, concepts).values())).mean(0)
        shown = [PICTURED_AS.get(name, name) for name in concepts]
        wanted = torch.stack([photos[name] for name in shown])
        groups = torch.tensor([zlib.crc32(recording(s).encode()) for s in source.samples]).repeat(ALTERED_COPIES)
        maps[modality], ridge = fit_linear_map(embeds - means[modality], wanted - means["image"], groups)
        logger.info("%s to image map: relative ridge %g", modality, ridge)
    return EmbeddingAdapter.from_means(means, maps=maps, anchors=anchors)


def package(run: Run, folder: Path) -> None:
    """Put the trained parts together and save them in half precision, in diffusers' layout."""
    imagebind = run.imagebind("image_text", *ALIGNED)
    conditions, tokenizer = run.conditions(), run.host_tokenizer()
    autoencoder = run.autoencoder()
    autoencoder.register_to_config(scaling_factor=conditions.scaling_factor)
    parts = nn.ModuleDict({"unet": build_unet(EMBED_DIM), "text_encoder": build_text_encoder(tokenizer)})
    parts.load_state_dict(weights_of(run.out / "unet"))
    processor = ImageBindProcessor.for_config(
        imagebind.config,
        text=run.text_settings,
        image=image_settings(),
        audio=audio_settings(),
        depth=depth_settings(),
        thermal=thermal_settings(),
        imu=imu_settings(),
    )
    processor.check(imagebind.config)
    pipe = ImageBindUnCLIPPipeline(
        imagebind=imagebind,
        processor=processor,
        adapter=fit_adapter(run, imagebind),
        image_normalizer=fit_normalizer(conditions.of_photos()),
        image_noising_scheduler=embedding_noise_schedule(),
        tokenizer=tokenizer,
        text_encoder=parts["text_encoder"].eval(),
        unet=parts["unet"].eval(),
        scheduler=DPMSolverMultistepScheduler.from_config(noise_schedule().config, algorithm_type=SAMPLER),
        vae=autoencoder,
        guidance_scale=GUIDANCE_SCALE,
        guidance_rescale=GUIDANCE_RESCALE,
    )
    save_half(pipe, folder)
    if (run.out / "detector").is_dir():
        from .mini_detector import package_detector  # which needs this module

        package_detector(run, folder / DETECTOR_PART, processor)


def save_half(pipe: ImageBindUnCLIPPipeline, folder: Path) -> None:
    """Save in half precision, to be loaded in float32."""
    pipe.to(torch.float16).save_pretrained(folder)
    for part in ("imagebind", "text_encoder"):
        # transformers loads in the dtype that config.json names, diffusers in float32: they must not disagree.
        config = folder / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    table = folder / "tokenizer" / "tokenizer.json"
    table.write_text(json.dumps(json.loads(table.read_text()), separators=(",", ":")))  # half the size
