"""What the golden values are made from: parameters drawn by key name, inputs drawn by seed, and the model sizes.

Shared by ``make_golden.py`` (reference model) and the tests (ours), so that both sides see the same numbers without a
file of weights.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bind2gen.imagebind.config import HUGE_TOWERS, ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.released_names import reference_key

HERE = Path(__file__).parent
START, END = 49_406, 49_407  # CLIP's start-of-text and end-of-text ids

# Small towers that the reference can build too: its constructor takes widths, depths, heads and the audio front end,
# while picture size, context, vocabulary and the IMU shape are fixed in its code.
_SMALL = {"width": 32, "depth": 2, "heads": 4}
SMALL_TOWERS = {
    "vision": replace(HUGE_TOWERS["vision"], **_SMALL),
    "text": replace(HUGE_TOWERS["text"], width=16, depth=2, heads=2),
    "audio": replace(HUGE_TOWERS["audio"], **_SMALL | {"width": 24}, input_shape=(1, 64, 104)),
    "depth": replace(HUGE_TOWERS["depth"], **_SMALL, kernel=(32, 32), stride=(32, 32)),
    "thermal": replace(HUGE_TOWERS["thermal"], **_SMALL | {"width": 24}),
    "imu": replace(HUGE_TOWERS["imu"], **_SMALL | {"depth": 3}),
}
SMALL_DIM = 24
SALTS = {"small": "small", "huge": "a"}
GOLDEN = {"small": HERE / "golden_tiny.npz", "huge": HERE / "golden_huge.npz"}


def config(size: str) -> ImageBindConfig:
    return ImageBindConfig(1024, HUGE_TOWERS) if size == "huge" else ImageBindConfig(SMALL_DIM, SMALL_TOWERS)


def fill_value(key: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    """float32 values of the parameter that the reference calls ``key``, of a spread fit for its kind."""
    if not shape:
        return np.array(3.0, np.float32)  # the learned text scale: exp(3), below its ceiling
    noise = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode()))).standard_normal(shape, np.float32)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "weight" and (len(shape) == 1 or "norm" in key):
        return 1.0 + 0.1 * noise
    if len(shape) == 1:
        return 0.02 * noise
    if "token_embedding" in key or leaf in ("cls_token", "pos_embed", "bias_k", "bias_v"):
        return 0.05 * noise
    return np.float32(0.8 / math.sqrt(math.prod(shape[1:]))) * noise


def filled_model(size: str, towers: list[str] | None = None) -> ImageBindModel:
    """Our model with those values under the mapped names; no other initialisation is run."""
    with torch.device("meta"):
        model = ImageBindModel(config(size), modalities=towers)
    state = {}
    for key, value in model.state_dict().items():
        _, tower, rest = key.split(".", 2)
        filled = fill_value(reference_key(tower, rest), tuple(value.shape), SALTS[size])
        state[key] = torch.from_numpy(filled)
    model.load_state_dict(state, assign=True)
    return model.eval()


def cast(model: ImageBindModel, dtype: torch.dtype) -> ImageBindModel:
    """A copy in another dtype; the original stays as it is."""
    with torch.device("meta"):
        copied = ImageBindModel(model.config)
    copied.load_state_dict({key: value.to(dtype) for key, value in model.state_dict().items()}, assign=True)
    return copied.eval()


def inputs(size: str) -> dict[str, torch.Tensor]:
    """Inputs by case name, (B, S, *sample); ``text`` ends at different places."""
    draw = np.random.Generator(np.random.PCG64(7)).standard_normal
    tower = config(size).tower
    shapes = {
        "depth": (2, 1, *tower("depth").input_shape),
        "thermal": (2, 1, *tower("thermal").input_shape),
        "imu": (2, 1, *tower("imu").input_shape),
        "video": (1, 3, 3, 2, 224, 224),
        "image": (1, 1, *tower("vision").input_shape),
        "audio": (2, 2, *tower("audio").input_shape),
    }
    cases = {name: torch.from_numpy(draw(shape, dtype=np.float32)) for name, shape in shapes.items()}
    return cases | {"text": _tokens(tower("text").input_shape[0])}


def _tokens(context: int) -> torch.Tensor:
    ids = np.random.Generator(np.random.PCG64(9)).integers(1, START, (5, 1, context))
    ids[:, :, 0] = START
    for row, end in enumerate((1, 4, 15, 40, context - 1)):
        ids[row, 0, end] = END
        ids[row, 0, end + 1 :] = 0
    return torch.from_numpy(ids)


def relative_error(got: torch.Tensor, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm, of the worst row."""
    difference = np.linalg.norm(got.double().numpy() - wanted.astype(np.float64), axis=-1)
    return float((difference / np.linalg.norm(wanted, axis=-1)).max())
