"""Fused linear layers give what torch's own give, and stay away where anything listens, wraps or learns."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from bind2gen.imagebind import fused
from bind2gen.imagebind.config import HUGE, TINY
from bind2gen.imagebind.model import ImageBindModel

# Sums in float32, then rounded to 8 bits of mantissa; torch rounds between the product and what follows it, too.
ROUNDING = 2.0**-8


def layer_and_input(seed: int = 0) -> tuple[nn.Linear, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(48, 80).to(torch.bfloat16)
    for p in layer.parameters():
        p.data.copy_(torch.randn(p.shape, generator=generator) / 7)
    return layer, torch.randn(3, 5, 48, generator=generator).bfloat16()


@torch.no_grad()
def test_each_is_what_float64_says_but_for_rounding() -> None:
    layer, x = layer_and_input()
    kept = torch.randn(3, 7, 80, generator=torch.Generator().manual_seed(1)).bfloat16()[:, 1:6]  # a view, not dense
    exact = copy.deepcopy(layer).double()(x.double())
    for got, wanted in (
        (fused.linear(layer, x), exact),
        (fused.linear_gelu(layer, x), F.gelu(exact)),
        (fused.added_linear(kept, layer, x, nn.Identity()), kept.double() + exact),
    ):
        scale = exact.abs() + kept.double().abs() + 1
        assert got.dtype is torch.bfloat16 and got.shape == wanted.shape
        assert ((got.double() - wanted).abs() <= 3 * ROUNDING * scale).all()


class Wrapped(nn.Module):
    """As peft wraps a layer: callable like it, and more than it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base, self.weight, self.bias = layer, layer.weight, layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 100


def watched(layer: nn.Linear) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: output + 100)
    return layer


def replaced(layer: nn.Linear) -> nn.Module:  # as accelerate replaces it to bring its weights from elsewhere
    own = layer.forward
    layer.forward = lambda x: own(x) + 100
    return layer


@torch.no_grad()
@pytest.mark.parametrize("change", [Wrapped, watched, replaced])
def test_what_others_add_to_a_layer_is_kept(change) -> None:
    layer, x = layer_and_input()
    plain, changed = layer(x), change(layer)
    assert torch.allclose(fused.linear(changed, x).float(), plain.float() + 100, atol=1)
    assert torch.allclose(fused.linear_gelu(changed, x).float(), plain.float() + 100, atol=1)
    assert torch.allclose(fused.added_linear(torch.zeros_like(plain), changed, x, nn.Identity()).float(),
                          plain.float() + 100, atol=1)  # fmt: skip


def test_gradients_flow_through_frozen_layers() -> None:
    layer, x = layer_and_input()
    layer.requires_grad_(False)
    x.requires_grad_(True)
    fused.linear_gelu(layer, x).float().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@torch.no_grad()
def test_paths_are_dropped_in_training() -> None:
    layer, x = layer_and_input()
    kept, drop = torch.ones(3, 5, 80).bfloat16(), StochasticDepth(1.0, mode="row")
    assert torch.equal(fused.added_linear(kept, layer, x, drop), kept)
    assert not torch.equal(fused.added_linear(kept, layer, x, drop.eval()), kept)


@torch.no_grad()
def test_a_model_uses_them_wherever_the_processor_computes_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ImageBindModel(TINY(["audio"])).to(torch.bfloat16).eval()
    asked: list[torch.Size] = []
    monkeypatch.setattr(fused, "computes_bfloat16", lambda: asked.append(1) or False)
    model.encode("audio", torch.zeros(1, 1, *model.config.tower("audio").input_shape))
    assert len(asked) == 4 * model.config.tower("audio").depth  # in, out, and both of the MLP


def test_large_models_are_told_from_small_ones() -> None:
    assert HUGE().is_large and HUGE(["imu"]).is_large and not TINY().is_large
