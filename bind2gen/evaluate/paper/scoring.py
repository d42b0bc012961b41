"""What embeddings of a set are worth: named by words, found as photos, learnt from a few examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...errors import DependencyError, InputError
from ...space.arithmetic import normalize
from ...train.few_shot import HEADS
from .contract import Item, PublishedSet

try:
    from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, top_k_accuracy_score
    from torchmetrics.functional.retrieval import retrieval_hit_rate
except ImportError as error:
    raise DependencyError(f"eval paper needs {error.name}: pip install 'bind2gen[eval]'") from error

FIRST = (1, 5, 10)  # places that a photo may be found in
SEED = 0  # of draws


def class_scores(embeds: torch.Tensor, classes: Sequence[Sequence[str]], words: Mapping[str, torch.Tensor]) -> Any:
    """Cosine with the nearest name of each class.

    Args:
        embeds: (N, D) of any length.
        classes: C times the names of a class.
        words: name -> (D,).

    Returns:
        (N, C) float64 array.
    """
    x = normalize(embeds.double().cpu())
    names = [normalize(torch.stack([words[name] for name in one]).double().cpu()) for one in classes]
    return torch.stack([(x @ vectors.T).amax(1) for vectors in names], 1).numpy()


def zero_shot(scores: np.ndarray, labels: Sequence[str], items: Sequence[Item], metric: str) -> dict[str, Any]:
    """The set's number and what it is made of.

    Args:
        scores: (N, C), see :func:`class_scores`.
        labels: of the C classes.
        items: N.
        metric: "accuracy" or "mAP".

    Returns:
        ``score``, its standard ``error``, ``chance``, what else is told of it; all shares 0..1.

    Raises:
        InputError: an item has a label that is no class.
    """
    place = {label: k for k, label in enumerate(labels)}
    if unknown := next((one for item in items for one in item.labels if one not in place), None):
        raise InputError(f"label {unknown!r}: wanted one of the set's {len(labels)} classes")
    truth = np.zeros(scores.shape, bool)
    for row, item in enumerate(items):
        truth[row, [place[label] for label in item.labels]] = True
    if metric == "mAP":
        heard = truth.any(0)
        score = average_precision_score(truth[:, heard], scores[:, heard], average="macro")
        return {"score": float(score), "chance": float(truth[:, heard].mean()), "classes": int(heard.sum())}
    right, first = truth.argmax(1), scores.argmax(1)
    score, counts = float(accuracy_score(right, first)), np.bincount(right, minlength=len(labels))
    told = {
        "score": score, "error": _error(score, len(items)), "chance": 1 / len(labels),
        "largest class": float(counts.max() / counts.sum()), "balanced": float(balanced_accuracy_score(right, first)),
    }  # fmt: skip
    if len(labels) > 5:
        told["first five"] = float(top_k_accuracy_score(right, scores, k=5, labels=range(len(labels))))
    hits, groups = right == first, np.array([item.group for item in items])
    if len(set(groups)) > 1:
        told["groups"] = {str(one): float(hits[groups == one].mean()) for one in sorted(set(groups))}
    told["by class"] = {label: [int(hits[right == k].sum()), int(counts[k])] for label, k in place.items() if counts[k]}
    return told


def retrieval(given: torch.Tensor, photos: torch.Tensor, labels: Sequence[Any]) -> dict[str, Any]:
    """How often something right is among the first photos, and back.

    Args:
        given, photos: (N, D) each of any length.
        labels: N, of both; a photo is right where its label is the same. One each: only the own photo is right.

    Returns:
        ``to photo`` and ``from photo``, each ``R@1``, ``R@5``, ``R@10`` with their standard ``error`` and, on
        average, ``chance``.
    """
    similar = normalize(given.double().cpu()) @ normalize(photos.double().cpu()).T
    codes = torch.tensor([list(dict.fromkeys(labels)).index(label) for label in labels])
    same, told = codes[:, None] == codes, {}
    for way, table in (("to photo", similar), ("from photo", similar.T)):
        told[way] = {}
        for k in (k for k in FIRST if k < len(codes)):
            hits = [retrieval_hit_rate(row, right, top_k=k) for row, right in zip(table, same, strict=True)]
            score = float(torch.stack(hits).double().mean())
            told[way][f"R@{k}"] = {"score": score, "error": _error(score, len(codes)), "chance": _by_chance(same, k)}
    return told


def _by_chance(same: torch.Tensor, k: int) -> float:
    """Mean probability that k of the N photos in any order hold a right one."""
    count, wrong = len(same), (~same).sum(1).double()
    return float(1 - torch.stack([(wrong - i).clamp(min=0) / (count - i) for i in range(k)]).prod(0).mean())


def few_shot(
    data: PublishedSet, tested: np.ndarray, training: np.ndarray, *, shots: Sequence[int], draws: int, step: Any
) -> dict[str, Any]:
    """Linear heads on k examples a class, drawn several times.

    Args:
        data: what was tested and what there is to learn from, of which ``tested`` (N, D) and ``training`` (M, D) are
            the embeddings, unit norm. Where groups are folds each is tested by examples of the others.
        draws: of each fold.
        step: called after each draw.

    Returns:
        head -> k -> mean ``score`` and its ``deviation`` over draws, and of the means over ``folds``.

    Raises:
        InputError: too few examples of a class.
    """
    truth, known = (np.array([item.labels[0] for item in items]) for items in (data.items, data.training))
    groups, others = (np.array([item.group for item in items]) for items in (data.items, data.training))
    folds = sorted(set(groups)) if data.folds else [""]
    found: dict[str, dict[int, dict[str, list[float]]]] = {name: {k: {} for k in shots} for name in HEADS}
    for fold in folds:
        out, kept = (groups == fold, np.flatnonzero(others != fold)) if data.folds else (slice(None), range(len(known)))
        for k in shots:
            rng = np.random.default_rng([SEED, k])
            for _ in range(draws):
                rows = _drawn(known, np.asarray(kept), sorted(data.classes), k, rng)
                for name, fit in HEADS.items():
                    with np.errstate(invalid="ignore"):  # of one example a class scikit-learn asks for the deviation
                        weight, bias = fit(training[rows], known[rows])
                    named = np.unique(known[rows])[(tested[out] @ weight.T + bias).argmax(1)]
                    found[name][k].setdefault(str(fold), []).append(float(accuracy_score(truth[out], named)))
                step()
    return {name: {str(k): _summary(by_fold) for k, by_fold in rows.items()} for name, rows in found.items()}


def _drawn(known: np.ndarray, kept: np.ndarray, labels: Sequence[str], k: int, rng: np.random.Generator) -> np.ndarray:
    """Places of k examples of each label among those that are kept."""
    rows = []
    for label in labels:
        there = kept[known[kept] == label]
        if len(there) < k:
            raise InputError(f"few-shot: wanted {k} examples of {label} to learn from, there are {len(there)}; "
                             "give fewer --shots")  # fmt: skip
        rows.append(rng.choice(there, k, replace=False))
    return np.concatenate(rows)


def _summary(by_fold: Mapping[str, list[float]]) -> dict[str, Any]:
    every = [score for scores in by_fold.values() for score in scores]
    told = {"score": float(np.mean(every)), "deviation": float(np.std(every))}
    folds = {fold: float(np.mean(scores)) for fold, scores in by_fold.items()}
    return told | ({"folds": folds} if len(folds) > 1 else {})


def _error(share: float, count: int) -> float:
    return (share * (1 - share) / count) ** 0.5
