"""OWL-ViT and OWLv2 (transformers) with query embeddings from anywhere, and their quirks.

Both compare each patch of a picture with each query: logit = (cosine + shift) * (elu(scale) + 1), where shift and scale
are predicted for the patch. Their text space moved away from CLIP's while they learned to detect, so embeddings of
another network need a map fitted for them, or a blend of :meth:`OwlDetector.embed_text` of known words.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torchvision.ops import box_convert, clip_boxes_to_image, nms
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

from ...errors import Bind2GenError, Bind2GenWarning, CheckpointError, EmptyInputError, HostError, InputError
from ...files.atomic import written_together
from ...imagebind.agreement import NOT_OF_ONE, check_beside, check_loaded, listed
from ...preprocess.image import upright
from ...preprocess.muted import STDOUT, TOKENIZERS, muted
from .detections import Detections, Proposals
from .selection import checked_class_embeds, checked_count, select

FAMILIES = {"owlvit": "OWL-ViT", "owlv2": "OWLv2"}
DOUBTS = ("missing_keys", "unexpected_keys", "mismatched_keys")  # of what transformers tells of loading
NMS_IOU = 0.5  # patches next to each other find the same thing
PROPOSAL_IOU = 0.7  # looser: a box within a box may be another thing
NORM_EPS = 1e-6  # of the class head, both for patches and for queries
# OWL-ViT cannot say how much a patch looks like an object; it is asked for these, and the best answer counts.
ANYTHING = ("an object", "a thing", "a person", "an animal", "a vehicle", "a machine", "a tool", "an instrument")


@dataclass(frozen=True)
class OwlEncoded:
    """A picture as an OWL detector sees it: one box a patch, P of them.

    Attributes:
        boxes: (P, 4) xyxy in pixels of the picture as it was given, within it.
        features: (P, D) unit-length, what queries are compared with.
        shift, scale: (P, 1), of the logits.
        objectness: (P,) logits; None for OWL-ViT.
        image_size: (width, height) in pixels.
    """

    boxes: torch.Tensor
    features: torch.Tensor
    shift: torch.Tensor
    scale: torch.Tensor
    objectness: torch.Tensor | None
    image_size: tuple[int, int]


class OwlDetector:
    """An OWL-ViT or OWLv2 checkpoint behind the :class:`Detector` contract. Has no masks.

    Args:
        model: ``OwlViTForObjectDetection`` or ``Owlv2ForObjectDetection``; stays on its device and in its dtype.
        processor: the one saved with it.
        nms_iou: overlap beyond which the weaker box of the same prompt goes; None keeps all, as transformers does.
        one_prompt_a_box: a box answers only the prompt that it scores best for, as in transformers' post-processing.

    Raises:
        HostError: the model is of another kind.
    """

    def __init__(
        self, model: Any, processor: Any, *, nms_iou: float | None = NMS_IOU, one_prompt_a_box: bool = False
    ) -> None:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        if kind not in FAMILIES or not hasattr(model, "class_head"):
            raise HostError(f"wanted an OWL-ViT or OWLv2 model for object detection, got {type(model).__name__}")
        self.model, self.processor = model.eval(), processor
        self.nms_iou, self.one_prompt_a_box = nms_iou, one_prompt_a_box
        self.family = FAMILIES[kind]

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        nms_iou: float | None = NMS_IOU,
        one_prompt_a_box: bool = False,
        local_files_only: bool = False,
    ) -> OwlDetector:
        """Load a folder or a hub id, such as ``google/owlv2-base-patch16-ensemble``, with its processor.

        Raises:
            HostError: not a folder or reachable hub id of an OWL detector.
            CheckpointError: damaged; config and weights do not belong together, or these are no numbers.
        """
        known = {"local_files_only": True} if local_files_only else {}
        try:
            config = AutoConfig.from_pretrained(source, local_files_only=local_files_only)
            if config.model_type not in FAMILIES:
                found = f"found one of kind {config.model_type!r}"
                raise HostError(f"{source}: wanted an OWL-ViT or OWLv2 checkpoint, {found}")
            check_beside(source, lambda _: AutoModelForZeroShotObjectDetection.from_config(config), **known)
            model, told = AutoModelForZeroShotObjectDetection.from_pretrained(
                source, dtype=dtype, local_files_only=local_files_only, output_loading_info=True
            )
            # Older files hold a table of positions that is computed now.
            if odd := [key for kind in DOUBTS for key in told[kind] if not str(key).endswith("position_ids")]:
                raise CheckpointError(f"{source}: {NOT_OF_ONE}: {listed([str(key) for key in sorted(odd, key=str)])}")
            check_loaded(model, str(source))
            with muted(TOKENIZERS, STDOUT):
                processor = AutoProcessor.from_pretrained(source, local_files_only=local_files_only)
            # Its settings are not looked at before; they may not be the model's.
            pixels = processor.image_processor(images=Image.new("RGB", (8, 8)), return_tensors="pt")["pixel_values"]
            if tuple(pixels.shape[-2:]) != (wanted := (config.vision_config.image_size,) * 2):
                raise HostError(f"{source}: the model wants {wanted} pixels, its processor gives {pixels.shape[-2:]}")
        except Bind2GenError:
            raise
        except Exception as error:  # transformers, safetensors and the hub raise nearly anything on damaged files
            reason = str(error).strip().split("\n")[0]
            raise HostError(f"{source}: cannot be loaded as an OWL detector: {reason}") from error
        return cls(model, processor, nms_iou=nms_iou, one_prompt_a_box=one_prompt_a_box)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write model and processor for :meth:`from_pretrained`."""
        with written_together(folder) as fresh:
            self.model.save_pretrained(fresh)
            self.processor.save_pretrained(fresh)

    @property
    def embed_dim(self) -> int:
        """Width D of query embeddings: 512 in the base models, 768 in the large ones."""
        return self.model.class_head.dense0.out_features

    # ---- prompts ----

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> torch.Tensor:
        """The detector's own query embeddings: (C, D) unit norm, on its device and in its dtype.

        The texts go in as they are; OWL was trained on names and on sentences such as "a photo of a dog". What is
        longer than the model's context (16 tokens) is cut, with a warning.

        Raises:
            InputError: not a list of texts.
            EmptyInputError: no texts, or an empty one.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{self.family}: wanted a list of texts, got {texts!r}")
        if not len(texts) or not all(text.strip() for text in texts):
            raise EmptyInputError(f"{self.family}: wanted texts of at least one character, got {list(texts)!r}")
        context = self.model.config.text_config.max_position_embeddings
        lengths = [len(ids) for ids in self.processor.tokenizer(list(texts), verbose=False)["input_ids"]]
        if long := [text for text, length in zip(texts, lengths, strict=True) if length > context]:
            warnings.warn(f"{self.family} reads {context} tokens; cut: {long}", Bind2GenWarning, stacklevel=2)
        tokens = self.processor.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        ).to(self.model.device)
        base = self.model.base_model
        pooled = base.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        embeds = base.text_projection(pooled)
        return embeds / torch.linalg.norm(embeds, ord=2, dim=-1, keepdim=True)

    # ---- pictures ----

    @torch.no_grad()
    def encode_image(self, image: Any) -> OwlEncoded:
        """Features, boxes, and shift and scale of the logits; everything but the queries.

        Args:
            image: as of :func:`bind2gen.preprocess.image.upright`.

        Raises:
            InputError: the picture cannot be read, or has no pixels.
        """
        image, model = upright(image), self.model
        pixels = self.processor.image_processor(images=image, return_tensors="pt")["pixel_values"]
        feature_map = model.image_embedder(pixel_values=pixels.to(model.device, model.dtype))[0]  # (1, H, W, width)
        patches = feature_map.flatten(1, 2)  # (1, P, width)
        head = model.class_head
        features = head.dense0(patches)
        return OwlEncoded(
            boxes=self._to_pixels(model.box_predictor(patches, feature_map)[0].float(), image.size),
            features=(features / (torch.linalg.norm(features, dim=-1, keepdim=True) + NORM_EPS))[0],
            shift=head.logit_shift(patches)[0],
            scale=(head.elu(head.logit_scale(patches)) + 1)[0],
            objectness=model.objectness_predictor(patches)[0] if hasattr(model, "objectness_head") else None,
            image_size=image.size,
        )

    def _to_pixels(self, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(P, 4) centre, width and height in 0..1 of what the model saw -> xyxy in pixels, cut at the picture's edges.

        OWLv2's processor pads pictures to a square, right and bottom, so that 1 is the longer side for both axes;
        OWL-ViT's stretches them.
        """
        padded = getattr(self.processor.image_processor, "do_pad", False)
        width, height = (max(size), max(size)) if padded else size
        unit = boxes.new_tensor([width, height, width, height])
        return clip_boxes_to_image(box_convert(boxes, "cxcywh", "xyxy") * unit, (size[1], size[0]))

    @torch.no_grad()
    def logits(self, encoded: OwlEncoded, class_embeds: torch.Tensor) -> torch.Tensor:
        """(P, C) as the model itself computes them from texts; sigmoid makes scores of them.

        Args:
            class_embeds: (C, D) of any length; only their directions count.

        Raises:
            ShapeError, HostError, EmptyInputError, NonFiniteError: see :func:`selection.checked_class_embeds`.
        """
        queries = checked_class_embeds(class_embeds, self.embed_dim, self.family).to(encoded.features)
        queries = queries / (torch.linalg.norm(queries, dim=-1, keepdim=True) + NORM_EPS)
        cosines = torch.einsum("...pd,...qd->...pq", encoded.features[None], queries[None])[0]
        return (cosines + encoded.shift) * encoded.scale

    def detect(
        self,
        encoded: OwlEncoded,
        class_embeds: torch.Tensor,
        *,
        labels: tuple[str, ...] | None = None,
        threshold: float | torch.Tensor = 0.1,
        max_detections: int = 300,
        masks: bool = True,
    ) -> Detections:
        """Boxes for the classes (C, D).

        Args:
            threshold: one score or (C,) of them; OWL's scores are low, 0.1 is transformers' default.
            masks: taken for the sake of the contract; there are none.
        """
        return select(
            encoded.boxes,
            self.logits(encoded, class_embeds).float().sigmoid(),
            labels=labels,
            image_size=encoded.image_size,
            threshold=threshold,
            max_detections=max_detections,
            nms_iou=self.nms_iou,
            one_prompt_a_box=self.one_prompt_a_box,
        )

    @torch.no_grad()
    def propose(self, encoded: OwlEncoded, *, max_proposals: int = 256) -> Proposals:
        """Boxes that may hold anything, best first, without near-duplicates.

        OWLv2 scores them by its objectness head. OWL-ViT has none: there a box scores the best of a few general
        queries (:data:`ANYTHING`), so things that no such word covers come late.
        """
        checked_count("max_proposals", max_proposals)
        logits = encoded.objectness if encoded.objectness is not None else self._any_logits(encoded)
        scores = logits.float().sigmoid()
        kept = nms(encoded.boxes, scores, PROPOSAL_IOU)[:max_proposals]
        return Proposals(encoded.boxes[kept].cpu().numpy(), scores[kept].cpu().numpy())

    def _any_logits(self, encoded: OwlEncoded) -> torch.Tensor:
        return self.logits(encoded, self._anything).amax(1)

    @cached_property
    def _anything(self) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Bind2GenWarning)  # of a checkpoint with a shorter context
            return self.embed_text(ANYTHING)
