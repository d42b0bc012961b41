from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP

from bind2gen.errors import CheckpointError
from bind2gen.imagebind.config import HUGE, TINY, ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.train.openclip import load_openclip, openclip_key


def tiny_clip(*, quick_gelu: bool = False, **changes: int) -> CLIP:
    torch.manual_seed(0)
    vision = {"image_size": 28, "layers": 2, "width": 32, "head_width": 8, "patch_size": 14}
    text = {"context_length": 77, "vocab_size": 1000, "width": 32, "heads": 4, "layers": 2}
    model = CLIP(embed_dim=32, vision_cfg=vision | changes, text_cfg=text, quick_gelu=quick_gelu)
    for p in model.parameters():  # nothing stays at a value that hides a mistake
        p.data.add_(0.05 * torch.randn_like(p))
    return model.eval()


@pytest.mark.parametrize(("eps", "tolerance"), [(1e-6, 2e-6), (1e-5, 1e-3)])  # of our norms, of OpenCLIP's own
def test_embeddings_are_those_of_openclip(eps, tolerance):
    clip = tiny_clip()
    for part in clip.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = eps
    model = load_openclip(clip, TINY(["image", "text", "audio"])).eval()
    pictures = torch.randn(3, 3, 28, 28)
    ids = torch.randint(1, 900, (3, 77))
    ids[torch.arange(3), torch.tensor([4, 20, 76])] = 999  # the end of text is the largest id
    with torch.no_grad():
        seen, read = clip.encode_image(pictures, normalize=True), clip.encode_text(ids, normalize=True)
        assert torch.allclose(model.encode("image", pictures[:, None]), seen, atol=tolerance)
        assert torch.allclose(model.encode("text", ids[:, None]), read, atol=tolerance)
        # A clip of two equal frames is the same picture.
        clips = pictures[:, :, None].expand(-1, -1, 2, -1, -1)
        assert torch.allclose(model.encode("video", clips[:, None]), seen, atol=tolerance)
        assert torch.allclose(model.logit_scale("text"), clip.logit_scale.exp(), rtol=1e-5)


def test_a_state_dict_does_as_well_and_one_tower_is_enough():
    model = load_openclip(tiny_clip().state_dict(), TINY(), modalities=["image"])
    assert list(model.towers) == ["vision"]


def test_the_names_of_vit_h_14_are_all_found():
    import open_clip

    with torch.device("meta"):
        theirs = open_clip.create_model("ViT-H-14", pretrained=None, device="meta").state_dict()
        ours = ImageBindModel(HUGE(["image", "text"]))
    for tower in ("vision", "text"):
        for key, value in ours.towers[tower].named_parameters():
            found = theirs[openclip_key(tower, key)]
            frames = 2 if key == "stem.projection.weight" else 1
            assert found.numel() * frames == value.numel(), key


def test_what_does_not_fit_is_refused_by_name():
    weights = tiny_clip().state_dict()
    del weights["visual.proj"]
    with pytest.raises(CheckpointError, match="visual.proj is missing"):
        load_openclip(weights, TINY(["image"]))
    with pytest.raises(CheckpointError, match="visual.positional_embedding is"):
        load_openclip(tiny_clip(image_size=42), TINY(["image"]))
    with pytest.raises(CheckpointError, match="quick GELU"):
        load_openclip(tiny_clip(quick_gelu=True), TINY(["image"]))
    other = TINY(["image"])
    other.towers["vision"]["bias_kv"] = True
    with pytest.raises(CheckpointError, match="bias_k"):
        load_openclip(tiny_clip(), ImageBindConfig(32, other.towers))
