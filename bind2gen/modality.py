"""The kinds of data and one table of what each is. No torch import: the command line reads this too.

Source of shapes: ImageBind paper (arXiv 2305.05665), section 4 and appendix B, for the "huge" model; a smaller
model states its own sizes in its config.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ModalityError


@dataclass(frozen=True)
class Modality:
    """One kind of input.

    Attributes:
        name: what users write: ``pipe(audio=...)``, ``--audio``, ``model.encode("audio", ...)``.
        tower: the network that encodes it. Images and videos share the vision tower.
        input_key: the tensor's name in the processor's output and in ``ImageBindModel.forward``.
        embeds_key: the embedding's name in the model's output.
        sample: the shape of one clip for the huge model, after the batch and clip axes (B, S).
        raw: the raw form that a user has, with units.
    """

    name: str
    tower: str
    input_key: str
    embeds_key: str
    sample: tuple[int, ...]
    raw: str


MODALITIES: dict[str, Modality] = {
    m.name: m
    for m in (
        Modality("text", "text", "input_ids", "text_embeds", (77,), "a sentence"),
        Modality("image", "vision", "pixel_values", "image_embeds", (3, 224, 224), "RGB picture, 0..255"),
        Modality("video", "vision", "video_values", "video_embeds", (3, 2, 224, 224), "RGB frames, 0..255"),
        Modality("audio", "audio", "audio_values", "audio_embeds", (1, 128, 204), "waveform, -1..1, any rate in Hz"),
        Modality("depth", "depth", "depth_values", "depth_embeds", (1, 224, 224), "depth in metres with intrinsics"),
        Modality("thermal", "thermal", "thermal_values", "thermal_embeds", (1, 224, 224), "infrared, one channel"),
        Modality("imu", "imu", "imu_values", "imu_embeds", (6, 2000), "accelerometer m/s^2 and gyroscope rad/s"),
    )
}

TOWERS: tuple[str, ...] = ("vision", "text", "audio", "depth", "thermal", "imu")


def clip_mask_key(modality: Modality) -> str:
    """Name of the (B, S) mask that says which clips of a batch are real, where items have different clip counts."""
    return modality.input_key.removesuffix("_values") + "_clip_mask"


def modality(name: str) -> Modality:
    """Look a modality up by name; ``"vision"`` is accepted for ``"image"``.

    Raises:
        ModalityError: the name is unknown.
    """
    found = MODALITIES.get("image" if name == "vision" else name)
    if found is None:
        raise ModalityError(f"unknown modality {name!r}; known are {', '.join(MODALITIES)}")
    return found
