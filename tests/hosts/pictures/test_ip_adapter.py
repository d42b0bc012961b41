"""IP-Adapter beside what every host does: several embeddings, places, scales, other pipelines, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from diffusers.models.embeddings import IPAdapterPlusImageProjection, MultiIPAdapterImageProjection
from PIL import Image
from safetensors.torch import save_file

from bind2gen.errors import CheckpointError, HostError, InputError, ShapeError
from bind2gen.hosts.pictures.contract import host_of
from bind2gen.hosts.pictures.ip_adapter import PRESETS, IPAdapter, read_adapter

ONE, NONE = np.ones((8, 8), np.float32), np.zeros((8, 8), np.float32)


@pytest.fixture(scope="module")
def sd15(make_loaded, in_front):
    return in_front(make_loaded("sd15"))


@pytest.fixture(scope="module")
def sdxl(make_loaded, in_front):
    return in_front(make_loaded("sdxl"))


def scales(pipe) -> dict[str, list]:
    return {name: p.scale for name, p in pipe.unet.attn_processors.items() if name.endswith("attn2.processor")}


def flat(layers: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{kind}.{name}": value for kind, half in layers.items() for name, value in half.items()}


# ---- what is drawn ----


@pytest.mark.parametrize("xl", [False, True])
def test_a_scale_of_zero_is_the_bare_model_bit_for_bit(xl, make_diffusion, make_ip_adapter, in_front, draw, vectors):
    pipe = make_diffusion(xl)
    call = {"prompt": "a b", "negative_prompt": "c", "num_inference_steps": 2, "guidance_scale": 3.0}
    bare = pipe(**call, output_type="np", generator=[torch.Generator().manual_seed(0)]).images
    pipe.load_ip_adapter(make_ip_adapter(pipe.unet), subfolder="", weight_name="", image_encoder_folder=None)
    sounding = in_front(pipe)
    for off in ({"scale": 0.0}, {"end": 0.0}, {"scale": [0.0, 0.0], "masks": [ONE, NONE]}):
        embeds = vectors[None, :2] if "masks" in off else vectors[:1]
        assert np.array_equal(draw(sounding, embeds, **call, **off), bare), off
    assert abs(draw(sounding, vectors[:1], **call, scale=0.5) - bare).max() > 1e-3


def test_one_picture_is_what_diffusers_draws_of_the_same_two_halves(sdxl, draw, vectors):
    """The negative half first; of one picture diffusers' own argument means the same."""
    call = {"prompt": "a", "num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "np"}
    for negative in (None, vectors[1:2]):
        ours = draw(sdxl, vectors[:1], rescale_embeds=False, negative=negative, prompt="a")
        halves = torch.cat([torch.zeros(1, 32) if negative is None else negative, vectors[:1]])[:, None]
        seed = [torch.Generator().manual_seed(0)]
        assert np.array_equal(sdxl.pipe(**call, ip_adapter_image_embeds=[halves], generator=seed).images, ours)


def test_several_embeddings_of_one_picture_all_count_in_any_order(sd15, draw, vectors):
    sets = (vectors[None, :2], vectors[None, [1, 0]], vectors[:1])
    both, turned, first = (draw(sd15, embeds, pictures=1) for embeds in sets)
    assert abs(both - turned).max() < 1e-5 < 1e-3 < abs(both - first).max()
    assert np.array_equal(draw(sd15, vectors[:2], pictures=1, together=True), both)


def test_a_batch_of_several_embeddings_is_as_each_alone(sd15, draw, vectors):
    sets = torch.stack([vectors[:2], vectors[1:]])
    batch = draw(sd15, sets, negative=vectors[:2])
    for i in range(2):
        alone = draw(sd15, sets[i : i + 1], first=i, negative=vectors[i : i + 1])
        assert abs(alone[0] - batch[i]).max() < 1e-5


def test_guided_away_from_itself_is_not_guided(sd15, draw, vectors):
    call = {"prompt": "a", "negative_prompt": "a"}
    away = draw(sd15, vectors[:1], negative=vectors[:1], **call)
    assert abs(away - draw(sd15, vectors[:1], guidance_scale=1.0, **call)).max() < 1e-4
    assert abs(away - draw(sd15, vectors[:1], negative=vectors[1:2], **call)).max() > 1e-3
    with pytest.raises(InputError, match="negative: .*guidance_scale is 1"):
        draw(sd15, vectors[:1], negative=vectors[1:2], guidance_scale=1.0)
    with pytest.raises(ShapeError, match=r"negative: wanted \(1 or 1, D\), got \(2, 32\)"):
        draw(sd15, vectors[:1], negative=vectors[:2])


def test_masks_say_where_each_embedding_counts(sd15, draw, vectors):
    first = draw(sd15, vectors[:1])
    placed = draw(sd15, vectors[:2], pictures=1, masks=[ONE, NONE])
    assert abs(placed - first).max() < 1e-5
    left = np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[None].repeat(16, 0)
    pictures = [Image.fromarray(left), Image.fromarray(255 - left)]
    here, there = (draw(sd15, vectors[:2], pictures=1, masks=masks) for masks in (pictures, pictures[::-1]))
    assert min(abs(here - there).max(), abs(here - first).max()) > 1e-3
    assert abs(draw(sd15, vectors[:2], pictures=1, masks=pictures, scale=[1.0, 0.0]) - here).max() > 1e-4
    for wrong in ([ONE], [ONE, ONE[:4]], [ONE[0], ONE[0]]):
        with pytest.raises(ShapeError, match="masks: wanted 2"):
            draw(sd15, vectors[:2], pictures=1, masks=wrong)
    with pytest.raises(InputError, match="masks: wanted numbers of 0..1"):
        draw(sd15, vectors[:2], pictures=1, masks=[ONE, 3 * ONE])


# ---- how much, and where in the network ----


def test_presets_reach_the_blocks_that_decide_style_and_layout(sdxl, draw, vectors):
    before, seen = scales(sdxl.pipe), {}

    def note(pipe, step, timestep, tensors):
        seen[name] = {place for place, scale in scales(pipe).items() if scale != [0.0]}
        return {}

    for name in PRESETS:
        draw(sdxl, vectors[:1], scale=name, callback_on_step_end=note)
    blocks = {"style": ("up_blocks.0.attentions.1.",), "layout": ("down_blocks.2.attentions.1.",)}
    blocks["style and layout"] = blocks["style"] + blocks["layout"]
    for name, places in blocks.items():
        assert seen[name] == {place for place in before if place.startswith(places)} != set()
    assert scales(sdxl.pipe) == before


def test_start_and_end_are_shares_of_the_steps(sd15, draw, vectors):
    seen = []

    def note(pipe, step, timestep, tensors):
        seen.append(next(iter(scales(pipe).values())))
        return {}

    draw(sd15, vectors[:1], num_inference_steps=4, start=0.25, end=0.75, scale=0.6, callback_on_step_end=note)
    assert seen == [[0.0], [0.6], [0.6], [0.0]]
    assert set(map(tuple, scales(sd15.pipe).values())) == {(1.0,)} and not sd15.pipe.unet._forward_pre_hooks


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scale": "style"}, "scale: wanted a number or, of SDXL, one of style, layout"),
        ({"scale": [0.5, 0.5]}, "one for each of the masks"),
        ({"scale": {"up": {"block_1": [1.0]}, "left": 1.0}}, "scale: .*left.* is not of this UNet"),
        ({"start": 0.8, "end": 0.2}, "start and end"),
    ],
)
def test_scales_that_do_not_fit_are_named(sd15, draw, vectors, given, words):
    with pytest.raises(InputError, match=words):
        draw(sd15, vectors[:1], **given)
    assert set(map(tuple, scales(sd15.pipe).values())) == {(1.0,)}


