"""The toy hosts, each with what it needs, and ImageBind in front of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    KandinskyV22ControlnetPipeline,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    MotionAdapter,
    StableVideoDiffusionPipeline,
    UnCLIPImageVariationPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    UNetSpatioTemporalConditionModel,
    VQModel,
)
from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from bind2gen import bind
from bind2gen.cli import main
from bind2gen.hosts.pictures.flux import read_adapter
from bind2gen.pipelines.binding import BoundPipeline
from bind2gen.pipelines.parts import with_facts

NORM, WIDTH = 4.0, 32
FIRST = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
SMALL: dict[str, dict[str, Any]] = {  # of hosts whose own defaults are large, or that miss something
    "Kandinsky 2.2": {"height": 64, "width": 64},
    "FLUX.1 + IP-Adapter": {"height": 16, "width": 16, "max_sequence_length": 8},
    "Stable Video Diffusion": {"height": 16, "width": 16, "host": {"image": FIRST}},
}
KANDINSKY = {  # class and channels that its UNet takes
    "kandinsky": (KandinskyV22Pipeline, 4), "kandinsky-hint": (KandinskyV22ControlnetPipeline, 8),
    "kandinsky-img2img": (KandinskyV22Img2ImgPipeline, 4), "kandinsky-inpaint": (KandinskyV22InpaintPipeline, 9),
}  # fmt: skip
SIMPLE = {"resnet_time_scale_shift": "scale_shift", "layers_per_block": 1}


def build_kandinsky(kind: str, width: int = WIDTH) -> Any:
    """A random Kandinsky 2.2 with the published one's kinds of blocks; pictures of 64x64."""
    torch.manual_seed(0)
    pipeline, channels = KANDINSKY[kind]
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=8, block_out_channels=(32, 64), cross_attention_dim=16,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), attention_head_dim=4, **SIMPLE,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), encoder_hid_dim=width,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", encoder_hid_dim_type="image_proj",
        addition_embed_type="image_hint" if channels == 8 else "image",
    )  # fmt: skip
    if channels == 8:
        with torch.no_grad():
            unet.conv_in.weight[:, 4:] *= 8  # so that the hint is seen in a toy's pictures
    movq = VQModel(
        block_out_channels=(32, 32, 32, 32), latent_channels=4, norm_num_groups=8, norm_type="spatial", vq_embed_dim=4,
        num_vq_embeddings=8, down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
    )  # fmt: skip
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    return pipeline(unet=unet.eval(), scheduler=scheduler, movq=movq.eval())


def build_animatediff(pipe: Any) -> AnimateDiffPipeline:
    """Random motion in a Stable Diffusion; films of 16x16."""
    torch.manual_seed(1)
    motion = MotionAdapter(
        block_out_channels=(8, 8, 16, 16), motion_layers_per_block=2, motion_norm_num_groups=4,
        motion_num_attention_heads=2, use_motion_mid_block=False,
    )  # fmt: skip
    made = AnimateDiffPipeline(
        vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, unet=pipe.unet, motion_adapter=motion,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
    )  # fmt: skip
    made.unet.eval()
    made.set_progress_bar_config(disable=True)
    return made


def build_karlo(tokenizer: Any, width: int = WIDTH) -> UnCLIPImageVariationPipeline:
    """A random Karlo; pictures of 8x8, then of 16x16."""
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=width,
    )  # fmt: skip
    decoder = UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=6, block_out_channels=(32, 64), cross_attention_dim=16,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), attention_head_dim=4, **SIMPLE,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), class_embed_type="identity",
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    )  # fmt: skip

    def super_res() -> UNet2DModel:
        return UNet2DModel(
            sample_size=16, in_channels=6, out_channels=3, block_out_channels=(32, 32), add_attention=False,
            down_block_types=("ResnetDownsampleBlock2D",) * 2, up_block_types=("ResnetUpsampleBlock2D",) * 2, **SIMPLE,
        ).eval()  # fmt: skip

    return UnCLIPImageVariationPipeline(
        decoder=decoder.eval(), text_encoder=CLIPTextModelWithProjection(text).eval(), tokenizer=tokenizer,
        text_proj=UnCLIPTextProjModel(
            clip_embeddings_dim=width, time_embed_dim=128, cross_attention_dim=16, clip_extra_context_tokens=4
        ).eval(),
        feature_extractor=None, image_encoder=None, super_res_first=super_res(), super_res_last=super_res(),
        decoder_scheduler=UnCLIPScheduler(
            variance_type="learned_range", prediction_type="epsilon", num_train_timesteps=1000
        ),
        super_res_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="epsilon", num_train_timesteps=1000
        ),
    )  # fmt: skip


def build_stable_video() -> StableVideoDiffusionPipeline:
    """A random Stable Video Diffusion; films of 16x16."""
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=8, in_channels=8, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), num_attention_heads=(2, 4),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=WIDTH,
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, num_frames=3,
    )  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2
    )
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002,
        sigma_max=700.0, use_karras_sigmas=True, timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    return StableVideoDiffusionPipeline(
        vae=vae.eval(), image_encoder=None, unet=unet.eval(), scheduler=scheduler, feature_extractor=None
    )


