"""Official ImageBind weights into :class:`ImageBindModel`, and into a folder that ``from_pretrained`` loads."""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..files.atomic import written_together
from ..files.weights import Weights, open_weights
from .agreement import listed, refuse_not_finite
from .config import HUGE, ImageBindConfig, tower_names
from .model import ImageBindModel
from .released_names import MASK, RELEASED, reference_key, scale_key
from .tower import Tower

logger = logging.getLogger(__name__)

LICENCE_NOTE = (
    "ImageBind's released weights are licensed CC BY-NC-SA 4.0: not for commercial use; works made from them are "
    "shared under the same terms."
)
SCALE_TOLERANCE = 1e-2  # relative; files kept in bfloat16 round log(20) by up to 0.8 %


def load_official_checkpoint(
    path: str | os.PathLike[str],
    *,
    modalities: list[str] | None = None,
    dtype: torch.dtype | None = None,
    config: ImageBindConfig | None = None,
) -> ImageBindModel:
    """Load released ImageBind weights, strictly: every key is used or known to carry nothing.

    Only the towers asked for are read. Parameters whose dtype stays as it is in the file remain mapped to it, so leave
    the file in place while the model is in use (moving the model to a GPU or another dtype ends that).

    Args:
        path: ``imagebind_huge.pth``; a ``.safetensors`` or ``.bin`` file or a folder of them (sharded or not) with the
            same names; or a hub id of them (``nielsr/imagebind-huge``), which is downloaded.
        modalities: load only the towers that these need; default is all.
        dtype: of the parameters; default is as in the file. The learned text factor stays float32.
        config: sizes of the model; default is imagebind_huge.

    Returns:
        The model on the CPU, in eval mode. The weights' licence (CC BY-NC-SA 4.0) is logged.

    Raises:
        CheckpointError: unreadable, truncated, of another model; missing, unknown or misshapen parameters are named.
        ModalityError: a modality is unknown.
    """
    config = copy.deepcopy(config) if config is not None else HUGE()
    weights = open_weights(path)
    refuse_other_weights(weights)
    names = {name: _parameter_names(config, name) for name in config.towers}
    config.modalities = _towers_to_load(weights, config, modalities, names)
    _refuse_unknown_keys(weights, names)
    sources = {ours: key for name in config.modalities for ours, key in names[name].items()}
    _refuse_missing(weights, sources.values())
    for name in config.modalities:
        _check_fixed_scale(weights, config, name)
    with torch.device("meta"):
        model = ImageBindModel(config)
    state = {key: _read(weights, sources[key], wanted.shape, dtype) for key, wanted in model.state_dict().items()}
    model.load_state_dict(state, strict=True, assign=True)
    logger.warning(LICENCE_NOTE)
    return model.eval()


def convert_checkpoint(
    src: str | os.PathLike[str],
    outdir: str | os.PathLike[str],
    *,
    modalities: list[str] | None = None,
    dtype: torch.dtype | None = None,
    config: ImageBindConfig | None = None,
) -> Path:
    """Write released weights as a folder for ``ImageBindModel.from_pretrained`` and ``ImageBindProcessor``.

    Args:
        src, modalities, dtype, config: as :func:`load_official_checkpoint` takes them.
        outdir: where ``model.safetensors``, ``config.json`` and ``processor_config.json`` go; made if missing.

    Returns:
        ``outdir``.

    Raises:
        CheckpointError: as :func:`load_official_checkpoint`; or ``outdir`` is the source itself or a file.
    """
    from .processor import ImageBindProcessor  # reads audio and video libraries; loading weights needs none of them

    target, origin = Path(outdir), Path(src).expanduser()
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target}: wanted a folder to write to, this is a file")
    if origin.exists() and target.exists() and target.resolve() in (origin.resolve(), origin.resolve().parent):
        raise CheckpointError(f"{target}: this folder holds the source, which is read while writing; name another one")
    model = load_official_checkpoint(src, modalities=modalities, dtype=dtype, config=config)
    processor = ImageBindProcessor.for_config(model.config)
    with written_together(target) as fresh:
        model.save_pretrained(fresh)
        processor.save_pretrained(fresh)
    return target


def refuse_other_weights(weights: Weights) -> None:
    """Do nothing with released weights.

    Raises:
        CheckpointError: the file's keys are not theirs.
    """
    if any(RELEASED.match(key) for key in weights):
        return
    if any(key.startswith("towers.") for key in weights):
        raise CheckpointError(f"{weights.where}: converted already; load it with ImageBindModel.from_pretrained")
    raise CheckpointError(
        f"{weights.where}: weights of another model, not of ImageBind as imagebind_huge.pth names them; keys are "
        f"{listed(list(weights))}"
    )


def _parameter_names(config: ImageBindConfig, name: str) -> dict[str, str]:
    """The keys of a tower's parameters: ours to the file's."""
    with torch.device("meta"):
        tower = Tower(config.tower(name), config.embed_dim)
    return {f"towers.{name}.{key}": reference_key(name, key) for key in tower.state_dict()}


def _towers_to_load(
    weights: Weights, config: ImageBindConfig, modalities: list[str] | None, names: dict[str, dict[str, str]]
) -> list[str]:
    asked = tower_names(config.modalities if modalities is None else modalities, tuple(config.towers))
    held = [tower for tower, keys in names.items() if any(key in weights for key in keys.values())]
    if modalities and (absent := [name for name in asked if name not in held]):
        raise CheckpointError(f"{weights.where}: holds no {' or '.join(absent)} tower, only {', '.join(held)}")
    return asked


def _refuse_unknown_keys(weights: Weights, names: dict[str, dict[str, str]]) -> None:
    known = {MASK, *map(scale_key, names), *(key for keys in names.values() for key in keys.values())}
    if unknown := [key for key in weights if key not in known]:
        raise CheckpointError(
            f"{weights.where}: {len(unknown)} keys that this model has no place for: {listed(unknown)}; "
            "the file is of another version or size"
        )


def _refuse_missing(weights: Weights, keys: Iterable[str]) -> None:
    if missing := [key for key in keys if key not in weights]:
        plural = "parameters are" if len(missing) > 1 else "parameter is"
        raise CheckpointError(f"{weights.where}: {len(missing)} {plural} missing: {listed(missing)}")


def _check_fixed_scale(weights: Weights, config: ImageBindConfig, name: str) -> None:
    """The reference keeps its fixed output factors among the weights; ours stand in the config. They must agree."""
    tower, key = config.tower(name), scale_key(name)
    if tower.logit_scale is None or tower.learned_logit_scale:
        return
    _refuse_missing(weights, [key])
    came = weights[key]
    if came.numel() != 1 or not math.isclose(came.float().exp().item(), tower.logit_scale, rel_tol=SCALE_TOLERANCE):
        factors = [round(float(x), 3) for x in came.float().exp().flatten()[:3]]
        raise CheckpointError(f"{weights.where}: {key} says a factor of {factors}, the config {tower.logit_scale}")


def _read(weights: Weights, key: str, shape: torch.Size, dtype: torch.dtype | None) -> torch.Tensor:
    tensor = weights[key]
    if tensor.shape != shape:
        raise CheckpointError(f"{weights.where}: {key}: wanted shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if not tensor.dtype.is_floating_point:
        raise CheckpointError(f"{weights.where}: {key}: wanted floating point values, got {tensor.dtype}")
    # In bfloat16 the factor exp(x) of text would be off by up to 1.6 %.
    tensor = tensor.to(torch.float32 if key.endswith("log_logit_scale") else dtype or tensor.dtype)
    refuse_not_finite(tensor, key, weights.where)
    return tensor
