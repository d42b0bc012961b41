"""Released Detic checkpoints: opened safely, recognised by their shapes, loaded strictly under their own names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ....errors import CheckpointError, InputError
from ....files.weights import load_pickle, open_tensors
from ....imagebind.agreement import NOT_OF_ONE, build_on_meta, check_loaded, compare, listed
from .config import VARIANTS, DeticConfig
from .model import DeticModel

# What the files hold and inference does not use: vocabularies and their frequencies, counters of batch norms, tables
# that are computed here, ResNet-50's classifier of its pretraining, and the normalisation, which stands in the config.
EXTRA = re.compile(
    r"(.*\.)?(zs_weight|freq_weight|num_batches_tracked|relative_position_index|pixel_mean|pixel_std)"
    r"|backbone\.bottom_up\.base\.fc\.(weight|bias)"
)
BODY = "backbone.bottom_up."
AGAIN = "the file is damaged or of another version, download it again from Detic's model zoo"
# Under these names pickles of NumPy 1 and 2 rebuild arrays; they hold numbers, never code.
_NUMPY_SAFE: list[tuple[object, str]] = [
    *((np._core.multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((np._core.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    *((type(np.dtype(kind)), f"numpy.dtypes.{type(np.dtype(kind)).__name__}") for kind in ("f4", "f8", "i4", "i8")),
]


def load_official(
    path: str | os.PathLike[str], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> DeticModel:
    """A released ``.pth`` (or the same names in safetensors) as a model in eval mode.

    Args:
        path: one of the files of Detic's model zoo with a CenterNet2 cascade: Swin-B, ResNet-50, ResNet-18, ConvNeXt-T.
        device: where to put it; default is the CPU.
        dtype: of the parameters; default is float32.

    Raises:
        CheckpointError: unreadable, truncated, of another model; missing, unknown or misshapen parameters are named.
    """
    tensors = _official_tensors(Path(path).expanduser())
    return model_from_tensors(tensors, where=str(path), device=device, dtype=dtype)


def model_from_tensors(
    tensors: Mapping[str, torch.Tensor],
    *,
    where: str,
    config: DeticConfig | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> DeticModel:
    """A model in eval mode from a state dict under the released names, strictly.

    Args:
        where: what to call the state dict in messages.
        config: the model's; default is read from the shapes.
        device, dtype: as in :func:`load_official`.

    Raises:
        CheckpointError: missing, unknown or misshapen parameters are named.
    """
    kept = {key: value for key, value in tensors.items() if not EXTRA.fullmatch(key)}
    if config is None:
        config = config_of({key: tuple(value.shape) for key, value in kept.items()}, where=where)
        advice = AGAIN
    else:
        advice = NOT_OF_ONE
    model = build_on_meta(lambda: DeticModel(config), len(kept), config.to_dict(), where)
    wanted = model.state_dict()
    counters = {key for key in wanted if EXTRA.fullmatch(key)}
    compare({key: value for key, value in wanted.items() if key not in counters}, kept, where, advice)
    if wrong := [key for key, value in kept.items() if not value.is_floating_point()]:
        raise CheckpointError(f"{where}: wanted floating point values, got others in {listed(wrong)}; {advice}")
    target = torch.device(device or "cpu")
    # A copy, so that the file may go away.
    state = {key: value.to(device=target, dtype=dtype or torch.float32, copy=True) for key, value in kept.items()}
    state |= {key: torch.zeros((), dtype=torch.long, device=target) for key in counters}
    model.load_state_dict(state, strict=True, assign=True)
    check_loaded(model, where)
    return model.eval()


def config_of(shapes: Mapping[str, tuple[int, ...]], *, where: str) -> DeticConfig:
    """Read the sizes of a network off its parameters' names and shapes.

    Raises:
        CheckpointError: these are not the parameters of a Detic with a CenterNet2 cascade.
    """
    try:
        config = DeticConfig(**_backbone_of(shapes), **_heads_of(shapes))
    except (KeyError, ValueError, InputError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{where}: weights of another model, not of a Detic with a CenterNet2 cascade (looked for {error}); wanted "
            f"one of {', '.join(VARIANTS)} of Detic's model zoo; keys are {listed(list(shapes))}"
        ) from error
    return config


def _backbone_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    if f"{BODY}patch_embed.proj.weight" in shapes:
        tables = [shapes[f"{BODY}layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
        return {
            "backbone": "swin",
            "depths": tuple(_count(shapes, f"{BODY}layers.{i}.blocks.") for i in range(4)),
            "widths": tuple(shapes[f"{BODY}layers.{i}.blocks.0.norm1.weight"][0] for i in range(4)),
            "heads": tuple(heads for _, heads in tables),
            "window": (math.isqrt(tables[0][0]) + 1) // 2,
        }
    if f"{BODY}base.stem_0.weight" in shapes:
        return {
            "backbone": "convnext",
            "depths": tuple(_count(shapes, f"{BODY}base.stages_{i}.blocks.") for i in range(4)),
            "widths": tuple(shapes[f"{BODY}base.stages_{i}.blocks.0.gamma"][0] for i in range(4)),
        }
    return {
        "backbone": "resnet",
        "depths": tuple(_count(shapes, f"{BODY}base.layer{i}.") for i in range(1, 5)),
        "widths": tuple(shapes[f"{BODY}base.layer{i}.0.conv1.weight"][0] for i in range(1, 5)),
        "bottleneck": f"{BODY}base.layer1.0.conv3.weight" in shapes,
    }


def _heads_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    predictor = "roi_heads.box_predictor.0.cls_score"
    stages = _count(shapes, "roi_heads.box_predictor.")
    return {
        "fpn_width": shapes["backbone.fpn_output3.weight"][0],
        "fc_width": shapes["roi_heads.box_head.0.fc1.weight"][0],
        "mask_width": shapes.get("roi_heads.mask_head.mask_fcn1.weight", (0,))[0],
        "embed_dim": shapes[f"{predictor}.linear.weight"][0],
        "stage_weights": tuple(10.0 * (stage + 1) for stage in range(stages)),
    }


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbered parts follow a prefix."""
    return len({key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)})


def _official_tensors(path: Path) -> Mapping[str, torch.Tensor]:
    """Tensors by name. Training code saves them as ``{"model": {...}, ...}``, now and then as NumPy arrays."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; wanted a .pth of Detic's model zoo")
    try:
        return open_tensors(path)  # a flat state dict, or safetensors
    except CheckpointError as reason:
        content = _pickled(path)
        if content is None:
            raise
        model = content.get("model", content)
        tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in model.items()}
        if not all(isinstance(v, torch.Tensor) for v in tensors.values()):
            raise reason
        return tensors


def _pickled(path: Path) -> dict | None:
    """The dict in a file of ``torch.save``, without running any code in it; None where there is none."""
    try:
        with torch.serialization.safe_globals(_NUMPY_SAFE):
            content = load_pickle(path)
    except CheckpointError:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("model", content), dict):
        return None
    return content
