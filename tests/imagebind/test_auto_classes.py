"""``import bind2gen`` and transformers' Auto classes, in either order, each in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bind2gen
import bind2gen.imagebind.auto_classes

PACKAGE = str(Path(bind2gen.__file__).parents[1])
AUTO = "from transformers import AutoConfig, AutoModel, AutoProcessor"


@pytest.mark.parametrize(
    "first",
    [
        f"import bind2gen; from transformers import CLIPModel; {AUTO}",  # a model imports them in an order of its own
        f"{AUTO}; import bind2gen",
    ],
)
def test_auto_classes_load_our_folders_in_any_order_of_imports(first, tiny_folder):
    program = (
        f"{first}\n"
        f"found = [AutoConfig.from_pretrained({str(tiny_folder / 'imagebind')!r}),\n"
        f"    AutoModel.from_pretrained({str(tiny_folder / 'imagebind')!r}),\n"
        f"    AutoProcessor.from_pretrained({str(tiny_folder / 'processor')!r})]\n"
        "print(*(type(one).__name__ for one in found))\n"
    )
    paths = {"PYTHONPATH": PACKAGE}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | paths)
    assert done.stdout.split() == ["ImageBindConfig", "ImageBindModel", "ImageBindProcessor"], done.stderr[-2000:]


def test_a_module_of_ours_that_cannot_be_imported_does_not_break_transformers(monkeypatch, caplog):
    monkeypatch.setitem(bind2gen.imagebind.auto_classes.REGISTERED_BY, "a.module", "bind2gen.no_such_module")
    bind2gen.imagebind.auto_classes._register("a.module")
    assert "no_such_module" in caplog.text
