"""Classifiers from a few examples: three linear heads on embeddings, judged on sources that they did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..errors import DependencyError, InputError, ShapeError
from ..space.arithmetic import Embeds, as_tensor, normalize
from ..space.classifier import EmbeddingClassifier
from .maps.folder import write_fit

FOLDS, SEED = 5, 0
RIDGE, INVERSE_RIDGE = 1.0, 10.0  # of ridge and logistic on unit vectors; a tenth or tenfold made no odds in trials
LOST = 0.05  # share of right answers that may be called none of the labels
SCALES = (-2.0, 4.0)  # decimal logarithms between which 1 / temperature is looked for
Linear = tuple[np.ndarray, np.ndarray]  # weight (C, D) and bias (C,)


@dataclass(frozen=True)
class HeadScore:
    """What a head is worth on examples of left-out sources.

    Attributes:
        accuracy: share of right answers, ``error`` its standard error, ``balanced`` the mean over the labels' shares.
        log_loss: natural logarithm, at the best ``scale``.
        threshold: of the first label's probability, which all but :data:`LOST` of the right answers reach.
    """

    accuracy: float
    error: float
    balanced: float
    log_loss: float
    scale: float
    threshold: float


@dataclass(frozen=True)
class FewShotReport:
    """What was fitted, and how well it does.

    Attributes:
        counts: label -> examples; groups: label -> sources of them.
        folds: 0 where a label has one source alone, so that nothing could be left out and there are no scores.
        heads: by name. zero_shot: accuracy of the labels as words on the same examples, where they were given.
        kept: the head that the classifier has.
    """

    counts: Mapping[str, int]
    groups: Mapping[str, int]
    folds: int
    heads: Mapping[str, HeadScore]
    zero_shot: float | None
    kept: str

    def table(self) -> str:
        """Markdown."""
        examples, sources = sum(self.counts.values()), sum(self.groups.values())
        head = f"{examples} examples of {len(self.counts)} labels, from {sources} sources."
        if not self.folds:
            return f"{head} A label has one source alone: nothing could be left out, so there are no scores."
        lines = [
            f"{head} Scores: {self.folds} folds, no source in two of them.",
            "",
            "| head | right | mean over labels | log loss |",
            "|---|---|---|---|",
        ]
        for name, one in self.heads.items():
            name += " (kept)" * (name == self.kept)
            right = f"{one.accuracy:.1%} ± {one.error:.1%}"
            lines.append(f"| {name} | {right} | {one.balanced:.1%} | {one.log_loss:.2f} |")
        if self.zero_shot is not None:
            lines.append(f"| the labels as words, no examples | {self.zero_shot:.1%} | | |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def fit_classifier(
    embeds: Embeds,
    labels: Sequence[str],
    *,
    modality: str,
    groups: Sequence[str] | None = None,
    head: str | None = None,
    scale: float = 100.0,
    folds: int = FOLDS,
    words: Mapping[str, torch.Tensor] | None = None,
) -> tuple[EmbeddingClassifier, FewShotReport]:
    """Fit on N examples.

    Args:
        embeds: (N, D) of any length.
        labels: N names, at least two different ones.
        modality: of the examples.
        groups: N sources (recording, film, person); examples of one source are never on both sides of a fold. Default
            is that each is its own.
        head: one of :data:`HEADS`; default is the simplest of those that are within a standard error of the most
            accurate on left-out sources, and "prototype" where nothing can be left out.
        scale: 1 / temperature, where nothing can be left out to find it by.
        words: label -> (D,), for the score of the labels as words.

    Raises:
        ShapeError, InputError: what does not fit.
        DependencyError: scikit-learn is missing.
    """
    x, y, groups = _checked(embeds, labels, groups, head, folds)
    names = sorted(set(labels))
    code = np.array([names.index(label) for label in labels])
    splits = _splits(code, groups, folds)
    scores = {}
    for name, fit in HEADS.items() if splits else ():
        logits = np.zeros((len(x), len(names)))
        for kept, left_out in splits:
            weight, bias = fit(x[kept], y[kept])
            logits[left_out] = x[left_out] @ weight.T + bias
        scores[name] = _scored(logits, code)
    kept = head or _simplest(scores)
    weight, bias = HEADS[kept](x, y)
    found = scores.get(kept)
    made = EmbeddingClassifier(
        x.shape[1], names, modality, kept, found.scale if found else scale, found.threshold if found else 0.0
    )
    made.weight.copy_(torch.from_numpy(weight))
    made.bias.copy_(torch.from_numpy(bias))
    by_words = None
    if words is not None:
        vectors = normalize(torch.stack([words[name] for name in names])).numpy()
        by_words = float(((x @ vectors.T).argmax(1) == code).mean())
    counts = {name: int((y == name).sum()) for name in names}
    sources = {name: len(set(groups[y == name])) for name in names}
    return made, FewShotReport(counts, sources, len(splits), scores, by_words, kept)


def _checked(
    embeds: Embeds, labels: Sequence[str], groups: Sequence[str] | None, head: str | None, folds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    embeds = as_tensor(embeds)
    if embeds.ndim != 2 or len(embeds) != len(labels) or (groups is not None and len(groups) != len(labels)):
        came = f"{tuple(embeds.shape)}, {len(labels)} labels, {len(labels if groups is None else groups)} groups"
        raise ShapeError(f"examples: wanted (N, D) with N labels and N groups, got {came}")
    if len(set(labels)) < 2:
        raise InputError(f"examples: wanted at least two labels, got {', '.join(sorted(set(labels))) or 'none'}")
    if head is not None and head not in HEADS:
        raise InputError(f"head: wanted {', '.join(HEADS)}, got {head!r}")
    if folds < 2:
        raise InputError(f"folds: wanted 2 or more, got {folds}")
    x = normalize(embeds.float()).cpu().numpy()
    return x, np.array(labels), np.array(range(len(x)) if groups is None else groups)


def _splits(code: np.ndarray, groups: np.ndarray, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places to fit on and places left out, of each fold; none where a label has one source alone."""
    folds = min(folds, *(len(set(groups[code == k])) for k in set(code)))
    if folds < 2:
        return []
    with _scikit_learn():
        from sklearn.model_selection import StratifiedGroupKFold
    found = list(StratifiedGroupKFold(folds, shuffle=True, random_state=SEED).split(code, code, groups))
    # A source with several labels may take all of one out of what is fitted on: such a fold says nothing of it.
    return [(kept, out) for kept, out in found if set(code[out]) <= set(code[kept]) and len(out)]


