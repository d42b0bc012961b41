"""Hosts of full size with made-up weights, in the hub's folder layout: architectures of the configurations there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_unclip import tokenizer

SIMPLE = {
    "resnet_time_scale_shift": "scale_shift", "layers_per_block": 3, "attention_head_dim": 64, "sample_size": 64,
    "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
    "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
}  # fmt: skip
LEARNED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def fill(module: Any) -> Any:
    """Plausible float16 weights for a module from the meta device: one block of noise over and over, unit norms."""
    import torch

    block = torch.empty(2**20, dtype=torch.float16).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    module = module.to(torch.float16).to_empty(device="cpu")
    for name, p in list(module.named_parameters()) + list(module.named_buffers()):
        if name.endswith("position_ids"):
            p.data.copy_(torch.arange(p.shape[-1]).expand_as(p))
        elif p.ndim >= 2:
            flat, scaled = p.data.view(-1), block * (0.7 * (3 / p[0].numel()) ** 0.5)
            for start in range(0, len(flat), len(block)):
                flat[start : start + len(block)] = scaled[: len(flat) - start]
        else:
            p.data.fill_(1.0 if name.endswith("weight") and "norm" in name.lower() else 0.0)
    return module


def build(folder: Path, kind: str) -> None:
    """Save the published pipeline of that kind, and its IP-Adapter if it has one."""
    made: dict[str, Callable[[Path], None]] = {
        "kandinsky": build_kandinsky, "karlo": build_karlo, "svd": build_stable_video, "flux": build_flux,
    }  # fmt: skip
    if kind in made:
        made[kind](folder / kind)
    else:
        build_diffusion(folder / kind, kind)


def build_diffusion(folder: Path, kind: str) -> None:
    """Stable Diffusion 1.5, with motion or without, or SDXL."""
    import torch
    from diffusers import (
        AnimateDiffPipeline,
        AutoencoderKL,
        EulerDiscreteScheduler,
        MotionAdapter,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    crossing, xl = "CrossAttnDownBlock2D", kind == "sdxl"
    down = ("DownBlock2D", crossing, crossing) if xl else (crossing,) * 3 + ("DownBlock2D",)
    options: dict[str, Any] = {"attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64}
    if xl:
        options = {
            "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048, "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816, "sample_size": 128,
            "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
        }  # fmt: skip
    first = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    second = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280,
        hidden_act="gelu",
    )  # fmt: skip
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280)[: len(down)], down_block_types=down,
            up_block_types=tuple(name.replace("Down", "Up") for name in down[::-1]), **options,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        texts = [CLIPTextModel(first)] + [CLIPTextModelWithProjection(second)] * xl
    words = tokenizer()
    parts = {
        "unet": fill(unet), "vae": fill(vae), "text_encoder": fill(texts[0]), "tokenizer": words,
        "scheduler": EulerDiscreteScheduler(**LEARNED),
    }  # fmt: skip
    if xl:
        pipe = StableDiffusionXLPipeline(**parts, text_encoder_2=fill(texts[1]), tokenizer_2=words)
    else:
        pipe = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    if kind == "animatediff":
        with torch.device("meta"):
            motion = MotionAdapter()
        parts |= {"motion_adapter": fill(motion)}
        pipe = AnimateDiffPipeline(**parts)
    pipe.save_pretrained(folder)
    write_adapter(pipe.unet, folder / "ip_adapter.safetensors")


def write_adapter(unet: Any, file: Path) -> None:
    """An adapter of the published layout for that UNet."""
    import torch
    from safetensors.torch import save_file

    cross, layers = unet.config.cross_attention_dim, {}
    places = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    names = [name for name in places if "motion_modules" not in name]
    for number, name in enumerate(names):
        width = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for part in ("k", "v"):
            value = torch.empty(width, cross).uniform_(-1, 1) / cross**0.5
            layers[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = value.half()
    layers["image_proj.proj.weight"] = (torch.empty(4 * cross, 1024).uniform_(-1, 1) / 32).half()
    layers["image_proj.proj.bias"] = torch.zeros(4 * cross).half()
    layers |= {"image_proj.norm.weight": torch.ones(cross).half(), "image_proj.norm.bias": torch.zeros(cross).half()}
    save_file(layers, file)


def build_kandinsky(folder: Path) -> None:
    """The decoder of Kandinsky 2.2."""
    import torch
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            in_channels=4, out_channels=8, block_out_channels=(384, 768, 1152, 1536), cross_attention_dim=768,
            encoder_hid_dim=1280, encoder_hid_dim_type="image_proj", addition_embed_type="image", **SIMPLE,
        )  # fmt: skip
        movq = VQModel(
            block_out_channels=(128, 256, 256, 512), layers_per_block=2, latent_channels=4, num_vq_embeddings=16_384,
            down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",), vq_embed_dim=4,
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3, norm_type="spatial",
        )  # fmt: skip
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, variance_type="learned_range", clip_sample=False)
    KandinskyV22Pipeline(unet=fill(unet), scheduler=scheduler, movq=fill(movq)).save_pretrained(folder)


def build_karlo(folder: Path) -> None:
    """Karlo's image variations."""
    import torch
    from diffusers import UnCLIPImageVariationPipeline, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    channels = (320, 640, 960, 1280)
    finer = {
        "sample_size": 256, "in_channels": 6, "out_channels": 3, "block_out_channels": channels, "layers_per_block": 3,
        "down_block_types": ("ResnetDownsampleBlock2D",) * 4, "up_block_types": ("ResnetUpsampleBlock2D",) * 4,
        "add_attention": False, "resnet_time_scale_shift": "scale_shift",
    }  # fmt: skip
    with torch.device("meta"):
        decoder = UNet2DConditionModel(
            in_channels=3, out_channels=6, block_out_channels=channels, cross_attention_dim=1536,
            class_embed_type="identity", **SIMPLE,
        )  # fmt: skip
        projection = UnCLIPTextProjModel(clip_embeddings_dim=768, time_embed_dim=1280, cross_attention_dim=1536)
        parts = {"text_encoder": CLIPTextModelWithProjection(text), "decoder": decoder, "text_proj": projection}
        parts |= {name: UNet2DModel(**finer) for name in ("super_res_first", "super_res_last")}
    UnCLIPImageVariationPipeline(
        **{name: fill(part) for name, part in parts.items()}, tokenizer=tokenizer(), image_encoder=None,
        feature_extractor=None, decoder_scheduler=UnCLIPScheduler(variance_type="learned_range"),
        super_res_scheduler=UnCLIPScheduler(variance_type="fixed_small_log"),
    ).save_pretrained(folder)  # fmt: skip


