"""Configs held against the weights beside them before a network is built: in words, in no time and in no memory."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, get_type_hints

import torch
from accelerate import init_empty_weights
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import Bind2GenError, CheckpointError
from ..files.hub import CONFIG_FILE, HUB_OPTIONS, saved_file
from ..files.parsed import parse_json
from ..files.weights import DIFFUSERS, Weights, weights_beside
from ..preprocess.settings import misfit
from ..preprocess.sources import one_line

NAMED_AT_MOST = 5  # keys listed in an error
UNASKED = 10**7  # a number in another library's config up to which it is not asked what it counts
SPARE = 1000  # parameters that a config may describe beyond its weights, so that those which lack can be named
CHECKED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # others have no least and greatest value
ABSURD = 1e18  # single precision holds no square of what is larger
NOT_OF_ONE = "config.json does not belong to these weights"


class TooMany(Exception):
    """A network has more parameters than it may."""


class Spending:
    """Whether it was so, and which layer of no width there was, in words."""

    too_many = False
    empty = ""


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
        with torch.device("meta"), at_most(tensors + SPARE):
            return build()
    except Bind2GenError:
        raise
    except TooMany:
        raise far_more(config, tensors, where) from None
    except Exception as error:  # a size may be of any type, zero, negative or beyond 64 bits
        raise CheckpointError(
            f"{where}: config.json describes no network ({type(error).__name__}: {one_line(error)})"
        ) from None


def far_more(config: Mapping[str, Any], tensors: int, where: str) -> CheckpointError:
    """What to say of a config that describes far more than ``tensors`` weights."""
    name, size = max(numbers(config), key=lambda item: item[1], default=("none", 0))
    return CheckpointError(
        f"{where}: config.json describes a network with far more parameters than the {tensors} tensors of its weights; "
        f"its largest number is {name} = {size:g}"
    )


def compare(
    wanted: Mapping[str, torch.Tensor], came: Mapping[str, torch.Tensor], where: str, advice: str = NOT_OF_ONE
) -> None:
    """Refuse weights whose names or shapes are not those of a network, or whose values are no numbers.

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
        refuse_not_finite(came[key], key, where)


def refuse_not_finite(tensor: torch.Tensor, key: str, where: str) -> None:
    """Do nothing with weights that are numbers: with one NaN among them all that comes out is NaN, and says nothing.

    Raises:
        CheckpointError: the tensor is named.
    """
    if tensor.dtype not in CHECKED or not tensor.numel():
        return
    if not all(abs(end.item()) < ABSURD for end in tensor.aminmax()):  # NaN comes through
        what = f"NaN or infinite values (or beyond {ABSURD:.0e})"
        raise CheckpointError(f"{where}: {key} holds {what}; the file is damaged, or its training went wrong")


def check_loaded(network: torch.nn.Module, where: str, *, half_only: bool = True) -> None:
    """Refuse a network that was loaded, but not whole.

    Of weights that lack, diffusers leaves parameters without memory and transformers gives them random numbers; both
    only log it. And numbers of a file that was looked at may be beyond those of half precision.

    Args:
        half_only: whether the values of other types were looked at in the file.

    Raises:
        CheckpointError: the tensors are named.
    """
    if any(hasattr(part, "_hf_hook") for part in network.modules()):
        return  # offloaded: what is elsewhere has no memory here
    held = network.state_dict(keep_vars=True)
    tensors = held | dict(network.named_buffers())  # those that are not saved as well
    lacking = [key for key, tensor in tensors.items() if tensor.is_meta]
    if lacking := lacking or _made_up(network, held):
        raise CheckpointError(f"{where}: {len(lacking)} parameters missing: {listed(lacking)}; {NOT_OF_ONE}")
    for key, tensor in held.items():
        if tensor.dtype == torch.float16 or not half_only:
            refuse_not_finite(tensor, key, where)


def _made_up(network: torch.nn.Module, held: Mapping[str, torch.Tensor]) -> list[str]:
    """The tensors of a network of transformers that it gave values to, having read the others."""
    made = [key for key, tensor in held.items() if not getattr(tensor, "_is_hf_initialized", False)]
    if len(made) == len(held) or getattr(network, "hf_quantizer", None) is not None:  # nothing was read by it
        return []
    spared = "|".join(getattr(network, "_keys_to_ignore_on_load_missing", None) or ["(?!)"])
    return [key for key in made if not re.search(spared, key)]


