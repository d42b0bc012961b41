"""The model that a recipe starts from: frozen towers with their weights, and the tower to train."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import Any

import torch

from ..errors import Bind2GenWarning, CheckpointError
from ..files.bundled import ENCODER_PART, bundled_names, bundled_path
from ..files.weights import open_weights
from ..imagebind.config import HUGE_TOWERS, TINY_TOWERS, ImageBindConfig
from ..imagebind.fronts import FRONTS
from ..imagebind.loading import load_imagebind, load_processor
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..modality import MODALITIES
from ..preprocess.sources import one_line
from .openclip import load_openclip
from .recipe import Recipe

OPENCLIP_KEY = "visual.conv1.weight"  # what tells OpenCLIP's files from all others
SIZES = {"huge": (1024, HUGE_TOWERS), "tiny": (32, TINY_TOWERS)}


def starting_model(recipe: Recipe, init: str | None = None) -> tuple[ImageBindModel, ImageBindProcessor]:
    """Model and processor: image, text and trained towers, or all that ``init`` holds and the trained one.

    Args:
        recipe: sizes of new towers, drop path, temperature, seed, OpenCLIP's name.
        init: a bundled model's name, folder or hub id of ours, official ImageBind weights, or a file of OpenCLIP
            weights; default is what the recipe names. A trained tower that it holds is trained on.

    Raises:
        CheckpointError: no weights for the frozen towers, or they do not fit; or no processor beside ``init``, where
            it is a folder of ours.
        InputError: settings of the recipe's front end do not fit the tower.
    """
    torch.manual_seed(recipe.schedule.seed)
    saved, init = None, init or recipe.model.init or None
    if init in bundled_names():
        init = str(bundled_path(init) / ENCODER_PART)
    if init is None and not recipe.model.openclip:
        if recipe.model.towers != "tiny":
            raise CheckpointError("the frozen towers need weights: give --init, or model.openclip in the recipe")
        words = "no weights given: the frozen towers are random, which is a trial of the data and makes no model"
        warnings.warn(words, Bind2GenWarning, stacklevel=2)
        model = ImageBindModel(_new_config(recipe))
    elif init is None or _is_openclip(init):
        model = load_openclip(
            _openclip(recipe.model.openclip) if init is None else open_weights(init), _new_config(recipe)
        )
    else:
        saved = load_processor(init)
        model = _continued(recipe, load_imagebind(init, dtype=torch.float32))
    return model, _processor(recipe, model, saved)


def _new_config(recipe: Recipe) -> ImageBindConfig:
    """Image, text and trained tower of the recipe's sizes."""
    width, sizes = SIZES[recipe.model.towers]
    towers = {name: asdict(sizes[name]) for name in ("vision", "text")}
    towers["text"]["vocab_size"] = HUGE_TOWERS["text"].vocab_size  # CLIP's table, whatever the size
    return ImageBindConfig(width, towers | {_tower(recipe): _trained(recipe, asdict(sizes[_tower(recipe)]))})


def _tower(recipe: Recipe) -> str:
    return MODALITIES[recipe.modality].tower


def _trained(recipe: Recipe, tower: dict[str, Any]) -> dict[str, Any]:
    """A tower's settings with the recipe's; its output factor is 1/temperature, as the reference has it."""
    drop_path = tower["drop_path"] if recipe.model.drop_path is None else recipe.model.drop_path
    return tower | {"drop_path": drop_path, "logit_scale": 1 / recipe.temperature}


def _continued(recipe: Recipe, source: ImageBindModel) -> ImageBindModel:
    """``source`` with the tower to train, its own if it has one."""
    anchor = MODALITIES[recipe.anchor].tower
    if anchor not in source.towers:
        held = ", ".join(source.towers)
        raise CheckpointError(f"wanted weights with a {anchor} tower for the anchors, these hold {held}")
    name = _tower(recipe)
    tower = source.config.towers.get(name) or asdict(SIZES[recipe.model.towers][1][name])
    config = ImageBindConfig(source.config.embed_dim, source.config.towers | {name: _trained(recipe, tower)})
    model = ImageBindModel(config)
    model.load_state_dict(source.state_dict(), strict=False)
    return model


def _processor(recipe: Recipe, model: ImageBindModel, saved: ImageBindProcessor | None) -> ImageBindProcessor:
    """What came with the weights, with the recipe's settings for the trained modality."""
    kept = {} if saved is None else {name: getattr(saved, name) for name in FRONTS}
    mine = kept.pop(recipe.modality, None)
    if mine is None or any(found.startswith(f"{recipe.modality}.") for found in saved.disagreements(model.config)):
        settings = dict(recipe.data.front)
    else:
        settings = mine.to_dict() | recipe.data.front
    return ImageBindProcessor.for_config(model.config, **kept | {recipe.modality: settings})


def _is_openclip(init: str) -> bool:
    try:
        return OPENCLIP_KEY in open_weights(init)
    except CheckpointError:
        return False  # the loader of our own folders and of official files says what is wrong


def _openclip(name: str) -> torch.nn.Module:
    import open_clip

    model, _, weights = name.partition("/")
    try:
        return open_clip.create_model(model, pretrained=weights or None, force_quick_gelu=False)
    except Exception as error:  # noqa: BLE001  (the hub's client raises many kinds)
        raise CheckpointError(
            f"wanted OpenCLIP's {name}, cannot have it ({one_line(error)}); download the weights and give --init FILE"
        ) from error