def test_an_error_in_the_middle_leaves_the_pipeline_as_it_was(sd15, draw, vectors):
    def fail(pipe, step, timestep, tensors):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        draw(sd15, vectors[:1], scale=0.3, end=0.5, callback_on_step_end=fail)
    assert "prepare_ip_adapter_image_embeds" not in vars(sd15.pipe) and not sd15.pipe.unet._forward_pre_hooks
    assert set(map(tuple, scales(sd15.pipe).values())) == {(1.0,)}


# ---- beside it ----


def test_from_pipe_keeps_the_adapter_in_controlnet(make_diffusion, make_ip_adapter, in_front, draw, vectors):
    pipe = make_diffusion(False)
    control = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 16)).eval()
    pipe.load_ip_adapter(make_ip_adapter(pipe.unet), subfolder="", weight_name="", image_encoder_folder=None)
    pipe = StableDiffusionControlNetPipeline.from_pipe(pipe, controlnet=control)
    pipe.set_progress_bar_config(disable=True)
    sounding, edges = in_front(pipe), Image.new("RGB", (16, 16), "white")
    batch = draw(sounding, vectors[:2], host={"image": [edges, edges]})
    assert abs(batch[1:] - draw(sounding, vectors[1:2], first=1, host={"image": edges})).max() < 1e-5
    assert abs(batch[0] - batch[1]).max() > 1e-3


