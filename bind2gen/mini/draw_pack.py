"""What the stage ``draw`` learns from, in one file small enough to be sent to another machine.

Photos at the size that is drawn, with their kinds and image embeddings, and the beginning of EfficientNet-Lite0.
Whoever trains from it needs neither the data nor the teachers nor the encoder.
"""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from ..errors import InputError
from ..files.atomic import written_whole
from ..hosts.pictures.feature_autoencoder import first_stages
from ..preprocess import image
from .cuts import cut_out, object_box
from .data import ImageSet, Sample, held_out, read_members, read_rows
from .draw_conditions import mean_by_concept
from .draw_decoder import COMPARED, SEEN_STAGES, STAGES, Features, to_unit_range
from .files import joined, taken_apart
from .photos import webp
from .see import towers_of
from .teachers import lite0
from .texts import Texts, plain
from .towers import embed

logger = logging.getLogger(__name__)

FILE = "pack.safetensors"
SIZE = 128  # pixels of a side
SMALL = ("frog", "sheep", "train", "keyboard", "police van", "sea")  # only data/mini has them, at 64 pixels
KIND_FROM, HEARD_FROM = 40, 10  # photos that make a kind; so many sounds make one of so many photos too
TYPICAL = 150  # photos of a kind that are drawn most often
GRID = 4  # features of a picture are compared place by place on a grid of so many cells a side
NEIGHBOURS = 20  # most similar photos of its kind that make a photo typical
SAME = 0.995  # cosine of features above which two photos are the same one, saved twice
CERTAINTY_SCALE = 20.0  # of cosines with the kinds, to make probabilities of them
WEBP_QUALITY = 85
BATCH = 32  # pictures at once through the networks

Embed = Callable[[list[Image.Image]], torch.Tensor]


@dataclass(frozen=True)
class Pack:
    """N photos and what is known of them.

    Attributes:
        kinds: names.
        pixels: (N, S, S, 3) uint8.
        kind: (N,) numbers of ``kinds``.
        held_out: (N,) bool, never trained on.
        typical: (N,) bool, those of the others that show their kind plainly.
        embeds: (N, D) image embeddings, unit norm.
        latent_mean, latent_std: (C, 1, 1) of the features of the photos that are trained on.
        lite0: state dict of :func:`~bind2gen.hosts.pictures.feature_autoencoder.first_stages` of EfficientNet-Lite0.
    """

    kinds: list[str]
    pixels: np.ndarray
    kind: np.ndarray
    held_out: np.ndarray
    typical: np.ndarray
    embeds: torch.Tensor
    latent_mean: torch.Tensor
    latent_std: torch.Tensor
    lite0: dict[str, torch.Tensor]

    @property
    def names(self) -> np.ndarray:
        """(N,) the kind of each photo."""
        return np.array(self.kinds)[self.kind]

    @classmethod
    def load(cls, path: Path) -> Pack:
        """Raises :class:`InputError` where there is no pack."""
        try:
            with safe_open(path, "pt") as file:
                kinds = json.loads(file.metadata()["kinds"])
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            files = taken_apart(held, "photos")
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise InputError(f"{path}: wanted a pack as draw-pack writes it: {error}") from error
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
        lite0 = {name.removeprefix("lite0."): held.pop(name) for name in list(held) if name.startswith("lite0.")}
        known = {name: held[name].numpy() for name in ("kind", "held_out", "typical")}
        floats = {name: held[name].float() for name in ("embeds", "latent_mean", "latent_std")}
        lite0 = {name: value.float() if value.is_floating_point() else value for name, value in lite0.items()}
        return cls(kinds, pixels, lite0=lite0, **known, **floats)


def kinds_of(samples: list[Sample], heard: Counter) -> list[str]:
    """Names of which there are photos enough to draw, of ``data/photos``; ``heard`` counts sounds by name."""
    counts = Counter(kind_of(sample) for sample in samples)
    return sorted(
        name
        for name, count in counts.items()
        if name and (count >= KIND_FROM or (count >= HEARD_FROM and heard[name] >= HEARD_FROM))
    )


def kind_of(sample: Sample) -> str:
    """Its concept, or what it is called where it has none."""
    return sample.concept or plain(sample.row.get("label") or "")


def load_pictures(data: Path) -> ImageSet:
    """Every photo of a kind that is drawn, square, cut to its object where that is known; concepts are kinds.

    Photos whose object is known and too small to be seen well are left out.
    """
    photos, sounds = read_rows(data / "photos" / "photos.csv"), read_rows(data / "sounds" / "sounds.csv")
    small = [s for s in read_rows(data / "mini" / "images.csv") if s.concept in SMALL]
    kinds = kinds_of(photos, Counter(map(kind_of, sounds)))
    members = read_members(data / "photos" / "photos.tar") | read_members(data / "mini" / "images.tar")
    pixels, samples = [], []
    for sample in [s for s in photos if kind_of(s) in (*kinds, *SMALL)] + small:
        whole = _square(members[sample.path])
        if object_box(whole, sample.row) is not None or not sample.row.get("x0"):
            pixels.append(cut_out(whole, sample.row, size=SIZE))
            samples.append(Sample(sample.path, kind_of(sample), {}))
    return ImageSet(np.stack(pixels), samples)


