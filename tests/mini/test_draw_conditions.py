from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableUnCLIPImg2ImgPipeline

from bind2gen.mini import draw_conditions
from bind2gen.mini.draw_conditions import drawn_weights
from bind2gen.mini.draw_generator import sampler

NAMES = np.array(["dog", "dog", "cat", "cat", "cat", "rain"])
TYPICAL = np.array([True, False, False, True, True, False])


def test_class_labels_are_those_of_the_pipeline():
    embeds = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    normalizer = draw_conditions.fit_normalizer(
        torch.randn(50, 256, generator=torch.Generator().manual_seed(1)) * 2 + 1
    )
    schedule = draw_conditions.embedding_noise_schedule()
    pipeline = object.__new__(StableUnCLIPImg2ImgPipeline)
    object.__setattr__(pipeline, "image_normalizer", normalizer)
    object.__setattr__(pipeline, "image_noising_scheduler", schedule)
    for level in (0, 250):
        torch.manual_seed(7)
        noise = torch.randn_like(embeds)
        wanted = StableUnCLIPImg2ImgPipeline.noise_image_embeddings(pipeline, embeds, noise_level=level, noise=noise)
        torch.manual_seed(7)
        got = draw_conditions.class_labels(embeds, torch.full((3,), level), normalizer, schedule)
        assert torch.allclose(got, wanted, atol=1e-5)


def test_the_normalizer_standardises_what_it_was_fitted_on():
    embeds = torch.randn(500, 16, generator=torch.Generator().manual_seed(0)) * 3 + 5
    standard = draw_conditions.fit_normalizer(embeds).scale(embeds)
    assert standard.mean(0).abs().max() < 1e-4 and (standard.std(0) - 1).abs().max() < 1e-4


def test_other_schedulers_made_of_the_packaged_one_do_not_clip_latents():
    """Clipped to -1..1, as DDIM and DDPM do by default, pictures turn grey."""
    for kind in (DDIMScheduler, DDPMScheduler):
        assert kind.from_config(sampler().config).config.clip_sample is False


def test_embeddings_move_towards_their_concept_and_keep_their_length():
    torch.manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(60, 16), dim=1) * 4
    means = torch.nn.functional.normalize(torch.randn(1, 16), dim=1).expand(60, 16) * 4
    blended = draw_conditions.blend_with_concept(embeds, means, 0.5)
    assert torch.allclose(blended.norm(dim=1), torch.full((60,), 4.0), atol=1e-4)
    nearer = (blended * means).sum(1) - (embeds * means).sum(1)
    assert nearer.min() > -1e-3 and 0.2 < (nearer > 1e-3).float().mean() < 0.8
    assert torch.allclose(draw_conditions.blend_with_concept(embeds, means, 0.0), embeds, atol=1e-5)
    moved = draw_conditions.blend_with_concept(embeds, means, 1.0)
    assert not torch.isclose(moved, embeds, atol=1e-3).all(1).any()


def test_rare_kinds_are_lifted_a_little():
    weights = drawn_weights(NAMES, TYPICAL, 0.0)
    assert weights[5] > weights[0] > weights[2]


def test_typical_photos_are_drawn_more_often_and_all_kinds_of_them_alike():
    weights = drawn_weights(NAMES, TYPICAL, 0.85)
    assert weights.sum() == 1 and (weights > 0).all() and weights[TYPICAL].sum() > 0.85
    assert abs(weights[0] - weights[3:5].sum()) < 0.06  # dogs and cats alike
