from __future__ import annotations

import pytest
import timm
import torch

import bind2gen
from bind2gen.errors import HostError
from bind2gen.hosts.pictures.feature_autoencoder import FeatureAutoencoder

NETWORK, STAGES, CHANNELS = "test_efficientnet", 4, 48
TINY = {"network": NETWORK, "stages": STAGES, "latent_channels": CHANNELS, "block_out_channels": (12, 8, 8, 16, 16)}


@pytest.fixture
def model() -> FeatureAutoencoder:
    torch.manual_seed(0)
    made = FeatureAutoencoder(**TINY).eval()
    made.latent_mean += torch.randn(CHANNELS, 1, 1)
    made.latent_std += torch.rand(CHANNELS, 1, 1)
    return made


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_latents_are_the_networks_features_whitened(model):
    network = timm.create_model(NETWORK, features_only=True).eval()
    network.load_state_dict({_place(key): value for key, value in model.encoder.state_dict().items()}, strict=False)
    unit = (pictures() + 1) / 2
    features = network((unit - 127 / 255) / (128 / 255))[-2]  # at a sixteenth of the size
    found = model.encode(pictures()).latent_dist
    wanted = (features - model.latent_mean) / model.latent_std
    assert torch.allclose(found.mode(), wanted, atol=1e-4) and torch.equal(found.sample(), found.mode())


def _place(key: str) -> str:
    """Where timm has what is numbered here."""
    number, rest = key.split(".", 1)
    return f"{({'0': 'conv_stem', '1': 'bn1'}).get(number, f'blocks.{int(number) - 2}')}.{rest}"


@torch.no_grad()
def test_sizes_are_those_that_pipelines_count(model):
    latents = model.encode(pictures()).latent_dist.mode()
    smaller = 2 ** (len(model.config.block_out_channels) - 1)
    assert latents.shape == (2, CHANNELS, 64 // smaller, 64 // smaller)
    assert model.decode(latents).sample.shape == (2, 3, 64, 64)
    assert torch.equal(model.decode(latents, return_dict=False)[0], model(pictures()).sample)


@torch.no_grad()
def test_it_is_found_by_name_and_survives_saving(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = bind2gen.FeatureAutoencoder.from_pretrained(tmp_path)
    assert torch.allclose(again(pictures()).sample, model(pictures()).sample, atol=1e-5)


def test_the_encoder_is_never_trained(model):
    before = model.encode(pictures()).latent_dist.mode()
    model.train().encode(pictures(8))
    assert torch.equal(model.encode(pictures()).latent_dist.mode(), before)
    model(pictures()).sample.sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.decoder.parameters())


def test_networks_that_timm_lacks_are_not_looked_for_elsewhere():
    with pytest.raises(HostError, match="hf-hub:any/network.*timm"):
        FeatureAutoencoder("hf-hub:any/network")
