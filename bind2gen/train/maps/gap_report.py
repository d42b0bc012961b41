"""What was measured of the modality gap: figures of left-out files, as a table, as JSON and on a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ... import __version__
from ...space.adapter import EmbeddingAdapter
from ...space.arithmetic import normalize
from .folder import write_fit

SURE = 2.0  # standard errors by which a map must be better than the shift of means


@dataclass(frozen=True)
class Ranks:
    """Where the right picture stands, by cosine, among the pictures of all pairs; 1 is first.

    Attributes:
        first: share of inputs whose own picture is first.
        median, mean: of the ranks.
        cosine: mean, with the own picture.
    """

    first: float
    median: float
    mean: float
    cosine: float

    @classmethod
    def of(cls, moved: torch.Tensor, pictures: torch.Tensor) -> Ranks:
        """Row i of ``moved`` belongs to row i of ``pictures``, (P, D) unit norm each."""
        rank, own = picture_ranks(moved, pictures), (normalize(moved) * pictures).sum(1)
        return cls((rank == 1).double().mean().item(), rank.quantile(0.5).item(), rank.mean().item(), own.mean().item())


def picture_ranks(moved: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """(P,) float64: of each row of ``moved`` the rank of its own row of ``pictures`` among all of them."""
    similar = normalize(moved) @ pictures.T
    return 1.0 + (similar > similar.diagonal()[:, None]).sum(1).double()


@dataclass(frozen=True)
class ModalityGap:
    """One modality.

    Attributes:
        files: measured on.
        before, after: cosine of the mean of left-out files with the mean of left-out images, as they are and after the
            shift of means, averaged over the parts; None where there were too few files to leave some out.
        pairs: files with a picture of the same name.
        ranks: of left-out pairs, by doing ``nothing``, by the ``shift`` of means, and by the ``map``.
        ridge: relative strength of the map that the adapter has; None where it has none.
    """

    files: int
    before: float | None
    after: float | None
    pairs: int
    ranks: Mapping[str, Ranks]
    ridge: float | None


@dataclass(frozen=True)
class GapReport:
    """All that was measured.

    Attributes:
        images: measured on.
        width: D of the embeddings.
        norm: mean length of raw image vectors, ``norm_std`` its standard deviation; None where not measured.
        modalities: those besides images.
    """

    images: int
    width: int
    norm: float | None
    norm_std: float | None
    modalities: Mapping[str, ModalityGap]

    def to_dict(self) -> dict:
        return asdict(self)

    def table(self) -> str:
        """The figures in Markdown, for cards and terminals."""
        parts = [self._length()]
        if self.modalities:
            head = "| left-out files | files | cosine of mean with image mean | after the shift |"
            rows = [
                f"| {name} | {gap.files} | {_shown(gap.before)} | {_shown(gap.after)} |"
                for name, gap in self.modalities.items()
            ]
            parts.append("\n".join([head, "|---|---|---|---|", *rows]))
        if any(gap.ranks for gap in self.modalities.values()):
            head = "| left-out pairs | way | own picture first | median rank | mean rank | cosine with it |"
            rows = [
                f"| {name}, {gap.pairs} | {way}{' (kept)' if way == gap_way(gap) else ''} | {rank.first:.1%} "
                f"| {rank.median:.0f} | {rank.mean:.1f} | {rank.cosine:.3f} |"
                for name, gap in self.modalities.items()
                for way, rank in gap.ranks.items()
            ]
            parts.append("\n".join([head, "|---|---|---|---|---|---|", *rows]))
        return "\n\n".join(parts)

    def _length(self) -> str:
        if self.norm is None:
            return "Length of raw image vectors: not measured (embeddings of unit length do not tell)."
        spread = f"standard deviation {self.norm_std:.2f} over {self.images} images"
        return f"Length of raw image vectors: {self.norm:.3f} ({spread}; sqrt({self.width}) is {self.width**0.5:.1f})."


def gap_way(gap: ModalityGap) -> str:
    """How the adapter moves the modality: ``map`` or ``shift``."""
    return "shift" if gap.ridge is None else "map"


def write_gap(folder: Path, adapter: EmbeddingAdapter, report: GapReport, *, encoder: str) -> list[Path]:
    """Write adapter, metrics and card; ``encoder`` is what it is called on the card. Returns their paths."""
    metrics = {"left_out": report.to_dict(), "encoder": encoder}
    return write_fit(folder, adapter, _card(adapter, report, encoder), metrics)


def _shown(value: float | None) -> str:
    return "too few" if value is None else f"{value:.3f}"


def _card(adapter: EmbeddingAdapter, report: GapReport, encoder: str) -> str:
    return f"""---
library_name: bind2gen
tags: [imagebind, bind2gen, modality-gap]
---

# Modality gap of {encoder}

Mean unit-norm embeddings of {", ".join(f"`{name}`" for name in adapter.known)} ({report.width} wide), measured on
{report.images} images and the files below. Learned maps: {", ".join(adapter.mapped) or "none"}.

## How good it is

Each file was left out once, of five parts, and moved by what was measured on the others:

{report.table()}

A picture's rank is that among the pictures of all pairs, by cosine. A map is kept where its ranks are better than those
of the shift by more than {SURE:g} standard errors of their mean difference.

Use it with `bind2gen generate --adapter FOLDER`, or in Python with
`ImageBindUnCLIPPipeline.from_host(..., adapter="FOLDER")`. Written by bind2gen {__version__}.

## Terms

Those of the encoder's weights, and of the files that it was measured on.
"""
