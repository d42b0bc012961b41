"""Writers that are killed before any one of their steps: nothing half under a final name, and once more makes it whole.

Every step that changes files is one that Python tells its audit hooks of; a child process goes off before the k-th of
them, for every k, with what it has not flushed. ``tests/bench/kill_points.py`` kills whole commands at any moment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fcntl")
ROOT = Path(__file__).parents[2]
CAMPAIGN = Path(__file__).with_name("killed_campaign.py")


def test_every_writer_killed_before_every_step_leaves_whole_files_and_mends_itself(tmp_path):
    done = subprocess.run(
        [sys.executable, CAMPAIGN, tmp_path], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if line.startswith("killed: "))
    assert len(told) == 9 and all(int(kills) >= 4 for kills in told.values()), told
