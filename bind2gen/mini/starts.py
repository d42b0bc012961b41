"""How untrained towers begin: with what their teachers know, so that training only has to improve on it."""

from __future__ import annotations

import torch
from torch import nn

from ..imagebind.tower import Tower
from ..imagebind.transformer import Block

EVEN = 0.3  # size of the first queries and keys beside the usual: nearly even attention, but not without gradient
LOUD, QUIET = 4.0, 0.1  # of the mean of the rows beside what else is added to the row that is read out
OPEN = 2.5  # how far a name's logit must be above the mean before the picture begins to mean it
NAMED = 4.0  # of the names beside that mean
BATCH = 128  # inputs at once


def _take_mean(block: Block, loud: float) -> None:
    """Attention that adds ``loud`` times the mean of the normed rows."""
    attention, width = block.attention, block.norm1.weight.numel()
    attention.in_proj.weight[: 2 * width] *= EVEN
    attention.in_proj.weight[2 * width :] = torch.eye(width)
    attention.out_proj.weight.copy_(loud * torch.eye(width))


@torch.no_grad()
def begin_as_mean(tower: Tower) -> None:
    """Make an untrained text tower give the mean of its rows, those of nothing (along the last axis) left out.

    The last block adds the mean of the normed rows to the end's row; all else adds nothing yet.
    """
    tower.position_embedding.zero_()
    for block in tower.blocks:
        block.mlp.fc2.weight.zero_()
        block.attention.out_proj.weight.zero_()
    _take_mean(tower.blocks[-1], LOUD)
    tower.blocks[-1].attention.in_proj.weight[-1] = 0
    tower.head.projection.weight.copy_(torch.eye(tower.config.width))


@torch.no_grad()
def after_attention(tower: Tower, values: torch.Tensor) -> torch.Tensor:
    """(N, ...) inputs of a tower of one block -> (N, width) class tokens, what attention saw added, before the MLP."""
    found: list[torch.Tensor] = []
    (block,) = tower.blocks
    handle = block.norm2.register_forward_pre_hook(lambda module, given: found.append(given[0][:, 0]))
    for part in values.split(BATCH):
        tower.eval()(part.float())
    handle.remove()
    return torch.cat(found)


@torch.no_grad()
def begin_as_classifier(
    tower: Tower, classifier: nn.Linear, names: torch.Tensor, values: torch.Tensor, logits: torch.Tensor
) -> None:
    """Make an untrained tower of one block give the names that a classifier sees, by how much it sees them.

    Its tokens are the main directions of the classifier's weights, its attention takes their mean, and its MLP is the
    classifier: a hidden unit a name, open where the name's logit is high.

    Args:
        tower: at least as wide as the names' embeddings, with more hidden units than names.
        classifier: (C, features) on the mean over the picture of what the stem's projection takes.
        names: (C, D) embeddings.
        values: (N, ...) some inputs of the tower, to find the scale that the norms have left of the logits.
        logits: (N, C) of them.
    """
    (block,), (count, wide), width = tower.blocks, names.shape, tower.config.width
    left, sizes, right = torch.linalg.svd(classifier.weight - classifier.weight.mean(0), full_matrices=False)
    tower.stem.projection.weight.copy_(right[:width, :, None, None])
    tower.position_embedding.zero_()
    tower.class_token.zero_()
    _take_mean(block, QUIET)
    weights = left[:, :width] * sizes[:width]
    found, wanted = block.norm2(after_attention(tower, values)) @ weights.T, logits - logits.mean(1, keepdim=True)
    block.mlp.fc1.weight[:count] = weights * (found * wanted).sum() / found.square().sum()
    block.mlp.fc1.bias[:count] = classifier.bias - classifier.bias.mean() - OPEN
    block.mlp.fc2.weight.zero_()
    block.mlp.fc2.weight[:wide, :count] = NAMED * names.T
    tower.head.projection.weight.copy_(torch.eye(wide, width))
