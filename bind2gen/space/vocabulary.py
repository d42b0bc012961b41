"""Vocabularies: names of things, and a detector's own class vectors of them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import Bind2GenError, EmptyInputError, InputError, NonFiniteError, ShapeError, UnreadableError
from ..files.arrays import read_arrays
from ..files.atomic import written_whole
from .arithmetic import normalize

EmbedTexts = Callable[[list[str]], torch.Tensor]  # N texts -> (N, D)
BATCH = 128  # texts at a time
TOP_WORDS = 5  # that share a prompt
TEMPERATURE = 0.05  # of ImageBind's audio training (paper, appendix B)
# Released class vectors of Detic (facebookresearch/Detic, datasets/metadata) and the file of names beside them.
# COCO's names come with torchvision; those of Open Images are in its challenge's csv.
NAME_FILES = {"lvis_v1": "lvis_v1_train_cat_info.json", "o365": "Objects365_names_fix.csv"}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names and vectors, row by row.

    Attributes:
        names: C names, as people write them.
        vectors: (C, D) float32 unit norm, in the detector's space.
        source: where the vectors are from, for cards; no folders.

    Raises:
        ShapeError, EmptyInputError, InputError, NonFiniteError: what does not fit.
    """

    names: tuple[str, ...]
    vectors: torch.Tensor
    source: str = ""

    def __post_init__(self) -> None:
        names = checked_names(self.names)
        vectors = torch.as_tensor(self.vectors)
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise ShapeError(f"vocabulary: wanted ({len(names)}, D), a row a name, got {tuple(vectors.shape)}")
        object.__setattr__(self, "names", names)  # the way into a frozen dataclass
        object.__setattr__(self, "vectors", normalize(vectors.detach().float().cpu()))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dim(self) -> int:
        """Width D of the detector's space."""
        return self.vectors.shape[1]

    @classmethod
    def from_texts(
        cls,
        names: Sequence[str],
        embed: EmbedTexts,
        *,
        templates: Sequence[str] = ("{}",),
        source: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> Vocabulary:
        """Names through a text tower: an ``OpenClipText``, ``OwlDetector.embed_text``..."""
        vectors = embed_names(names, embed, templates=templates, progress=progress)
        return cls(tuple(names), vectors, source)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, names: str | os.PathLike[str] | None = None) -> Vocabulary:
        """Read released or saved class vectors.

        Args:
            path: ``.npz`` of :meth:`save`; or ``.npy`` of shape (C, D), such as Detic's ``lvis_v1_clip_a+cname.npy``.
            names: file of names in the order of the rows, see :func:`read_names`; default, for ``.npy``, is the one
                that Detic keeps beside it for LVIS and Objects365, and torchvision's names for COCO.

        Raises:
            UnreadableError: a file is missing or is something else.
            ShapeError: names and rows differ in number.
        """
        path = Path(path)
        if path.suffix.lower() == ".npz":
            found, vectors = _read_npz(path)
        else:
            vectors = _loaded(path, "class vectors as .npy or .npz")
            found = read_names(names) if names is not None else _released_names(path)
        if isinstance(vectors, np.ndarray) and (vectors.ndim != 2 or vectors.dtype.kind != "f"):
            raise ShapeError(f"{path.name}: wanted (names, D) numbers, got {vectors.shape} {vectors.dtype}")
        if len(found) != len(vectors):
            raise ShapeError(f"{path.name}: wanted a name a row, got {len(found)} names for {len(vectors)} rows")
        return cls(tuple(found), torch.from_numpy(vectors.astype(np.float32)), path.name)

    def save(self, path: str | os.PathLike[str], *, dtype: np.typing.DTypeLike = np.float32) -> None:
        """Write as ``.npz`` with ``names`` (C,) and ``vectors`` (C, D); whole or not at all."""
        if Path(path).suffix.lower() != ".npz":
            raise InputError(f"{path}: wanted a name ending in .npz")
        with written_whole(path) as temporary:
            np.savez(temporary, names=np.array(self.names, np.str_), vectors=self.vectors.numpy().astype(dtype))

    def subset(self, names: Iterable[str]) -> Vocabulary:
        """Only these names, in their order.

        Raises:
            InputError: one is not in the vocabulary.
        """
        places = {name: i for i, name in reversed(list(enumerate(self.names)))}
        names = list(names)
        if missing := [name for name in names if name not in places]:
            raise InputError(f"vocabulary of {len(self)}: does not have {', '.join(missing[:5])}")
        return Vocabulary(tuple(names), self.vectors[[places[name] for name in names]], self.source)


