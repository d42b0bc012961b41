"""Configs held against the weights beside them before a network is built: in words, in no time and in no memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import Bind2GenError, CheckpointError
from ..files.weights import open_tensors
from ..preprocess.sources import one_line

NAMED_AT_MOST = 5  # keys listed in an error
SPARE = 1000  # parameters that a config may describe beyond its weights, so that those which lack can be named
NOT_OF_ONE = "config.json does not belong to these weights"
COMPONENT_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class _TooMany(Exception):
    """A network has more parameters than it may."""


def build_on_meta(
    build: Callable[[], torch.nn.Module], tensors: int, config: Mapping[str, Any], where: str
) -> torch.nn.Module:
    """A network without memory for its parameters, given up when it grows far beyond its weights.

    Args:
        build: makes it; on torch's device "meta", where sizes cost nothing.
        tensors: how many its weights are.
        config: what it is built from. where: folder or hub id. Both for messages.

    Raises:
        CheckpointError: the config describes no network, or one with far more parameters.
    """
    try:
        with torch.device("meta"), _at_most(tensors + SPARE):
            return build()
    except Bind2GenError:
        raise
    except _TooMany:
        name, size = max(_numbers(config), key=lambda item: item[1], default=("none", 0))
        raise CheckpointError(
            f"{where}: config.json describes a network with far more parameters than the {tensors} tensors of its "
            f"weights; its largest number is {name} = {size:g}"
        ) from None
    except Exception as error:  # a size may be of any type, zero, negative or beyond 64 bits
        raise CheckpointError(
            f"{where}: config.json describes no network ({type(error).__name__}: {one_line(error)})"
        ) from None


def compare(
    wanted: Mapping[str, torch.Tensor], came: Mapping[str, torch.Tensor], where: str, advice: str = NOT_OF_ONE
) -> None:
    """Refuse weights whose names or shapes are not those of a network.

    Raises:
        CheckpointError: they are named; ``advice`` ends the message.
    """
    if missing := [key for key in wanted if key not in came]:
        raise CheckpointError(f"{where}: {len(missing)} parameters missing: {listed(missing)}; {advice}")
    if unknown := [key for key in came if key not in wanted]:
        what = f"{len(unknown)} keys that the model has no place for"
        raise CheckpointError(f"{where}: {what}: {listed(sorted(unknown))}; {advice}")
    for key, value in wanted.items():
        if came[key].shape != value.shape:
            shapes = f"wanted shape {tuple(value.shape)}, got {tuple(came[key].shape)}"
            raise CheckpointError(f"{where}: {key}: {shapes}; {advice}")


def listed(keys: Sequence[str]) -> str:
    """The first few of some keys, and how many more there are."""
    shown = ", ".join(keys[:NAMED_AT_MOST])
    return shown + (f" and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else "")


class AgreementMixin:
    """For diffusers' models, before ``ModelMixin`` among the bases: a folder's config must fit its weights.

    What comes from a hub id directly is passed on as it is.
    """

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> Self:
        """As diffusers has it.

        Raises:
            CheckpointError: the config describes no such model, or another one than the weights are of.
        """
        folder = Path(source, options.get("subfolder") or "")
        path = next((folder / name for name in COMPONENT_WEIGHTS if (folder / name).is_file()), None)
        if path is not None and (folder / "config.json").is_file():
            config = _read_json(folder)
            tensors = open_tensors(path)
            network = build_on_meta(lambda: cls.from_config(config), len(tensors), config, str(folder))
            compare(network.state_dict(), tensors, str(folder))
        return super().from_pretrained(source, **options)


def _read_json(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: config.json cannot be read ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}: config.json: wanted an object, got {type(values).__name__}")
    return values


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Within the block, this thread may give networks no more than ``count`` parameters."""
    here, left = threading.get_ident(), count

    def spend(*_: Any) -> None:
        nonlocal left
        if threading.get_ident() == here:
            left -= 1
            if left < 0:
                raise _TooMany

    hook = register_module_parameter_registration_hook(spend)
    try:
        yield
    finally:
        hook.remove()


def _numbers(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a config with their places, ``towers.audio.depth``."""
    if isinstance(values, int | float) and not isinstance(values, bool):
        yield name, values
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for key, value in pairs:
        yield from _numbers(value, f"{name}.{key}" if name else str(key))
