"""The adapter: unit-norm embeddings of any modalities to one vector a picture, ready for a host's slot."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from ..errors import Bind2GenWarning, HostError, InputError, ModalityError, NonFiniteError, ShapeError
from ..imagebind.agreement import AgreementMixin
from ..imagebind.model import same_towers
from ..modality import MODALITIES
from .anchors import Anchors
from .arithmetic import blend, check_blend, gap_shift, normalize

if TYPE_CHECKING:
    from ..imagebind.model import ImageBindModel

GUIDANCE = ("guidance_scale", "guidance_rescale")  # of a host, which travel in an adapter's config
MENDED_BY = (
    "measure it on your files: `bind2gen fit-gap --imagebind ENCODER --images PHOTOS --sounds SOUNDS --out FOLDER`, "
    "and give that by --adapter FOLDER or from_host(..., adapter=FOLDER); as `adapter` beside the encoder it is found"
)


class EmbeddingAdapter(AgreementMixin, ModelMixin, ConfigMixin):
    """Moves each modality over the modality gap towards images, on to the host's slot, and blends.

    Args:
        embed_dim: width D of the encoder's space.
        modalities: those whose mean embedding is known; ``"image"`` must be among them, or the list be empty.
            Unknown modalities pass without a shift.
        gap_strength: 0 leaves embeddings where they are, 1 moves each modality's mean onto the image mean.
        mapped: those that also have a learned linear map: embedding less its mean -> image embedding less its mean.
        num_anchors: pairs of an image embedding and a vector of the host's slot: the conditioning becomes the mean of
            the second ones, weighted by the softmax of its cosines with the first ones. For a host that draws well only
            near what it was shown; 0 leaves embeddings where they were moved to.
        anchor_temperature: that cosines are divided by; the smaller, the more the nearest pair alone counts.
        anchor_residual: share, 0 to 1, of what the same mean of the first ones leaves of an embedding that is added to
            the mean of the second ones, for pictures and modalities that have a map: two barks are then two dogs. Where
            both are the same, 1 is the map's result, or the picture's own embedding.
        near_anchors: the modalities of which that is so; None is those that have a map.
        anchor_names: what the anchors show, one name each, such as "cat"; None is unknown.
        guidance_scale, guidance_rescale: the host's defaults, which travel with the parts; None is Stable unCLIP's.
        norm: length of the host's raw image embeddings, where it was measured; counts where the host's own image
            normaliser says nothing.
        encoder: by tower a few weights of the encoder that the means are of, see :meth:`claim`.
        target_dim: width T of the space that a last linear map leads to, for hosts of another one; None is no map.
        target_space: its name, such as "vit-bigg".

    Means, (D,) each, maps, (D, D) each, anchors, (D,) each, and the last map are buffers measured on training data.
    """

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 1024,
        modalities: list[str] | None = None,
        gap_strength: float = 1.0,
        mapped: list[str] | None = None,
        num_anchors: int = 0,
        anchor_temperature: float = 0.02,
        anchor_residual: float = 0.0,
        near_anchors: list[str] | None = None,
        anchor_names: list[str] | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        norm: float | None = None,
        encoder: dict[str, list[float]] | None = None,
        target_dim: int | None = None,
        target_space: str = "",
    ) -> None:
        super().__init__()
        modalities = list(modalities or [])
        if unknown := set(modalities) - set(MODALITIES):
            raise ModalityError(f"adapter: unknown modalities {sorted(unknown)}; known are {', '.join(MODALITIES)}")
        if modalities and "image" not in modalities:
            raise ModalityError("adapter: wanted the mean of image embeddings among the means, found none")
        self.mapped = list(mapped or [])
        if missing := set(self.mapped) - set(modalities):
            raise ModalityError(f"adapter: maps for {sorted(missing)} without their mean embeddings")
        if anchor_names is not None and len(anchor_names) != num_anchors:
            raise InputError(f"adapter: wanted a name of each of {num_anchors} anchors, got {len(anchor_names)}")
        self.known = modalities
        self.register_buffer("means", torch.zeros(len(modalities), embed_dim))
        self.register_buffer("maps", torch.eye(embed_dim).repeat(len(self.mapped), 1, 1))
        if num_anchors:  # a file without any is that of an adapter of before they were known
            self.register_buffer("anchor_keys", torch.zeros(num_anchors, embed_dim))
            self.register_buffer("anchors", torch.zeros(num_anchors, embed_dim))
        if target_dim:
            self.register_buffer("target_matrix", torch.zeros(embed_dim, target_dim))
            for name, width in (("source", embed_dim), ("mean", target_dim), ("negative", target_dim)):
                self.register_buffer(f"target_{name}", torch.zeros(width))  # no negative one is known: all zeros

    @classmethod
    def from_means(
        cls,
        means: Mapping[str, torch.Tensor],
        *,
        maps: Mapping[str, torch.Tensor] | None = None,
        gap_strength: float = 1.0,
        anchors: tuple[torch.Tensor, torch.Tensor] | None = None,
        anchor_temperature: float = 0.02,
        anchor_residual: float = 0.0,
        near_anchors: Iterable[str] | None = None,
        anchor_names: Iterable[str] | None = None,
    ) -> EmbeddingAdapter:
        """Build from measurements.

        Args:
            means: modality name -> (D,) mean of its unit-norm embeddings.
            maps: modality name -> (D, D) linear map, applied from the right; see ``bind2gen.train.maps.gap``.
            anchors: (A, D) image embeddings and (A, D) vectors of the host's slot, of any length: places near which the
                maps lead, and what is to be drawn of each.

        Raises:
            ModalityError: no mean for images, or an unknown name.
            ShapeError: widths differ.
            NonFiniteError: NaN or infinity among the values.
            InputError: not one name for each anchor.
        """
        maps = dict(maps or {})
        widths = {tuple(mean.shape) for mean in means.values()}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise ShapeError(f"adapter: wanted means of one shape (D,), got {sorted(widths)}")
        width = next(iter(widths))[0]
        if wrong := {name: tuple(m.shape) for name, m in maps.items() if m.shape != (width, width)}:
            raise ShapeError(f"adapter: wanted maps ({width}, {width}), got {wrong}")
        if not all(bool(part.isfinite().all()) for part in (*means.values(), *maps.values())):
            raise NonFiniteError("adapter: wanted finite means and maps, found NaN or infinity")
        count = 0 if anchors is None else len(anchors[0])
        if anchors is not None and [part.shape for part in anchors] != [(count, width)] * 2:
            came = " and ".join(str(tuple(part.shape)) for part in anchors)
            raise ShapeError(f"adapter: wanted anchors ({count}, {width}) each, got {came}")
        adapter = cls(
            embed_dim=width,
            modalities=list(means),
            gap_strength=gap_strength,
            mapped=list(maps),
            num_anchors=count,
            anchor_temperature=anchor_temperature,
            anchor_residual=anchor_residual,
            near_anchors=None if near_anchors is None else list(near_anchors),
            anchor_names=None if anchor_names is None else list(anchor_names),
        )
        if anchors is not None:
            adapter.anchor_keys.copy_(normalize(anchors[0]))
            adapter.anchors.copy_(normalize(anchors[1]))
        adapter.means.copy_(torch.stack(list(means.values())))
        for k, learned in enumerate(maps.values()):
            adapter.maps[k] = learned
        return adapter

    def with_map(
        self,
        matrix: torch.Tensor,
        *,
        source_mean: torch.Tensor,
        target_mean: torch.Tensor,
        norm: float,
        space: str,
        negative: torch.Tensor | None = None,
    ) -> EmbeddingAdapter:
        """This adapter, and behind it ``unit(target mean + (embedding - source mean) @ matrix)``.

        Args:
            matrix: (D, T), applied from the right; of unit image embeddings less their mean (``bind2gen fit-map``).
            source_mean, target_mean: (D,) and (T,), those means.
            norm: mean length of the target's raw embeddings.
            space: of the target, such as "vit-bigg" or "vit-l".
            negative: (T,) of the target's own length, what a host that wants a vector is guided away from.

        Raises:
            ShapeError, NonFiniteError: widths differ; NaN or infinity among the values.
        """
        width = matrix.shape[-1]
        parts = {"target_source": source_mean, "target_matrix": matrix, "target_mean": target_mean}
        parts["target_negative"] = torch.zeros(width) if negative is None else negative
        facts = {"target_dim": width, "target_space": space, "norm": float(norm)}
        made = type(self)(**{key: value for key, value in self.config.items() if not key.startswith("_")} | facts)
        if wrong := {name: tuple(p.shape) for name, p in parts.items() if p.shape != getattr(made, name).shape}:
            raise ShapeError(f"adapter: wanted a map of {tuple(made.target_matrix.shape)} and its means, got {wrong}")
        if not all(bool(part.isfinite().all()) for part in parts.values()):
            raise NonFiniteError("adapter: wanted a finite map and finite means, found NaN or infinity")
        made.load_state_dict(self.state_dict() | parts)
        return made

    @property
    def width(self) -> int:
        """Of what comes out: that of the host's slot."""
        return self.config.target_dim or self.config.embed_dim

    @property
    def negative(self) -> torch.Tensor | None:
        """(T,), what a host that wants a vector is guided away from; None is not known."""
        return self.target_negative if self.config.target_dim and bool(self.target_negative.any()) else None

    def fits(self, encoder: ImageBindModel) -> bool:
        """Whether this belongs to ``encoder``: the towers that both know are the same but for rounding."""
        return bool(same := same_towers(self.config.encoder or {}, encoder.fingerprint())) and all(same)

    def claim(self, encoder: ImageBindModel, *, strict: bool = False) -> None:
        """Note that this belongs to ``encoder``; a warning where its means are known to be another's.

        Raises:
            HostError: the encoder's embeddings are of another width; ``strict``, or a last map, and all is another's.
        """
        width, found = encoder.config.embed_dim, encoder.fingerprint()
        if self.config.embed_dim != width:
            raise HostError(f"adapter: made for embeddings of width {self.config.embed_dim}, the encoder's are {width}")
        if all(same_towers(self.config.encoder or {}, found)):
            self.register_to_config(encoder=(self.config.encoder or {}) | found)
        elif self.config.target_dim or strict:
            raise HostError("adapter: measured on another encoder; measure one on this by bind2gen fit-gap or fit-map")
        elif self.known:
            words = f"adapter: its means are those of another encoder, so what it does here is chance; {MENDED_BY}"
            warnings.warn(words, Bind2GenWarning, stacklevel=3)

    @torch.no_grad()
    def forward(
        self,
        embeds: Mapping[str, torch.Tensor],
        weights: Mapping[str, float] | None = None,
        *,
        anchored: bool = True,
    ) -> torch.Tensor:
        """Blend embeddings of several modalities into conditioning vectors.

        Args:
            embeds: modality -> (B, D) unit norm.
            weights: modality -> finite number; one that is not named weighs 1, 0 leaves it out, negative subtracts
                (before the anchors, where there are any: see :meth:`Anchors.lead`).
            anchored: by way of the anchors and the last map; False for what was understood rather than what is drawn.

        Returns:
            (B, T) float32 unit norm, around the place where the host's image embeddings lie; (B, D) without a last map.

        Raises:
            ModalityError: a weight for a modality that was not given.
            InputError: weights that are no finite numbers, or none of them above zero.
            ShapeError: shapes differ.
        """
        if weights is not None and not isinstance(weights, Mapping):
            example = ", ".join(f'"{name}": 1.0' for name in embeds)
            raise InputError(f"weights: wanted a dict such as {{{example}}}, got {type(weights).__name__}")
        if unknown := set(weights or {}) - set(embeds):
            raise ModalityError(f"weights for {sorted(unknown)}, but only {', '.join(embeds)} given")
        weights = dict.fromkeys(embeds, 1.0) | dict(weights or {})
        moved = {name: self.shift(name, value.float()) for name, value in embeds.items()}
        check_blend(list(moved.values()), list(weights.values()))
        if anchored and self.config.num_anchors:
            moved = self._anchors(next(iter(moved.values()))).lead(moved, weights)
        mixed = blend(list(moved.values()), [weights[name] for name in moved])
        return self.in_slot(mixed) if anchored else mixed

    def in_slot(self, embeds: torch.Tensor) -> torch.Tensor:
        """(B, D) image embeddings -> (B, T) by the last map, where there is one: no anchor plays a part in it."""
        if not self.config.target_dim:
            return embeds
        mapped = (embeds - self.target_source.to(embeds)) @ self.target_matrix.to(embeds)
        return normalize(self.target_mean.to(embeds) + mapped)

    def shift(self, modality: str, embeds: torch.Tensor) -> torch.Tensor:
        """Move (B, D) embeddings of one modality towards images; images, and modalities without a mean, stay.

        This is the step over the gap alone: anchors play no part in it.
        """
        strength = self.config.gap_strength
        if modality == "image" or not strength or modality not in self.known:
            if strength and modality not in self.known and MODALITIES[modality].tower != MODALITIES["image"].tower:
                words = f"{modality}: no mean embedding is known, so it goes without the shift over the modality gap"
                warnings.warn(f"{words}, and what comes out may be far off; {MENDED_BY}", Bind2GenWarning, stacklevel=2)
            return embeds
        means = self.means.to(embeds)
        source, target = means[self.known.index(modality)], means[self.known.index("image")]
        if modality not in self.mapped:
            return gap_shift(embeds, source, target, strength)
        image_like = target + (embeds - source) @ self.maps[self.mapped.index(modality)].to(embeds)
        return normalize(torch.lerp(embeds, image_like, strength))

    def drawn_as(self, modality: str, embeds: torch.Tensor) -> list[str] | None:
        """Of (B, D) embeddings the names of the anchors that count most; None where none does or is named."""
        if not self._near_anchors(modality) or self.config.anchor_names is None:
            return None
        moved = self.shift(modality, embeds.float())
        return [self.config.anchor_names[i] for i in (moved @ self.anchor_keys.to(moved).T).argmax(-1).tolist()]

    def _near_anchors(self, modality: str) -> bool:
        near = self.mapped if self.config.near_anchors is None else self.config.near_anchors
        return bool(self.config.num_anchors) and modality in near

    def _anchors(self, like: torch.Tensor) -> Anchors:
        meant = {*self.mapped, "image", "video"}  # of what has no map, what the keys leave is a rest of the gap
        near = filter(self._near_anchors, MODALITIES)
        kept = {name: self.config.anchor_residual if name in meant else 0.0 for name in near}
        return Anchors(self.anchor_keys.to(like), self.anchors.to(like), self.config.anchor_temperature, kept)
