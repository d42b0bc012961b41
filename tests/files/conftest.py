"""Folders of small models, and copies to be damaged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from fuzz import saved as corpus
from fuzz.refusal import NETWORKS


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder of each."""
    folder = tmp_path_factory.mktemp("models")
    for family in NETWORKS:
        (folder / family / "0").mkdir(parents=True)
        corpus.FAMILIES[family](folder / family / "0")
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Callable[[str], Path]:
    def make(family: str) -> Path:
        [source] = [path for path in (whole / family / "0").iterdir() if path.is_dir()]
        return Path(shutil.copytree(source, tmp_path / "model"))

    return make
