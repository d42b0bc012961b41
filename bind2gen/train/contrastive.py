"""Contrastive alignment: symmetric InfoNCE (ImageBind paper, section 3.2) on frozen or trained towers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from ..imagebind.model import ImageBindModel

ALONE = (
    "batch_size: wanted 2 pairs or more, of all processes together: the loss tells each apart from the others of its "
    "batch, so one alone teaches nothing; where memory is short, keep the batch and set micro_batch = 1"
)


def info_nce(
    queries: torch.Tensor, keys: torch.Tensor, scale: torch.Tensor | float, positives: torch.Tensor | None = None
) -> torch.Tensor:
    """Symmetric InfoNCE over a batch.

    Args:
        queries, keys: (N, D) unit-norm embeddings of the two modalities.
        scale: 1/temperature.
        positives: (N, N) bool, True where query i and key j belong together, or float weights of how much they do;
            default is the diagonal. Several positives share the target by their weights, so that two dogs in a batch
            are not pushed apart (UniCL, arXiv 2204.03610); with the diagonal alone this is the paper's loss.

    Returns:
        Scalar loss.

    Raises:
        InputError: a batch of one, whose loss and gradient are 0 whatever the embeddings are.
    """
    if len(queries) < 2:
        raise InputError(ALONE)
    logits = scale * queries @ keys.T
    if positives is None:
        targets = torch.arange(len(queries), device=queries.device)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    matches = positives.to(logits.dtype)
    forward = F.cross_entropy(logits, shares(matches))
    backward = F.cross_entropy(logits.T, shares(matches.T))
    return (forward + backward) / 2


def shares(weights: torch.Tensor) -> torch.Tensor:
    """(N, M) weights of at least 0, each row divided by its sum; a row of zeros stays: as a target it costs nothing."""
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)


def gathered(values: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, (N, ...) -> (processes * N, ...), through which gradients flow back to each.

    With the loss of the whole batch on every process and gradients averaged over processes (as
    :func:`~bind2gen.train.loop.train` does), the step is that of one process with the whole batch.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return values
    return _Gather.apply(values.contiguous())


class _Gather(torch.autograd.Function):
    """All processes' rows; backwards each gets the sum, over all processes, of the gradients of its own rows.

    torch.distributed.nn has one, deprecated since torch 2.14 in favour of one that older versions lack.
    """

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, values: torch.Tensor) -> torch.Tensor:
        context.count = len(values)
        parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, values)
        return torch.cat(parts)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        summed = gradient.clone()
        torch.distributed.all_reduce(summed)
        return summed.narrow(0, torch.distributed.get_rank() * context.count, context.count)


def train_only(module: nn.Module, model: ImageBindModel, *towers: str) -> None:
    """Put the named towers in training mode and every other tower in evaluation mode."""
    module.eval()
    for name in towers:
        model.towers[name].train()
