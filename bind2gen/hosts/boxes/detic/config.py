"""What a Detic network is made of, as frozen numbers. The four published variants stand at the end.

Sizes: shapes of the released checkpoints. Thresholds: Detic's ``configs/Base-C2_L_R5021k_640b64_4x.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import InputError
from ....preprocess.settings import Settings

STRIDE = 32  # pixels; of the coarsest backbone map, which pictures are padded to a multiple of


@dataclass(frozen=True)
class DeticConfig(Settings):
    """One network.

    Attributes:
        backbone: ``"resnet"``, ``"swin"`` or ``"convnext"``.
        depths: blocks in each of the backbone's four stages (strides 4, 8, 16, 32).
        widths: channels of each stage, before a bottleneck's expansion.
        bottleneck: ResNet blocks of three convolutions that widen their output four times (ResNet-50), not of two.
        heads: attention heads of each Swin stage.
        window: side of Swin's attention windows in patches.
        fpn_width: channels of the feature pyramid.
        fc_width: of the box heads' hidden layers.
        mask_width: channels of the mask head; 0 for a detector without masks.
        embed_dim: width D of class embeddings.
        norm_groups: of the proposal head's GroupNorms.
        stage_weights: how many times finer than the box each cascade stage's offsets are; one stage an entry.
        temperature: factor on the cosine of region and class.
        short_side, long_side: pixels; the picture's shorter side is brought to the one, unless the longer would
            exceed the other. The published real-time figures are at 640 and 640.
        pixel_mean, pixel_std: of RGB in 0..255.
        proposal_score: heatmap probability that a place must exceed.
        proposals_per_level, proposals: kept of each pyramid level, and of a picture in all.
        proposal_iou, box_iou: overlap beyond which the weaker of two proposals, of two boxes of a class, goes.
    """

    backbone: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool = False
    heads: tuple[int, ...] = ()
    window: int = 7
    fpn_width: int = 256
    fc_width: int = 1024
    mask_width: int = 256
    embed_dim: int = 512
    norm_groups: int = 32
    stage_weights: tuple[float, ...] = (10.0, 20.0, 30.0)
    temperature: float = 50.0
    short_side: int = 800
    long_side: int = 1333
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    proposal_score: float = 1e-4
    proposals_per_level: int = 1000
    proposals: int = 256
    proposal_iou: float = 0.9
    box_iou: float = 0.5

    def __post_init__(self) -> None:
        self.require_choice("backbone", ("resnet", "swin", "convnext"))
        self.require_positive(
            "window", "fpn_width", "fc_width", "embed_dim", "norm_groups", "temperature", "short_side", "long_side",
            "proposal_score", "proposals_per_level", "proposals", "proposal_iou", "box_iou",
        )  # fmt: skip
        for name in ("depths", "widths") + (("heads",) if self.backbone == "swin" else ()):
            sizes = getattr(self, name)
            if len(sizes) != 4 or any(not isinstance(size, int) or size < 1 for size in sizes):
                raise InputError(f"DeticConfig: wanted four {name} above zero, one a stage, got {sizes}")
        if self.fpn_width % self.norm_groups:
            raise InputError(
                f"DeticConfig: wanted fpn_width as a multiple of {self.norm_groups} norm_groups, got {self.fpn_width}"
            )
        if not self.stage_weights or min(self.stage_weights) <= 0:
            raise InputError(f"DeticConfig: wanted stage_weights above zero, got {self.stage_weights}")

    @property
    def map_widths(self) -> tuple[int, int, int]:
        """Channels of the backbone's maps at strides 8, 16 and 32."""
        expansion = 4 if self.backbone == "resnet" and self.bottleneck else 1
        return tuple(width * expansion for width in self.widths[1:])


SWIN_B = DeticConfig("swin", (2, 2, 18, 2), (128, 256, 512, 1024), heads=(4, 8, 16, 32))
RESNET50 = DeticConfig("resnet", (3, 4, 6, 3), (64, 128, 256, 512), bottleneck=True)
RESNET18 = DeticConfig("resnet", (2, 2, 2, 2), (64, 128, 256, 512))
CONVNEXT_T = DeticConfig("convnext", (3, 3, 9, 3), (96, 192, 384, 768))
VARIANTS: dict[str, DeticConfig] = {
    "swin-b": SWIN_B,
    "resnet-50": RESNET50,
    "resnet-18": RESNET18,
    "convnext-t": CONVNEXT_T,
}