def listed(keys: Sequence[str]) -> str:
    """The first few of some keys, and how many more there are."""
    shown = ", ".join(keys[:NAMED_AT_MOST])
    return shown + (f" and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else "")


def check_foreign(folder: Path, weights: Weights, build: Callable[[dict[str, Any]], Any]) -> None:
    """Refuse a network of another library whose config describes far more than its weights are, or these hold NaN.

    diffusers and transformers build what a config describes and look at the weights afterwards: a depth of a billion
    would take all memory first. Only what cannot be is refused; whether names and shapes fit is for them to say.

    Args:
        folder: holds ``config.json``, which ``build`` makes a network of.
    """
    config, where = read_json(folder), weights.where
    held = max(UNASKED, sum(weights[key].numel() for key in weights))
    if any(isinstance(value, int) and abs(value) > held for _, value in numbers(config)):
        raise far_more(config, len(weights), where)
    with suppress(Exception), init_empty_weights(), at_most(len(weights) + SPARE) as spending:
        build(config)  # what else is wrong with it the library will say in its own words
    if spending.too_many:
        raise far_more(config, len(weights), where)
    if spending.empty:
        raise CheckpointError(f"{where}: config.json describes no network ({spending.empty})")
    for key in weights:
        refuse_not_finite(weights[key], key, where)


def check_beside(source: str | os.PathLike[str], build: Callable[[dict[str, Any]], Any], **options: Any) -> None:
    """:func:`check_foreign` of a folder or hub id of transformers; nothing where it has no weights or no config.

    Args:
        options: of :func:`bind2gen.files.hub.saved_file`.
    """
    weights = weights_beside(source, **options)
    if weights is not None and (file := saved_file(source, CONFIG_FILE, **options)) is not None:
        check_foreign(file.parent, weights, build)


class AgreementMixin:
    """For diffusers' models, before ``ModelMixin`` among the bases: a config must fit its weights."""

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> Self:
        """As diffusers has it.

        Raises:
            CheckpointError: the config describes no such model, or another one than the weights are of.
        """
        folder = Path(source, options.get("subfolder") or "")
        known = {name: options[name] for name in HUB_OPTIONS if options.get(name) is not None}
        tensors = weights_beside(source, DIFFUSERS, variant=options.get("variant"), **known)
        if tensors is not None and (file := saved_file(source, CONFIG_FILE, **known)) is not None:
            config = read_json(file.parent)
            if wrong := misfit(config, get_type_hints(cls.__init__)):
                raise CheckpointError(f"{folder}: config.json: {wrong}")
            network = build_on_meta(lambda: cls.from_config(config), len(tensors), config, str(folder))
            compare(network.state_dict(), tensors, str(folder))
        try:
            loaded = super().from_pretrained(source, **options)
            check_loaded(loaded, str(folder))
            return loaded
        except Bind2GenError:
            raise
        except Exception as error:  # diffusers and safetensors raise many kinds
            raise CheckpointError(f"{folder}: cannot be loaded as {cls.__name__} ({one_line(error)})") from error


def read_json(folder: Path, name: str = CONFIG_FILE) -> dict[str, Any]:
    """The config in a part's folder; CheckpointError where it is no object."""
    try:
        values = parse_json((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {name} cannot be read ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}: {name}: wanted an object, got {type(values).__name__}")
    return values


@contextmanager
def at_most(count: int) -> Iterator[Spending]:
    """Within the block, this thread may give networks no more than ``count`` parameters, and none without numbers."""
    here, left, spending = threading.get_ident(), count, Spending()

    def spend(layer: torch.nn.Module, name: str, parameter: torch.Tensor) -> None:
        nonlocal left
        if threading.get_ident() == here:
            left -= 1
            if left < 0:
                spending.too_many = True
                raise TooMany
            if not parameter.numel():  # torch would only warn
                shape = tuple(parameter.shape)
                spending.empty = f"{name} of a {type(layer).__name__} would hold nothing: its shape is {shape}"
                raise ValueError(spending.empty)

    hook = register_module_parameter_registration_hook(spend)
    try:
        yield spending
    finally:
        hook.remove()


def numbers(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a config with their places, ``towers.audio.depth``."""
    if isinstance(values, int | float) and not isinstance(values, bool):
        yield name, values
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for key, value in pairs:
        yield from numbers(value, f"{name}.{key}" if name else str(key))
