"""What tests of refusals share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bind2gen.errors import Bind2GenError
from bind2gen.hosts.boxes.loading import load_detector
from bind2gen.imagebind.loading import load_imagebind
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.class_map import ClassMap
from bind2gen.space.classifier import EmbeddingClassifier

from .worker import forget_peak, status_of

NETWORKS: dict[str, Callable[..., Any]] = {
    "encoders": load_imagebind, "adapters": EmbeddingAdapter.from_pretrained,
    "classifiers": EmbeddingClassifier.from_pretrained, "class maps": ClassMap.from_pretrained, "yolo": load_detector,
    "detic": load_detector, "owl": load_detector, "pipelines": ImageBindUnCLIPPipeline.from_pretrained,
}  # fmt: skip
LITTLE = 200 << 20  # bytes: more than a refusal takes, far less than what is claimed by what is refused


def refused(call: Callable[[], Any], error: type[Exception] = Bind2GenError) -> str:
    """What a call says, in one line and without having taken memory."""
    forget_peak()
    before = status_of("VmRSS")
    with pytest.raises(error) as caught:
        call()
    assert status_of("VmHWM") - before < LITTLE
    assert str(caught.value).isprintable()
    return str(caught.value)


@contextmanager
def altered(folder: Path, change: Callable[[dict[str, torch.Tensor], str], Any]) -> Iterator[str]:
    """Within the block one weight of the only file in a folder is another; gives its name."""
    [path] = folder.glob("*.safetensors")
    before, state = path.read_bytes(), load_file(path)
    key = sorted(k for k, v in state.items() if v.is_floating_point() and v.numel() > 1)[0]
    change(state, key)
    save_file(state, path, metadata={"format": "pt"})
    yield key
    path.write_bytes(before)
