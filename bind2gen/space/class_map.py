"""The class map: from the encoder's space to a detector's class vectors, for detectors with a space of their own.

It is fitted on the names of things, which both sides can read (:mod:`bind2gen.train.maps.class_map`), and used for all
modalities: what differs between them in the encoder's space is, above all, where their embeddings are centred.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from ..errors import HostError, ModalityError, NonFiniteError, ShapeError
from ..imagebind.agreement import AgreementMixin
from ..modality import MODALITIES
from ..modality import modality as find_modality
from .arithmetic import normalize

TEXT = "text"  # what maps are fitted on


class ClassMap(AgreementMixin, ModelMixin, ConfigMixin):
    """``unit(target mean + (embedding - mean of its modality) @ matrix)``.

    Class vectors of CLIP-like text towers sit in a narrow cone: without the right offset every prompt is far from
    every region, and the detector is no longer told anything. So both means are part of the map.

    Args:
        source_dim: width D1 of the encoder's space.
        target_dim: width D2 of the detector's class vectors.
        modalities: those whose mean is known; ``"text"`` is always among them. Others are taken for text, which is
            right only for encoders without a gap between modalities.

    ``source_means`` (M, D1), ``target_mean`` (D2,) and ``matrix`` (D1, D2) are buffers; see :meth:`from_fit`.
    """

    @register_to_config
    def __init__(self, source_dim: int = 1024, target_dim: int = 512, modalities: list[str] | None = None) -> None:
        super().__init__()
        self.known = list(modalities or [TEXT])
        if unknown := set(self.known) - set(MODALITIES):
            raise ModalityError(f"class map: unknown modalities {sorted(unknown)}; known are {', '.join(MODALITIES)}")
        if TEXT not in self.known:
            raise ModalityError(f"class map: wanted {TEXT} among the modalities, got {', '.join(self.known)}")
        self.register_buffer("source_means", torch.zeros(len(self.known), source_dim))
        self.register_buffer("target_mean", torch.zeros(target_dim))
        self.register_buffer("matrix", torch.zeros(source_dim, target_dim))

    @classmethod
    def from_fit(
        cls,
        matrix: torch.Tensor,
        *,
        text_mean: torch.Tensor,
        target_mean: torch.Tensor,
        gaps: Mapping[str, torch.Tensor] | None = None,
    ) -> ClassMap:
        """Build from a fit.

        Args:
            matrix: (D1, D2), applied from the right.
            text_mean: (D1,) mean embedding of the names that it was fitted on.
            target_mean: (D2,) mean of their class vectors.
            gaps: modality -> (D1,) its mean embedding less that of texts about the SAME things; see :func:`gaps_of`.
                The names of the fit are mostly of other things than the sounds that a mean was measured on, so the
                mean of a modality itself would not do.

        Raises:
            ShapeError: widths differ.
            NonFiniteError: NaN or infinity among the values.
            ModalityError: an unknown modality.
        """
        gaps = {name: gap for name, gap in (gaps or {}).items() if name != TEXT}
        rows = {"text_mean": text_mean, **{f"gap of {name}": gap for name, gap in gaps.items()}}
        if matrix.ndim != 2 or any(row.shape != matrix.shape[:1] for row in rows.values()):
            came = ", ".join(f"{name} {tuple(row.shape)}" for name, row in rows.items())
            raise ShapeError(f"class map: wanted a matrix (D1, D2) and means (D1,), got {tuple(matrix.shape)}; {came}")
        if target_mean.shape != matrix.shape[1:]:
            raise ShapeError(f"class map: wanted target_mean {tuple(matrix.shape[1:])}, got {tuple(target_mean.shape)}")
        if not all(bool(part.isfinite().all()) for part in (matrix, target_mean, *rows.values())):
            raise NonFiniteError("class map: wanted a finite matrix and finite means, found NaN or infinity")
        made = cls(*matrix.shape, modalities=[TEXT, *gaps])
        made.matrix.copy_(matrix)
        made.target_mean.copy_(target_mean)
        made.source_means.copy_(torch.stack([text_mean, *(text_mean + gap for gap in gaps.values())]))
        return made

    @torch.no_grad()
    def forward(self, embeds: torch.Tensor, modality: str = TEXT) -> torch.Tensor:
        """Unit-norm embeddings (B, D1) of one modality -> class vectors (B, D2), unit norm float32."""
        return self.project(self.centred(embeds, modality))

    def centred(self, embeds: torch.Tensor, modality: str) -> torch.Tensor:
        """Embeddings (B, D1) less the mean of their modality: in this form those of several modalities may be added.

        Raises:
            HostError: another width than the map was fitted for.
            ModalityError: an unknown modality.
        """
        wanted = self.config.source_dim
        if embeds.ndim != 2 or embeds.shape[1] != wanted:
            raise HostError(
                f"class map: fitted for embeddings (B, {wanted}), got {tuple(embeds.shape)}; is it another encoder's?"
            )
        name = "image" if find_modality(modality).tower == "vision" else modality  # videos lie where images do
        row = self.known.index(name if name in self.known else TEXT)
        return embeds.float() - self.source_means[row].to(embeds.device, torch.float32)

    def project(self, centred: torch.Tensor) -> torch.Tensor:
        """What :meth:`centred` gave, or a weighted sum of it -> class vectors (B, D2), unit norm float32."""
        mapped = centred.float() @ self.matrix.to(centred.device, torch.float32)
        return normalize(self.target_mean.to(mapped) + mapped)


def gaps_of(means: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Differences from the text mean: modality -> (D,).

    Args:
        means: modality -> (D,) mean unit-norm embedding of the same things, ``"text"`` among them.

    Raises:
        ModalityError: no mean of texts.
    """
    if TEXT not in means:
        raise ModalityError(f"gaps: wanted the mean of {TEXT} embeddings too, got {', '.join(means) or 'none'}")
    return {name: mean - means[TEXT] for name, mean in means.items() if name != TEXT}
