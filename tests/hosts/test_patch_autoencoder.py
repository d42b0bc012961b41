from __future__ import annotations

import numpy as np
import pytest
import torch

import bind2gen
from bind2gen.hosts.patch_autoencoder import PatchAutoencoder


def smooth_pictures(count: int = 40, side: int = 32) -> torch.Tensor:
    """Pictures whose patches have few degrees of freedom: planes of colour with random slopes."""
    draw = torch.Generator().manual_seed(0)
    level, right, down = torch.rand(3, count, 3, 1, 1, generator=draw) - 0.5
    ramp = torch.linspace(-1, 1, side)
    return level + right * ramp + down * ramp[:, None]


def test_all_components_keep_the_picture_exactly():
    pictures = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = PatchAutoencoder(latent_channels=48, patch=4, width=8).fit(pictures)
    assert torch.allclose(model(pictures).sample, pictures, atol=1e-4)


def test_few_components_are_enough_where_patches_are_simple():
    pictures = smooth_pictures()
    model = PatchAutoencoder(latent_channels=9, width=8, sample_size=32).fit(pictures)  # level and two slopes a colour
    assert torch.allclose(model(pictures).sample, pictures, atol=1e-3)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_whitening_evens_out_the_latents_without_changing_the_picture(whitening):
    pictures = smooth_pictures() + 0.05 * torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = PatchAutoencoder(latent_channels=12, width=8).fit(pictures, whitening=whitening)
    plain = PatchAutoencoder(latent_channels=12, width=8).fit(pictures, whitening=0.0)
    assert torch.allclose(model(pictures).sample, plain(pictures).sample, atol=1e-3)
    latents = model.encode(pictures).latent_dist.mode().double()
    deviations = latents.square().mean((0, 2, 3)).sqrt()
    expected = plain.encode(pictures).latent_dist.mode().double().square().mean((0, 2, 3)).sqrt() ** (1 - whitening)
    assert torch.allclose(deviations, expected, rtol=1e-3)
    average = pictures.mean((0, 2, 3))[None, :, None, None].expand(1, 3, 32, 32)  # one colour: the middle of the space
    assert model.encode(average).latent_dist.mode().abs().max() < 1e-4


def test_sampling_is_deterministic_and_output_classes_are_those_of_diffusers():
    model = PatchAutoencoder(width=8)
    posterior = model.encode(torch.rand(1, 3, 64, 64)).latent_dist
    assert torch.equal(posterior.sample(), posterior.mode()) and posterior.mode().shape == (1, 32, 8, 8)
    picture = model.decode(posterior.mode()).sample
    assert torch.equal(model.decode(posterior.mode(), return_dict=False)[0], picture)
    assert 2 ** (len(model.config.block_out_channels) - 1) == model.config.patch  # as pipelines count it


def test_it_is_found_by_name_and_survives_saving(tmp_path):
    model = bind2gen.PatchAutoencoder(width=8, scaling_factor=1.25).fit(smooth_pictures())
    model.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    assert again.config.scaling_factor == 1.25
    x = smooth_pictures(2)
    assert torch.allclose(again(x).sample, model(x).sample, atol=1e-4)
    assert issubclass(bind2gen.PatchAutoencoder, bind2gen.ModelMixin)


def test_an_untrained_network_adds_nothing():
    model = PatchAutoencoder(width=8).fit(smooth_pictures())
    latents = torch.randn(2, 32, 4, 4)
    assert torch.allclose(model.decode(latents).sample, model.patches(latents), atol=1e-5)
    assert np.isfinite(model.decode(latents * 100).sample.detach().numpy()).all()
