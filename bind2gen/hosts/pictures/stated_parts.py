"""What a pipeline's folder states of its parts, held against their weights before diffusers builds any of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers.pipelines
import torch

from ...errors import Bind2GenError, CheckpointError, HostError
from ...files.hub import pipeline_index
from ...files.weights import DIFFUSERS, TRANSFORMERS, weights_beside
from ...imagebind.agreement import check_foreign, check_loaded, read_json
from ...preprocess.muted import STDOUT, TOKENIZERS, muted
from ...preprocess.sources import one_line

LIBRARIES = ("diffusers", "transformers")
SCHEDULES = 10**6  # steps of a noise schedule, which is laid out when it is loaded; 1000 as a rule


def check_parts(source: str | os.PathLike[str], variant: str | None = None) -> None:
    """Do nothing with a hub id, or with a folder whose parts may be what they are said to be.

    Raises:
        HostError: the index cannot be read, or names a part outside the folder; weights are damaged.
        CheckpointError: a part's config describes far more than its weights are, or these are no numbers.
    """
    if not Path(source).is_dir() or (index := pipeline_index(source)) is None:
        return
    for name, stated in index.items():
        if not isinstance(stated, list) or name.startswith("_"):
            continue
        if Path(name).name != name or name == "..":
            raise HostError(f"{source}: model_index.json names a part outside its folder: {name!r}")
        if len(stated) == 2 and all(isinstance(word, str) for word in stated):
            _check_part(Path(source, name), *stated, variant)


def _check_part(folder: Path, library: str, kind: str, variant: str | None) -> None:
    if (folder / "scheduler_config.json").is_file():
        steps = read_json(folder, "scheduler_config.json").get("num_train_timesteps", 1)
        if not isinstance(steps, int | float) or not 0 < steps <= SCHEDULES:
            raise CheckpointError(f"{folder}: wanted num_train_timesteps of 1 to {SCHEDULES:,}, got {steps!r}")
    if not (folder / "config.json").is_file():
        return
    kinds = [name for pair in zip(DIFFUSERS, TRANSFORMERS, strict=True) for name in pair]
    try:
        weights = weights_beside(folder, kinds, variant=variant) or weights_beside(folder, kinds)
    except CheckpointError as error:
        raise HostError(str(error)) from None
    made = _class_of(library, kind)
    if weights is None or made is None:
        return
    own = hasattr(made, "from_config")  # diffusers'
    check_foreign(folder, weights, made.from_config if own else lambda told: made(made.config_class.from_dict(told)))


def _class_of(library: str, kind: str) -> Any:
    """A network's class, of diffusers or transformers; None is neither, or not a network."""
    home = importlib.import_module(library) if library in LIBRARIES else getattr(diffusers.pipelines, library, None)
    found = getattr(home, kind, None)
    return found if isinstance(found, type) and issubclass(found, torch.nn.Module) else None


def load_parts(load: Callable[..., Any], source: str | os.PathLike[str], **options: Any) -> Any:
    """``load(source, **options)``, a ``from_pretrained`` of diffusers' pipelines, where :func:`check_parts` lets it.

    Raises:
        HostError, CheckpointError: as of that and :func:`check_loaded`; or diffusers cannot load it.
    """
    check_parts(source, options.get("variant"))
    try:
        with muted(TOKENIZERS, STDOUT):
            pipe = load(source, **options)
    except (Bind2GenError, MemoryError):
        raise
    except Exception as error:  # diffusers, transformers, safetensors and the hub raise many kinds
        raise HostError(f"{source}: cannot be loaded as a pipeline of diffusers ({one_line(error)})") from error
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and options.get(name) is not part:
            check_loaded(part, str(Path(source, name)), half_only=Path(source).is_dir())
    return pipe