def build_stable_video(folder: Path) -> None:
    """Stable Video Diffusion, img2vid; its image encoder, which is not loaded, is left out."""
    import torch
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )

    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(sample_size=96, num_frames=14)
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
        )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        **LEARNED, prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0,
        use_karras_sigmas=True, timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    StableVideoDiffusionPipeline(
        vae=fill(vae), image_encoder=None, unet=fill(unet), scheduler=scheduler, feature_extractor=None
    ).save_pretrained(folder)


def build_flux(folder: Path) -> None:
    """FLUX.1 with 2 of its 19 double and 2 of its 38 single blocks, no text encoders, and an IP-Adapter for these."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from safetensors.torch import save_file

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=128, num_attention_heads=24,
            joint_attention_dim=4096, pooled_projection_dim=768, guidance_embeds=True,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16, use_quant_conv=False,
            use_post_quant_conv=False, shift_factor=0.1159, scaling_factor=0.3611,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), vae=fill(vae),
        transformer=fill(transformer), text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
    ).save_pretrained(folder)  # fmt: skip
    shapes = {"ip_adapter_proj_model.proj.weight": (4 * 4096, 768), "ip_adapter_proj_model.proj.bias": (4 * 4096,)}
    shapes |= {f"ip_adapter_proj_model.norm.{name}": (4096,) for name in ("weight", "bias")}
    for number in range(2):
        for part in "kv":
            name = f"double_blocks.{number}.processor.ip_adapter_double_stream_{part}_proj"
            shapes |= {f"{name}.weight": (3072, 4096), f"{name}.bias": (3072,)}
    layers: dict[str, Any] = {name: torch.randn(shape).half() / 64 for name, shape in shapes.items()}
    save_file(layers, folder / "ip_adapter.safetensors")
