"""What every picture host says of itself, and which hosts are known: one row of :data:`HOSTS` each."""

from __future__ import annotations

import importlib
import inspect
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ...errors import Bind2GenWarning, HostError, InputError, ShapeError
from ...files.hub import pipeline_index
from ...imagebind.agreement import read_json

HOSTS = (  # module beside this one, class; the first that takes a pipeline is its host
    "unclip.UnCLIP", "animatediff.AnimateDiff", "ip_adapter.IPAdapter", "kandinsky.Kandinsky", "karlo.Karlo",
    "stable_video.StableVideo", "flux.Flux",
)  # fmt: skip
# Image spaces: width, and the network whose raw embeddings these are. ImageBind's lie in that of ViT-H.
SPACES = {
    "vit-h": (1024, "OpenCLIP ViT-H/14"),
    "vit-l": (768, "CLIP ViT-L/14"),
    "vit-bigg": (1280, "OpenCLIP ViT-bigG/14"),
}
VIT_H = "a ViT-H one such as "  # before the weights of hosts that come in other variants too


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
        gigabytes: of these in half precision, counted over their parameters, without what is not needed here.
        goes_with: what else the pipeline can be given, in words.
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
    gigabytes: float
    goes_with: str


class Host(ABC):
    """A kind of diffusers pipelines that can be conditioned on image embeddings.

    Attributes:
        SLOTS: of the published ones, the usual one first.
        pipelines: names of diffusers' classes, or of their bases. Names, as the old ones of them may go.
        width_at: part, and key of its config, that say how wide an embedding is.
        unused: parts that ImageBind takes the place of, and that are not loaded.
        names: what its pipelines call ``guidance_scale``, ``num_inference_steps`` and ``num_images_per_prompt``, where
            they call it otherwise.
        file: name of a file beside the folders of a saved pipeline, of which :meth:`load` takes another by ``file=``.
        guidance: the argument above 1 by which a call is guided away from the negative half.
        scheduler: the part that counts the steps.
        float32_on_cpu: whether torch lacks what it needs in half precision on a CPU.
        own_frames: of films, whether each frame can have an embedding and a weight of its own.
    """

    SLOTS: tuple[Slot, ...]
    pipelines: tuple[str, ...]
    width_at = ("unet", "cross_attention_dim")
    unused: tuple[str, ...] = ()
    names: Mapping[str, str] = {}
    file = ""
    guidance = "guidance_scale"
    scheduler = "scheduler"
    float32_on_cpu = False
    own_frames = False

    def takes(self, kind: type) -> bool:
        """Whether pipelines of that class are of this kind, by their class alone."""
        return not {base.__name__ for base in kind.__mro__}.isdisjoint(self.pipelines)

    def slot(self, pipe: Any) -> Slot | None:
        """The slot of a loaded pipeline; None where it is of another kind.

        Raises:
            HostError: of this kind, but not as it can be used.
        """
        if not self.takes(type(pipe)):
            return None
        part, key = self.width_at
        return slot_of(self.SLOTS[0], getattr(pipe, part).config.get(key) or 0)

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

    def load(self, folder: str | os.PathLike[str], *, embed_dim: int | None = None, **options: Any) -> Any:
        """The pipeline of a folder written by :meth:`save`, or a hub id.

        Args:
            embed_dim: a folder's pipeline for embeddings of another width is refused before any weights are read.
            options: of diffusers' ``from_pretrained``.

        Raises:
            HostError: it is of another width, or cannot be loaded.
            CheckpointError: a part's config and its weights do not belong together.
        """
        from diffusers import DiffusionPipeline

        from .stated_parts import load_parts

        check_saved(self, folder, embed_dim)
        return load_parts(DiffusionPipeline.from_pretrained, folder, **dict.fromkeys(self.unused), **options)


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
    raise _unknown(type(pipe).__name__, hosts)


