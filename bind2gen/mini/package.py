"""Stage ``package``: the trained towers in front of a generator and a detector that were trained in another space.

The encoder before this one, which lies in the host's pipeline folder, embeds the same photos: a ridge map leads from
the new image embeddings to the old ones, which the generator takes. The detector has class vectors of its own.
"""

from __future__ import annotations

import copy
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
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from ..adapter import EmbeddingAdapter
from ..arithmetic import gap_shift
from ..detection import DETECTOR_PART
from ..errors import HostError, InputError
from ..imagebind.config import ImageBindConfig
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipeline import ImageBindUnCLIPPipeline
from ..text_towers import EncoderText
from ..train.conditions import mean_by_concept
from ..train.data import read_rows, recording
from ..train.fit_adapter import fit_linear_map
from ..train.loop import weights_of
from ..train.mini import Run
from ..train.mini_package import ALTERED_COPIES, PICTURED_AS, save_half
from ..train.mini_recipe import (
    EMBED_DIM,
    TEMPLATES,
    TOWERS,
    depth_settings,
    imu_settings,
    thermal_settings,
)
from ..train.pairings import embed_altered
from ..vocabulary import embed_names
from .heard import Cached, Heard
from .photos import Photos, load_photos
from .pictures import pictures_of
from .see import towers_of
from .sounds import load_sounds
from .teachers import LITE0_MEAN, LITE0_STD, yamnet
from .texts import Texts
from .thresholds import examples, measure

logger = logging.getLogger(__name__)

SENSES = {"thermal": thermal_settings, "depth": depth_settings, "imu": imu_settings}
BATCH = 32  # items embedded at a time
HEARD_COPIES = 3  # of each sound: as it is, and altered


def trained_encoder(out: Path) -> tuple[ImageBindModel, ImageBindProcessor]:
    """The towers of all stages as one model, and its processor.

    Raises:
        InputError: a stage has not been trained yet.
    """
    found = {stage: towers_of(out / stage) for stage in ("see", "hear")}
    parts, settings = ({stage: pair[k] for stage, pair in found.items()} for k in (0, 1))
    from_stage = {"vision": "see", "text": "see", "audio": "hear"}
    towers = {name: parts[stage].config.tower(name) for name, stage in from_stage.items()}
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, towers | {name: TOWERS[name] for name in SENSES}))
    for name, tower in model.towers.items():
        if name in SENSES:
            state = {key.removeprefix(f"towers.{name}."): part for key, part in weights_of(out / name).items()}
        else:
            state = parts[from_stage[name]].towers[name].state_dict()
        tower.load_state_dict(state)
    processor = ImageBindProcessor.for_config(
        model.config,
        text=settings["see"].text,
        image=settings["see"].image,
        audio=settings["hear"].audio,
        video={"mean": (LITE0_MEAN,) * 3, "std": (LITE0_STD,) * 3},
        **{name: made() for name, made in SENSES.items()},
    )
    processor.check(model.config)
    return model.eval(), processor


@torch.no_grad()
def embed_photos(
    model: ImageBindModel, processor: ImageBindProcessor, files: Sequence[bytes], path: Path
) -> torch.Tensor:
    """(N, D) unit norm, kept in ``path`` for as long as the tower stays the same."""
    of = torch.tensor(model.fingerprint()["vision"])
    kept = load_file(path) if path.is_file() else {}
    if not kept or len(kept["embeds"]) != len(files) or not torch.equal(kept["of"], of):
        parts = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
        embeds = [model.encode("image", processor(images=part)["pixel_values"]) for part in tqdm(parts, path.stem)]
        kept = {"embeds": torch.cat(embeds), "of": of}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, path)
    return kept["embeds"]


def drawn_concepts(data: Path) -> list[str]:
    """Those of the photos that the generator learned from, in the order of its anchors."""
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
def heard_items(model: ImageBindModel, texts: Texts, hear: Path) -> Items:
    """Every labelled sound, from the features of altered copies that stage ``hear`` kept."""
    heard = Heard(load_sounds(texts.data), yamnet(texts.teachers), hear, copies=HEARD_COPIES)
    sounds, of = heard.sounds, heard.sound_of
    rows = np.flatnonzero(sounds.trained[of] & (sounds.labels != "")[of])
    tower = copy.deepcopy(model.towers["audio"])
    tower.stem.network = Cached()
    embeds = [tower(part.float()) for copied in heard.features[1:] for part in copied[rows].split(BATCH)]
    names = np.where(sounds.concepts == "", sounds.labels, sounds.concepts)[of[rows]]
    kept = [sounds.samples[i].row["source"] if sounds.many[i] else recording(sounds.samples[i]) for i in of[rows]]
    return Items(torch.cat(embeds), np.tile(names, HEARD_COPIES - 1), _numbers(kept).repeat(HEARD_COPIES - 1))


def sensed_items(model: ImageBindModel, run: Run, modality: str) -> Items:
    """Infrared pictures, depth maps or movements; these are paired with photos of people."""
    source = run.source(modality)
    embeds = torch.cat([embed_altered(model, source, seed) for seed in range(ALTERED_COPIES)]).float()
    names = np.tile([PICTURED_AS.get(name, name) for name in source.concepts()], ALTERED_COPIES)
    return Items(embeds, names, _numbers([recording(s) for s in source.samples]).repeat(ALTERED_COPIES))


def _numbers(names: Sequence[str]) -> torch.Tensor:
    return torch.tensor([zlib.crc32(name.encode()) for name in names])


