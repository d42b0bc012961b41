"""The page's snippet of frameworks that take sentence-transformers, where they are installed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import bind2gen
from bind2gen.files.bundled import example_sounds

PAGE = Path(bind2gen.__file__).parent / "imagebind" / "README.md"
SOUNDS = {"bark.wav": "dog", "waves.ogg": "train"}


@pytest.mark.slow
def test_the_stores_of_langchain_and_haystack_hold_sounds_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    for package in ("langchain_huggingface", "haystack", "haystack_integrations.components.embedders"):
        pytest.importorskip(package, reason="pip install langchain-huggingface sentence-transformers-haystack")
    for name, like in SOUNDS.items():
        soundfile.write(tmp_path / name, *soundfile.read(example_sounds()[like]))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "dog.jpg")
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"^```python\n([^`]*langchain_core.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names = {"bundled_path": bind2gen.bundled_path}
    exec(compile(snippet, PAGE.name, "exec"), names)
    assert [found.page_content for found in names["nearest"]] == ["bark.wav"]
    first, second = (np.array(document.embedding) for document in names["documents"])
    (found,) = names["store"].similarity_search_with_score("a dog", k=1)
    assert found[1] == pytest.approx(first @ second, abs=1e-5)  # one encoder, two frameworks, the same cosine