def build_flux(tokenizer: Any) -> FluxPipeline:
    """A random FLUX.1, without its IP-Adapter; pictures of 16x16."""
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    long = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), latent_channels=1, norm_num_groups=4, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae.eval(), text_encoder=CLIPTextModel(text).eval(),
        tokenizer=tokenizer, text_encoder_2=T5EncoderModel(long).eval(), tokenizer_2=tokenizer,
        transformer=transformer.eval(),
    )  # fmt: skip


def build_flux_adapter(transformer: FluxTransformer2DModel, width: int = WIDTH) -> dict[str, torch.Tensor]:
    """A random IP-Adapter under XLabs' names, loud enough to be seen in a toy's pictures."""
    cross, inner, draw = transformer.config.joint_attention_dim, transformer.inner_dim, torch.Generator().manual_seed(3)
    shapes = {"ip_adapter_proj_model.proj.weight": (4 * cross, width), "ip_adapter_proj_model.proj.bias": (4 * cross,)}
    for i in range(transformer.config.num_layers):
        for part in "kv":
            name = f"double_blocks.{i}.processor.ip_adapter_double_stream_{part}_proj"
            shapes |= {f"{name}.weight": (inner, cross), f"{name}.bias": (inner,)}
    layers = {name: torch.randn(shape, generator=draw) * 2 / shape[-1] ** 0.5 for name, shape in shapes.items()}
    norm = {"weight": torch.ones(cross), "bias": torch.zeros(cross)}
    return layers | {f"ip_adapter_proj_model.norm.{name}": value for name, value in norm.items()}


@pytest.fixture(scope="session")
def make_loaded(make_host, make_diffusion, make_ip_adapter, tmp_path_factory) -> Callable[..., Any]:
    """A toy pipeline by the name of its kind, with what it needs; of some kinds for embeddings of another width."""

    def make(kind: str, width: int = WIDTH) -> Any:
        if kind in ("unclip", "karlo", "flux", "svd", *KANDINSKY):
            tokenizer = make_diffusion(False).tokenizer
            made = {"unclip": lambda: make_host(width), "svd": build_stable_video}
            made |= {"karlo": lambda: build_karlo(tokenizer, width), "flux": lambda: build_flux(tokenizer)}
            pipe = made[kind]() if kind in made else build_kandinsky(kind, width)
            if kind == "flux":
                file = tmp_path_factory.mktemp("flux") / "ip_adapter.safetensors"
                save_file(build_flux_adapter(pipe.transformer, width), file)
                none = {"weight_name": "", "image_encoder_pretrained_model_name_or_path": None}
                pipe.load_ip_adapter(read_adapter(file), **none)
            pipe.set_progress_bar_config(disable=True)
            return pipe
        pipe = make_diffusion(kind == "sdxl") if kind != "animatediff" else build_animatediff(make_diffusion(False))
        layers = make_ip_adapter(pipe.unet)
        pipe.load_ip_adapter(layers, subfolder="", weight_name="", image_encoder_folder=None)
        return pipe

    return make


@pytest.fixture(scope="session")
def make_kandinsky() -> Callable[..., Any]:
    return build_kandinsky


@pytest.fixture(scope="session")
def in_front(tiny_pipeline) -> Callable[[Any], BoundPipeline]:
    """The toy encoder in front of a loaded pipeline."""
    adapter = with_facts(tiny_pipeline.adapter, {"norm": NORM})
    own = {"source_mean": torch.zeros(WIDTH), "target_mean": torch.zeros(WIDTH), "norm": NORM, "space": ""}
    adapter = adapter.with_map(torch.eye(WIDTH), **own, negative=torch.ones(WIDTH))  # which moves nothing
    return lambda pipe: bind(
        pipe, imagebind=tiny_pipeline.imagebind, processor=tiny_pipeline.processor, adapter=adapter
    )


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    """Pictures (N, H, W, 3) in 0..1 of embeddings, with the seeds ``first``, ``first`` + 1 ..."""

    def call(sounding: Any, embeds: torch.Tensor, first: int = 0, pictures: int = 0, **given: Any) -> np.ndarray:
        seeds = [torch.Generator().manual_seed(first + i) for i in range(pictures or len(embeds))]
        given = {"num_inference_steps": 2, "output_type": "np", "guidance_scale": 3.0} | given
        slot = getattr(sounding, "slot", None)  # our own pipeline is none that is bound
        if slot and not slot.prompt:
            given.pop("prompt", None)
        given = SMALL.get(slot and slot.name, {}) | given
        made = sounding(image_embeds=embeds, generator=seeds, **given)
        return made.frames if slot and slot.media == "video" else made.images

    return call


@pytest.fixture(scope="session")
def small() -> dict[str, dict[str, Any]]:
    return SMALL


@pytest.fixture(scope="session")
def vectors() -> torch.Tensor:
    """(3, 32), far from each other."""
    return torch.randn(3, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def run(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command line: (exit code, stdout, stderr)."""

    def call(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return call
