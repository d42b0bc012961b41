from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from bind2gen.errors import DependencyError
from bind2gen.mini import teachers
from bind2gen.mini.teachers import YAMNET, YAMNET_ARGS, yamnet


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
