"""Two processes with half a batch each must take the step of one process with the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import sys
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.train.align import Pairs, train_modality
from bind2gen.train.loop import LoopConfig

folder, grouped = sys.argv[1], sys.argv[2] == "groups"
state = PartialState(cpu=True)
everything = torch.Generator().manual_seed(3)
pictures = torch.randn(8, 1, 1, 32, 32, generator=everything)
anchors = F.normalize(torch.randn(8, 32, generator=everything), dim=1)
groups = torch.tensor([0, 1, 0, 2, 1, 2, 0, 3]) if grouped else None
part = slice(state.process_index, None, state.num_processes)  # rows of this process

def draw(rng, count):
    assert count == 8 // state.num_processes
    return Pairs(pictures[part], anchors[part], None if groups is None else groups[part])

torch.manual_seed(state.process_index)  # the first process's weights must reach the others
model = ImageBindModel(TINY(["image", "thermal"]))
config = LoopConfig(3, 8 // state.num_processes, 1e-2, warmup_steps=1, precision="no", gradient_checkpointing=grouped)
train_modality(model, "thermal", draw, 0.1, config, folder)
"""


def start(folder: Path, script: Path, processes: int, form: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    common |= {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[2])}
    started = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        environment = os.environ | (common | place if processes > 1 else common | {"WORLD_SIZE": "1"})
        command = [sys.executable, str(script), str(folder), form]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    return started


@pytest.mark.parametrize("form", ["rows", "groups"])
def test_two_processes_equal_one(tmp_path, form):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    running = [*start(tmp_path / "one", script, 1, form), *start(tmp_path / "two", script, 2, form)]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
    one, two = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("one", "two"))
    torch.manual_seed(0)
    moved = 0.0
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=2e-5), name
        moved += float(value.abs().sum())
    assert moved > 0
    losses = [
        [row["loss"] for row in map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())]
        for name in ("one", "two")
    ]
    assert len(losses[1]) == len(losses[0]) and losses[0][-1] < losses[0][0]  # only the first process writes
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
