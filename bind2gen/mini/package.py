"""Stage ``package``: the trained towers in front of what stage ``draw`` trained, and a detector.

The detector is that of an earlier pipeline folder and has class vectors of its own.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..errors import InputError
from ..files.bundled import DETECTOR_PART
from ..hosts.pictures.feature_autoencoder import FeatureAutoencoder
from ..imagebind.config import ImageBindConfig
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipelines.unclip import ImageBindUnCLIPPipeline
from ..space.adapter import EmbeddingAdapter
from ..space.arithmetic import gap_shift
from ..space.text_towers import EncoderText
from ..space.vocabulary import embed_names
from ..train.loop import weights_of
from ..train.maps.linear import fit_linear_map
from . import draw, draw_pack
from .data import read_rows, recording
from .draw_conditions import embedding_noise_schedule, mean_by_concept
from .draw_generator import GUIDANCE, TEXT_WIDTH, Conditions, sampler
from .heard import Heard, through
from .photos import load_photos
from .pictures import pictures_of
from .raycast import POSTURES
from .recipe import EMBED_DIM, SETTINGS, TEMPLATES, TOWERS
from .see import towers_of
from .sensed import embed_altered, source
from .sounds import load_sounds
from .teachers import LITE0_MEAN, LITE0_STD
from .texts import Texts
from .thresholds import examples, measure

logger = logging.getLogger(__name__)

ALTERED_COPIES = 3  # of each infrared picture, depth map or movement
PICTURED_AS = {name: "person" for name in POSTURES}  # what a picture of a movement shows
RESIDUAL = 0.7  # share of what is heard beside the kind that is drawn: with more, kinds are mistaken


def trained_encoder(out: Path) -> tuple[ImageBindModel, ImageBindProcessor]:
    """The towers of all stages as one model, and its processor.

    Raises:
        InputError: a stage has not been trained yet.
    """
    heard, settings = towers_of(out / "hear")  # image, text and audio
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, heard.config.towers | {name: TOWERS[name] for name in SETTINGS}))
    state = heard.state_dict()
    for name in SETTINGS:
        state |= weights_of(out / name)
    model.load_state_dict(state)
    processor = ImageBindProcessor.for_config(
        model.config,
        text=settings.text,
        image=settings.image,
        audio=settings.audio,
        video={"mean": (LITE0_MEAN,) * 3, "std": (LITE0_STD,) * 3},
        **SETTINGS,
    )
    processor.check(model.config)
    return model.eval(), processor


def generator_parts(folder: Path) -> dict[str, object]:
    """What the folder of stage ``draw`` holds, as components of a Stable unCLIP pipeline that samples as it was judged.

    Raises:
        InputError: the stage has not been trained yet.
    """
    saved = folder / draw.PARTS
    if not saved.is_dir():
        raise InputError(f"{saved}: wanted what stage draw leaves, found none")
    tokenizer, text_encoder = silent_text()
    return {
        "unet": rounded(without_prompts(UNet2DConditionModel.from_pretrained(saved / "unet").eval())),
        "vae": FeatureAutoencoder.from_pretrained(saved / "vae").eval(),
        "image_normalizer": StableUnCLIPImageNormalizer.from_pretrained(saved / "image_normalizer"),
        "image_noising_scheduler": embedding_noise_schedule(),
        "scheduler": sampler(),
        "tokenizer": tokenizer,
        "text_encoder": text_encoder.eval(),
    }


def without_prompts(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Attention to states of zeros gives its last bias alone: its weights become zeros, which compress well."""
    for name, part in unet.named_modules():
        if ".attn2." in name and isinstance(part, nn.Linear):
            nn.init.zeros_(part.weight)
    return unet


@torch.no_grad()
def rounded(network: nn.Module) -> nn.Module:
    """Weights with eight bits of float16's ten after the point, to 0.2 %: they compress by a tenth more."""
    for part in network.parameters():
        bits = part.half().view(torch.int16)
        part.copy_((bits + 2).bitwise_and(-4).view(torch.float16))
    return network