def map_to_host(new: torch.Tensor, old: torch.Tensor, photos: Photos) -> tuple[tuple[torch.Tensor, ...], dict]:
    """Matrix (D, H) and what is then added (H,), fitted on the trained photos; and how near it comes on the others.

    Args:
        new, old: (N, D) and (N, H) embeddings of the photos by the encoder and by the one before it.
    """
    trained = torch.from_numpy(photos.trained)
    means = [side[trained].mean(0) for side in (new, old)]
    groups = _numbers([sample.path for sample in photos.samples])[trained]
    matrix, ridge = fit_linear_map(new[trained] - means[0], old[trained] - means[1], groups)
    bias = means[1] - means[0] @ matrix
    others, drawn = torch.from_numpy(photos.held_out), torch.from_numpy(photos.held_out & (photos.concepts != ""))
    reached = F.normalize(new @ matrix + bias, dim=-1)
    told = {"ridge": ridge}
    for name, rows in (("held_out", others), ("held_out_of_concepts", drawn)):
        told[f"{name}_cosine"] = (reached[rows] * old[rows]).sum(1).mean().item()
        away = F.cosine_similarity(reached[rows] - means[1], old[rows] - means[1])
        told[f"{name}_cosine_less_mean"] = away.mean().item()
    return (matrix, bias), told


@torch.no_grad()
def fit_adapter(
    embed_text: Callable[[list[str]], torch.Tensor],
    items: dict[str, Items],
    photos: dict[str, torch.Tensor],
    anchors: torch.Tensor,
    host: tuple[torch.Tensor, ...],
) -> tuple[EmbeddingAdapter, dict[str, float]]:
    """Means (concepts of the photos, weighted alike), maps of the items to images, anchors; and each map's ridge.

    Maps lead to the mean photo of a concept, and where there is none to the name, moved to images: so a sound that is
    none of the concepts does not become a mixture of them.

    Args:
        photos: concept -> (D,) the mean of its photos, in the order of the anchors.
        anchors: (A, H) what the generator draws of each concept.
    """
    others = sorted({name for some in items.values() for name in some.names} - set(photos))
    texts = embed_names([*photos, *others], embed_text, templates=TEMPLATES)
    means = {"image": torch.stack(list(photos.values())).mean(0), "text": texts[: len(photos)].mean(0)}
    moved = gap_shift(texts[len(photos) :], means["text"], means["image"])
    shown, maps, ridges = photos | dict(zip(others, moved, strict=True)), {}, {}
    for modality, some in items.items():
        ours = np.isin(some.names, list(photos))
        by_concept = mean_by_concept(some.embeds[torch.from_numpy(ours)], some.names[ours])
        means[modality] = torch.stack(list(by_concept.values())).mean(0)
        wanted = torch.stack([shown[name] for name in some.names]) - means["image"]
        maps[modality], ridges[modality] = fit_linear_map(some.embeds - means[modality], wanted, some.groups)
    keys = torch.stack(list(photos.values()))
    return EmbeddingAdapter.from_means(means, maps=maps, anchors=(keys, anchors), host=host), ridges


def run_package(texts: Texts, folder: Path, host: Path, to: Path) -> None:
    """Write the pipeline folder ``to``; what was embedded and measured on the way stays in ``folder``.

    Args:
        host: pipeline folder whose generator and detector are taken, with the encoder in whose space they were trained.

    Raises:
        HostError: ``host`` has no such encoder, or knows other concepts than the data.
        InputError: a stage has not been trained yet.
    """
    model, processor = trained_encoder(folder.parent)
    before = ImageBindUnCLIPPipeline.from_pretrained(host)
    concepts, anchors = drawn_concepts(texts.data / "mini"), before.adapter.config.num_anchors
    if before.adapter.config.host_dim is not None:
        raise HostError(f"{host}: its encoder is not the one that its generator was trained with; name an earlier one")
    if len(concepts) != anchors:
        raise HostError(f"{host}: wanted an anchor for each of {len(concepts)} concepts of the data, found {anchors}")
    photos = load_photos(texts.data)
    new = pictures_of(texts, folder.parent / "see", model).embeds
    old = embed_photos(before.imagebind, before.processor, photos.files, folder / "photos_before.safetensors")
    to_host, figures = map_to_host(new, old, photos)
    shown = photos.trained & np.isin(photos.concepts, concepts)
    of_concepts = mean_by_concept(new[torch.from_numpy(shown)], photos.concepts[shown])
    if missing := set(concepts) - set(of_concepts):
        raise InputError(f"{texts.data}: wanted photos of each concept, have none of {sorted(missing)}")
    run = Run(texts.data / "mini", folder)
    items = {"audio": heard_items(model, texts, folder.parent / "hear")}
    items |= {name: sensed_items(model, run, name) for name in SENSES}
    embed_text = EncoderText(model, processor)
    adapter, ridges = fit_adapter(embed_text, items, of_concepts, before.adapter.anchors.float(), to_host)
    own = {name: before.config[name] for name in ("guidance_scale", "guidance_rescale")}
    parts = before.components | {"imagebind": model, "processor": processor, "adapter": adapter}
    pipe = ImageBindUnCLIPPipeline(**parts, **own)
    save_half(pipe, to)
    shutil.copytree(host / DETECTOR_PART, to / DETECTOR_PART, dirs_exist_ok=True)
    figures = {"host_map": figures, "ridges": ridges} | measure(to, texts, photos, new)
    figures["examples"] = examples(to)
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    logger.info("%s", json.dumps(figures, indent=1))
