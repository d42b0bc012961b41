"""The modality gap of an encoder, measured on files: mean embeddings, maps where there are pairs, length of images.

Every figure is of files that the means and maps it judges were not measured on: each file is left out once, of
``FOLDS`` parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ...errors import ModalityError, ShapeError
from ...imagebind.embedding import encode_inputs
from ...imagebind.model import ImageBindModel
from ...imagebind.processor import ImageBindProcessor
from ...space.adapter import EmbeddingAdapter
from ...space.arithmetic import gap_shift, normalize
from .gap_report import SURE, GapReport, ModalityGap, Ranks, picture_ranks
from .linear import FOLDS, fit_linear_map

LEAST_PAIRS = 4 * FOLDS  # of fewer a map says nothing

Names = Mapping[str, Sequence[str | None]]


def embed_raw(
    model: ImageBindModel, processor: ImageBindProcessor, modality: str, batch: Sequence[Any]
) -> torch.Tensor:
    """Inputs of one modality to (N, D) float32 on the CPU: images of the length that the head gives them, others unit.

    Raises:
        InputError: an input cannot be read.
    """
    rows = encode_inputs(model, processor, modality, list(batch), unit_norm=modality != "image")
    return rows.float().cpu()


def fit_gap(
    rows: Mapping[str, torch.Tensor],
    names: Names | None = None,
    *,
    groups: Names | None = None,
    lengths: torch.Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[EmbeddingAdapter, GapReport]:
    """An adapter that moves each modality to images, and how well it does on what was left out.

    Args:
        rows: modality -> (N, D) embeddings of any length, ``"image"`` among them.
        names: modality -> N names; an image and another input of the same name are a pair. None, or a name that comes
            twice in a modality, has no pair.
        groups: modality -> N names of recordings; what comes from one is left out together. Default: ``names``.
        lengths: (N,) of raw image vectors; their mean becomes the adapter's ``norm``.
        progress: called with 1 after each modality.

    Returns:
        Of a modality with :data:`LEAST_PAIRS` pairs or more the adapter has the map, if on left-out pairs the right
        picture ranks higher by it than by the shift of means, beyond chance.

    Raises:
        ModalityError: an unknown modality, or no images.
        ShapeError: not (N, D), or not as many names; NonFiniteError for NaN.
    """
    units = {name: normalize(value.float()) for name, value in rows.items()}
    if "image" not in units:
        raise ModalityError("wanted images among the embeddings, the others move to where they lie; found none")
    names, groups = dict(names or {}), dict(groups or names or {})
    for listed in (names, groups):
        if wrong := [name for name in listed if name in units and len(listed[name]) != len(units[name])]:
            came = f"{len(listed[wrong[0]])} for {len(units[wrong[0]])} embeddings"
            raise ShapeError(f"{wrong[0]}: wanted one name an embedding, got {came}")
    labels = {name: _labels(name, len(value), groups.get(name)) for name, value in units.items()}
    folds = _folds(labels)
    means = {name: value.mean(0) for name, value in units.items()}
    found, maps = {}, {}
    for name in units:
        if name != "image":
            pairs = _pairs(names.get(name), names.get("image"))
            found[name], learned = _judged(name, units, folds, labels, pairs)
            if learned is not None:
                maps[name] = learned
        (progress or (lambda count: None))(1)
    adapter = EmbeddingAdapter.from_means(means, maps=maps)
    spread = None
    if lengths is not None:
        adapter.register_to_config(norm=lengths.double().mean().item())
        spread = lengths.double().std(correction=0).item()
    width = units["image"].shape[1]
    return adapter, GapReport(len(units["image"]), width, adapter.config.norm, spread, found)


def _labels(modality: str, count: int, groups: Sequence[str | None] | None) -> list[Any]:
    """What each row is left out with: its recording's name, in whatever modality, or a label of its own."""
    return [
        (modality, i) if group is None else group
        for i, group in enumerate(groups if groups is not None else [None] * count)
    ]


