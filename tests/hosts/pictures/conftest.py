"""The toy hosts, each with what it needs, and ImageBind in front of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bind2gen import bind
from bind2gen.pipelines.binding import BoundPipeline
from bind2gen.pipelines.parts import with_facts

NORM = 4.0


@pytest.fixture(scope="session")
def make_loaded(make_host, make_diffusion, make_ip_adapter) -> Callable[[str], Any]:
    """A toy pipeline by the name of its kind: unclip, sd15 or sdxl."""

    def make(kind: str) -> Any:
        if kind == "unclip":
            pipe = make_host()
            pipe.set_progress_bar_config(disable=True)
            return pipe
        pipe = make_diffusion(kind == "sdxl")
        layers = make_ip_adapter(pipe.unet)
        pipe.load_ip_adapter(layers, subfolder="", weight_name="", image_encoder_folder=None)
        return pipe

    return make


@pytest.fixture(scope="session")
def in_front(tiny_pipeline) -> Callable[[Any], BoundPipeline]:
    """The toy encoder in front of a loaded pipeline."""
    adapter = with_facts(tiny_pipeline.adapter, {"norm": NORM})
    return lambda pipe: bind(
        pipe, imagebind=tiny_pipeline.imagebind, processor=tiny_pipeline.processor, adapter=adapter
    )


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    """Pictures (N, H, W, 3) in 0..1 of embeddings, with the seeds ``first``, ``first`` + 1 ..."""

    def call(sounding: Any, embeds: torch.Tensor, first: int = 0, pictures: int = 0, **given: Any) -> np.ndarray:
        seeds = [torch.Generator().manual_seed(first + i) for i in range(pictures or len(embeds))]
        given = {"num_inference_steps": 2, "output_type": "np", "guidance_scale": 3.0} | given
        return sounding(image_embeds=embeds, generator=seeds, **given).images

    return call


@pytest.fixture(scope="session")
def vectors() -> torch.Tensor:
    """(3, 32), far from each other."""
    return torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