def _scored(logits: np.ndarray, code: np.ndarray) -> HeadScore:
    from scipy.optimize import minimize_scalar
    from scipy.special import softmax
    from sklearn.metrics import balanced_accuracy_score, log_loss

    def loss(decimal: float) -> float:
        return log_loss(code, softmax(10**decimal * logits, axis=1), labels=range(logits.shape[1]))

    found = minimize_scalar(loss, bounds=SCALES, method="bounded")
    scale, right = 10 ** float(found.x), logits.argmax(1) == code
    first = softmax(scale * logits, axis=1).max(1)
    share = float(right.mean())
    return HeadScore(
        share, float((share * (1 - share) / len(code)) ** 0.5),
        float(balanced_accuracy_score(code, logits.argmax(1))), float(found.fun), scale,
        float(np.quantile(first[right], LOST)) if right.any() else 0.0,
    )  # fmt: skip


def _simplest(scores: Mapping[str, HeadScore]) -> str:
    if not scores:
        return "prototype"
    best = max(scores.values(), key=lambda one: one.accuracy)
    return next(name for name, one in scores.items() if one.accuracy >= best.accuracy - best.error)


# ---- heads: unit vectors (N, D) and N labels to one row a label, in the order of their names ----


def _prototype(x: np.ndarray, y: np.ndarray) -> Linear:
    """The nearest mean: ``|x - c|^2`` is ``1 - 2 x.c + |c|^2``."""
    centres = np.stack([x[y == name].mean(0) for name in np.unique(y)])  # scikit-learn's refuses examples all alike
    return centres, -(centres**2).sum(1) / 2


def _ridge(x: np.ndarray, y: np.ndarray) -> Linear:
    with _scikit_learn():
        from sklearn.linear_model import RidgeClassifier
    return _rows(RidgeClassifier(alpha=RIDGE, class_weight="balanced").fit(x, y))


def _logistic(x: np.ndarray, y: np.ndarray) -> Linear:
    with _scikit_learn():
        from sklearn.linear_model import LogisticRegression
    return _rows(LogisticRegression(C=INVERSE_RIDGE, class_weight="balanced", max_iter=2000).fit(x, y))


def _rows(fitted: Any) -> Linear:
    """One row a label; scikit-learn has one row for two of them."""
    weight, bias = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
    return (weight, bias) if len(weight) > 1 else (np.concatenate([-weight, weight]), np.concatenate([-bias, bias]))


HEADS: dict[str, Callable[[np.ndarray, np.ndarray], Linear]] = {
    "prototype": _prototype, "ridge": _ridge, "logistic": _logistic,
}  # fmt: skip


class _scikit_learn:
    """Turns its absence into words."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ImportError):
            raise DependencyError("fit-classifier needs scikit-learn: pip install 'bind2gen[train]'") from error


def write_classifier(folder: Path, made: EmbeddingClassifier, report: FewShotReport, *, encoder: str) -> list[Path]:
    """Write the classifier, its figures and a card; returns the paths of what lies there."""
    labels = "\n".join(f"- {name}: {count} examples, {report.groups[name]} sources" for name, count in
                       report.counts.items())  # fmt: skip
    card = f"""# A classifier of {made.config.modality} embeddings

Fitted by bind2gen {__version__} on embeddings of `{encoder}`; used by `bind2gen classify --classifier FOLDER`, and only
with that encoder, whose terms hold for it too. The head is one linear layer ({report.kept}).

{report.table()}

{labels}
"""
    return write_fit(folder, made, card, report.to_dict())