def _folds(labels: Mapping[str, Sequence[Any]]) -> dict[str, torch.Tensor]:
    """Modality -> (N,) which part each row is of; rows of one label are of one part, in all modalities."""
    part: dict[Any, int] = {}
    for rows in labels.values():
        new = [label for label in dict.fromkeys(rows) if label not in part]
        part |= {label: i % FOLDS for i, label in enumerate(new)}
    return {name: torch.tensor([part[label] for label in rows]) for name, rows in labels.items()}


def _pairs(names: Sequence[str | None] | None, pictures: Sequence[str | None] | None) -> torch.Tensor:
    """(P, 2) rows of an input and of the picture of its name; a name that stands twice on a side pairs nothing."""
    sides = [
        pd.Series(range(len(listed or ())), index=pd.Index(listed or (), dtype=object)) for listed in (names, pictures)
    ]
    once = [side[side.index.notna() & ~side.index.duplicated(keep=False)] for side in sides]
    return torch.from_numpy(pd.concat(once, axis=1, join="inner").to_numpy(np.int64)).view(-1, 2)


def _judged(
    name: str,
    units: Mapping[str, torch.Tensor],
    folds: Mapping[str, torch.Tensor],
    labels: Mapping[str, Sequence[Any]],
    pairs: torch.Tensor,
) -> tuple[ModalityGap, torch.Tensor | None]:
    """How far left-out rows of a modality get, and the map (D, D) where it is the better way."""
    ours, images = units[name], units["image"]
    source, target, part = ours[pairs[:, 0]], images[pairs[:, 1]], folds[name][pairs[:, 0]]
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels[name]))}
    group = torch.tensor([numbers[labels[name][i]] for i in pairs[:, 0].tolist()], dtype=torch.long)
    with_map = len(pairs) >= LEAST_PAIRS
    ways = {"nothing": source, "shift": source.clone()} | ({"map": source.clone()} if with_map else {})
    before, after = [], []
    for fold in range(FOLDS):
        kept, seen = folds[name] != fold, folds["image"] != fold
        if not kept.any() or not seen.any():
            continue
        mean, image_mean = ours[kept].mean(0), images[seen].mean(0)
        if not kept.all() and not seen.all():
            there, out = images[~seen].mean(0), ours[~kept]
            before.append(F.cosine_similarity(out.mean(0), there, dim=0).item())
            after.append(F.cosine_similarity(gap_shift(out, mean, image_mean).mean(0), there, dim=0).item())
        left_out = part == fold
        if left_out.any():
            ways["shift"][left_out] = gap_shift(source[left_out], mean, image_mean)
        if left_out.any() and with_map:
            learned = _map(source[~left_out], target[~left_out], mean, image_mean, group[~left_out])[0]
            ways["map"][left_out] = normalize(image_mean + (source[left_out] - mean) @ learned)
    ranks = {way: Ranks.of(moved, target) for way, moved in ways.items()} if len(pairs) else {}
    learned, ridge = None, None
    if with_map and _better(ways["map"], ways["shift"], target):
        learned, ridge = _map(source, target, ours.mean(0), images.mean(0), group)
    figures = [sum(values) / len(values) if values else None for values in (before, after)]
    return ModalityGap(len(ours), *figures, pairs=len(pairs), ranks=ranks, ridge=ridge), learned


def _better(moved: torch.Tensor, shifted: torch.Tensor, pictures: torch.Tensor) -> bool:
    """Whether the right picture stands higher by a map than by the shift, beyond chance."""
    gain = picture_ranks(shifted, pictures) - picture_ranks(moved, pictures)
    return bool(gain.mean() > SURE * gain.std() / len(gain) ** 0.5)


def _map(
    source: torch.Tensor, target: torch.Tensor, mean: torch.Tensor, image_mean: torch.Tensor, group: torch.Tensor
) -> tuple[torch.Tensor, float]:
    return fit_linear_map(source - mean, target - image_mean, group.unique(return_inverse=True)[1])
