"""Recipes of closed-form maps: which encoder, which names, which class vectors; and what a fit leaves in its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from ... import __version__
from ...errors import InputError, UnreadableError
from ...files.bundled import bundled_names, bundled_path
from ...files.embeddings import FORMATS, load_embeddings
from ...space.adapter import EmbeddingAdapter
from ...space.class_map import ClassMap
from ...space.text_towers import OpenClipText
from ...space.vocabulary import EmbedTexts, Vocabulary, read_names
from ..recipe import built, read_table
from ..recipe_files import recipe_path
from .class_map import METHODS, MapReport
from .folder import write_fit


@dataclass(frozen=True)
class TargetPart:
    """Where the class vectors come from; one of the three.

    Attributes:
        vectors: file of released or saved ones, see :meth:`Vocabulary.from_file`.
        open_clip: OpenCLIP model or folder, with ``weights``: a file or a tag.
        owl: folder or hub id of an OWL-ViT or OWLv2 detector.
    """

    vectors: str = ""
    open_clip: str = ""
    weights: str = ""
    owl: str = ""

    @property
    def kind(self) -> str:
        """``"vectors"``, ``"open_clip"`` or ``"owl"``."""
        return next(kind for kind in ("vectors", "open_clip", "owl") if getattr(self, kind))


@dataclass(frozen=True)
class CardPart:
    """What the card says: a name, and the terms of what the map was fitted on."""

    name: str = "class map"
    terms: str = "not stated"


@dataclass(frozen=True)
class MapRecipe:
    """One fit.

    Attributes:
        encoder: folder, hub id or official file of an ImageBind encoder, or a bundled model's name.
        target: class vectors.
        names: file of names, see ``space.vocabulary.read_names``; may be empty where ``target.vectors`` knows.
        means: mean embeddings of the modalities, by which those other than text are moved: a bundled model's name, the
            folder of an :class:`EmbeddingAdapter`, or a file of ``bind2gen embed``; empty: text only.
        templates: texts around each name.
        method: one of :data:`~bind2gen.train.maps.class_map.METHODS`.
    """

    encoder: str
    target: TargetPart
    names: str = ""
    means: str = ""
    templates: list[str] = field(default_factory=lambda: ["a {}"])
    method: str = "ridge"
    card: CardPart = CardPart()

    def __post_init__(self) -> None:
        given = [kind for kind in ("vectors", "open_clip", "owl") if getattr(self.target, kind)]
        if len(given) != 1:
            came = ", ".join(given) or "none"
            raise InputError(f"[target] wanted one of vectors, open_clip and owl, got {came}")
        if self.target.weights and not self.target.open_clip:
            raise InputError("[target] weights: they belong to open_clip")
        if self.method not in METHODS:
            raise InputError(f"method: wanted one of {', '.join(METHODS)}, got {self.method!r}")
        if not self.templates or not all(isinstance(t, str) and "{}" in t for t in self.templates):
            raise InputError(f"templates: wanted texts with {{}} where the name goes, got {self.templates!r}")
        if not self.names and not self.target.vectors:
            raise InputError("names: wanted a file of names for the text tower, got none")


def load_map_recipe(name: str | Path, **changes: str) -> MapRecipe:
    """Read a recipe by path or bundled name; files in it are taken from the working directory.

    Args:
        changes: other values of ``encoder``, ``names``, ``means``, ``method``, ``vectors``, ``open_clip``, ``weights``,
            ``owl``; giving one of the three targets puts it in the place of the recipe's.

    Raises:
        InputError: no such file, no TOML, an unknown or missing key, a wrong value; it says which.
    """
    path = recipe_path(name, maps=True)
    values = read_table(path)
    target = values.get("target")
    for key, value in changes.items():
        if key in ("encoder", "names", "means", "method"):
            values[key] = value
        elif isinstance(target, dict):
            if key != "weights":
                target = {k: v for k, v in target.items() if k == "weights" and key == "open_clip"}
            values["target"] = target = target | {key: value}
    try:
        return built(MapRecipe, values, path.name)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(path.name) else f"{path.name}: {text}") from None


def recipe_names(recipe: MapRecipe) -> list[str]:
    """Names to embed, each once; of ``target.vectors`` without ``names`` those that come with the file."""
    if recipe.target.vectors:
        return list(_released(recipe).names)
    return list(dict.fromkeys(read_names(recipe.names)))


def target_vocabulary(
    recipe: MapRecipe, names: list[str], *, progress: Callable[[int], None] | None = None
) -> Vocabulary:
    """Class vectors of the names.

    Raises:
        UnreadableError, HostError: the file, tower or detector cannot be read.
    """
    target = recipe.target
    if target.vectors:
        return _released(recipe)
    source = f"{Path(target.open_clip or target.owl).name} ({', '.join(recipe.templates)})"
    return Vocabulary.from_texts(names, _tower(target), templates=recipe.templates, source=source, progress=progress)


def _released(recipe: MapRecipe) -> Vocabulary:
    return Vocabulary.from_file(recipe.target.vectors, names=recipe.names or None)


def _tower(target: TargetPart) -> EmbedTexts:
    if target.open_clip:
        return OpenClipText(target.open_clip, target.weights or None)
    from ...hosts.boxes.owl import OwlDetector

    return OwlDetector.from_pretrained(target.owl).embed_text


def groups_of(names: list[str]) -> list[str]:
    """What must be left out together: names that differ only in their case or in what stands in brackets."""
    return [re.sub(r"\s*\(.*?\)", "", name.lower()).strip() or name for name in names]


def read_means(source: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Mean unit-norm embeddings by modality, (D,) each.

    Args:
        source: a bundled model's name, the folder of an :class:`EmbeddingAdapter`, or a file of ``bind2gen embed`` with
            some of each modality about the same things, text among them.

    Raises:
        UnreadableError: it is none of these.
    """
    name, path = str(source), Path(source)
    if path.suffix.lower() in FORMATS:
        vectors = load_embeddings(path).vectors
        return {modality: torch.from_numpy(rows).mean(0) for modality, rows in vectors.items()}
    folder = bundled_path(name) / "adapter" if name in bundled_names() else path
    if not (folder / "config.json").is_file():
        wanted = f"the folder of an adapter or a file of embeddings ({', '.join(FORMATS)})"
        raise UnreadableError(f"means {name}: wanted {wanted}, found none")
    adapter = EmbeddingAdapter.from_pretrained(folder)
    return dict(zip(adapter.known, adapter.means, strict=True))