def saved_host(source: str | os.PathLike[str]) -> Host:
    """The host that the pipeline of a folder or hub id is, by its index; no weights are read.

    Raises:
        HostError: it is none.
    """
    import diffusers

    name = (pipeline_index(source) or {}).get("_class_name")
    kind = getattr(diffusers, name, type(None)) if isinstance(name, str) else type(None)
    hosts = known_hosts()
    if found := next((host for host in hosts if host.takes(kind)), None):
        return found
    raise _unknown(f"{source} ({name})", hosts)


def _unknown(name: str, hosts: list[Host]) -> HostError:
    known = "; ".join((type(host).__doc__ or "").partition("\n")[0].rstrip(".") for host in hosts)
    words = f"{name}: wanted a pipeline with a slot for image embeddings, known are: {known}"
    return HostError(f"{words}; one without can be steered: bind(..., steer=True), or --steer")


def slot_of(slot: Slot, width: int) -> Slot:
    """A published slot as one of that width, whatever space has it."""
    return replace(slot, width=width, space=next((name for name, (known, _) in SPACES.items() if known == width), ""))


def check_width(host: str, wanted: int, slot: Slot) -> None:
    """Refuse a host whose slot is not as wide as what encoder and adapter give, (B, ``wanted``).

    Raises:
        HostError: naming both widths, and the variant where it is a known one.
    """
    if wanted == slot.width:
        return
    variant = f"; this is the {SPACES[slot.space][1]} variant" if slot.space else ""
    other = f"; use {slot.weights}" if wanted == SPACES["vit-h"][0] and slot.weights.startswith(VIT_H) else ""
    words = f"{host}: wanted a host for embeddings of width {wanted}, found {slot.width}"
    raise HostError(f"{words}{variant}{other}; or give an adapter with a map to its space (bind2gen fit-map)")


def check_saved(host: Host, folder: str | os.PathLike[str], wanted: int | None) -> None:
    """As :func:`check_width`, of a folder whose weights need not be read; None is any width."""
    part, key = host.width_at
    config = Path(folder, part, "config.json")
    if wanted is not None and config.is_file() and isinstance(found := read_json(config.parent).get(key), int):
        check_width(str(folder), wanted, slot_of(host.SLOTS[0], found))


def away_from(negative: torch.Tensor | None, rows: torch.Tensor, num: int) -> torch.Tensor:
    """The negative half, zeros where there is none, for (B num, ..., D).

    Raises:
        ShapeError: not (1 or B, D).
    """
    if negative is None:
        return rows.new_zeros(rows.shape)
    count = len(rows) // num
    if negative.ndim != 2 or len(negative) not in (1, count):
        raise ShapeError(f"negative: wanted (1 or {count}, D), got {tuple(negative.shape)}")
    spread = negative.to(rows).expand(count, -1).repeat_interleave(num, dim=0)
    return spread.unflatten(0, (-1, *[1] * (rows.ndim - 2))).expand_as(rows)


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


def takes_and_needs(pipe: Any, **given: Any) -> set[str]:
    """The names of those arguments that the pipeline's call has; what it has not must be None, and what it has not.

    Raises:
        InputError: naming one that is missing, or one that it does not take.
    """
    parameters, kind = inspect.signature(type(pipe).__call__).parameters, type(pipe).__name__
    for name, value in given.items():
        if value is None and name in parameters:
            raise InputError(f"{name}: {kind} begins with one of its own: host={{'{name}': ...}}")
        if value is not None and name not in parameters:
            raise InputError(f"{name}: {kind} takes no such argument")
    return given.keys() & parameters.keys()


def picture_each(image: Any, count: int, num: int, *, several: bool = True) -> list[Any]:
    """Of one picture, or (if ``several``) one for each of ``count`` embeddings, one for each of B num that are drawn.

    Raises:
        InputError: another number of them.
    """
    pictures = list(image) if isinstance(image, list | tuple) else [image]
    if len(pictures) not in ((1, count) if several else (1,)):
        raise InputError(f"image: wanted one{f', or {count}' if several else ''}, got {len(pictures)}")
    return [picture for picture in pictures * (count // len(pictures)) for _ in range(num)]


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
