"""Official ImageBind weights into :class:`ImageBindModel`, and into a folder that ``from_pretrained`` loads."""

from __future__ import annotations

import copy
import logging
import math
import os
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..files.weights import Weights, open_weights
from .agreement import listed
from .config import HUGE, ImageBindConfig, tower_names
from .layouts import LAYOUTS, Keys, Layout
from .model import ImageBindModel, Tower

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
            same names (``nielsr/imagebind-huge``) or those of the transformers pull requests
            (``EduardoPacheco/imagebind-huge``: vision, text and audio only); or such a hub id, which is downloaded.
        modalities: load only the towers that these need; default is all that the file's kind holds.
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
    layout = official_layout(weights)
    names = {name: _parameter_names(config, name) for name in config.towers}
    config.modalities = _towers_to_load(weights, layout, config, modalities, names)
    _refuse_unknown_keys(weights, layout, names)
    sources = _sources(weights, layout, names, config.modalities)
    for name in config.modalities:
        _check_fixed_scale(weights, layout, config, name)
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
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return target


def official_layout(weights: Weights) -> Layout:
    """In which of the known ways a file of released weights is written.

    Raises:
        CheckpointError: in none of them.
    """
    for layout in LAYOUTS:
        if layout.matches(weights):
            return layout
    if any(key.startswith("towers.") for key in weights):
        raise CheckpointError(f"{weights.where}: converted already; load it with ImageBindModel.from_pretrained")
    raise CheckpointError(
        f"{weights.where}: weights of another model, not of ImageBind; keys are {listed(list(weights))}"
    )


def _parameter_names(config: ImageBindConfig, name: str) -> list[str]:
    with torch.device("meta"):
        return list(Tower(config.tower(name), config.embed_dim).state_dict())


def _towers_to_load(
    weights: Weights,
    layout: Layout,
    config: ImageBindConfig,
    modalities: list[str] | None,
    names: dict[str, list[str]],
) -> list[str]:
    held = [t for t in config.towers if any(k in weights for n in names[t] for keys in layout.keys(t, n) for k in keys)]
    if modalities is None:
        return tower_names(held if layout.partial else config.modalities, tuple(config.towers))
    asked = tower_names(modalities, tuple(config.towers))
    if absent := [name for name in asked if name not in held]:
        raise CheckpointError(f"{weights.where}: holds no {' or '.join(absent)} tower, only {', '.join(held)}")
    return asked


def _refuse_unknown_keys(weights: Weights, layout: Layout, names: dict[str, list[str]]) -> None:
    known = {layout.scale(tower) for tower in names}
    known |= {key for tower in names for name in names[tower] for keys in layout.keys(tower, name) for key in keys}
    unknown = [key for key in weights if key not in known and not layout.extra.fullmatch(key)]
    if unknown:
        raise CheckpointError(
            f"{weights.where}: {len(unknown)} keys that this model has no place for: {listed(unknown)}; "
            "the file is of another version or size"
        )


def _check_fixed_scale(weights: Weights, layout: Layout, config: ImageBindConfig, name: str) -> None:
    """The reference keeps its fixed output factors among the weights; ours stand in the config. They must agree."""
    tower, key = config.tower(name), layout.scale(name)
    if tower.logit_scale is None or tower.learned_logit_scale:
        return
    if key not in weights:
        if layout.partial:  # the pull requests' scripts left these buffers at their initial values
            return
        raise CheckpointError(f"{weights.where}: 1 parameter is missing: {key}")
    came = weights[key]
    if came.numel() != 1 or not math.isclose(came.float().exp().item(), tower.logit_scale, rel_tol=SCALE_TOLERANCE):
        factors = [round(float(x), 3) for x in came.float().exp().flatten()[:3]]
        raise CheckpointError(f"{weights.where}: {key} says a factor of {factors}, the config {tower.logit_scale}")


def _sources(weights: Weights, layout: Layout, names: dict[str, list[str]], towers: list[str]) -> dict[str, Keys]:
    """For each parameter of ours the keys it is made of, all of them in the file."""
    sources: dict[str, Keys] = {}
    missing: list[str] = []
    for tower in towers:
        for name in names[tower]:
            spellings = layout.keys(tower, name)
            found = next((keys for keys in spellings if all(k in weights for k in keys)), None)
            missing += [] if found else [k for k in spellings[0] if k not in weights]
            sources[f"towers.{tower}.{name}"] = found or spellings[0]
    if missing:
        plural = "parameters are" if len(missing) > 1 else "parameter is"
        raise CheckpointError(f"{weights.where}: {len(missing)} {plural} missing: {listed(missing)}")
    return sources


def _read(weights: Weights, keys: Keys, shape: torch.Size, dtype: torch.dtype | None) -> torch.Tensor:
    """One parameter of ours from the file, in our shape."""
    parts = [weights[key] for key in keys]
    tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
    if _squeezed(tensor.shape) != _squeezed(shape):  # the pull requests drop axes of size 1
        came, wanted = tuple(tensor.shape), tuple(shape)
        raise CheckpointError(f"{weights.where}: {' + '.join(keys)}: wanted shape {wanted}, got {came}")
    if not tensor.dtype.is_floating_point:
        raise CheckpointError(f"{weights.where}: {keys[0]}: wanted floating point values, got {tensor.dtype}")
    # In bfloat16 the factor exp(x) of text would be off by up to 1.6 %.
    kept = torch.float32 if keys[0].endswith("log_logit_scale") else dtype or tensor.dtype
    return tensor.reshape(shape).to(kept)


def _squeezed(shape: torch.Size) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
