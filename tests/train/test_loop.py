"""The loop: a run that was killed and resumed ends with the same weights as one that was not."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bind2gen.errors import InputError, NonFiniteError
from bind2gen.files.stopping import Terminated, told_by_signals
from bind2gen.train import processes
from bind2gen.train.curves import plot_curves, read_metrics
from bind2gen.train.loop import LoopConfig, learning_rate_factor, step_of, train, weights_of
from bind2gen.train.processes import averaged

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


def test_a_run_ends_with_a_picture_of_its_curves(tmp_path, monkeypatch):
    monkeypatch.setattr("bind2gen.train.loop.plot_curves", plot_curves)
    train(fresh_model(), loss_of(fresh_model()), CONFIG, tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 1000


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


def spoilt(model: nn.Module, what: str, at: int):
    """A step's loss is NaN or infinite, or it is finite and its gradient is not (a square root at 0)."""
    whole = loss_of(model)

    def step_loss(step: int, rng: np.random.Generator):
        loss, _ = whole(step, rng)
        if step == at:
            loss = {"nan": loss * math.nan, "inf": loss + math.inf, "gradient": (loss * 0).sqrt()}[what]
        return loss, {}

    return step_loss


@pytest.mark.parametrize("what", ["nan", "inf", "gradient"])
def test_what_is_not_finite_stops_the_run_before_it_reaches_weights_or_checkpoints(tmp_path, what):
    config, straight = replace(CONFIG, precision="bf16"), fresh_model()
    train(straight, loss_of(straight), config, tmp_path / "straight")
    model, folder = fresh_model(), tmp_path / "stopped"
    with pytest.raises(NonFiniteError, match="stopped at step 7: .* the checkpoint of step 6 is as it was"):
        train(model, spoilt(model, what, 7), config, folder)
    assert all(bool(value.isfinite().all()) for value in model.parameters()) and step_of(folder) == 6
    text = (folder / "metrics.jsonl").read_text()
    assert len(text.splitlines()) == 7 and "NaN" not in text and "Infinity" not in text
    resumed = fresh_model()
    train(resumed, loss_of(resumed), config, folder)  # its cause has gone: the run ends as if it had not been
    wanted, got = weights_of(tmp_path / "straight"), weights_of(folder)
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


def test_one_process_with_a_loss_that_is_not_finite_stops_all(monkeypatch):
    """The loss goes where the gradients go, so every process sees the same numbers and none waits for another."""
    model = nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    theirs = torch.cat([torch.tensor([math.inf]), torch.ones(3)])  # loss, weight, bias of the other process
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.add_(theirs))
    mean = averaged(torch.tensor(2.0), model, SimpleNamespace(num_processes=2))
    assert math.isinf(mean) and model.weight.grad.tolist() == [[1.0, 1.0]] and model.bias.grad.tolist() == [1.0]


def test_a_score_that_cannot_be_told_is_null_in_the_log(tmp_path):
    model = fresh_model()
    scores = iter([math.nan, 0.5, math.inf])
    config = replace(CONFIG, steps=3)
    train(model, loss_of(model), config, tmp_path, evaluate=lambda m: {"score": next(scores)}, evaluate_every=1)

    def refused(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    rows = [json.loads(line, parse_constant=refused) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["eval"]["score"] for row in rows if "eval" in row] == [None, 0.5, None]
    assert dict(read_metrics(tmp_path)["eval/score"].dropna()) == {1: 0.5}


@pytest.fixture
def keyboard():
    """Ctrl-C as in a terminal: processes that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_saves_the_step_that_it_fell_in_and_the_run_goes_on_from_there(tmp_path, keyboard):
    handler, model = signal.getsignal(signal.SIGINT), fresh_model()
    undisturbed = loss_of(model)

    def pressed(step: int, rng: np.random.Generator):
        if step == 4:  # save_every is 3: without the signal the last checkpoint would be that of step 3
            signal.raise_signal(signal.SIGINT)
        return undisturbed(step, rng)

    with pytest.raises(KeyboardInterrupt):
        train(model, pressed, CONFIG, tmp_path)
    assert step_of(tmp_path) == 5 and signal.getsignal(signal.SIGINT) is handler
    train(fresh_model(), loss_of(fresh_model()), CONFIG, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(CONFIG.steps))


def test_told_to_end_it_saves_the_step_and_then_minds_the_signal(tmp_path):
    for fails, saved in ((False, 5), (True, 3)):
        model = fresh_model()
        undisturbed = loss_of(model)

        def told(step: int, rng: np.random.Generator, fails: bool = fails, undisturbed=undisturbed):
            if step == 4:
                signal.raise_signal(signal.SIGTERM)
                if fails:
                    raise RuntimeError("a worker was told to end as well")
            return undisturbed(step, rng)

        with told_by_signals(), pytest.raises(Terminated):
            train(model, told, CONFIG, tmp_path / str(saved))
        assert step_of(tmp_path / str(saved)) == saved


def test_what_a_kill_leaves_is_cleared_away(tmp_path):
    def killed(step: int, rng: np.random.Generator):
        if step == 5:
            raise RuntimeError("killed")
        return undisturbed(step, rng)

    model = fresh_model()
    undisturbed = loss_of(model)
    with pytest.raises(RuntimeError, match="killed"):
        train(model, killed, CONFIG, tmp_path)  # the last checkpoint is that of step 3
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"step": 5, "lo')
    (tmp_path / "checkpoint.new").mkdir()
    (tmp_path / "checkpoint.new" / "of_another_process.pkl").write_text("old")
    model = fresh_model()
    train(model, loss_of(model), CONFIG, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(CONFIG.steps))
    assert not (tmp_path / "checkpoint.new").exists() and not list(tmp_path.rglob("of_another_process.pkl"))


@pytest.mark.parametrize(("apart", "saved"), [("at once", 1), ("later", 0)])
def test_a_second_ctrl_c_does_not_wait_for_the_step_unless_a_launcher_passed_it_on(
    tmp_path, keyboard, monkeypatch, apart, saved
):
    model = fresh_model()
    undisturbed = loss_of(model)

    def pressed(step: int, rng: np.random.Generator):
        signal.raise_signal(signal.SIGINT)
        if apart == "later":
            monkeypatch.setattr(processes, "AT_ONCE", -1.0)
        signal.raise_signal(signal.SIGINT)
        return undisturbed(step, rng)

    with pytest.raises(KeyboardInterrupt):
        train(model, pressed, CONFIG, tmp_path)
    assert step_of(tmp_path) == saved
