"""What every picture host says of itself, and which hosts are known: one row of :data:`HOSTS` each."""

from __future__ import annotations

import importlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ...errors import Bind2GenWarning, HostError

HOSTS = ("unclip.UnCLIP", "ip_adapter.IPAdapter")  # module beside this one, class
# Image spaces: width, and the network whose raw embeddings these are. ImageBind's lie in that of ViT-H.
SPACES = {
    "vit-h": (1024, "OpenCLIP ViT-H/14"),
    "vit-l": (768, "CLIP ViT-L/14"),
    "vit-bigg": (1280, "OpenCLIP ViT-bigG/14"),
}


@dataclass(frozen=True)
class Slot:
    """Where a pipeline takes image embeddings.

    Attributes:
        name: of the host, for people.
        space: key of :data:`SPACES`; empty where no published host has that width.
        width: of one embedding.
        norm: length of the raw embeddings; "measured": of each pipeline's own; "any": only the direction counts.
        negative: the half without a condition under guidance: zeros (or an embedding in their place), a vector that the
            host was trained on, or none of the caller's business.
        media: what comes out.
        needs: what must be there beside the pipeline.
        prompt: whether words go beside the embedding.
        weights, licence: published ones, and their terms.
    """

    name: str
    space: str
    width: int
    norm: float | Literal["measured", "any"]
    negative: Literal["zeros", "vector", "internal"]
    media: Literal["image", "video"]
    needs: str
    prompt: bool
    weights: str
    licence: str


class Host(ABC):
    """A kind of diffusers pipelines that can be conditioned on image embeddings."""

    @abstractmethod
    def slot(self, pipe: Any) -> Slot | None:
        """The slot of a loaded pipeline; None where it is of another kind.

        Raises:
            HostError: of this kind, but not as it can be used.
        """

    @abstractmethod
    def conditioned(
        self, pipe: Any, embeds: torch.Tensor, *, num: int, guided: bool, negative: torch.Tensor | None = None
    ) -> AbstractContextManager[dict[str, Any]]:
        """Within the block ``pipe(**arguments)`` draws what ``embeds`` say; after it the pipeline is as it was.

        A host may have options of its own beside these; :func:`bind2gen.bind` finds them in its signature.

        Args:
            embeds: (B, D) float32 of the host's length, one a picture (some hosts take (B, S, D), several a picture).
            num: pictures of each.
            guided: whether the call is guided.
            negative: (1 or B, D), what it is guided away from.

        Yields:
            The arguments, to be merged into those of the caller.
        """

    def norm(self, pipe: Any) -> float | None:
        """Length of the raw embeddings, where the pipeline itself says it."""
        return None

    def save(self, pipe: Any, folder: str | os.PathLike[str]) -> None:
        """Save the pipeline with all that :meth:`load` needs."""
        pipe.save_pretrained(folder)

    def load(self, folder: str | os.PathLike[str], **options: Any) -> Any:
        """The pipeline of a folder written by :meth:`save`; ``options`` as of diffusers' ``from_pretrained``."""
        from diffusers import DiffusionPipeline

        return DiffusionPipeline.from_pretrained(folder, **options)


def known_hosts() -> list[Host]:
    """One of each kind."""
    places = (name.split(".") for name in HOSTS)
    return [getattr(importlib.import_module(f".{module}", __package__), kind)() for module, kind in places]


def host_of(pipe: Any) -> tuple[Host, Slot]:
    """The host that a loaded pipeline is, and its slot.

    Raises:
        HostError: it is none, or not as it can be used.
    """
    hosts = known_hosts()
    for host in hosts:
        if slot := host.slot(pipe):
            return host, slot
    known = "; ".join((type(host).__doc__ or "").partition("\n")[0].rstrip(".") for host in hosts)
    raise HostError(f"{type(pipe).__name__}: wanted a pipeline with a slot for image embeddings, known are: {known}")


def space_of(width: int) -> str:
    """The space whose embeddings have that width; empty if none."""
    return next((name for name, (known, _) in SPACES.items() if known == width), "")


def check_width(host: str, wanted: int, slot: Slot) -> None:
    """Refuse a host whose slot is not as wide as the encoder's embeddings, (B, ``wanted``).

    Raises:
        HostError: naming both widths, and the variant where it is a known one.
    """
    if wanted == slot.width:
        return
    variant = f"; this is the {SPACES[slot.space][1]} variant" if slot.space else ""
    advice = f"; use {slot.weights}" if wanted == SPACES["vit-h"][0] else ""
    words = f"{host}: wanted a host for embeddings of width {wanted}, found {slot.width}"
    raise HostError(f"{words}{variant}{advice}")


def length_of(norm: float | None, measured: float | None, width: int) -> float:
    """The length that conditioning vectors get: the host's own ``norm``, else the ``measured`` one, else sqrt(width).

    The last is what vectors of independent unit normals have, and a guess, so it warns.
    """
    if norm is not None or measured is not None:
        return measured if norm is None else norm
    words = f"the host does not say how long its image embeddings are, so {width**0.5:.1f} stands in, the square root"
    advice = "`bind2gen fit-gap` measures it; where it is known, adapter.register_to_config(norm=LENGTH)"
    warnings.warn(f"{words} of their width; {advice}", Bind2GenWarning, stacklevel=3)
    return width**0.5


@contextmanager
def bound_method(pipe: Any, name: str, method: Any) -> Iterator[None]:
    """Within the block ``method`` takes the place of the instance's own of that name."""
    before = dict(vars(pipe))
    setattr(pipe, name, method)
    try:
        yield
    finally:
        if name in before:
            setattr(pipe, name, before[name])
        else:
            delattr(pipe, name)
