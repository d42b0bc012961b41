"""Detic as a detector: pictures in, boxes and masks for any class vectors out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin
from torchvision.ops import clip_boxes_to_image, nms

from ....errors import HostError, InputError
from ....files.weights import open_weights
from ....preprocess.image import upright
from ..checks import checked_thresholds
from ..detections import Detections, Proposals
from ..saved import read_config, save_network
from ..selection import checked_class_embeds, checked_count, checked_labels
from .config import DeticConfig
from .image import padded, resized_size, to_pixels
from .loading import load_official, model_from_tensors
from .masks import paste_masks
from .model import DeticModel, EncodedImage
from .suppression import suppress

HOST = "Detic"
MODEL_TYPE = "bind2gen_detic"
MAKER = "DeticDetector.save_pretrained wrote, or DeticDetector.from_official for a released .pth"
CARD = """---
{{ card_data }}
---

An open-vocabulary detector in the form of Detic, saved by bind2gen. Its classes are vectors, given with each call:

```python
from bind2gen.hosts.boxes.detic import DeticDetector

detector = DeticDetector.from_pretrained("path or hub id")
encoded = detector.encode_image("picture.jpg")
found = detector.detect(encoded, class_embeds, labels=("dog", "car"))  # class_embeds: (2, detector.embed_dim)
```
"""


class DeticDetector(
    ModelHubMixin,
    library_name="bind2gen",
    tags=["object-detection", "zero-shot-object-detection", "detic"],
    model_card_template=CARD,
):
    """A Detic network behind the :class:`~bind2gen.hosts.boxes.detections.Detector` contract.

    Args:
        model: stays on its device and in its dtype.
    """

    def __init__(self, model: DeticModel) -> None:
        self.model = model.eval().to(memory_format=torch.channels_last)  # on CPUs a quarter quicker, bfloat16 half

    # ---- loading and saving ----

    @classmethod
    def from_official(
        cls,
        path: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> DeticDetector:
        """Load a released ``.pth`` of Detic's model zoo: Swin-B, ResNet-50, ResNet-18 or ConvNeXt-T with CenterNet2.

        Args:
            device: where to put it; default is the CPU.
            dtype: of the parameters; default is float32.

        Raises:
            CheckpointError: unreadable, of another model; missing, unknown or misshapen parameters are named.
        """
        return cls(load_official(path, device=device, dtype=dtype))

    def _save_pretrained(self, save_directory: Path) -> None:
        """``config.json`` and ``model.safetensors``; ``save_pretrained`` of the hub's mixin calls this."""
        save_network(save_directory, self.model, MODEL_TYPE, self.model.config)

    @classmethod
    def from_pretrained(  # narrower than the mixin's: what is missing is said in our words, and loading is strict
        cls,
        source: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> DeticDetector:
        """Load what ``save_pretrained`` wrote, from a folder or a hub id ``owner/name``.

        Raises:
            CheckpointError: nothing there, or not a detector of this kind.
        """
        config = read_config(source, MODEL_TYPE, DeticConfig, MAKER)
        weights = open_weights(source)
        return cls(model_from_tensors(weights, where=str(source), config=config, device=device, dtype=dtype))

    # ---- the contract ----

    @property
    def config(self) -> DeticConfig:
        return self.model.config

    @property
    def embed_dim(self) -> int:
        """Width D of class embeddings: 512 in the released files, CLIP ViT-B/32's text space."""
        return self.config.embed_dim

    def to(self, *args: Any, **kwargs: Any) -> DeticDetector:
        """Move or cast the network as ``torch.nn.Module.to`` does; returns the detector itself."""
        self.model.to(*args, **kwargs)
        return self

    def encode_image(self, image: Any, *, short_side: int | None = None, long_side: int | None = None) -> EncodedImage:
        """All that does not depend on prompts: features, proposals, the whole cascade.

        Args:
            image: a PIL image, path, bytes, file object, array (H, W, 3) or tensor (3, H, W); see
                :func:`bind2gen.preprocess.image.upright`. Orientation marks (EXIF) are obeyed.
            short_side, long_side: pixels, instead of the config's: 640 and 640 are the published fast setting.

        Raises:
            InputError: a subclass of it names the picture and the problem.
        """
        return self.encode_images([image], short_side=short_side, long_side=long_side)[0]

    def encode_images(
        self, images: Sequence[Any], *, short_side: int | None = None, long_side: int | None = None
    ) -> list[EncodedImage]:
        """Several pictures in one pass, padded to the largest: results differ a little from one at a time."""
        limits = [self.config.short_side if short_side is None else short_side]
        limits.append(self.config.long_side if long_side is None else long_side)
        if not all(isinstance(side, int) and side > 0 for side in limits):
            raise InputError(f"short_side, long_side: wanted whole pixels above zero, got {limits[0]!r}, {limits[1]!r}")
        if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Sequence):
            raise InputError(f"images: wanted a list of pictures, got {type(images).__name__}; one is for encode_image")
        if not images:
            return []
        pictures = [upright(image) for image in images]
        sizes = [resized_size(picture.size, *limits) for picture in pictures]
        pixels = [
            to_pixels(picture, self.config, size, self.model.device)
            for picture, size in zip(pictures, sizes, strict=True)
        ]
        return self.model.encode(padded(pixels), sizes, [picture.size for picture in pictures])

    @torch.no_grad()
    def detect(
        self,
        encoded: EncodedImage,
        class_embeds: torch.Tensor,
        *,
        labels: Sequence[str] | None = None,
        threshold: float | Sequence[float] | torch.Tensor = 0.5,
        max_detections: int = 300,
        masks: bool = True,
        one_class_per_proposal: bool = True,
    ) -> Detections:
        """Boxes and masks for classes; a matrix product, suppression and the masks of what was found.

        Args:
            encoded: from :meth:`encode_image`, of the same network.
            class_embeds: (C, D) of any length; only their directions count.
            labels: one name a class.
            threshold: one score or (C,) of them; a box must score more. Detic's demo has 0.5, its real-time rows 0.3,
                its evaluation 0.02.
            max_detections: of all classes together.
            masks: draw them; a network without a mask head gives none.
            one_class_per_proposal: a region answers its best class only, as in Detic's demo. False for evaluation.

        Raises:
            ShapeError, HostError, EmptyInputError, NonFiniteError, InputError: about embeddings, labels, thresholds.
            TooLargeError: the masks would take gigabytes.
        """
        embeds = checked_class_embeds(class_embeds, self.embed_dim, HOST)
        names = checked_labels(labels, len(embeds))
        limits = torch.tensor(checked_thresholds(threshold, len(embeds)))
        checked_count("max_detections", max_detections)
        _check_encoded(encoded, self.model)
        device = encoded.boxes.device
        scores = self.model.scores(encoded, embeds.detach().to(device))
        if one_class_per_proposal:
            scores = torch.where(scores == scores.amax(1, keepdim=True), scores, -1.0)
        stays = suppress(encoded.boxes, scores, limits.to(device), self.config.box_iou)
        rows, classes = stays.nonzero(as_tuple=True)
        order = scores[rows, classes].argsort(descending=True, stable=True)[:max_detections]
        rows, classes = rows[order], classes[order]
        boxes, solid = _to_picture(encoded.boxes[rows], encoded)
        rows, classes, boxes = rows[solid], classes[solid], boxes[solid]
        return Detections(
            boxes.cpu().numpy(),
            scores[rows, classes].cpu().numpy(),
            classes.cpu().numpy(),
            names,
            encoded.image_size,
            self._masks(encoded, rows, boxes) if masks and self.config.mask_width else None,
        )

    @torch.no_grad()
    def propose(self, encoded: EncodedImage, *, max_proposals: int = 256) -> Proposals:
        """Boxes that may hold anything, best first: those of the last cascade stage, scored by the proposal head."""
        checked_count("max_proposals", max_proposals)
        _check_encoded(encoded, self.model)
        boxes, solid = _to_picture(encoded.boxes, encoded)
        boxes, scores = boxes[solid], encoded.proposals.scores[solid]
        kept = nms(boxes, scores, self.config.proposal_iou)[:max_proposals]  # the cascade drew some boxes together
        return Proposals(boxes[kept].cpu().numpy(), scores[kept].cpu().numpy())

    def _masks(self, encoded: EncodedImage, rows: torch.Tensor, boxes: torch.Tensor) -> Any:
        """(n, height, width) bool; a region found for several classes is drawn once."""
        drawn, which = rows.unique(return_inverse=True)
        return paste_masks(self.model.masks(encoded, drawn)[which], boxes, encoded.image_size)


def _to_picture(boxes: torch.Tensor, encoded: EncodedImage) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes in pixels of the picture as it was given, and which of them have any extent there."""
    (width, height), (input_width, input_height) = encoded.image_size, encoded.input_size
    factors = boxes.new_tensor([width / input_width, height / input_height] * 2)
    boxes = clip_boxes_to_image(boxes * factors, (height, width))
    return boxes, (boxes[:, 2:] > boxes[:, :2]).all(1)


def _check_encoded(encoded: Any, model: DeticModel) -> None:
    wanted = (len(model.config.stage_weights), model.config.embed_dim)
    if not isinstance(encoded, EncodedImage):
        raise InputError(f"{HOST}: wanted what encode_image gives, got {type(encoded).__name__}")
    if (encoded.regions.shape[0], encoded.regions.shape[2]) != wanted:
        raise HostError(f"{HOST}: this picture was encoded by another network; encode it with this one")
    if encoded.boxes.device != model.device:
        raise HostError(
            f"{HOST}: this picture was encoded on {encoded.boxes.device}, the network is on {model.device}; move it "
            "with encoded.to(device)"
        )
