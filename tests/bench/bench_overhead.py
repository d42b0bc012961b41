"""What our Stable unCLIP costs beyond diffusers' own, at published sizes, on made-up weights.

    python tests/bench/bench_overhead.py FOLDER [--size 256] [--steps 3] [--runs 3] [--dtype bfloat16] [--threads 2]

FOLDER is that of bench_unclip.py, which builds it. Both pipelines share their networks and get the same embedding;
calls take turns. Counted are CPU seconds in the networks, and outside of them: the first are the same work and depend
on the machine's mood, the second are what a pipeline adds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableUnCLIPImg2ImgPipeline

from bind2gen import ImageBindUnCLIPPipeline


class Inside:
    """CPU seconds within some networks' forward passes."""

    def __init__(self, *networks: torch.nn.Module) -> None:
        self.seconds, self._began = 0.0, 0.0
        for network in networks:
            network.register_forward_pre_hook(self._begin)
            network.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._began = time.process_time()

    def _end(self, *_: object) -> None:
        self.seconds += time.process_time() - self._began


def spent(call: Callable[[], object], inside: Inside) -> tuple[float, float]:
    """CPU seconds within the networks, and outside of them."""
    started, inside.seconds = time.process_time(), 0.0
    call()
    return inside.seconds, time.process_time() - started - inside.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    bare = StableUnCLIPImg2ImgPipeline.from_pretrained(options.folder / "host", dtype=dtype)
    ours = ImageBindUnCLIPPipeline.from_host(bare, imagebind=options.folder / "imagebind", dtype=dtype)
    for pipe in (ours, bare):
        pipe.set_progress_bar_config(disable=True)
    embeds = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0))
    same = {"num_inference_steps": options.steps, "height": options.size, "width": options.size,
            "guidance_scale": 10.0, "output_type": "latent"}  # fmt: skip
    calls = {
        "bare": lambda: bare(prompt="", image_embeds=embeds.to(bare.unet.dtype), generator=seeded(), **same),
        "ours": lambda: ours(image_embeds=embeds, generator=seeded(), **same),
    }
    inside = Inside(ours.unet, ours.text_encoder)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(options.runs + 1):
        for name, call in calls.items():
            found[name].append(spent(call, inside))
    networks = statistics.median(one for rows in found.values() for one, _ in rows[1:])
    outside = {name: statistics.median(other for _, other in rows[1:]) for name, rows in found.items()}
    added = (outside["ours"] - outside["bare"]) / (networks + outside["bare"])
    sys.stdout.write(
        f"{options.size} pixels, {options.steps} steps, {options.dtype}: networks {networks:.2f} CPU s, beside them "
        f"{outside['bare'] * 1e3:.0f} ms bare and {outside['ours'] * 1e3:.0f} ms ours: {added:+.2%}\n"
    )


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
