"""The loop: a run that was killed and resumed ends with the same weights as one that was not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bind2gen.errors import InputError
from bind2gen.train.loop import LoopConfig, learning_rate_factor, train, weights_of

CONFIG = LoopConfig(
    steps=8, batch_size=4, learning_rate=1e-2, warmup_steps=2, ema_decay=0.9, precision="no", save_every=3, log_every=1
)


def fresh_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def loss_of(model: nn.Module, *, killed_at: int | None = None):
    def step_loss(step: int, rng: np.random.Generator):
        if step == killed_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.standard_normal((4, 4)).astype(np.float32))
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    return step_loss


def test_a_killed_and_resumed_run_gives_the_same_weights(tmp_path):
    straight = fresh_model()
    train(straight, loss_of(straight), CONFIG, tmp_path / "straight")

    model = fresh_model()
    with pytest.raises(KeyboardInterrupt):
        train(model, loss_of(model, killed_at=5), CONFIG, tmp_path / "killed")
    resumed = fresh_model()
    torch.manual_seed(999)  # whatever happened in between must not matter
    train(resumed, loss_of(resumed), CONFIG, tmp_path / "killed")

    wanted, got = weights_of(tmp_path / "straight"), weights_of(tmp_path / "killed")
    assert wanted.keys() == got.keys()
    for name in wanted:
        assert torch.equal(wanted[name], got[name]), name


def test_the_moving_average_lags_behind_the_weights(tmp_path):
    model = fresh_model()
    start = model[0].weight.detach().clone()
    average = train(model, loss_of(model), CONFIG, tmp_path)
    moved = (model[0].weight - start).norm()
    assert 0 < (average[0].weight - start).norm() < moved


def test_learning_rate_warms_up_and_decays():
    config = LoopConfig(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10, final_lr_fraction=0.1)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0)
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_an_untrained_stage_is_named(tmp_path):
    with pytest.raises(InputError, match="run that stage first"):
        weights_of(tmp_path)


def test_the_moving_average_forgets_the_start(tmp_path):
    """With a long memory and few steps, the untrained weights must not linger in the average."""
    model = torch.nn.Linear(1, 1, bias=False)
    config = LoopConfig(60, 1, 0.0, warmup_steps=1, weight_decay=0.0, ema_decay=0.9999, precision="no")

    def step_loss(step, rng):
        model.weight.data.fill_(1.0 if step else 1000.0)  # the start is far from everything after it
        return model(torch.ones(1, 1)).sum() * 0.0, {}

    average = train(model, step_loss, config, tmp_path)
    # The plain average would keep 0.9999 ** 59 of the start: 994.
    assert 1.0 < average.weight.item() < 5.0
