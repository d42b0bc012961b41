from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import InputError
from bind2gen.train.contrastive import info_nce, shares


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_diagonal_loss_equals_the_formula_of_the_paper():
    q, k, temperature = unit(5, 8), unit(5, 8, seed=1), 0.05
    wanted = 0.0
    for a, b in ((q, k), (k, q)):
        for i in range(5):
            logits = [math.exp(float(a[i] @ b[j]) / temperature) for j in range(5)]
            wanted -= math.log(logits[i] / sum(logits)) / 5 / 2
    assert info_nce(q, k, 1 / temperature).item() == pytest.approx(wanted, rel=1e-5)


def test_positives_on_the_diagonal_alone_change_nothing():
    q, k = unit(6, 8), unit(6, 8, seed=1)
    assert torch.allclose(info_nce(q, k, 10.0), info_nce(q, k, 10.0, torch.eye(6, dtype=torch.bool)))


def test_two_of_a_kind_are_not_pushed_apart():
    """Identical embeddings of one concept: with shared targets the loss has no gradient between them."""
    q = unit(1, 8).repeat(2, 1).requires_grad_()
    k = unit(1, 8, seed=1).repeat(2, 1)
    info_nce(q, k, 10.0, torch.ones(2, 2, dtype=torch.bool)).backward()
    assert q.grad.abs().max() < 1e-6


def test_a_batch_of_one_is_refused():
    """Its loss is 0 and so is its gradient: a run would go through to the end and train nothing."""
    with pytest.raises(InputError, match="wanted 2 pairs or more, of all processes together.*micro_batch = 1"):
        info_nce(unit(1, 8), unit(1, 8, seed=1), 10.0)


def test_the_loss_is_least_where_likenesses_are_as_the_weights_say():
    weights = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    keys = torch.eye(2)
    fitting = shares(weights).log()  # logits whose softmax is the rows' target
    loss = info_nce(fitting, keys, 1.0, weights)
    assert loss < info_nce(fitting.flip(1), keys, 1.0, weights)
    assert loss < info_nce(torch.eye(2) * 5, keys, 1.0, weights)


def test_rows_of_zeros_stay_zeros():
    assert shares(torch.tensor([[0.0, 0.0], [1.0, 3.0]])).tolist() == [[0.0, 0.0], [0.25, 0.75]]
