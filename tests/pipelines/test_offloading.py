"""Offloading moves every part when it is needed. Without an accelerator: hooks are watched, or weights spoilt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import CpuOffload
from diffusers import UNet2DConditionModel
from diffusers.hooks.group_offloading import ModuleGroup

from bind2gen.hosts.pictures.feature_autoencoder import FeatureAutoencoder
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline

TONE = (np.sin(np.arange(40_000) / 6).astype(np.float32), 16_000)
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def draw(pipe: ImageBindUnCLIPPipeline, **call) -> np.ndarray:
    call |= {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "np"}
    return pipe(**call, generator=torch.Generator().manual_seed(0)).images


def with_feature_autoencoder(make_pipeline) -> ImageBindUnCLIPPipeline:
    torch.manual_seed(3)
    parts = make_pipeline().components
    of_features = dict(parts["unet"].config) | {"in_channels": 112, "out_channels": 112, "sample_size": 2}
    unet = UNet2DConditionModel.from_config(of_features).eval()
    vae = FeatureAutoencoder(block_out_channels=(12, 8, 8, 16, 16), sample_size=32).eval()
    pipe = ImageBindUnCLIPPipeline(**parts | {"unet": unet, "vae": vae})
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("bundled_kind", [False, True])
def test_model_offloading_brings_every_part_and_sends_the_one_before_back(make_pipeline, bundled_kind, monkeypatch):
    """With the CPU standing in for an accelerator, where hooks run and move nothing."""
    pipe, moved = with_feature_autoencoder(make_pipeline) if bundled_kind else make_pipeline(), []
    names = {part: name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    bring = CpuOffload.pre_forward

    def bring_and_tell(hook, module, *args, **kwargs):
        before = names.get(getattr(hook.prev_module_hook, "model", None))
        if (names[module], before) not in moved:
            moved.append((names[module], before))
        return bring(hook, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", bring_and_tell)
    call = {"audio": TONE, "text": "a dog"}
    plain = draw(pipe, **call)
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):  # the hooks are set anew after each call
        moved.clear()
        assert abs(draw(pipe, **call) - plain).max() < 1e-5
        order = ["imagebind", "text_encoder", "unet", "vae"]
        assert moved == list(zip(order, [None, *order], strict=False))


@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_group_offloading_reaches_every_weight(make_pipeline, kind, monkeypatch):
    """Groups that are away hold NaN: a weight that is reached past its module's hooks spoils the picture."""
    kept = {}

    def tensors(group: ModuleGroup) -> list[torch.Tensor]:
        own = [tensor for module in group.modules for tensor in (*module.parameters(), *module.buffers())]
        return [*own, *group.parameters, *group.buffers]

    def send_away(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            kept.setdefault(tensor, tensor.data)
            tensor.data = torch.full_like(tensor.data, float("nan") if tensor.is_floating_point() else -1)

    def bring_back(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            tensor.data = kept[tensor]

    monkeypatch.setattr(ModuleGroup, "offload_", send_away)
    monkeypatch.setattr(ModuleGroup, "onload_", bring_back)
    pipe = with_feature_autoencoder(make_pipeline)
    call = {"audio": TONE, "image": PHOTO, "prompt": "abc", "clip_skip": 1}
    plain = draw(pipe, **call)
    options = {"num_blocks_per_group": 1, "exclude_modules": ["image_normalizer"]}  # which is read, and never called
    pipe.enable_group_offload(torch.device("cpu"), offload_type=kind, **options)
    assert all(parameter.isnan().all() for parameter in pipe.vae.parameters())
    for _ in range(2):
        assert abs(draw(pipe, **call) - plain).max() < 1e-5
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert pipe.vae.encoder(photo).isfinite().all()


def test_sequential_offloading_reaches_every_weight(make_pipeline):
    """What enable_sequential_cpu_offload does: a weight that is reached past its module's hooks is still on meta."""
    pipe = make_pipeline()
    call = {"audio": TONE, "image": PHOTO}
    plain = draw(pipe, **call)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and name not in pipe._exclude_from_cpu_offload:
            cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
    assert next(pipe.unet.parameters()).is_meta
    for _ in range(2):
        assert abs(draw(pipe, **call) - plain).max() < 1e-5
