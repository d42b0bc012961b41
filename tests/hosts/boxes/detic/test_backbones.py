"""Backbones against torchvision's, and the quirk that no other ConvNeXt has."""

from __future__ import annotations

import detic_cases as cases
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from bind2gen.hosts.boxes.detic import RESNET18, RESNET50, DeticModel
from bind2gen.hosts.boxes.detic.convnext import _UnbiasedChannelNorm
from bind2gen.hosts.boxes.detic.pyramid import STRIDES
from bind2gen.hosts.boxes.detic.resnet import ResNet
from bind2gen.hosts.boxes.detic.swin import Swin

PIXELS = torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96).sin()


@pytest.mark.parametrize("config, build", [(RESNET18, "resnet18"), (RESNET50, "resnet50")])
def test_resnets_are_torchvision_s_with_the_same_names(config, build):
    theirs = getattr(torchvision.models, build)(weights=None).eval()
    ours = ResNet(config).eval()
    state = {k: cases.fill_value(k, tuple(v.shape)) if v.ndim else v for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    ours.base.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    with torch.no_grad():
        x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(PIXELS)))))
        for stage, ours_map in zip((theirs.layer2, theirs.layer3, theirs.layer4), ours(PIXELS), strict=True):
            x = stage(x)
            torch.testing.assert_close(ours_map, x, rtol=1e-4, atol=1e-4 * float(x.abs().max()))


def test_swin_is_torchvision_s():
    config = cases.TOYS["swin"]
    theirs = torchvision.models.SwinTransformer(
        [4, 4], config.widths[0], list(config.depths), list(config.heads), [config.window] * 2,
        stochastic_depth_prob=0.0,
    ).eval()  # fmt: skip
    ours = Swin(config).eval()
    state = {k: cases.fill_value(k, tuple(v.shape)) for k, v in ours.state_dict().items()}
    ours.load_state_dict(state)
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "patch_embed":
            renamed[".".join(["features.0", {"proj": "0", "norm": "2"}[parts[1]], parts[2]])] = value
        elif parts[0] == "layers" and parts[2] == "blocks":
            rest = ".".join(parts[4:]).replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
            renamed[f"features.{2 * int(parts[1]) + 1}.{parts[3]}.{rest}"] = value
        elif parts[0] == "layers":
            renamed[f"features.{2 * int(parts[1]) + 2}." + ".".join(parts[3:])] = value
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert not unexpected and all(k.startswith(("head.", "norm.")) or "relative_position_index" in k for k in missing)
    pixels = torch.linspace(-2, 2, 3 * 160 * 192).reshape(1, 3, 160, 192).sin()  # sides that no window divides
    with torch.no_grad():
        x = pixels
        wanted = []
        for i, block in enumerate(theirs.features):
            x = block(x)
            if i in (3, 5, 7):
                norm = getattr(ours, f"norm{i // 2}")
                wanted.append(norm(x).permute(0, 3, 1, 2))
        for came, expected in zip(ours(pixels), wanted, strict=True):
            torch.testing.assert_close(came, expected, rtol=1e-4, atol=1e-4)


def test_convnext_s_norms_between_stages_divide_by_one_channel_less():
    norm = _UnbiasedChannelNorm(4)
    x = torch.tensor([1.0, 2.0, 3.0, 6.0])
    wanted = (x - 3) / (14 / 3) ** 0.5  # sum of squares 14 over 4 - 1
    torch.testing.assert_close(norm(x[None, :, None, None])[0, :, 0, 0], wanted, rtol=1e-5, atol=1e-5)
    stages = DeticModel(cases.TOYS["convnext"]).backbone.bottom_up.base
    assert [type(getattr(stages, f"stages_{i}").downsample) is nn.Identity for i in range(4)] == [True] + [False] * 3
    assert not isinstance(stages.stem_1, _UnbiasedChannelNorm)


@pytest.mark.parametrize("name", cases.TOYS)
def test_pyramid_levels_lie_at_their_strides_and_all_parameters_get_gradients(name):
    model = cases.toy_detector(name).model
    pixels = F.pad(PIXELS, (0, 32, 0, 64))  # 128 x 128
    pyramid = model.backbone(pixels)
    assert [128 // p.shape[2] for p in pyramid] == list(STRIDES)
    outputs = model.proposal_generator(pyramid)
    boxes = [torch.tensor([[4.0, 4.0, 60.0, 80.0], [0.0, 0.0, 128.0, 128.0]])]
    loss = sum(o.heatmap.square().mean() + o.distances.mean() for o in outputs)
    for stage in range(3):
        out = model.roi_heads.run_stage(stage, pyramid, boxes)
        logits = model.roi_heads.stage_logits(out.regions, cases.class_embeds())
        loss = loss + logits.square().mean() + out.deltas.square().mean()
    loss.backward()
    without = [k for k, p in model.named_parameters() if p.grad is None and "mask_head" not in k]
    assert not without
