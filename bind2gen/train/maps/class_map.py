"""Closed-form maps from the encoder's space to a detector's class vectors, fitted on names that both can read.

Centred on both sides, so that the offset is right by construction: class vectors of CLIP sit in a cone of mean
pairwise cosine 0.74, and the mean vector alone has a cosine of 0.86 with each. That is the figure to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from ...errors import InputError
from ...space.arithmetic import normalize
from ...space.class_map import ClassMap
from .linear import FOLDS, check_paired, fit_linear_map

METHODS = ("ridge", "procrustes")
# Wider than for sounds to images: a tower that does not know most of the names needs a strong hand.
MAP_RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
TOP = 5  # nearest class vectors among which the right one may be


@dataclass(frozen=True)
class MapReport:
    """How well left-out names land near their own class vectors; each name was left out once.

    Attributes:
        method: one of :data:`METHODS`.
        ridge: relative strength that was chosen on all names; None for Procrustes.
        names: fitted on.
        cosine: mean, of mapped left-out names with their own class vectors.
        cosine_of_mean: mean cosine of the class vectors with their own mean: what a map that knows nothing reaches.
        centred_cosine: as ``cosine``, of differences from that mean; 0 for a map that knows nothing.
        top1, top5: share of left-out names whose own vector is the nearest, or among the five nearest, of all names'.
        chance1, chance5: the same for a map that knows nothing.
    """

    method: str
    ridge: float | None
    names: int
    cosine: float
    cosine_of_mean: float
    centred_cosine: float
    top1: float
    top5: float
    chance1: float
    chance5: float

    def to_dict(self) -> dict[str, float | int | str | None]:
        return asdict(self)

    def table(self) -> str:
        """The figures in Markdown, for cards and terminals."""
        rows = (
            ("own class vector is the nearest of all", f"{self.top1:.1%}", f"{self.chance1:.2%}"),
            (f"own class vector is among the {TOP} nearest", f"{self.top5:.1%}", f"{self.chance5:.2%}"),
            ("cosine with the own class vector", f"{self.cosine:.3f}", f"{self.cosine_of_mean:.3f}"),
            ("the same, both less the mean class vector", f"{self.centred_cosine:.3f}", "0"),
        )
        head = ["| left-out names | map | a map that knows nothing |", "|---|---|---|"]
        return "\n".join(head + [f"| {what} | {map_} | {nothing} |" for what, map_, nothing in rows])


def procrustes_map(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Scaled orthogonal map: ``s U V'`` with ``U S V' = source' target`` (Schonemann 1966), s of least squares.

    With D1 <= D2 it keeps all angles and is the least-squares one. With D1 > D2 it is a projection on D2 orthogonal
    directions, those of greatest covariance with the target (the least-squares one has no closed form there).

    Args:
        source, target: (N, D1) and (N, D2) paired embeddings, each less its mean.

    Returns:
        (D1, D2), applied from the right.

    Raises:
        InputError: the two have nothing in common (all zero).
    """
    check_paired("procrustes_map", source, target)
    source, target = source.double(), target.double()
    u, _, v = torch.linalg.svd(source.T @ target, full_matrices=False)
    turned = source @ (u @ v)
    if not turned.any() or not target.any():
        raise InputError("procrustes_map: all embeddings are equal, so there is nothing to turn")
    return (u @ v * ((turned * target).sum() / turned.square().sum())).float()


def fit_class_map(
    source: torch.Tensor,
    target: torch.Tensor,
    groups: Sequence[str],
    *,
    method: str = "ridge",
    gaps: Mapping[str, torch.Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[ClassMap, MapReport]:
    """Fit on everything, and judge fits on names that each of them did not see.

    Args:
        source: (N, D1) the encoder's unit-norm text embeddings of N names.
        target: (N, D2) class vectors of the same names.
        groups: N texts; names of one group are left out together (the same thing named twice).
        method: ``"ridge"``, its strength chosen by cross-validation over the groups, or ``"procrustes"``.
        gaps: modality -> (D1,), see :meth:`ClassMap.from_fit`.
        progress: called with 1 after each of the ``FOLDS + 1`` fits.

    Raises:
        InputError: an unknown method, or fewer groups than twice the folds.
        ShapeError: not paired.
    """
    check_paired("fit_class_map", source, target)
    if method not in METHODS:
        raise InputError(f"method: wanted one of {', '.join(METHODS)}, got {method!r}")
    if len(groups) != len(source):
        raise InputError(f"groups: wanted {len(source)}, one a name, got {len(groups)}")
    numbers = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    if len(numbers) < 2 * FOLDS:
        raise InputError(f"vocabulary: wanted at least {2 * FOLDS} different names to fit a map on, got {len(numbers)}")
    source, target = normalize(source.float()), normalize(target.float())
    of_group = torch.tensor([numbers[name] for name in groups])
    left_out, report_step = torch.empty_like(target), progress or (lambda count: None)
    for fold in range(FOLDS):
        out = of_group % FOLDS == fold
        left_out[out] = _fitted(source[~out], target[~out], of_group[~out], method)[0](source[out])
        report_step(1)
    made, ridge = _fitted(source, target, of_group, method, gaps)
    report_step(1)
    return made, _report(left_out, target, method, ridge)


def _fitted(
    source: torch.Tensor,
    target: torch.Tensor,
    groups: torch.Tensor,
    method: str,
    gaps: Mapping[str, torch.Tensor] | None = None,
) -> tuple[ClassMap, float | None]:
    text_mean, target_mean = source.mean(0), target.mean(0)
    centred = (source - text_mean, target - target_mean)
    if method == "ridge":
        matrix, ridge = fit_linear_map(*centred, groups.unique(return_inverse=True)[1], ridges=MAP_RIDGES)
    else:
        matrix, ridge = procrustes_map(*centred), None
    return ClassMap.from_fit(matrix, text_mean=text_mean, target_mean=target_mean, gaps=gaps), ridge


def _report(mapped: torch.Tensor, target: torch.Tensor, method: str, ridge: float | None) -> MapReport:
    """``mapped`` (N, D2): each row of a map that did not see its name."""
    count, mean = len(target), target.mean(0)
    similar = mapped @ target.T
    own = similar.diagonal()
    better = (similar > own[:, None]).sum(1)
    return MapReport(
        method=method,
        ridge=ridge,
        names=count,
        cosine=own.mean().item(),
        cosine_of_mean=F.cosine_similarity(mean[None], target).mean().item(),
        centred_cosine=F.cosine_similarity(mapped - mean, target - mean).mean().item(),
        top1=(better < 1).float().mean().item(),
        top5=(better < TOP).float().mean().item(),
        chance1=1 / count,
        chance5=min(TOP / count, 1.0),
    )
