"""An input under another keyword than its own: the error, or a warning, names the one that was meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.errors import Bind2GenError, Bind2GenWarning
from bind2gen.imagebind.misplaced import meant_as
from bind2gen.imagebind.processor import ImageBindProcessor

PHOTO = Image.new("RGB", (8, 8))
WAVE = np.zeros(16_000, dtype=np.float32)


@pytest.fixture(scope="module")
def processor() -> ImageBindProcessor:
    return ImageBindProcessor()


@pytest.mark.parametrize(
    ("name", "item", "keyword"),
    [
        ("text", PHOTO, "image="),
        ("text", np.asarray(PHOTO), "image="),
        ("text", torch.zeros(3, 8, 8), "image="),
        ("text", (WAVE, 16_000), "audio="),
        ("text", (16_000, WAVE), "audio="),
        ("text", WAVE, "audio="),
        ("text", (np.zeros((4, 8, 8, 3), dtype=np.uint8), 25), "video="),
        ("audio", "a dog", "text="),
        ("audio", PHOTO, "image="),
        ("images", "a dog barks.", "text="),
        ("images", (WAVE, 16_000), "audio="),
        ("video", PHOTO, "image="),
    ],
)
def test_the_keyword_that_was_meant_is_named(processor, name, item, keyword):
    with pytest.raises(Bind2GenError, match=f"; .* go in as .*{keyword}"):
        processor(**{name: item})
    with pytest.raises(Bind2GenError, match=rf"\[0\]: .*; .* go in as .*{keyword}"):
        processor(**{name: [item, item]})


@pytest.mark.parametrize(
    ("name", "item"), [("audio", "dgo.wav"), ("audio", b"RIFF"), ("depth", PHOTO), ("text", (np.int64(3), "x"))]
)
def test_nothing_is_said_of_what_is_only_broken(name, item):
    assert meant_as(name, item) == ""


def test_the_name_of_a_file_is_not_read_as_words_in_silence(processor, tmp_path):
    for name, keyword in {"dog.wav": "audio=", "dog.png": "image=", "dog.mp4": "video="}.items():
        path = tmp_path / name
        with pytest.raises(Bind2GenError):
            processor(audio=str(path), images=str(path))  # nothing there yet
        Path(path).write_bytes(b"x")
        with pytest.warns(Bind2GenWarning, match=f"{name}.* read as words; .*{keyword}"):
            processor(str(path))
