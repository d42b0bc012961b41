"""A classifier that was fitted on examples: one linear layer on embeddings, with its labels, as a folder."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from ..errors import HostError, InputError, ShapeError
from ..imagebind.agreement import AgreementMixin
from ..imagebind.model import ImageBindModel, same_towers
from ..modality import modality as find_modality
from .arithmetic import Embeds, as_tensor, normalize
from .zero_shot import Answers

LARGEST_SCALE = 1e9  # far beyond what any temperature gives


class EmbeddingClassifier(AgreementMixin, ModelMixin, ConfigMixin):
    """``softmax(scale * (embedding @ weight.T + bias))``; see :func:`bind2gen.train.few_shot.fit_classifier`.

    Args:
        embed_dim: width D of the encoder's space.
        labels: C names.
        modality: of the examples.
        head: how it was fitted.
        scale: 1 / temperature.
        threshold: probability of the first label under which it is called none of them.
        encoder: by tower a few weights of the encoder that the examples went through.
    """

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 1024,
        labels: list[str] | None = None,
        modality: str = "image",
        head: str = "",
        scale: float = 1.0,
        threshold: float = 0.0,
        encoder: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        find_modality(modality)
        if not labels or len(set(labels)) < len(labels):
            raise InputError(f"classifier: wanted labels, all different, got {labels}")
        if not 0 < scale < LARGEST_SCALE:
            raise InputError(f"classifier: wanted scale above zero and below {LARGEST_SCALE:g}, got {scale:.3g}")
        self.register_buffer("weight", torch.zeros(len(labels), embed_dim))
        self.register_buffer("bias", torch.zeros(len(labels)))

    @property
    def labels(self) -> tuple[str, ...]:
        """C names."""
        return tuple(self.config.labels)

    @torch.no_grad()
    def forward(self, embeds: Embeds) -> Answers:
        """Name (N, D) embeddings of any length.

        Raises:
            ShapeError: another width.
        """
        embeds = normalize(as_tensor(embeds).to(self.weight))
        if embeds.ndim != 2 or embeds.shape[1] != self.config.embed_dim:
            raise ShapeError(f"classifier: wanted embeddings (N, {self.config.embed_dim}), got {tuple(embeds.shape)}")
        shares = (self.config.scale * (embeds @ self.weight.T + self.bias)).softmax(1)
        return Answers(self.labels, shares, shares.max(1).values, self.config.threshold)

    def check(self, encoder: ImageBindModel) -> None:
        """Refuse another encoder than the examples went through.

        Raises:
            HostError: saying what differs.
        """
        width, found = encoder.config.embed_dim, encoder.fingerprint()
        if width != self.config.embed_dim:
            raise HostError(f"classifier: fitted on embeddings of width {self.config.embed_dim}, these have {width}")
        if not all(same_towers(self.config.encoder or {}, found)):
            raise HostError("classifier: fitted on another encoder's embeddings; give that one by --model, or fit anew")
