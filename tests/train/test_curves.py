from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.train.curves import plot_curves, read_metrics


def log(folder, rows: list[dict]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_later_values_of_a_resumed_step_count_and_evaluations_stand_apart(tmp_path):
    log(tmp_path, [{"step": 0, "loss": 3.0}, {"step": 50, "loss": 9.0}, {"step": 50, "loss": 2.0, "lr": 1e-3}])
    with open(tmp_path / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 50, "eval": {"top1": 0.5}}\n{"step": 100, "lo')  # killed while it wrote
    found = read_metrics(tmp_path)
    found = {name: dict(values.dropna()) for name, values in found.items()}
    assert found == {"loss": {0: 3.0, 50: 2.0}, "lr": {50: 1e-3}, "eval/top1": {50: 0.5}}


def test_a_broken_line_and_a_missing_run_are_named(tmp_path):
    with pytest.raises(InputError, match="metrics.jsonl"):
        read_metrics(tmp_path)
    log(tmp_path, [{"step": 0, "eval": {"top1": None}}])
    with pytest.raises(InputError, match="nothing was logged yet"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\nnonsense\n{"step": 1}\n')
    with pytest.raises(InputError, match="line 2"):
        read_metrics(tmp_path)


def test_the_picture_shows_a_diagram_for_each_quantity(tmp_path):
    log(tmp_path, [{"step": s, "loss": 3.0 / (s + 1), "eval": {"top1": s / 100}} for s in range(40)])
    one = np.asarray(Image.open(plot_curves(tmp_path)).convert("L"))
    log(tmp_path, [{"step": s, "loss": 3.0, "lr": 1.0, "kl": s, "grad": 1, "a": 2} for s in range(40)])
    two = np.asarray(Image.open(plot_curves(tmp_path)).convert("L"))
    assert (one < 200).any() and two.shape[0] > 1.5 * one.shape[0]  # two rows of diagrams
