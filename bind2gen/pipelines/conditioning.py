"""Raw inputs to a host's conditioning vectors: what stands in front of every picture host."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image

from ..errors import InputError, ShapeError
from ..hosts.pictures import NOT_GUIDED
from ..imagebind.embedding import embed_inputs
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..preprocess.image import transform
from ..space.adapter import EmbeddingAdapter
from ..space.arithmetic import match_norm, normalize


class ImageBindConditioning(ABC):
    """ImageBind, its front ends and the adapter, in front of a host of which only a vector's length is known.

    A base of :class:`bind2gen.ImageBindUnCLIPPipeline`, which is its host itself, and of what :func:`bind2gen.bind`
    gives.
    """

    imagebind: ImageBindModel
    processor: ImageBindProcessor
    adapter: EmbeddingAdapter
    anchored = True  # whether vectors are the host's slot's, or lie where the encoder's images do
    preview_inputs: tuple[str, ...] = ()  # what a step's callback must get for a preview; none: there is no preview

    def preview(self, tensors: Mapping[str, torch.Tensor]) -> list[Image]:
        """What the pictures will be, as the step expects them whose callback got ``preview_inputs``."""
        return []

    @property
    @abstractmethod
    def host_norm(self) -> float:
        """Length of the host's conditioning vectors."""

    @property
    def defaults(self) -> dict[str, Any]:
        """The arguments that a call takes of the host, and what each is where it is not given."""
        return call_defaults(self)

    def embed(self, *, sampling_rate: float | None = None, **inputs: Any) -> dict[str, torch.Tensor]:
        """ImageBind embeddings of raw inputs: modality -> (B, D) unit norm float32.

        Args:
            inputs: ``audio=``, ``image=``, ``text=``, ``video=``, ``depth=``, ``thermal=``, ``imu=``: one input, or a
                list of them. Where a sensor needs more than a file says, pass what its loader gives, such as
                ``bind2gen.preprocess.depth.load("d.png", sensor="kinect_v2")``.
            sampling_rate: Hz, of sounds given as arrays without a rate.
        """
        given = {name: value for name, value in inputs.items() if value is not None}
        return embed_inputs(
            self.imagebind, self.processor, given,
            sampling_rate=sampling_rate, device=self._execution_device, name="pipe.imagebind",
        )  # fmt: skip

    def condition(self, embeds: Mapping[str, torch.Tensor], weights: Mapping[str, float] | None = None) -> torch.Tensor:
        """Unit-norm embeddings by modality, (B, D) -> (B, D) conditioning vectors of the host's length.

        Shift over the modality gap, weighted blend, unit norm, host norm. A single item is shared by a batch.

        Raises:
            ShapeError: batches of different sizes.
        """
        sizes = {name: len(value) for name, value in embeds.items()}
        count = max(sizes.values())
        if any(size not in (1, count) for size in sizes.values()):
            words = ", ".join(f"{size} of {name}" for name, size in sizes.items())
            raise ShapeError(f"wanted as many inputs of each modality, or one that all share; got {words}")
        spread = {name: value.expand(count, -1) for name, value in embeds.items()}
        return match_norm(self.adapter(spread, weights, anchored=self.anchored), self.host_norm)

    def look(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, H, W) in 0..1 -> (N, D) unit norm, as :meth:`embed` gives, and differentiable."""
        clips = torch.stack([transform(picture, self.processor.image) for picture in pictures])
        return self.imagebind.encode("image", clips[:, None])

    def round_trip(self, images: Sequence[Image], rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures seen again: their own embeddings (N, D), and the cosine (N,), -1..1, of each with its row.

        Args:
            images: N of them, as many of each row.
            rows: (B, D) that they were drawn from.

        Raises:
            ModalityError: the encoder has no image tower.
        """
        embeds = self.embed(image=list(images))["image"]
        seen = self.adapter.in_slot(embeds) if self.anchored else embeds
        return embeds, (seen * normalize(rows.to(seen)).repeat_interleave(len(images) // len(rows), dim=0)).sum(1)

    def nearest(self, images: Sequence[Image], rows: torch.Tensor, best_of: int = 1) -> tuple[list[int], torch.Tensor]:
        """Look at pictures again, and of each ``best_of`` in a row choose the one that is nearest to what it is of.

        Args:
            images: N of them, as many of each row.
            rows: (B, D) that they were drawn from.

        Returns:
            Numbers of the chosen ones, N / best_of; and of each its round trip, the cosine, -1..1, of its own embedding
            with its row.

        Raises:
            ModalityError: the encoder has no image tower.
        """
        cosines, places = self.round_trip(images, rows)[1].view(-1, best_of).max(1)
        return (places + best_of * torch.arange(len(places)).to(places)).tolist(), cosines

    def _away(self, negative: Any, rescale: bool, *, guided: bool, scale: str) -> torch.Tensor | None:
        """Inputs by modality, or (1 or B, D), as conditioning vectors to be guided away from.

        Args:
            guided: whether the call is, by the argument ``scale``.

        Raises:
            InputError: it is not.
        """
        if negative is not None and not guided:
            raise InputError(NOT_GUIDED.format("negative", scale))
        if isinstance(negative, Mapping):
            return self.condition(self.embed(**negative))
        return None if negative is None else self._direct(negative, rescale)

    def _direct(self, image_embeds: torch.Tensor, rescale: bool) -> torch.Tensor:
        wanted, is_tensor = self.adapter.width, isinstance(image_embeds, torch.Tensor)
        if not is_tensor or image_embeds.ndim != 2 or image_embeds.shape[1] != wanted or not len(image_embeds):
            came = tuple(image_embeds.shape) if is_tensor else type(image_embeds).__name__
            raise ShapeError(f"image_embeds: wanted a tensor (B, {wanted}), got {came}")
        unit = normalize(image_embeds.float())  # also refuses NaN
        return match_norm(unit, self.host_norm) if rescale else image_embeds.float()


def check_inputs(given: Mapping[str, Any], image_embeds: Any, weights: Any, prompt: Any) -> None:
    """Refuse a call without inputs, or with conditioning vectors beside them.

    Raises:
        InputError: naming what can be given.
    """
    if (image_embeds is None) == (not given):
        words = "give inputs (audio=, image=, text=, video= ...) or image_embeds, one of the two"
        alone = isinstance(prompt, str) and prompt and image_embeds is None
        raise InputError(f"{words}; words alone are text={prompt!r}" if alone else words)
    if weights and not given:
        raise InputError("weights: they blend inputs, and image_embeds is one already")


def call_defaults(pipe: Any) -> dict[str, Any]:
    """Arguments of a pipeline's call and their defaults; those that must be given have none and are None."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    return {
        name: None if p.default is p.empty else p.default for name, p in list(parameters.items())[1:]
        if p.kind is not p.VAR_KEYWORD
    }  # fmt: skip
