from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bind2gen.imagebind.config import ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.mini.see import image_tower
from bind2gen.mini.starts import begin_as_classifier

WIDTH, NAMES, CHANNELS = 32, 100, 48


class Given(nn.Module):
    """A network whose features are what it is given."""

    def forward_features(self, features: torch.Tensor) -> torch.Tensor:
        return features


@pytest.fixture
def tower() -> nn.Module:
    torch.manual_seed(0)
    config = replace(image_tower(), width=WIDTH, heads=4, input_shape=(3, 64, 64), network="test_efficientnet")
    made = ImageBindModel(ImageBindConfig(WIDTH, {"vision": config})).eval().towers["vision"]
    made.stem.network, made.stem.projection = Given(), nn.Conv2d(CHANNELS, WIDTH, 1, bias=False)
    return made


@torch.no_grad()
def test_an_untrained_tower_means_the_names_that_the_classifier_sees(tower):
    classifier = nn.Linear(CHANNELS, NAMES)
    classifier.weight.copy_(
        torch.randn(NAMES, WIDTH) @ torch.randn(WIDTH, CHANNELS) / CHANNELS
    )  # what fits in the width
    names = F.normalize(torch.randn(NAMES, WIDTH), dim=-1)
    seen = 4 * torch.linalg.pinv(classifier.weight).T  # (NAMES, CHANNELS): the features of each name
    cells = seen[:, :, None, None] + 0.05 * torch.randn(NAMES, CHANNELS, 2, 2)
    logits = 3 * classifier(cells.mean((2, 3)))
    logits[torch.arange(NAMES), torch.arange(NAMES)] += 5
    begin_as_classifier(tower, classifier, names, cells, logits)
    found = tower(cells) @ names.T
    assert found.argmax(1).eq(torch.arange(NAMES)).float().mean() > 0.9


def test_such_a_tower_still_has_gradients_everywhere(tower):
    classifier, cells = nn.Linear(CHANNELS, NAMES), torch.randn(6, CHANNELS, 2, 2)
    names = F.normalize(torch.randn(NAMES, WIDTH), dim=-1)
    begin_as_classifier(tower, classifier, names, cells, 5 * torch.randn(6, NAMES))
    tower(cells)[:, 0].sum().backward()
    still = [name for name, p in tower.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []
