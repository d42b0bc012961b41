"""Nothing that is read runs code: what may unpickle is told not to, wherever it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bind2gen

PACKAGE = Path(bind2gen.__file__).parent
FOLDERS = [PACKAGE, *(place for place in (PACKAGE / "demos", PACKAGE.parent / "demos") if place.is_dir())]
FILES = sorted({path for folder in FOLDERS for path in folder.rglob("*.py")})
# Modules whose reading functions run what a file says; of pickle only the name of its error is used.
RUNNING = {"joblib", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "yaml"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def option(call: ast.Call, name: str) -> object:
    found = [word.value for word in call.keywords if word.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def faults(source: str) -> list[str]:
    """What in a file may run what it reads."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found += [f"imports {name}" for name in names if name.split(".")[0] in RUNNING]
        if isinstance(node, ast.ImportFrom) and node.module == "pickle":
            found.append("imports from pickle")
    for name, call in calls(tree):
        if name == "torch.load" and option(call, "weights_only") is not True:
            found.append(f"line {call.lineno}: torch.load without weights_only=True")
        if name.startswith("np.") and name.endswith(".load") and option(call, "allow_pickle") is True:
            found.append(f"line {call.lineno}: np.load unpickles")
        if any(word.arg == "allow_pickle" and option(call, "allow_pickle") is not False for word in call.keywords):
            found.append(f"line {call.lineno}: allow_pickle")
        if name.startswith("pickle.") or name in ("eval", "exec", "torch.jit.load", "torch.package.PackageImporter"):
            found.append(f"line {call.lineno}: {name}")
        if any(word.arg == "trust_remote_code" and option(call, word.arg) is not False for word in call.keywords):
            found.append(f"line {call.lineno}: {name} trusts what it loads")
    return found


def test_nothing_unpickles():
    # The example loads the bundled pipeline.py, which diffusers runs when trusted; a cluster's workers are ours.
    known = {"sound_to_picture.py": 1, "cluster.py": 4}
    found = {path: faults(path.read_text(encoding="utf-8")) for path in FILES}
    assert len(FILES) > 200
    assert {path.name: lines for path, lines in found.items() if len(lines) != known.get(path.name, 0)} == {}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)", "torch.load(path, weights_only=False)", "torch.load(path, weights_only=safe)",
        "np.load(path, allow_pickle=True)", "np.lib.format.read_array(f, allow_pickle=True)", "pickle.load(f)",
        "import joblib", "from joblib import load", "import yaml", "from pickle import loads",
        "DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)", "eval(text)",
    ],
)  # fmt: skip
def test_the_test_itself_finds_what_it_looks_for(line):
    assert faults(line)
