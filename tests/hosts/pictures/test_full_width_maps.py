"""The two recipes at full width: ImageBind's 1024 to the 768 of CLIP ViT-L and the 1280 of ViT-bigG, by their hub ids.

Weights are made up and one layer deep; widths, key names and folders are those of the hub.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from bind2gen import ImageBindUnCLIPPipeline, bind
from bind2gen.cli import main
from bind2gen.errors import HostError
from bind2gen.hosts.pictures.contract import SPACES
from bind2gen.imagebind.config import TINY, ImageBindConfig
from bind2gen.imagebind.embedding import encode_inputs
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.train.maps.spaces import LEAST_PICTURES, TARGETS

SIDE = 28  # pixels, of which attention at full width takes four patches
VISION = {  # as the hub's config.json have them, but for depth and size of picture
    "vit-l": {"hidden_size": 1024, "intermediate_size": 4096, "projection_dim": 768, "hidden_act": "quick_gelu"},
    "vit-bigg": {"hidden_size": 1664, "intermediate_size": 8192, "projection_dim": 1280, "hidden_act": "gelu"},
}
PUBLISHED = {
    "vision_model.embeddings.class_embedding", "vision_model.embeddings.patch_embedding.weight",
    "vision_model.pre_layrnorm.weight", "vision_model.encoder.layers.0.self_attn.q_proj.weight",
    "vision_model.encoder.layers.0.mlp.fc1.bias", "vision_model.post_layernorm.weight", "visual_projection.weight",
}  # fmt: skip
FILE = "model.safetensors"
WIDTHS = {space: sizes["projection_dim"] for space, sizes in VISION.items()}


def build_clip(space: str) -> CLIPModel | CLIPVisionModelWithProjection:
    """ViT-L with its text tower, as OpenAI's repository holds it; ViT-bigG alone, as Kandinsky's prior does."""
    torch.manual_seed(3)
    sizes = VISION[space] | {"num_hidden_layers": 1, "num_attention_heads": 16, "image_size": SIDE, "patch_size": 14}
    if space == "vit-bigg":
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes)).eval()
    text = CLIPTextConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1, projection_dim=768,
    )  # fmt: skip
    both = {"text_config": text.to_dict(), "vision_config": CLIPVisionConfig(**sizes).to_dict()}
    return CLIPModel(CLIPConfig(**both, projection_dim=768)).eval()


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """The hub's cache with both encoders in it."""
    folder = tmp_path_factory.mktemp("hub")
    for space, (owner_name, part) in TARGETS.items():
        place = folder / f"models--{owner_name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        snapshot = place / "snapshots" / ("0" * 40)
        build_clip(space).half().save_pretrained(snapshot / part)
        layers, places = load_file(snapshot / part / FILE), torch.arange(SIDE**2 // 14**2 + 1)[None]
        layers["vision_model.embeddings.position_ids"] = places  # as older versions of transformers wrote
        assert set(layers) > PUBLISHED
        save_file(layers, snapshot / part / FILE, {"format": "pt"})
        (snapshot / "model_index.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """Pictures, and an encoder of ImageBind's width."""
    folder, noise = tmp_path_factory.mktemp("full"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for k in range(LEAST_PICTURES):
        small = Image.fromarray(noise.integers(0, 256, (2, 2, 3), np.uint8))
        small.resize((SIDE, SIDE)).save(folder / "photos" / f"{k:03}.png")
    build_encoder(1).save_pretrained(folder / "imagebind")
    ImageBindProcessor.for_config(build_encoder(1).config).save_pretrained(folder / "imagebind")
    return folder


def build_encoder(seed: int) -> ImageBindModel:
    towers = TINY().towers
    towers["text"] = towers["text"] | {"vocab_size": 49_408}
    torch.manual_seed(seed)
    return ImageBindModel(ImageBindConfig(1024, towers)).eval()


@pytest.fixture(scope="module")
def maps(hub, there, tmp_path_factory) -> dict[str, Path]:
    """What ``fit-map`` makes of them, by space."""
    folder = tmp_path_factory.mktemp("maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for space in TARGETS:
            words = ["fit-map", "--images", there / "photos", "--to", space, "--imagebind", there / "imagebind"]
            assert main([str(word) for word in [*words, "--out", folder / space, "-q"]]) == 0
    return {space: folder / space for space in TARGETS}


def moved(adapter: EmbeddingAdapter, rows: torch.Tensor) -> torch.Tensor:
    return adapter({"image": F.normalize(rows, dim=1)})


@pytest.mark.parametrize("space", list(TARGETS))
def test_a_recipe_gives_what_hosts_of_its_space_need(space, maps, hub, there):
    """By transformers' own reading of the repository: its length, its black picture, and where pictures are led."""
    adapter, clip = EmbeddingAdapter.from_pretrained(maps[space]), build_clip(space).half().float()
    assert (adapter.width, adapter.config.target_space) == (WIDTHS[space], space)
    assert set(adapter.config.encoder) == {"vision"}

    def seen(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            if space == "vit-bigg":
                return clip(pixels).image_embeds
            return clip.visual_projection(clip.vision_model(pixels).pooler_output)

    assert torch.allclose(adapter.negative, seen(torch.zeros(1, 3, SIDE, SIDE))[0], atol=1e-4)
    files = sorted((there / "photos").glob("*.png"))
    pictures = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(part)[:, None, None] for part in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    theirs = seen((pictures - mean) / std)
    assert adapter.config.norm == pytest.approx(theirs.norm(dim=1).mean().item(), rel=1e-4)
    encoder = ImageBindModel.from_pretrained(there / "imagebind")
    processor = ImageBindProcessor.from_pretrained(there / "imagebind")
    ours = encode_inputs(encoder, processor, "image", [Image.open(file) for file in files])
    led, wanted = moved(adapter, ours), F.normalize(theirs, dim=1)
    nearest = ((led - led.mean(0)) @ (wanted - wanted.mean(0)).T).argmax(1)
    assert (nearest == torch.arange(len(files))).float().mean() > 0.3  # by chance 0.02


@pytest.mark.parametrize("kind", ["kandinsky", "karlo", "flux", "unclip"])
def test_its_adapter_leads_to_every_host_of_that_space(kind, maps, there, make_loaded, draw, monkeypatch):
    monkeypatch.setattr("bind2gen.hosts.pictures.kandinsky.SIDE", 64)
    space, other = ("vit-bigg", "vit-l") if kind == "kandinsky" else ("vit-l", "vit-bigg")
    pipe, parts = make_loaded(kind, WIDTHS[space]), {"imagebind": there / "imagebind"}
    sounding = bind(pipe, **parts, adapter=maps[space])
    assert (sounding.slot.space, sounding.slot.width) == (space, WIDTHS[space])
    pictures = [Image.open(there / "photos" / f"{k:03}.png") for k in range(2)]
    rows = sounding.condition(sounding.embed(image=pictures))
    assert torch.allclose(rows.norm(dim=1), torch.tensor(sounding.host_norm))
    made = draw(sounding, rows, rescale_embeds=False)
    assert abs(made[0] - made[1]).max() > 1e-3
    with pytest.raises(HostError, match=f"for embeddings of width {WIDTHS[other]}, found {WIDTHS[space]}"):
        bind(pipe, **parts, adapter=maps[other])
    with pytest.raises(HostError, match=f"width 1024, found {WIDTHS[space]}.*{SPACES[space][1]}.*fit-map"):
        bind(pipe, **parts)
    if kind == "unclip":  # also by our own pipeline, which is what the command takes it for
        own = ImageBindUnCLIPPipeline.from_host(pipe, **parts, adapter=maps[space])
        assert np.array_equal(draw(own, rows, rescale_embeds=False), made)


def test_an_encoder_that_a_map_was_not_fitted_on_is_refused(maps, make_loaded):
    pipe, other = make_loaded("karlo", 768), build_encoder(2)
    processor = ImageBindProcessor.for_config(other.config)
    with pytest.raises(HostError, match="measured on another encoder; .*fit-map"):
        bind(pipe, imagebind=other, processor=processor, adapter=maps["vit-l"])


def test_small_unclip_draws_by_the_command(maps, there, make_loaded, run, tmp_path):
    make_loaded("unclip", 768).save_pretrained(tmp_path / "small")
    words = ["generate", "--host", tmp_path / "small", "--imagebind", there / "imagebind", "--steps", "2", "-q"]
    words += ["--image", there / "photos" / "000.png", "--out", tmp_path / "x.png"]
    code, _, err = run(*words)
    assert code == 1 and "width 1024, found 768" in err and "fit-map" in err, err
    code, _, err = run(*words, "--adapter", maps["vit-bigg"])
    assert code == 1 and "width 1280, found 768" in err, err
    code, _, err = run(*words, "--adapter", maps["vit-l"])
    assert code == 0, err
    assert np.asarray(Image.open(tmp_path / "x.png")).std() > 1