def _square(file: bytes) -> np.ndarray:
    picture = image.load(file)
    side, (width, height) = min(picture.size), picture.size
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)))


@torch.inference_mode()
def features_of(network: Features, pixels: np.ndarray) -> torch.Tensor:
    """(N, S, S, 3) uint8 -> (N, C, S/16, S/16) the latents before whitening, half precision."""
    parts = torch.from_numpy(pixels).split(BATCH)
    last = COMPARED.index(STAGES - 1)
    return torch.cat([network(to_unit_range(part))[last].half() for part in tqdm(parts, "features")])


def choose_typical(names: np.ndarray, features: torch.Tensor, embeds: torch.Tensor, kinds: list[str]) -> np.ndarray:
    """(N,) bool: all photos of a small kind, of a large one :data:`TYPICAL` that resemble others of it most.

    A small generator that learns from few photos learns what these share, and a last training on few, well-chosen
    pictures makes far better ones than more of everything (Emu, arXiv 2309.15807); here a rule chooses, not a person:
    of the half that is most surely of its kind, those that are most like their nearest neighbours in it.

    Args:
        names: (N,) kinds.
        features: (N, C, H, W).
        embeds: (N, D) unit norm. Certainty is nearness to the mean of a photo's kind.
    """
    ours, mirrored = (_by_place(side) for side in (features, features.flip(3)))
    means = mean_by_concept(embeds, names)
    cosines = embeds @ F.normalize(torch.stack([means[kind] for kind in kinds]), dim=1).T
    own = torch.from_numpy(names[:, None] == np.array(kinds))
    certainty = ((CERTAINTY_SCALE * cosines).softmax(1) * own).sum(1)
    chosen = np.zeros(len(names), bool)
    for kind in kinds:
        there = np.flatnonzero(names == kind)
        if len(there) > TYPICAL:
            sure = certainty[there]
            there = there[(sure >= sure.median()).numpy()]
            likeness = torch.maximum(ours[there] @ ours[there].T, ours[there] @ mirrored[there].T)
            likeness[likeness > SAME] = 0  # itself, or the same photo saved twice
            density = likeness.topk(min(NEIGHBOURS, len(there))).values.mean(1)
            there = there[density.argsort(descending=True).numpy()[:TYPICAL]]
        chosen[there] = True
    return chosen


def _by_place(features: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, F) unit norm, to be compared place by place on a grid."""
    return F.normalize(F.adaptive_avg_pool2d(features.float(), GRID), dim=1).flatten(1) / GRID


def write_pack(path: Path, pictures: ImageSet, network: nn.Module, embed_pictures: Embed) -> None:
    """Everything that the stage needs, to ``path``.

    Args:
        pictures: see :func:`load_pictures`.
        network: EfficientNet-Lite0 as the teachers have it.
        embed_pictures: pictures -> (N, D) image embeddings, unit norm.
    """
    names = pictures.concepts()
    kinds, numbers = np.unique(names, return_inverse=True)
    files = [webp(pixels, WEBP_QUALITY) for pixels in pictures.pixels]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    state = first_stages(network, SEEN_STAGES).half().state_dict()
    features = features_of(Features(state), pixels)
    embeds = embed_pictures([Image.fromarray(picture) for picture in pixels])
    kept = held_out(pictures)
    typical, own = np.zeros(len(pixels), bool), torch.from_numpy(~kept)
    typical[~kept] = choose_typical(names[~kept], features[own], embeds[own], kinds.tolist())
    seen = features[own].float()
    tensors = {
        **joined(files, "photos"),
        "kind": torch.from_numpy(numbers),
        "held_out": torch.from_numpy(kept),
        "typical": torch.from_numpy(typical),
        "embeds": embeds.half(),
        "latent_mean": seen.mean((0, 2, 3))[:, None, None],
        "latent_std": seen.std((0, 2, 3))[:, None, None],
        **{f"lite0.{name}": value.contiguous() for name, value in state.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        save_file(tensors, temporary, {"kinds": json.dumps(kinds.tolist())})
    size = path.stat().st_size / 2**20
    logger.info("%s: %d photos of %d kinds, %.1f MiB", path, len(pixels), len(kinds), size)


def run_pack(texts: Texts, folder: Path) -> None:
    """Write ``folder/pack.safetensors``, with the embeddings of the model that stage ``see`` left beside ``folder``."""
    model, processor = towers_of(folder.parent / "see", ["image"])
    seen = partial(embed, model, processor, "image", quiet=False)
    write_pack(folder / FILE, load_pictures(texts.data), lite0(texts.teachers), seen)