def test_from_pipe_keeps_the_adapter_in_img2img_which_has_a_picture_of_its_own(sdxl, in_front, draw, vectors):
    pipe = StableDiffusionXLImg2ImgPipeline.from_pipe(sdxl.pipe)
    pipe.set_progress_bar_config(disable=True)
    sounding, start = in_front(pipe), Image.new("RGB", (16, 16), "red")
    one, other = (draw(sounding, vectors[i : i + 1], host={"image": start}, strength=0.9) for i in (0, 1))
    assert abs(one - other).max() > 1e-3
    with pytest.raises(InputError, match="image: .* begins with one of its own: host="):
        draw(sounding, vectors[:1])


def test_from_pipe_keeps_the_adapter_in_inpaint_which_draws_where_its_mask_says(sdxl, in_front, draw, vectors):
    pipe = StableDiffusionXLInpaintPipeline.from_pipe(sdxl.pipe)
    pipe.set_progress_bar_config(disable=True)
    start, left = Image.new("RGB", (32, 32), "red"), Image.new("L", (32, 32), 0)
    left.paste(255, (0, 0, 16, 32))
    sounding, given = in_front(pipe), {"mask_image": left, "strength": 0.99, "height": 32, "width": 32}
    both = draw(sounding, vectors[:2], host={"image": [start, start]}, **given | {"mask_image": [left, left]})
    one = draw(sounding, vectors[1:2], first=1, host={"image": start}, **given)
    assert abs(both[1:] - one).max() < 1e-5
    given |= {"host": {"image": start}, "output_type": "latent"}
    pair = [draw(sounding, vectors[i : i + 1], **given)[0] for i in (0, 1)]
    apart = (pair[0] - pair[1]).abs().mean((0, 1))  # of each column
    assert apart[: len(apart) // 2].min() > 1e-3 and apart[len(apart) // 2 :].max() < 1e-5


def test_lora_and_masks_both_reach_the_attention(make_loaded, in_front, draw, vectors):
    peft = pytest.importorskip("peft")
    sounding = in_front(make_loaded("sd15"))
    masks = {"masks": [ONE, NONE], "pictures": 1}
    plain = draw(sounding, vectors[:2], **masks)
    layers = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    sounding.pipe.unet.add_adapter(layers)
    assert abs(draw(sounding, vectors[:2], **masks) - plain).max() > 1e-3
    off = draw(sounding, vectors[:2], **masks, cross_attention_kwargs={"scale": 0.0})
    assert abs(off - plain).max() < 1e-5


def test_half_precision_hosts_take_float32_embeddings(make_loaded, in_front, draw, vectors):
    pipe = make_loaded("sdxl").to(torch.bfloat16)
    assert np.isfinite(draw(in_front(pipe), vectors[:1], masks=[ONE], start=0.5)).all()


# ---- what does not fit ----


def test_pipelines_that_cannot_be_used_are_refused_in_words(make_diffusion, make_loaded, make_ip_adapter):
    with pytest.raises(HostError, match="wanted one IP-Adapter, found none.*ip-adapter_sd15.safetensors"):
        host_of(make_diffusion(False))
    pipe = make_loaded("sd15")
    pipe.enable_attention_slicing()
    with pytest.raises(HostError, match="attention slicing, or set_attn_processor.*SlicedAttnProcessor"):
        host_of(pipe)
    pipe = make_diffusion(False)
    two = [make_ip_adapter(pipe.unet)] * 2
    pipe.load_ip_adapter(two, subfolder="", weight_name=["", ""], image_encoder_folder=None)
    with pytest.raises(HostError, match="wanted one IP-Adapter, found 2"):
        host_of(pipe)
    plus = IPAdapterPlusImageProjection(32, 16, 8, depth=1, dim_head=4, heads=2, num_queries=4)
    pipe.unet.encoder_hid_proj = MultiIPAdapterImageProjection([plus])
    with pytest.raises(HostError, match="takes a grid of tokens"):
        host_of(pipe)


def test_slicing_after_binding_is_refused_at_the_next_call(make_loaded, in_front, draw, vectors):
    sounding = in_front(make_loaded("sd15"))
    sounding.pipe.enable_attention_slicing()
    with pytest.raises(HostError, match="attention slicing"):
        draw(sounding, vectors[:1])


def test_files_that_do_not_fit_are_refused_before_weights_are_read(make_diffusion, make_ip_adapter, tmp_path):
    unet = make_diffusion(False).unet
    unet.save_config(tmp_path / "unet")  # a folder without any weights: reading them would be another error
    layers, load = make_ip_adapter(unet), IPAdapter().load
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    save_file(flat(layers), good)
    with pytest.raises(HostError, match="good.*embeddings of width 64, found 32"):
        load(tmp_path, file=good, embed_dim=64)
    save_file(flat(make_ip_adapter(make_diffusion(True).unet)), bad)
    with pytest.raises(HostError, match="bad.*for a UNet of width 16, found one for 32"):
        load(tmp_path, file=bad)
    save_file({"image_proj.latents": torch.ones(1), "ip_adapter.1.to_k_ip.weight": torch.ones(1)}, bad)
    with pytest.raises(HostError, match="bad.*plus or face"):
        load(tmp_path, file=bad)
    save_file({"some.weight": torch.ones(1)}, bad)
    with pytest.raises(HostError, match="bad.*wanted an IP-Adapter, with image_proj and ip_adapter"):
        load(tmp_path, file=bad)
    with pytest.raises(CheckpointError, match="ip_adapter.safetensors: cannot be read"):
        load(tmp_path)


def test_files_of_torch_are_read_as_those_of_safetensors(make_diffusion, make_ip_adapter, tmp_path):
    layers = make_ip_adapter(make_diffusion(False).unet)
    torch.save(layers, tmp_path / "adapter.bin")
    save_file(flat(layers), tmp_path / "adapter.safetensors")
    found = [flat(read_adapter(tmp_path / f"adapter.{kind}")) for kind in ("bin", "safetensors")]
    for read in found:
        assert read.keys() == flat(layers).keys()
        assert all(torch.equal(read[name], value) for name, value in flat(layers).items())
    Path(tmp_path / "adapter.bin").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match="adapter.bin: truncated after 8 bytes"):
        read_adapter(tmp_path / "adapter.bin")
