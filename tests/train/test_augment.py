"""Pictures and sounds that hold a part of another one: the shares are those of what can be seen and heard."""

import numpy as np
import pytest
import torch

from bind2gen.train.align import Pairs
from bind2gen.train.augment import cut_and_paste, splice_sounds
from bind2gen.train.contrastive import info_nce, shares


@pytest.mark.parametrize(("mix", "shape"), [(cut_and_paste, (3, 24, 40)), (splice_sounds, (1, 8, 50))])
def test_the_share_is_that_of_the_values_that_are_still_its_own(mix, shape):
    rows = torch.arange(40.0)
    values = rows.view(-1, 1, 1, 1).expand(-1, *shape)
    mixed = mix(values, np.random.default_rng(0), share=0.8)
    still = (mixed.values == rows.view(-1, 1, 1, 1)).flatten(1).float().mean(1).numpy()
    pasted = mixed.partner != np.arange(40)
    assert np.allclose(still[pasted], mixed.own[pasted], atol=1e-6)
    assert 20 <= (mixed.own < 1).sum() <= 38  # about 32 of 40
    from_partner = mixed.values == rows[mixed.partner].view(-1, 1, 1, 1)
    assert (from_partner | (mixed.values == rows.view(-1, 1, 1, 1))).all()
    assert torch.equal(values, rows.view(-1, 1, 1, 1).expand(-1, *shape))  # the argument is not written into


def test_nothing_is_mixed_at_a_share_of_zero():
    values = torch.rand(5, 3, 8, 8)
    mixed = cut_and_paste(values, np.random.default_rng(0), share=0.0)
    assert torch.equal(mixed.values, values) and (mixed.own == 1).all()


def test_a_mixed_input_belongs_to_both_groups_by_its_shares():
    pairs = Pairs(
        torch.zeros(3, 1, 1), torch.zeros(3, 4), torch.tensor([7, 8, 7]),
        others=torch.tensor([8, 8, 7]), own=torch.tensor([0.75, 1.0, 1.0]),
    )  # fmt: skip
    wanted = torch.tensor([[0.375, 0.25, 0.375], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    assert torch.allclose(pairs.matches(torch.device("cpu")), wanted)


def test_the_loss_is_least_where_likenesses_are_as_the_weights_say():
    weights = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    keys = torch.eye(2)
    fitting = shares(weights).log()  # logits whose softmax is the rows' target
    loss = info_nce(fitting, keys, 1.0, weights)
    assert loss < info_nce(fitting.flip(1), keys, 1.0, weights)
    assert loss < info_nce(torch.eye(2) * 5, keys, 1.0, weights)


def test_rows_of_zeros_stay_zeros():
    assert shares(torch.tensor([[0.0, 0.0], [1.0, 3.0]])).tolist() == [[0.0, 0.0], [0.25, 0.75]]
