"""AnimateDiff beside what every host does: an embedding and a weight for each frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffControlNetPipeline, ControlNetModel
from PIL import Image

from bind2gen.errors import InputError, ShapeError
from bind2gen.hosts.pictures.ip_adapter import crossing
from bind2gen.pipelines.film import draw_film, hear
from bind2gen.preprocess.waveform import Waveform

FRAMES = 6


@pytest.fixture(scope="module")
def moving(make_loaded, in_front):
    return in_front(make_loaded("animatediff"))


@pytest.fixture
def film(moving, draw):
    """Of embeddings (F, D), or (B, F, D): (F, H, W, 3), or (B, F, H, W, 3)."""

    def call(embeds: torch.Tensor, **given):
        made = np.asarray(draw(moving, embeds if embeds.ndim == 3 else embeds[None], prompt="a", **given))
        return made if embeds.ndim == 3 else made[0]

    return call


def test_the_layers_are_numbered_as_in_the_pictures_unet(moving, make_loaded):
    """Else a published file's layers would go to others of the same size."""
    places = [p for p in moving.pipe.unet.attn_processors if "attn2" in p and "motion_modules" not in p]
    assert places == [p for p in make_loaded("sd15").unet.attn_processors if "attn2" in p]


def test_the_same_embedding_in_all_frames_is_one_embedding_of_the_film(moving, film, draw, vectors):
    plain = np.asarray(draw(moving, vectors[:1], prompt="a", num_frames=FRAMES))[0]
    assert abs(film(vectors[:1].expand(FRAMES, -1)) - plain).max() < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_embedding_of_a_frame_reaches_that_frame(moving, film, vectors, guidance):
    """What the attention gets of each frame; and frames of one noise differ more over the change than within."""
    seen, rows = [], vectors[[0, 0, 0, 1, 1, 1]]
    still = torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, -1, FRAMES, -1, -1)
    layer = crossing(moving.pipe)[0].to_k_ip[0]
    hook = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    try:
        made = film(rows, guidance_scale=guidance, latents=still)
    finally:
        hook.remove()
    states = seen[0][-FRAMES:, 0]  # of the guided half, which comes second
    assert len(seen[0]) == FRAMES * (1 if guidance == 1 else 2)
    assert torch.equal(states[0], states[2]) and torch.equal(states[3], states[5])
    assert abs(states[2] - states[3]).max() > 1e-2
    apart = abs(np.diff(made, axis=0)).mean(axis=(1, 2, 3))
    assert apart.argmax() == 2 and apart[2] > 3 * np.delete(apart, 2).max()


def test_a_film_of_two_sounds_changes_where_they_do_within_one_hop(moving):
    fps, hop, each, rate = 4.0, 0.25, 2.0, 16_000
    tone = 0.3 * torch.sin(torch.arange(int(each * rate)) / 7)
    hiss = 0.3 * torch.randn(int(each * rate), generator=torch.Generator().manual_seed(0))
    sound, seen = Waveform(torch.cat([tone, hiss])[None], rate), []
    rows = hear(moving, sound, 16, fps=fps, window=0.4, hop=hop)
    still = torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 16, -1, -1)
    hook = crossing(moving.pipe)[0].to_k_ip[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        frames = draw_film(moving, rows, seed=0, num_inference_steps=2, latents=still)
    finally:
        hook.remove()
    given = seen[0][-16:, 0].diff(dim=0).flatten(1).norm(dim=1).numpy()  # from each frame to the next
    drawn = abs(np.diff(np.stack(frames).astype(float), axis=0)).mean(axis=(1, 2, 3))
    for change in (given, drawn):
        place = change.argmax()
        assert abs((place + 1) / fps - each) <= hop
        assert change[place] > 2 * np.delete(change, np.arange(place - 1, place + 2)).max()


def test_a_film_is_the_same_alone_and_in_a_batch(film, vectors):
    films = torch.stack([vectors[[0, 0, 1, 1, 2, 2]], vectors[[2, 1, 0, 0, 1, 2]]])
    batch = film(films)
    for i in range(2):
        assert abs(film(films[i : i + 1], first=i)[0] - batch[i]).max() < 1e-5


def test_weights_of_frames_are_shares_of_the_scale(moving, film, vectors):
    rows = vectors[:1].expand(FRAMES, -1)
    whole, none = film(rows, scale=0.6), film(rows, scale=0.0)
    assert abs(film(rows, scale=0.6, frame_scales=[1.0] * FRAMES) - whole).max() < 1e-5
    assert abs(film(rows, scale=0.6, frame_scales=[0.0] * FRAMES) - none).max() < 1e-5
    half = film(rows, scale=0.6, frame_scales=[1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    near = [abs(half - other).mean(axis=(1, 2, 3)) for other in (whole, none)]
    assert (near[0] < near[1]).tolist() == [True] * 3 + [False] * 3
    assert all(processor.scale == [1.0] for processor in crossing(moving.pipe))


def test_long_films_go_with_freenoise(make_loaded, in_front, vectors):
    """More frames than were learned together; the embeddings stay those of their frames."""
    sounding, seen = in_front(make_loaded("animatediff")), []
    hook = crossing(sounding.pipe)[0].to_k_ip[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    options = {"seed": 0, "num_inference_steps": 1, "negative_prompt": "b"}
    assert len(draw_film(sounding, vectors[[0] * 20 + [1] * 20], **options)) == 40
    hook.remove()
    states = seen[0][-40:, 0]
    assert torch.equal(states[0], states[19]) and abs(states[19] - states[20]).max() > 1e-2
    with pytest.raises(InputError, match="of one film with FreeNoise, got 2"):
        sounding(image_embeds=vectors[None].expand(2, -1, -1))


def test_controlnet_draws_over_the_frames_that_it_is_given(make_diffusion, moving, in_front, draw, vectors):
    control = ControlNetModel.from_unet(make_diffusion(False).unet, conditioning_embedding_out_channels=(8, 16)).eval()
    with torch.no_grad():
        for block in (control.controlnet_cond_embedding.conv_out, *control.controlnet_down_blocks):
            block.weight.normal_()  # they begin as zeros
    pipe = AnimateDiffControlNetPipeline(**moving.pipe.components, controlnet=control)
    pipe.set_progress_bar_config(disable=True)
    sounding, rows = in_front(pipe), vectors[None, [0, 0, 1, 1]]
    white, black = ([Image.new("RGB", (16, 16), colour)] * 4 for colour in ("white", "black"))
    made = draw(sounding, rows, conditioning_frames=white)
    assert abs(made - draw(sounding, rows, conditioning_frames=black)).max() > 1e-3
    assert abs(made - draw(sounding, rows[:, [1, 1, 1, 1]], conditioning_frames=white)).max() > 1e-3


def test_numbers_that_do_not_fit_are_named(film, draw, moving, vectors):
    rows = vectors[:1].expand(FRAMES, -1)
    with pytest.raises(ShapeError, match="frame_scales: wanted 6, got 5"):
        film(rows, frame_scales=[1.0] * 5)
    with pytest.raises(ShapeError, match="frame_scales: wanted embeddings of frames, got 5"):
        draw(moving, vectors[:1], frame_scales=[1.0] * 5)
    with pytest.raises(InputError, match="num_videos_per_prompt: wanted 1, got 2"):
        film(rows, num_images_per_prompt=2)
    assert not moving.pipe.unet.encoder_hid_proj._forward_hooks