def write_map(folder: Path, made: ClassMap, report: MapReport, recipe: MapRecipe) -> list[Path]:
    """Write map, metrics and card; returns their paths."""
    shown = _without_folders(recipe)
    metrics = {"left_out": report.to_dict(), "recipe": asdict(shown)}
    return write_fit(folder, made, _card(made, report, shown), metrics)


def _without_folders(recipe: MapRecipe) -> MapRecipe:
    """Files by their names: the folders of a machine belong in no card. Hub ids stay."""

    def shown(value: str) -> str:
        return Path(value).name if Path(value).exists() else value

    target = TargetPart(**{key: shown(value) for key, value in asdict(recipe.target).items()})
    same = {key: shown(getattr(recipe, key)) for key in ("encoder", "names", "means")}
    return replace(recipe, target=target, **same)


def _card(made: ClassMap, report: MapReport, recipe: MapRecipe) -> str:
    strength = "" if report.ridge is None else f", relative strength {report.ridge:g} (cross-validated)"
    target = getattr(recipe.target, recipe.target.kind)
    weights = f" ({recipe.target.weights})" if recipe.target.weights else ""
    others = ", ".join(name for name in made.known if name != "text") or "none: prompts by text only"
    return f"""---
library_name: bind2gen
tags: [imagebind, bind2gen, class-map]
---

# {recipe.card.name}

Maps embeddings of `{recipe.encoder}` ({made.config.source_dim} wide) to class vectors like those of `{target}`{weights}
({made.config.target_dim} wide). Method: {report.method}{strength}, means of both sides taken off first.
Fitted on {report.names} names, in the words {", ".join(f"`{template}`" for template in recipe.templates)}.
Modalities moved by their own mean: {others}.

## How good it is

Each name left out once, of five parts, and looked for among the class vectors of all names:

{report.table()}

Load it with `ClassMap.from_pretrained(folder)` from `bind2gen.space.class_map`. Written by bind2gen {__version__}.

## Terms

{recipe.card.terms}
"""