def silent_text() -> tuple[CLIPTokenizer, CLIPTextModel]:
    """The least that diffusers needs for prompts, whose states are zeros whatever a prompt says."""
    tokenizer = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1}, merges=[], model_max_length=2)
    config = CLIPTextConfig(
        vocab_size=2,
        hidden_size=TEXT_WIDTH,
        intermediate_size=1,
        projection_dim=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    encoder = CLIPTextModel(config)
    for part in encoder.final_layer_norm.parameters():
        nn.init.zeros_(part)
    return tokenizer, encoder


def seen_concepts(data: Path) -> list[str]:
    """Those of the photos of ``data/mini``."""
    rows = read_rows(data / "images.csv") + read_rows(data / "crops.csv")
    return sorted({row.concept for row in rows if row.row.get("modality", "image") == "image"})


@dataclass(frozen=True)
class Items:
    """Altered training items of one modality.

    Attributes:
        embeds: (N, D) unit norm.
        names: (N,) of what each is: a concept of the photos, or any other thing.
        groups: (N,) whole numbers; what is of one recording is of one group.
    """

    embeds: torch.Tensor
    names: np.ndarray
    groups: torch.Tensor


@torch.no_grad()
def heard_items(model: ImageBindModel, texts: Texts) -> Items:
    """Every labelled sound, altered."""
    heard = Heard(load_sounds(texts.data))
    sounds, of = heard.sounds, heard.sound_of
    rows = np.flatnonzero(sounds.trained[of] & (sounds.labels != "")[of])
    embeds = through(model.towers["audio"], heard.altered(rows, 0), len(rows))
    names = np.where(sounds.concepts == "", sounds.labels, sounds.concepts)[of[rows]]
    kept = [sounds.samples[i].row["source"] if sounds.many[i] else recording(sounds.samples[i]) for i in of[rows]]
    return Items(embeds, names, _numbers(kept))


def sensed_items(model: ImageBindModel, data: Path, modality: str) -> Items:
    """Infrared pictures, depth maps or movements; these are paired with photos of people."""
    sensed = source(data, modality)
    embeds = torch.cat([embed_altered(model, sensed, seed) for seed in range(ALTERED_COPIES)]).float()
    names = np.tile([PICTURED_AS.get(name, name) for name in sensed.concepts()], ALTERED_COPIES)
    return Items(embeds, names, _numbers([recording(s) for s in sensed.samples]).repeat(ALTERED_COPIES))


def _numbers(names: Sequence[str]) -> torch.Tensor:
    return torch.tensor([zlib.crc32(name.encode()) for name in names])


@torch.no_grad()
def fit_adapter(
    embed_text: Callable[[list[str]], torch.Tensor],
    items: dict[str, Items],
    photos: dict[str, torch.Tensor],
    drawn: dict[str, torch.Tensor],
) -> tuple[EmbeddingAdapter, dict[str, float]]:
    """Means (concepts of the photos, weighted alike), maps of the items to images, anchors; and each map's ridge.

    Maps lead to what is drawn of a kind or else to the mean photo of a concept, and where there is none to the name,
    moved to images: so a sound that is none of them does not become a mixture of them.

    Args:
        photos: concept -> (D,) the mean of its photos.
        drawn: kind -> (D,) the mean of the photos that the generator draws it like.
    """
    others = sorted({name for some in items.values() for name in some.names} - set(photos) - set(drawn))
    texts = embed_names([*photos, *others], embed_text, templates=TEMPLATES)
    means = {"image": torch.stack(list(photos.values())).mean(0), "text": texts[: len(photos)].mean(0)}
    moved = gap_shift(texts[len(photos) :], means["text"], means["image"])
    shown, maps, ridges = photos | drawn | dict(zip(others, moved, strict=True)), {}, {}
    for modality, some in items.items():
        ours = np.isin(some.names, list(photos))
        by_concept = mean_by_concept(some.embeds[torch.from_numpy(ours)], some.names[ours])
        means[modality] = torch.stack(list(by_concept.values())).mean(0)
        wanted = torch.stack([shown[name] for name in some.names]) - means["image"]
        maps[modality], ridges[modality] = fit_linear_map(some.embeds - means[modality], wanted, some.groups)
    anchors = torch.stack(list(drawn.values()))
    near = {"anchors": (anchors, anchors), "anchor_names": tuple(drawn), "anchor_residual": RESIDUAL}
    near["near_anchors"] = ("image", "video", "text", *maps)
    return EmbeddingAdapter.from_means(means, maps=maps, **near), ridges


def save_half(pipe: ImageBindUnCLIPPipeline, folder: Path) -> None:
    """Save in half precision, to be loaded in float32."""
    pipe.to(torch.float16).save_pretrained(folder)
    for part in ("imagebind", "text_encoder"):
        # transformers loads in the dtype that config.json names, diffusers in float32: they must not disagree.
        config = folder / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    for config in folder.glob("*/config.json"):  # diffusers notes the folder that a part came from
        kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "_name_or_path"}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    table = folder / "tokenizer" / "tokenizer.json"
    table.write_text(json.dumps(json.loads(table.read_text()), separators=(",", ":")))  # half the size


def run_package(texts: Texts, folder: Path, host: Path, to: Path) -> None:
    """Write the pipeline folder ``to``; what was measured on the way stays in ``folder``.

    Args:
        host: pipeline folder whose detector is taken.

    Raises:
        InputError: ``host`` has no detector, a concept no photos, or a stage has not been trained yet.
    """
    out = folder.parent
    model, processor = trained_encoder(out)
    parts = generator_parts(out / "draw")
    pack = draw_pack.Pack.load(out / "draw-pack" / draw_pack.FILE)
    if not (host / DETECTOR_PART).is_dir():
        raise InputError(f"{host}: wanted a pipeline folder with a detector, found none")
    concepts, photos = seen_concepts(texts.data / "mini"), load_photos(texts.data)
    embeds = pictures_of(texts, out / "see", model).embeds
    shown = photos.trained & np.isin(photos.concepts, concepts)
    of_concepts = mean_by_concept(embeds[torch.from_numpy(shown)], photos.concepts[shown])
    if missing := set(concepts) - set(of_concepts):
        raise InputError(f"{texts.data}: wanted photos of each concept, have none of {sorted(missing)}")
    drawn = dict(zip(pack.kinds, F.normalize(Conditions(pack).means, dim=1), strict=True))
    items = {"audio": heard_items(model, texts)}
    items |= {name: sensed_items(model, texts.data / "mini", name) for name in SETTINGS}
    adapter, ridges = fit_adapter(EncoderText(model, processor), items, of_concepts, drawn)
    own = {"imagebind": model, "processor": processor, "adapter": adapter}
    save_half(ImageBindUnCLIPPipeline(**parts, **own, guidance_scale=GUIDANCE, guidance_rescale=0.0), to)
    shutil.copytree(host / DETECTOR_PART, to / DETECTOR_PART, dirs_exist_ok=True)
    figures = {"ridges": ridges} | measure(to, texts, photos, embeds)
    figures["examples"] = examples(to)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    logger.info("%s", json.dumps(figures, indent=1))
