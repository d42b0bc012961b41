"""A linear map from the encoder's image embeddings to those of another CLIP, fitted on any pictures.

Both embeddings of a picture are a pair, so no sounds and no captions are needed: what reaches the encoder's image
embeddings goes on to the other space. Fitted are centred unit vectors; the other space's mean length is restored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ... import __version__
from ...errors import CheckpointError, InputError
from ...files.hub import is_hub_id
from ...hosts.pictures.contract import SPACES
from ...imagebind.agreement import check_beside, check_loaded
from ...space.adapter import EmbeddingAdapter
from ...space.arithmetic import normalize
from .folder import write_fit
from .gap_report import Ranks
from .linear import FOLDS, check_paired, fit_linear_map

# Space -> hub id and subfolder of its image encoder, as the hosts that take its embeddings publish it.
TARGETS = {
    "vit-l": ("openai/clip-vit-large-patch14", ""),
    "vit-bigg": ("kandinsky-community/kandinsky-2-2-prior", "image_encoder"),
}
LEAST_PICTURES = 10 * FOLDS
WAYS = ("rotation", "ridge")
SEEN = 1e-6  # of the largest covariance, below which one is rounding


class TargetEncoder:
    """The image encoder of another space, a CLIP of transformers.

    Args:
        source: a key of :data:`TARGETS`, or a folder or hub id; ``image_encoder/`` in a pipeline is found.
        dtype: of the weights, whatever they were saved in: CPUs are slow in half precision.

    Raises:
        CheckpointError: there is none, it is damaged, or its weights are no numbers.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        place, part = TARGETS.get(str(source), (str(source), ""))
        if not part and Path(place, "image_encoder", "config.json").is_file():
            part = "image_encoder"
        if not Path(place).exists() and not is_hub_id(place):  # the hub would be asked for it, again and again
            raise CheckpointError(
                f"{source}: wanted a CLIP image encoder of transformers: no such folder or owner/name"
            )
        check_beside(place, _network, subfolder=part)
        try:
            model = CLIPVisionModelWithProjection.from_pretrained(place, subfolder=part, dtype=dtype)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise CheckpointError(f"{source}: wanted a CLIP image encoder of transformers: {reason}") from error
        check_loaded(model, str(source))
        self.model = model.eval().to(device)
        side = self.model.config.image_size
        self.processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        self.width = int(self.model.config.projection_dim)
        known = [name for name, (width, _) in SPACES.items() if width == self.width and name != "vit-h"]
        self.space = str(source) if str(source) in TARGETS else known[0] if known else ""

    @torch.no_grad()
    def embed(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """(N, T) float32 on the CPU, of raw length."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return self._embeds(pixels)

    @torch.no_grad()
    def negative(self) -> torch.Tensor:
        """(T,) of a picture whose normalised pixels are zero: what Kandinsky guides away from (``get_zero_embed``)."""
        side = self.model.config.image_size
        return self._embeds(torch.zeros(1, 3, side, side))[0]

    def _embeds(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels.to(self.model.device)).image_embeds.float().cpu()


def _network(config: dict[str, Any]) -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**config.get("vision_config", config)))  # or of a whole CLIP


@dataclass(frozen=True)
class SpaceReport:
    """Figures of pictures that a map was not fitted on: each was left out once, of five parts.

    Attributes:
        pictures: fitted and judged on.
        width, target_width: D and T.
        space: of the target; empty where it is none that hosts take.
        norm: mean length of the target's raw embeddings.
        ridge: relative strength of the ridge map.
        kept: the way that the adapter has.
        ways: rank of the own picture among all, and cosine with it, of doing ``nothing`` (where the widths are the
            same), a ``rotation`` (Procrustes) and a ``ridge`` map.
    """

    pictures: int
    width: int
    target_width: int
    space: str
    norm: float
    ridge: float
    kept: str
    ways: Mapping[str, Ranks]

    def table(self) -> str:
        """The figures in Markdown."""
        head = "| left-out pictures | way | own picture first | median rank | mean rank | cosine with it |"
        rows = [
            f"| {self.pictures} | {way}{' (kept)' if way == self.kept else ''} | {rank.first:.1%} | {rank.median:.0f} "
            f"| {rank.mean:.1f} | {rank.cosine:.3f} |"
            for way, rank in self.ways.items()
        ]
        length = f"Mean length of the target's raw embeddings: {self.norm:.3f} ({self.target_width} wide)."
        return "\n".join([length, "", head, "|---|---|---|---|---|---|", *rows])


def fit_space(
    source: torch.Tensor,
    target: torch.Tensor,
    *,
    way: str = WAYS[0],
    adapter: EmbeddingAdapter | None = None,
    space: str = "",
    negative: torch.Tensor | None = None,
) -> tuple[EmbeddingAdapter, SpaceReport]:
    """An adapter that goes on to another space, and how well it does on pictures that were left out.

    Args:
        source: (N, D) the encoder's image embeddings, of any length.
        target: (N, T) raw embeddings of the same pictures.
        way: one of :data:`WAYS`. A ridge map comes nearer to left-out pictures; a rotation does not shrink what
            pictures hardly vary in, and is right more often for sounds, which do not lie quite where pictures do.
        adapter: what moves modalities to images before; default is one that moves nothing.
        space: of the target.
        negative: (T,) what hosts of that space are guided away from.

    Raises:
        InputError: too few pictures; ShapeError, NonFiniteError: of rows that do not fit.
    """
    check_paired("fit_space", source, target)
    if len(source) < LEAST_PICTURES:
        raise InputError(f"images: wanted at least {LEAST_PICTURES} to fit a map on, got {len(source)}")
    ours, theirs, norm = normalize(source.float()), normalize(target.float()), target.double().norm(dim=1).mean().item()
    part, moved = torch.arange(len(ours)) % FOLDS, {"rotation": theirs.clone(), "ridge": theirs.clone()}
    for fold in range(FOLDS):
        kept, out = part != fold, part == fold
        means = ours[kept].mean(0), theirs[kept].mean(0)
        for name, (learned, _) in _maps(ours[kept], theirs[kept]).items():
            moved[name][out] = normalize(means[1] + (ours[out] - means[0]) @ learned)
    ways = {"nothing": ours} if ours.shape[1] == theirs.shape[1] else {}
    ranks = {name: Ranks.of(rows, theirs) for name, rows in (ways | moved).items()}
    maps = _maps(ours, theirs)
    made = (adapter or EmbeddingAdapter(ours.shape[1])).with_map(
        maps[way][0], source_mean=ours.mean(0), target_mean=theirs.mean(0), norm=norm, space=space, negative=negative
    )
    return made, SpaceReport(len(ours), ours.shape[1], theirs.shape[1], space, norm, maps["ridge"][1], way, ranks)


def _maps(source: torch.Tensor, target: torch.Tensor) -> dict[str, tuple[torch.Tensor, float]]:
    """Both maps (D, T) of rows less their means, and the ridge that was chosen."""
    source, target = source - source.mean(0), target - target.mean(0)
    left, values, right = torch.linalg.svd(source.double().T @ target.double(), full_matrices=False)
    left = left * (values > SEEN * values[0])  # what no picture varies in would be turned to anywhere
    rotation = left @ right * (values.sum() / source.double().square().sum())
    return {"rotation": (rotation.float(), 0.0), "ridge": fit_linear_map(source, target, torch.arange(len(source)))}


def write_space(
    folder: Path, adapter: EmbeddingAdapter, report: SpaceReport, *, encoder: str, target: str
) -> list[Path]:
    """Write adapter, metrics and card; ``encoder`` and ``target`` are what they are called on the card."""
    metrics: dict[str, Any] = {"left_out": asdict(report), "encoder": encoder, "target": target}
    return write_fit(folder, adapter, _card(report, encoder, target), metrics)


def _card(report: SpaceReport, encoder: str, target: str) -> str:
    return f"""---
library_name: bind2gen
tags: [imagebind, bind2gen, clip]
---

# From image embeddings of {encoder} to those of {target}

A linear map ({report.width} to {report.target_width} wide), fitted on {report.pictures} pictures as both encoders see
them, each unit vector less the mean. It brings sounds too, moved to where images lie, to hosts of that space.

## How good it is

Each picture was left out once, of {FOLDS} parts, and moved by what was fitted on the others:

{report.table()}

A picture's rank is that among all of them, by cosine.

Use it with `bind2gen generate --host HOST --adapter FOLDER`, or in Python `bind2gen.bind(..., adapter="FOLDER")`.
Written by bind2gen {__version__}.

## Terms

Those of both encoders' weights, and of the pictures that it was fitted on.
"""
