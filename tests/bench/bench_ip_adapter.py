"""Full-size record: SDXL (or SD 1.5) with an IP-Adapter, made-up weights in the published layouts, by ``bind``.

    python tests/bench/bench_ip_adapter.py FOLDER [--kind sdxl] [--size 256] [--dtype bfloat16] [--threads 2]

Writes the pipeline in the hub's folder layout (float16 safetensors: SDXL 6.9 GB and its adapter 0.7 GB; SD 1.5 2.1 and
0.045 GB) and imagebind_huge's audio tower to FOLDER if they are not there, loads all three in a fresh process, draws
one guided step of a sound at reduced resolution, and prints times and peak memory as JSON. Sizes: the configurations
of stabilityai/stable-diffusion-xl-base-1.0, of Stable Diffusion 1.5, and of h94/IP-Adapter's
``ip-adapter_sdxl_vit-h`` and ``ip-adapter_sd15``; none of their weights are used here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_unclip import GIBIBYTE, build_imagebind, tokenizer

PARAMETERS = {"sdxl": (2567, 349.2), "sd15": (860, 22.3)}  # millions: of the published UNets and adapters


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
    """Save the published pipeline and its adapter."""
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
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
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    parts = {
        "unet": fill(unet), "vae": fill(vae), "text_encoder": fill(texts[0]), "tokenizer": words,
        "scheduler": EulerDiscreteScheduler(**schedule),
    }  # fmt: skip
    if xl:
        pipe = StableDiffusionXLPipeline(**parts, text_encoder_2=fill(texts[1]), tokenizer_2=words)
    else:
        pipe = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipe.save_pretrained(folder / kind)
    write_adapter(pipe.unet, folder / f"{kind}.safetensors")


def write_adapter(unet: Any, file: Path) -> None:
    """An adapter of the published layout for that UNet."""
    import torch
    from safetensors.torch import save_file

    cross, layers = unet.config.cross_attention_dim, {}
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(names):
        width = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for part in ("k", "v"):
            value = torch.empty(width, cross).uniform_(-1, 1) / cross**0.5
            layers[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = value.half()
    layers["image_proj.proj.weight"] = (torch.empty(4 * cross, 1024).uniform_(-1, 1) / 32).half()
    layers["image_proj.proj.bias"] = torch.zeros(4 * cross).half()
    layers |= {"image_proj.norm.weight": torch.ones(cross).half(), "image_proj.norm.bias": torch.zeros(cross).half()}
    save_file(layers, file)


def run(folder: Path, kind: str, size: int, dtype: str, threads: int) -> dict[str, Any]:
    """Load by our path, one step, in this process."""
    import numpy as np
    import torch

    from bind2gen import bind
    from bind2gen.hosts.pictures.ip_adapter import IPAdapter
    from bind2gen.space.adapter import EmbeddingAdapter

    torch.set_num_threads(threads)
    started = time.perf_counter()
    pipe = IPAdapter().load(
        folder / kind, file=folder / f"{kind}.safetensors", embed_dim=1024, dtype=getattr(torch, dtype)
    )
    loaded = time.perf_counter()
    sound = np.random.default_rng(0).standard_normal(5 * 16_000).astype(np.float32) * 0.1
    # A made-up tower has no means to be shifted by, and a made-up length does: neither changes the time.
    measured = EmbeddingAdapter(1024, norm=16.0)
    with bind(pipe, imagebind=folder / "imagebind", adapter=measured, modalities=["audio"]) as sounding:
        rows = sounding.condition(sounding.embed(audio=(sound, 16_000)))
        heard = time.perf_counter()
        latents = sounding(
            image_embeds=rows, prompt="rain", num_inference_steps=1, height=size, width=size, scale=0.6,
            generator=torch.Generator().manual_seed(0), output_type="latent",
        ).images  # fmt: skip
    stepped = time.perf_counter()
    layers = [p for name, p in pipe.unet.named_parameters() if "_ip." in name or "encoder_hid_proj" in name]
    adapter = sum(p.numel() for p in layers) / 1e6
    unet = sum(p.numel() for p in pipe.unet.parameters()) / 1e6 - adapter
    return {
        "host": kind,
        "dtype": dtype,
        "threads": threads,
        "picture": f"{size}x{size}",
        "unet_m": round(unet),
        "adapter_m": round(adapter, 1),
        "as_published": (round(unet), round(adapter, 1)) == PARAMETERS[kind],
        "finite": bool(torch.isfinite(latents).all()),
        "load_s": round(loaded - started, 1),
        "bind_and_embed_s": round(heard - loaded, 1),
        "prompt_and_step_s": round(stepped - heard, 1),
        "cpu_s": round(time.process_time(), 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIBIBYTE, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=tuple(PARAMETERS), default="sdxl")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stage", choices=("build", "run"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage == "build":
        build(options.folder, options.kind)
        if not (options.folder / "imagebind").exists():
            build_imagebind(options.folder / "imagebind")
        return
    if options.stage == "run":
        found = run(options.folder, options.kind, options.size, options.dtype, options.threads)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    common = [sys.executable, __file__, str(options.folder), "--kind", options.kind]
    if not (options.folder / f"{options.kind}.safetensors").exists():
        subprocess.run([*common, "--stage", "build"], check=True)
    arguments = ["--size", str(options.size), "--dtype", options.dtype, "--threads", str(options.threads)]
    subprocess.run([*common, *arguments, "--stage", "run"], check=True)


if __name__ == "__main__":
    main()
