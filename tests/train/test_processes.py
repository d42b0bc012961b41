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

from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel

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

# Adam's steps are of one size however small a gradient is, so they magnify rounding; plain ones do not.
torch.optim.AdamW = lambda groups, lr, betas: torch.optim.SGD(groups, lr=lr)
state = PartialState(cpu=True)
everything = torch.Generator().manual_seed(3)
pictures = torch.randn(8, 1, 1, 32, 32, generator=everything)
anchors = F.normalize(torch.randn(8, 32, generator=everything), dim=1)
groups = torch.tensor([0, 1, 0, 2, 1, 2, 0, 3])
part = slice(state.process_index, None, state.num_processes)  # rows of this process
for form in ("rows", "groups"):
    grouped = form == "groups"

    def draw(rng, count):
        assert count == 8 // state.num_processes
        return Pairs(pictures[part], anchors[part], groups[part] if grouped else None)

    torch.manual_seed(state.process_index)  # the first process's weights must reach the others
    model = ImageBindModel(TINY(["image", "thermal"]))
    count = 8 // state.num_processes
    config = LoopConfig(3, count, 1.0, warmup_steps=1, precision="no", gradient_checkpointing=grouped)
    train_modality(model, "thermal", draw, 0.1, config, f"{sys.argv[1]}/{form}")
"""


def start(folder: Path, script: Path, processes: int) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    common |= {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[2])}
    started = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        command = [sys.executable, str(script), str(folder)]
        started.append(subprocess.Popen(command, env=os.environ | common | place, stderr=subprocess.PIPE, text=True))
    return started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two leave behind, in ``one`` and ``two``."""
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "run.py"
    script.write_text(SCRIPT)
    for process in [*start(folder / "one", script, 1), *start(folder / "two", script, 2)]:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
    return folder


@pytest.mark.parametrize("form", ["rows", "groups"])
def test_two_processes_equal_one(folder, form):
    one, two = (load_file(folder / name / form / "checkpoint" / "model.safetensors") for name in ("one", "two"))
    torch.manual_seed(0)
    begun = ImageBindModel(TINY(["image", "thermal"])).state_dict()
    way = {name: (value - begun[name]).abs().max().item() for name, value in one.items()}
    farthest = max(way.values())
    assert farthest > 0.01
    for name, value in one.items():  # rounding may be all that moves a weight, as it is for the biases of keys
        assert (two[name] - value).abs().max() <= 1e-3 * way[name] + 1e-5 * farthest, name
    rows = [
        [json.loads(line) for line in (folder / name / form / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(rows[1]) == len(rows[0]) and rows[0][-1]["loss"] < rows[0][0]["loss"]  # only the first process writes
    for of_one, of_two in zip(*rows, strict=True):  # clipping takes a wrong size of the gradients out of the weights
        for name in ("loss", "grad_norm"):
            assert of_two[name] == pytest.approx(of_one[name], rel=1e-4)
