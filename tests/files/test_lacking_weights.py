"""Networks that are loaded, but not whole: weights that lack, and those that half precision does not hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from bind2gen.errors import CheckpointError
from bind2gen.imagebind.agreement import check_loaded
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from fuzz.refusal import NETWORKS, altered, refused


@pytest.mark.parametrize("family", ["encoders", "yolo", "detic", "owl", "pipelines"])
def test_a_weight_beyond_half_precision_is_named(family, copy):
    """Finite in the file, infinite in the network."""
    folder, load = copy(family), NETWORKS[family]
    load(folder, dtype=torch.float16)
    for part in ("unet", "text_encoder", "imagebind") if family == "pipelines" else ("",):
        with altered(folder / part, lambda state, key: state[key].view(-1).__setitem__(-1, 1e6)) as key:
            said = refused(lambda: load(folder, dtype=torch.float16), CheckpointError)
        assert f"{key} holds NaN or infinite values" in said and str(folder / part) in said


@pytest.mark.parametrize("part", ["vae", "unet", "image_normalizer", "text_encoder", "imagebind", "adapter"])
def test_a_weight_that_lacks_in_a_pipeline_is_named(part, copy):
    """Of diffusers' own parts such a parameter was left without memory, and of transformers' it was random."""
    folder = copy("pipelines")
    with altered(folder / part, lambda state, key: state.update({f"{key}-": state.pop(key)})) as key:
        said = refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder), CheckpointError)
    assert f"1 parameters missing: {key}; config.json does not belong" in said and str(folder / part) in said
    with altered(folder / part, lambda state, key: state.pop(key)) as key:
        said = refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder), CheckpointError)
    assert f"1 parameters missing: {key}" in said


def test_what_is_given_and_what_is_elsewhere_does_not_lack(copy):
    folder = copy("pipelines")
    whole = ImageBindUnCLIPPipeline.from_pretrained(folder)
    whole.text_encoder.final_layer_norm.weight = torch.nn.Parameter(torch.ones(32))  # as of a part that was taught more
    given = ImageBindUnCLIPPipeline.from_pretrained(folder, text_encoder=whole.text_encoder)
    assert given.text_encoder is whole.text_encoder
    cpu_offload(whole.unet, "cpu")
    assert next(whole.unet.parameters()).is_meta
    check_loaded(whole.unet, "unet")
