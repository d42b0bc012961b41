"""Full-size record: Stable unCLIP 2.1's published architecture with made-up weights, through our loading path.

    python tests/bench/bench_unclip.py FOLDER [--size 256] [--dtype bfloat16] [--threads 2]

Builds the host in the hub's folder layout (float16 safetensors, about 3.9 GB) and imagebind_huge's audio tower in
FOLDER if they are not there, loads both by ``ImageBindUnCLIPPipeline.from_host`` in a fresh process, runs one
guided denoising step on a sound at reduced resolution, and prints times and peak memory as JSON. Sizes: Stability-AI's
v2-1-stable-unclip-h-inference.yaml and the diffusers conversion of it (OpenRAIL++ weights; none of them is used here).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GIBIBYTE = 2**30


def fill(module, seed: int = 0):
    """Plausible float16 weights for a module from the meta device: variance-keeping matrices, unit norms, no biases."""
    import torch

    module = module.to(torch.float16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, p in list(module.named_parameters()) + list(module.named_buffers()):
        if name.endswith("position_ids"):
            p.data.copy_(torch.arange(p.shape[-1]).expand_as(p))
        elif p.ndim >= 2:
            limit = 0.7 * (3 / p[0].numel()) ** 0.5
            p.data.uniform_(-limit, limit, generator=generator)
        else:
            p.data.fill_(1.0 if name.endswith("weight") and "norm" in name.lower() else 0.0)
    return module


def tokenizer():
    """CLIP's tokenizer from the table in open_clip's wheel."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    bpe = SimpleTokenizer()
    spelling = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {spelling.get(token, token): number for token, number in bpe.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(bpe.bpe_ranks), model_max_length=77, pad_token="!")


def build_host(folder: Path) -> None:
    """Save the whole published pipeline, image encoder included, as the hub has it."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=96, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=(5, 10, 20, 20),
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), layers_per_block=2,
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, cross_attention_dim=1024,
            class_embed_type="projection", projection_class_embeddings_input_dim=2048, use_linear_projection=True,
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=768,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        text = CLIPTextConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu",
            projection_dim=512,
        )  # fmt: skip
        text_encoder = CLIPTextModel(text)
        vision = CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14,
            hidden_act="gelu", projection_dim=1024,
        )  # fmt: skip
        image_encoder = CLIPVisionModelWithProjection(vision)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=1024)
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(),
        image_encoder=fill(image_encoder),
        image_normalizer=normalizer.half(),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(),
        text_encoder=fill(text_encoder),
        unet=fill(unet),
        scheduler=PNDMScheduler(**schedule, prediction_type="v_prediction", skip_prk_steps=True, steps_offset=1),
        vae=fill(vae),
    ).save_pretrained(folder)


def build_imagebind(folder: Path, towers: Sequence[str] = ("audio",)) -> None:
    import torch

    from bind2gen.imagebind.config import HUGE
    from bind2gen.imagebind.model import ImageBindModel

    with torch.device("meta"):
        model = ImageBindModel(HUGE(list(towers)))
    fill(model).save_pretrained(folder)


def run(folder: Path, size: int, dtype: str, threads: int) -> dict[str, float | str]:
    """Load by our path, one step, in this process."""
    import numpy as np
    import torch

    from bind2gen import ImageBindUnCLIPPipeline
    from bind2gen.hosts.pictures import unclip

    torch.set_num_threads(threads)
    started = time.perf_counter()
    pipe = ImageBindUnCLIPPipeline.from_host(
        folder / "host", imagebind=folder / "imagebind", modalities=["audio"], dtype=getattr(torch, dtype)
    )
    loaded = time.perf_counter()
    sound = np.random.default_rng(0).standard_normal(5 * 16_000).astype(np.float32) * 0.1
    embeds = pipe.embed(audio=(sound, 16_000))
    heard = time.perf_counter()
    conditioning = pipe.condition(embeds)
    latents = pipe(
        image_embeds=conditioning, rescale_embeds=False, num_inference_steps=1, height=size, width=size,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    ).images  # fmt: skip
    stepped = time.perf_counter()
    picture = unclip.decode(pipe, latents, "pil")[0]
    decoded = time.perf_counter()
    parts = [getattr(pipe, name) for name in ("imagebind", "unet", "vae", "text_encoder")]
    return {
        "dtype": dtype,
        "threads": threads,
        "picture": f"{picture.width}x{picture.height}",
        "parameters_m": round(sum(p.numel() for part in parts for p in part.parameters()) / 1e6),
        "finite": bool(torch.isfinite(conditioning).all() and torch.isfinite(latents).all()),
        "load_s": round(loaded - started, 1),
        "embed_s": round(heard - loaded, 2),
        "prompt_and_step_s": round(stepped - heard, 1),
        "decode_s": round(decoded - stepped, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIBIBYTE, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stage", choices=("build", "run"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage == "build":
        build_host(options.folder / "host")
        build_imagebind(options.folder / "imagebind")
        return
    if options.stage == "run":
        sys.stdout.write(json.dumps(run(options.folder, options.size, options.dtype, options.threads), indent=1) + "\n")
        return
    if not (options.folder / "imagebind").exists():
        subprocess.run([sys.executable, __file__, str(options.folder), "--stage", "build"], check=True)
    arguments = ["--size", str(options.size), "--dtype", options.dtype, "--threads", str(options.threads)]
    subprocess.run([sys.executable, __file__, str(options.folder), *arguments, "--stage", "run"], check=True)


if __name__ == "__main__":
    main()
