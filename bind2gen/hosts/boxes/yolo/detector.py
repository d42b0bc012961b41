"""The network as a detector: pictures in, boxes for any class vectors out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from PIL import Image
from torchvision.ops import clip_boxes_to_image

from ....errors import HostError, InputError
from ....files.weights import open_weights
from ....imagebind.agreement import build_on_meta, check_loaded, compare
from ....preprocess.image import upright
from ..detections import Detections, Proposals
from ..saved import read_config, save_network
from ..selection import checked_class_embeds, checked_count, select
from .network import STRIDES, YoloConfig, YoloModel

HOST = "YOLO"
MODEL_TYPE = "bind2gen_yolo"
PART = 0.85  # share of a box within a better one, from which it is part of that
GREY = (127, 127, 127)  # around pictures, as darknet letters them
CARD = """---
{{ card_data }}
---

YOLOv3-tiny with vectors in place of classes, saved by bind2gen. What it is asked for is given with each call:

```python
from bind2gen.hosts.boxes.yolo import YoloDetector

detector = YoloDetector.from_pretrained("path or hub id")
encoded = detector.encode_image("picture.jpg")
found = detector.detect(encoded, class_embeds, labels=("dog", "car"))  # class_embeds: (2, detector.embed_dim)
```
"""


@dataclass(frozen=True)
class YoloEncoded:
    """A picture as the network sees it: N boxes that may hold anything, the likeliest first.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the picture as it was given, within it.
        objectness: (N,) logits.
        vectors: (N, D), what class embeddings are compared with; their length counts.
        image_size: (width, height) in pixels.
    """

    boxes: torch.Tensor
    objectness: torch.Tensor
    vectors: torch.Tensor
    image_size: tuple[int, int]


class YoloDetector(
    ModelHubMixin,
    library_name="bind2gen",
    tags=["object-detection", "zero-shot-object-detection", "yolo"],
    model_card_template=CARD,
):
    """A :class:`YoloModel` behind the :class:`~bind2gen.hosts.boxes.detections.Detector` contract. Has no masks.

    Args:
        model: stays on its device and in its dtype.
    """

    def __init__(self, model: YoloModel) -> None:
        self.model = model.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        save_network(save_directory, self.model, MODEL_TYPE, self.model.config)

    @classmethod
    def from_pretrained(  # narrower than the mixin's: what is missing is said in our words, and loading is strict
        cls,
        source: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> YoloDetector:
        """Load what ``save_pretrained`` wrote, from a folder or a hub id ``owner/name``.

        Args:
            device: where to put it; default is the CPU.
            dtype: of the parameters; default is float32.

        Raises:
            CheckpointError: nothing there, or not a detector of this kind.
        """
        config = read_config(source, MODEL_TYPE, YoloConfig, "YoloDetector.save_pretrained wrote")
        weights = open_weights(source)
        model = build_on_meta(lambda: YoloModel(config), len(weights), config.to_dict(), str(source))
        compare(model.state_dict(), weights, str(source))
        target = {"device": torch.device(device or "cpu"), "dtype": dtype or torch.float32}
        # A copy, so that the file may go away.
        model.load_state_dict({key: weights[key].to(**target, copy=True) for key in weights}, assign=True)
        check_loaded(model, str(source))
        return cls(model.to(memory_format=torch.channels_last))  # a third quicker on CPUs

    @property
    def embed_dim(self) -> int:
        """Width D of its class embeddings."""
        return self.model.config.embed_dim

    @torch.no_grad()
    def encode_image(self, image: Any) -> YoloEncoded:
        """All that does not depend on prompts.

        Args:
            image: as of :func:`bind2gen.preprocess.image.upright`.

        Raises:
            InputError: a subclass of it names the picture and the problem.
        """
        picture, config = upright(image), self.model.config
        pixels, factor, corner = lettered(picture, config.long_side)
        (regions,) = self.model.regions(pixels.to(self.model.device, self.model.bias.dtype))
        vectors, objectness = self.model.told(regions)
        boxes = (regions.boxes - torch.tensor(corner * 2, device=self.model.device)) / factor
        boxes = clip_boxes_to_image(boxes, (picture.height, picture.width))
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return YoloEncoded(boxes[solid], objectness[solid], vectors[solid], picture.size)

    @torch.no_grad()
    def detect(
        self,
        encoded: YoloEncoded,
        class_embeds: torch.Tensor,
        *,
        labels: tuple[str, ...] | None = None,
        threshold: float | torch.Tensor = 0.3,
        max_detections: int = 300,
        masks: bool = True,
        one_class_per_proposal: bool = True,
    ) -> Detections:
        """Boxes for the classes (C, D).

        Args:
            encoded: from :meth:`encode_image`, of the same network.
            threshold: one score or (C,) of them.
            masks: taken for the sake of the contract; there are none.
            one_class_per_proposal: a box answers its best class only. False for evaluation.

        Raises:
            ShapeError, HostError, EmptyInputError, NonFiniteError, InputError: about embeddings, labels, thresholds.
        """
        embeds = checked_class_embeds(class_embeds, self.embed_dim, HOST)
        self._check(encoded)
        found = select(
            encoded.boxes,
            self.model.scores(encoded.vectors, encoded.objectness, embeds.to(encoded.vectors.device)),
            labels=labels,
            image_size=encoded.image_size,
            threshold=threshold,
            max_detections=max_detections,
            nms_iou=self.model.config.box_iou,
            one_prompt_a_box=one_class_per_proposal,
        )
        return without_parts(found)

    @torch.no_grad()
    def propose(self, encoded: YoloEncoded, *, max_proposals: int = 256) -> Proposals:
        """Boxes that may hold anything, best first."""
        checked_count("max_proposals", max_proposals)
        self._check(encoded)
        order = encoded.objectness.argsort(descending=True, stable=True)[:max_proposals]
        return Proposals(encoded.boxes[order].cpu().numpy(), encoded.objectness[order].sigmoid().cpu().numpy())

    def _check(self, encoded: Any) -> None:
        if not isinstance(encoded, YoloEncoded):
            raise InputError(f"{HOST}: wanted what encode_image gives, got {type(encoded).__name__}")
        if encoded.vectors.shape[1] != self.embed_dim:
            raise HostError(f"{HOST}: this picture was encoded by another network; encode it with this one")


def without_parts(found: Detections) -> Detections:
    """Boxes that do not lie within a better one of the same prompt: a wheel is not another car."""
    boxes, areas = found.xyxy, (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(1)
    kept: list[int] = []
    for i in range(len(found)):  # best first
        better = [k for k in kept if found.prompts[k] == found.prompts[i]]
        corners = np.maximum(boxes[better, :2], boxes[i, :2]), np.minimum(boxes[better, 2:], boxes[i, 2:])
        shared = (corners[1] - corners[0]).clip(min=0).prod(1)
        if not (shared >= PART * areas[i]).any():
            kept.append(i)
    return found[kept]


def lettered(picture: Image.Image, long_side: int) -> tuple[torch.Tensor, float, tuple[float, float]]:
    """A picture brought to a length and put in the middle of grey, sides multiples of 32.

    Returns:
        pixels (1, 3, H, W) in 0..1; by how much sides grew; and where the picture's corner lies, in pixels.
    """
    factor = long_side / max(picture.size)
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    width, height = (-(-side // STRIDES[0]) * STRIDES[0] for side in size)
    corner = ((width - size[0]) // 2, (height - size[1]) // 2)
    canvas = Image.new("RGB", (width, height), GREY)
    canvas.paste(picture.resize(size, Image.Resampling.BILINEAR), corner)
    pixels = torch.from_numpy(np.array(canvas)).permute(2, 0, 1)[None].float() / 255
    return pixels, factor, (float(corner[0]), float(corner[1]))
