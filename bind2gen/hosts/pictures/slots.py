"""What each host's conditioning slot accepts. Facts only; the code that feeds a slot is in ``hosts``."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import HostError


@dataclass(frozen=True)
class Slot:
    """One conditioning slot.

    Attributes:
        host: pipeline family.
        argument: the pipeline's keyword.
        width: of one embedding vector in the published checkpoints.
        encoder: the network whose embeddings the host was trained on.
        direct: whether ImageBind's 1024-d embeddings fit without a learned map (they share OpenCLIP ViT-H's space).
    """

    host: str
    argument: str
    width: int
    encoder: str
    direct: bool


SLOTS: dict[str, Slot] = {
    "unclip": Slot("Stable unCLIP 2.1", "image_embeds", 1024, "OpenCLIP ViT-H/14", True),
    "unclip-l": Slot("Stable unCLIP 2.1, small", "image_embeds", 768, "CLIP ViT-L/14", False),
}

UNCLIP_MIRRORS = ("sd2-community/stable-diffusion-2-1-unclip", "diffusers/stable-diffusion-2-1-unclip-i2i-h")


def check_width(host: str, wanted: int, found: int) -> None:
    """Refuse a host whose slot is not as wide as the encoder's embeddings.

    Args:
        wanted: width of the encoder's embeddings.
        found: width that the host takes.

    Raises:
        HostError: they differ; the message names the variant where it is a known one.
    """
    if wanted == found:
        return
    variant = next((f"; this is the {slot.encoder} variant" for slot in SLOTS.values() if slot.width == found), "")
    advice = f"; use a ViT-H one such as {' or '.join(UNCLIP_MIRRORS)}" if wanted == SLOTS["unclip"].width else ""
    raise HostError(f"{host}: wanted a host for embeddings of width {wanted}, found {found}{variant}{advice}")
