"""One tower: a clip of one modality to its place in the shared space."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .config import TowerConfig
from .stems import STEMS
from .transformer import NORM_EPS, build_blocks

MAX_LOGIT_SCALE = 100.0  # the reference clips its learned text factor here


class Head(nn.Module):
    """Norm, dropout and projection of the read-out row."""

    def __init__(self, config: TowerConfig, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.head_dropout)
        self.projection = nn.Linear(config.width, embed_dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(self.dropout(self.norm(x)))


class Tower(nn.Module):
    """Stem, positions, trunk, head: (N, *sample) -> (N, D) float32, unit norm unless ``unit_norm`` is False."""

    def __init__(self, config: TowerConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.stem = STEMS[config.stem](config)
        self.class_token = None if config.causal else nn.Parameter(torch.zeros(1, 1, config.width))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.input_norm = nn.LayerNorm(config.width, eps=NORM_EPS) if config.input_norm else nn.Identity()
        self.blocks = build_blocks(config)
        self.head = Head(config, embed_dim)
        if config.learned_logit_scale:
            self.log_logit_scale = nn.Parameter(torch.tensor(math.log(config.logit_scale)))

    def forward(self, x: torch.Tensor, *, unit_norm: bool = True) -> torch.Tensor:
        if self.class_token is None:
            readout = x.argmax(dim=-1)  # the end-of-text id is the largest in the vocabulary
            tokens = self.stem(x) + self.position_embedding[:, : x.shape[-1]]
        else:
            readout = torch.zeros(len(x), dtype=torch.long, device=x.device)
            tokens = self.stem(x)
            tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
            tokens = tokens + self.position_embedding
        tokens = self.input_norm(tokens)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        row = self.blocks[-1](tokens, readout)[:, 0]  # (N, width)
        raw = self.head(row).float()
        return F.normalize(raw, dim=-1) if unit_norm else raw

    @property
    def logit_scale(self) -> torch.Tensor:
        """The reference's factor on unit-norm embeddings; 1 for vision. A scalar tensor."""
        if self.config.learned_logit_scale:
            return self.log_logit_scale.float().exp().clamp(max=MAX_LOGIT_SCALE)
        return torch.tensor(self.config.logit_scale or 1.0, device=self.position_embedding.device)