@torch.no_grad()
def embed_names(
    names: Sequence[str],
    embed: EmbedTexts,
    *,
    templates: Sequence[str] = ("{}",),
    progress: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Mean direction of each name in all templates, (C, D) float32 unit norm on the CPU.

    Args:
        embed: N texts -> (N, D) of any length.
        templates: texts with one ``{}`` for the name.
        progress: called with the number of texts that were done.

    Raises:
        InputError: a template without ``{}``.
        ShapeError, NonFiniteError: ``embed`` gave something that is no (N, D) of finite numbers.
    """
    names = checked_names(names)
    if isinstance(templates, str) or not templates or not all("{}" in template for template in templates):
        raise InputError(f"templates: wanted texts with {{}} where the name goes, got {templates!r}")
    texts = [template.replace("{}", name) for name in names for template in templates]
    parts = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        part = embed(batch)
        if not isinstance(part, torch.Tensor) or part.ndim != 2 or len(part) != len(batch):
            came = tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__
            raise ShapeError(f"text tower: wanted ({len(batch)}, D) for as many texts, got {came}")
        if not bool(part.isfinite().all()):
            raise NonFiniteError("text tower: gave NaN or infinite values")
        parts.append(F.normalize(part.float().cpu(), dim=1))
        if progress is not None:
            progress(len(batch))
    return normalize(torch.cat(parts).unflatten(0, (len(names), len(templates))).mean(1))


def nearest_words(
    directions: torch.Tensor, words: torch.Tensor, top_words: int = TOP_WORDS, temperature: float = TEMPERATURE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax over the cosines of the nearest words.

    Args:
        directions: (N, D) of prompts.
        words: (C, D) unit-norm directions of the vocabulary's words.

    Returns:
        places (N, k) of the k = min(top_words, C) nearest words, the nearest first, and their shares (N, k); sum 1.
    """
    nearest = (normalize(directions) @ words.T).topk(min(top_words, len(words)), dim=1)
    return nearest.indices, (nearest.values / temperature).softmax(1)


def mixture(vectors: torch.Tensor, places: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(N, D) unit norm of the vectors (C, D) at ``places`` (N, k) by their shares (N, k)."""
    return normalize((shares[..., None] * vectors[places]).sum(1))


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Names in the order of a file: text (one a line), csv, or JSON; underscores become blanks.

    JSON holds a list of texts or of objects with a ``name`` (COCO's and LVIS's categories, in the order of their
    ``id``), or an object with such a list under ``categories``. A csv has a name in the last column that is not a
    number (Objects365: number, old name, mended name; Open Images: code, name, number) and no header.

    Raises:
        UnreadableError: no such file, or no names in it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            names = _json_names(json.loads(text))
        elif path.suffix.lower() == ".csv":
            names = [_csv_name(row) for row in csv.reader(text.splitlines()) if any(row)]
        else:
            names = [line for line in text.splitlines() if line.strip()]
    except Exception as error:  # noqa: BLE001  (JSON may hold anything, and nest without end)
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UnreadableError(
            f"{path}: wanted a list of names (text, csv or JSON), cannot read it ({reason})"
        ) from None
    if not names:
        raise UnreadableError(f"{path}: wanted a list of names, found none")
    return [name.replace("_", " ").strip() for name in names]


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """At least one name, none of them empty."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"names: wanted a list of texts, got {str(names)[:80]!r}")
    if not len(names) or not all(name.strip() for name in names):
        raise EmptyInputError("names: wanted at least one, and none of them empty")
    return tuple(names)


def _json_names(values: object) -> list[str]:
    rows = values["categories"] if isinstance(values, dict) else values
    if rows and isinstance(rows[0], dict):
        return [str(row["name"]) for row in sorted(rows, key=lambda row: row.get("id", 0))]
    if not all(isinstance(row, str) for row in rows):
        raise TypeError("neither texts nor objects with a name")
    return list(rows)


def _csv_name(row: list[str]) -> str:
    return [cell for cell in row if not cell.strip().isdecimal()][-1]


def _released_names(path: Path) -> list[str]:
    for prefix, file in NAME_FILES.items():
        if path.name.startswith(prefix) and (path.parent / file).is_file():
            return read_names(path.parent / file)
    if path.name.startswith("coco"):
        from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

        everything = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return [name for name in everything if name not in ("N/A", "__background__")]
    known = ", ".join(NAME_FILES.values())
    raise UnreadableError(f"{path.name}: wanted the names of its rows; give their file (beside it would do: {known})")


def _read_npz(path: Path) -> tuple[list[str], np.ndarray]:
    arrays = _loaded(path, "a saved vocabulary (.npz)")
    whole = isinstance(arrays, dict) and all(isinstance(arrays.get(key), np.ndarray) for key in ("names", "vectors"))
    if not whole or arrays["names"].ndim != 1:
        raise UnreadableError(f"{path}: wanted a saved vocabulary with names and vectors")
    try:
        return arrays["names"].tolist(), arrays["vectors"]
    except (ValueError, SystemError):  # what is no character
        raise UnreadableError(f"{path}: wanted a saved vocabulary, its names are damaged") from None


def _loaded(path: Path, wanted: str) -> np.ndarray | dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            return read_arrays(file, str(path))
    except FileNotFoundError:
        raise UnreadableError(f"{path}: wanted {wanted}, there is no such file") from None
    except Bind2GenError:
        raise
    except Exception as error:  # noqa: BLE001  (zip, header and pickle errors of many kinds)
        raise UnreadableError(f"{path}: wanted {wanted}, cannot read it ({type(error).__name__})") from None
