"""Small Detic networks, values for their parameters drawn by name, and a picture made of arithmetic.

Shared by ``make_golden.py`` and the tests. The spreads are chosen so that an untrained network finds many different
boxes, some of them beyond the picture's edges, and its classes differ.
"""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel

HERE = Path(__file__).parent
GOLDEN = HERE / "golden_toy.npz"
_SMALL = dict(fpn_width=32, fc_width=48, mask_width=16, embed_dim=24, norm_groups=8, short_side=160, long_side=224)
TOYS: dict[str, DeticConfig] = {
    "basic": DeticConfig("resnet", (1, 1, 2, 1), (8, 12, 16, 24), **_SMALL),
    "bottleneck": DeticConfig("resnet", (2, 1, 1, 1), (4, 6, 8, 12), bottleneck=True, **_SMALL),
    "swin": DeticConfig("swin", (1, 2, 2, 1), (8, 16, 32, 64), heads=(1, 2, 2, 4), window=3, **_SMALL),
    "convnext": DeticConfig("convnext", (1, 1, 2, 1), (8, 12, 16, 24), **_SMALL),
}
CLASSES = 6
MASKS_APART = 6  # one mask in so many is recorded whole, of the others the area


def shared_folder() -> Path:
    """Recorded outputs of the reference, which the project does not hold."""
    return Path(os.environ.get("BIND2GEN_SHARED", HERE.parents[4] / "shared")) / "parity" / "detic"


def fill_value(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """float32 values of one parameter."""
    noise = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, np.float32)
    z, leaf = torch.from_numpy(noise), key.rsplit(".", 1)[-1]
    fan_in = math.prod(shape[1:])
    if "agn_hm" in key or "centernet_head.bbox_pred" in key:
        centre = {"agn_hm": -2.0, "bbox_pred": 3.5}[key.rsplit(".", 2)[-2]]
        return 0.1 * z if leaf == "weight" else 0.1 * z + centre
    if leaf in ("gamma", "scale") or (leaf == "weight" and len(shape) == 1):
        return (0.5 if leaf == "gamma" else 1.0) + 0.1 * z
    if leaf == "running_var":
        return torch.exp(0.2 * z)
    if len(shape) == 1:
        return 0.1 * z
    return z * math.sqrt((2.0 if len(shape) == 4 else 1.0) / fan_in)


def filled_state(model: DeticModel) -> dict[str, torch.Tensor]:
    """Values for every parameter but the counters of batch norms, under the released names."""
    shapes = {key: tuple(v.shape) for key, v in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    return {key: fill_value(key, shape) for key, shape in shapes.items()}


def toy_detector(name: str = "basic") -> DeticDetector:
    model = DeticModel(TOYS[name])
    missing, unexpected = model.load_state_dict(filled_state(model), strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return DeticDetector(model)


def picture(width: int = 200, height: int = 150) -> Image.Image:
    """Waves of three colours."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + k) * np.cos(y / (7 + 3 * k) - k) for k in range(3)]
    return Image.fromarray(((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8))


def class_embeds(count: int = CLASSES, dim: int = 24) -> torch.Tensor:
    draw = np.random.Generator(np.random.PCG64(5)).standard_normal((count, dim), np.float32)
    return torch.from_numpy(draw)
