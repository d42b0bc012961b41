"""Full-size record: every host's published architecture with made-up weights, through our loading path.

    python tests/bench/bench_hosts.py FOLDER --kind sdxl [--size 256] [--frames 8] [--dtype bfloat16] [--threads 2]
    python tests/bench/bench_hosts.py FOLDER --kind sd15 --steer

Builds the host in the hub's folder layout (float16) with its IP-Adapter, and imagebind_huge's audio tower, in FOLDER if
they are not there. Then a fresh process loads them as ``generate --host`` does, runs one guided step on a sound at
reduced resolution, and prints times and peak memory as JSON. Where a slot is of another space, the adapter has a map of
full size. Sizes are those of the configurations on the hub; none of the published weights are used. FLUX.1 has 2 of its
19 double and 2 of its 38 single blocks, and no text encoders (its prompt is given encoded): whole it takes 35 GB.
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

from bench_unclip import GIBIBYTE, build_imagebind
from full_size_hosts import build

KINDS = ("sdxl", "sd15", "animatediff", "kandinsky", "karlo", "svd", "flux")


def run(folder: Path, kind: str, size: int, frames: int, dtype: str, threads: int, steer: bool) -> dict[str, Any]:
    """Load by our path, one step, in this process; with ``steer`` without the slot, and the image tower beside."""
    import numpy as np
    import torch
    from PIL import Image

    from bind2gen import bind
    from bind2gen.hosts.pictures.contract import saved_host
    from bind2gen.hosts.pictures.steering import Steering
    from bind2gen.space.adapter import EmbeddingAdapter

    torch.set_num_threads(threads)
    started, host = time.perf_counter(), Steering() if steer else saved_host(folder / kind)
    width = host.SLOTS[0].width or 1024
    # A made-up tower has no means to be shifted by, and a made-up map and length do: none changes the time.
    measured = EmbeddingAdapter(1024, norm=16.0)
    if width != 1024:
        matrix = torch.randn(1024, width, generator=torch.Generator().manual_seed(0))
        own = {"source_mean": torch.zeros(1024), "target_mean": torch.zeros(width), "norm": 16.0, "space": ""}
        measured = measured.with_map(matrix, **own, negative=torch.ones(width))
    absent = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2") if kind == "flux" else ()
    pipe = host.load(folder / kind, embed_dim=width, dtype=getattr(torch, dtype), **dict.fromkeys(absent))
    loaded = time.perf_counter()
    sound = np.random.default_rng(0).standard_normal(5 * 16_000).astype(np.float32) * 0.1
    one = {"num_inference_steps": 1, "height": size, "width": size, "output_type": "latent"}
    special = {
        "karlo": {"num_inference_steps": 2, "super_res_num_inference_steps": 2, "output_type": "np"},  # the least
        "animatediff": one | {"num_frames": frames},
        "svd": one | {"num_frames": frames, "host": {"image": Image.new("RGB", (size, size), "white")}},
        "flux": one | {"prompt_embeds": torch.zeros(1, 128, 4096, dtype=pipe.dtype),
                       "pooled_prompt_embeds": torch.zeros(1, 768, dtype=pipe.dtype)},
    }  # fmt: skip
    options = special.get(kind, one) | ({"prompt": "rain"} if host.SLOTS[0].prompt and kind != "flux" else {})
    options |= {"start": 0.0} if steer else {}
    encoder = folder / ("eyes" if steer else "imagebind")
    with bind(pipe, imagebind=encoder, adapter=measured, modalities=["audio"], steer=steer) as sounding:
        rows = sounding.condition(sounding.embed(audio=(sound, 16_000)))
        heard = time.perf_counter()
        made = sounding(image_embeds=rows, generator=torch.Generator().manual_seed(0), **options)
    stepped = time.perf_counter()
    drawn = torch.as_tensor(made.frames if host.SLOTS[0].media == "video" else made.images)
    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {
        "host": f"{kind}, steered" if steer else kind,
        "dtype": dtype,
        "threads": threads,
        "latents": list(drawn.shape),
        "millions": {name: round(sum(p.numel() for p in part.parameters()) / 1e6, 1) for name, part in modules.items()},
        "finite": bool(torch.isfinite(drawn).all()),
        "load_s": round(loaded - started, 1),
        "bind_and_embed_s": round(heard - loaded, 1),
        "draw_s": round(stepped - heard, 1),
        "cpu_s": round(time.process_time(), 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIBIBYTE, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=KINDS, default="sdxl")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--frames", type=int, default=8, help="of hosts that draw films")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steer", action="store_true", help="without the slot")
    parser.add_argument("--stage", choices=("build", "run"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage == "build":
        if not (options.folder / options.kind / "model_index.json").exists():
            build(options.folder, options.kind)
        for name, towers in (("imagebind", ["audio"]), *([("eyes", ["audio", "image"])] if options.steer else [])):
            if not (options.folder / name).exists():
                build_imagebind(options.folder / name, towers)
        return
    if options.stage == "run":
        given = {name: getattr(options, name) for name in ("size", "frames", "dtype", "threads", "steer")}
        found = run(options.folder, options.kind, **given)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    common = [sys.executable, __file__, str(options.folder), "--kind", options.kind]
    common += ["--steer"] * options.steer
    needed = (Path(options.kind, "model_index.json"), *([Path("eyes")] if options.steer else []))
    if not all((options.folder / part).exists() for part in needed):
        subprocess.run([*common, "--stage", "build"], check=True)
    names = ("size", "frames", "dtype", "threads")
    arguments = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    subprocess.run([*common, *arguments, "--stage", "run"], check=True)


if __name__ == "__main__":
    main()
