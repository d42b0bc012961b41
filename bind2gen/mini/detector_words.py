"""The words that the bundled detector is taught, and its own class vectors of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from .data import read_rows
from .evaluate.labels import plain
from .recipe import JUDGED

FROM = 7  # photos of a label, from which it is a word
EVEN = 2e-3  # added to the variances of directions, so that those which say little are not blown up
LIKE = 0.55  # cosine of directions from which two words may mean one thing
KNOWN_AS = {  # labels of the photos that people say otherwise
    "motorbikes": "motorcycle", "cellphone": "cell phone", "leopards": "leopard", "rhino": "rhinoceros",
    "cougar face": "cougar", "cougar body": "cougar", "crocodile head": "crocodile", "water lilly": "water lily",
    "windsor chair": "chair", "sea horse": "seahorse",
}  # fmt: skip
# On a thing that is called the first, the second is neither right nor wrong.
AKIN = (
    ("rooster", "bird"), ("police van", "car"), ("police van", "truck"), ("police van", "bus"), ("leopard", "cat"),
    ("wild cat", "cat"), ("wolf", "dog"), ("drone", "airplane"), ("drone", "helicopter"), ("ferry", "boat"),
    ("schooner", "boat"), ("ketch", "boat"), ("bison", "cow"), ("llama", "sheep"), ("cougar", "cat"),
    ("panda", "bear"), ("lamp", "chandelier"), ("laptop", "keyboard"), ("soccer ball", "sports ball"),
    ("crayfish", "lobster"), ("lobster", "crayfish"), ("okapi", "zebra"), ("gerenuk", "deer"), ("tick", "insect"),
    ("beaver", "bear"),
)  # fmt: skip


@dataclass(frozen=True)
class Words:
    """W words.

    Attributes:
        names: as people write them.
        directions: (W, D) unit norm, where the adapter puts the encoder's embeddings of them.
        matrix: (D, D), see :func:`evening`.
        answered: places of COCO's names, in the order of YOLO's answers.
        akin: (W, W) bool; on a thing of the first the second is left open. No word is akin to itself.
    """

    names: tuple[str, ...]
    directions: torch.Tensor
    matrix: torch.Tensor
    answered: list[int]
    akin: torch.Tensor

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, names: tuple[str, ...], directions: torch.Tensor, coco: Sequence[str], matrix: torch.Tensor) -> Words:
        """
        Args:
            coco: COCO's names, all of them among ``names``, in the order of YOLO's answers.
        """
        akin = directions @ directions.T > LIKE
        for said, other in AKIN:
            if said in names and other in names:
                akin[names.index(said), names.index(other)] = True
        return cls(names, directions, matrix, [names.index(name) for name in coco], akin.fill_diagonal_(False))

    def classes(self, directions: torch.Tensor) -> torch.Tensor:
        """Class vectors (n, D), unit norm, of any directions (n, D)."""
        return F.normalize(directions @ self.matrix.T, dim=1)


def taught(data: Path, coco: Iterable[str]) -> tuple[str, ...]:
    """The judged concepts, COCO's names, and what there are photos of."""
    rows = read_rows(data / "photos" / "photos.csv")
    counts = Counter(KNOWN_AS.get(name, name) for name in (plain(r.row["label"]) for r in rows if not r.concept))
    labels = [name for name, count in counts.most_common() if count >= FROM]
    return tuple(dict.fromkeys([*JUDGED, *coco, *(row.concept for row in rows if row.concept), *labels]))


def evening(names: torch.Tensor) -> torch.Tensor:
    """(D, D): makes all directions of many names (N, D) equally frequent, for most names lie close together."""
    variances, axes = torch.linalg.eigh(names.T @ names / len(names))
    return axes @ torch.diag((variances + EVEN).rsqrt()) @ axes.T
