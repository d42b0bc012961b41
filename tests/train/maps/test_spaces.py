"""Maps to another space: a turn that was made is found again, and what is left out is judged by what it did not see."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from bind2gen.cli import fit_map
from bind2gen.errors import CheckpointError, InputError, NonFiniteError, ShapeError
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.train.maps import spaces as spaces_module
from bind2gen.train.maps.spaces import LEAST_PICTURES, TargetEncoder, fit_space, write_space

WIDE, LONG, PICTURES = 12, 20, 400


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spaces(noise: float, turn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same things around a middle of one space, and turned around a middle of another, of length 7."""
    things = 0.1 * draw(0, PICTURES, WIDE)
    theirs = things @ turn + noise * draw(1, PICTURES, turn.shape[1]) + torch.eye(turn.shape[1])[3]
    return things + torch.eye(WIDE)[0], 7 * F.normalize(theirs, dim=1)


def test_both_ways_are_named_alike_where_there_is_no_torch():
    assert fit_map.WAYS == spaces_module.WAYS


@pytest.mark.parametrize("way", spaces_module.WAYS)
@pytest.mark.parametrize("width", [WIDE, LONG])
def test_a_turn_is_found_again(width, way):
    turn = torch.linalg.qr(draw(2, width, width))[0][:WIDE]
    source, target = spaces(0.01, turn)
    adapter, report = fit_space(source, target, way=way, space="vit-l", negative=torch.ones(width))
    assert report.norm == pytest.approx(7, rel=1e-5) and adapter.config.norm == report.norm
    assert ("nothing" in report.ways) == (width == WIDE)
    assert report.ways[report.kept].first > 0.9 and report.ways[report.kept].cosine > 0.95
    if width == WIDE:
        assert report.ways["nothing"].first < 0.05
    other = spaces(0.0, turn)  # without the noise: what the map should give
    moved = adapter({"image": F.normalize(source, dim=1)})
    assert (moved * F.normalize(other[1], dim=1)).sum(1).min() > 0.9
    assert torch.equal(adapter.negative, torch.ones(width)) and adapter.width == width


def test_stretched_axes_need_more_than_a_rotation():
    turn = torch.linalg.qr(draw(2, LONG, LONG))[0][:WIDE] * torch.linspace(0.05, 2, WIDE)[:, None]
    _, report = fit_space(*spaces(0.005, turn))
    assert report.kept == "rotation" and report.ways["ridge"].cosine > report.ways["rotation"].cosine + 0.01


@pytest.mark.parametrize("way", spaces_module.WAYS)
def test_what_no_picture_varies_in_leads_nowhere(way):
    """Of fewer pictures than numbers nothing is known of most directions: a rotation must not make them up."""
    source, target = draw(0, LEAST_PICTURES, 80), draw(1, LEAST_PICTURES, 90)
    adapter, _ = fit_space(source, target, way=way)
    unseen = torch.linalg.svd(F.normalize(source, dim=1) - adapter.target_source)[2][-1]
    assert (unseen @ adapter.target_matrix).norm() < 1e-3 < (source[0] @ adapter.target_matrix).norm()


def test_figures_are_of_pictures_that_were_left_out():
    """Of pictures that have nothing to do with each other a map of many numbers fits all, and finds none."""
    _, report = fit_space(draw(0, 60, 40), draw(1, 60, 40))
    assert all(rank.first < 0.1 for rank in report.ways.values())


def test_what_moves_sounds_to_images_stays_before_the_map(tmp_path):
    turn = torch.linalg.qr(draw(2, LONG, LONG))[0][:WIDE]
    source, target = spaces(0.005, turn)
    unit = F.normalize(source, dim=1)
    gap = EmbeddingAdapter.from_means({"image": unit.mean(0), "audio": torch.eye(WIDE)[5]})
    adapter, report = fit_space(source, target, adapter=gap, space="vit-l")
    sounds = unit[:5] - unit.mean(0) + torch.eye(WIDE)[5]
    moved = adapter({"audio": F.normalize(sounds, dim=1)})
    assert (moved * F.normalize(target[:5], dim=1)).sum(1).min() > 0.9
    files = write_space(tmp_path / "map", adapter, report, encoder="ours", target="theirs")
    assert {path.name for path in files} >= {"README.md", "metrics.json", "config.json"}
    again = EmbeddingAdapter.from_pretrained(tmp_path / "map")
    assert torch.equal(again({"audio": F.normalize(sounds, dim=1)}), moved)
    assert json.loads((tmp_path / "map" / "metrics.json").read_text())["left_out"]["kept"] == report.kept
    assert "| rotation (kept)" in (tmp_path / "map" / "README.md").read_text()


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        (draw(0, LEAST_PICTURES - 1, 4), draw(0, LEAST_PICTURES - 1, 4), InputError),
        (draw(0, 100, 4), draw(0, 99, 4), ShapeError),
        (draw(0, 100, 4), draw(0, 100, 4) / 0, NonFiniteError),
    ],
)
def test_rows_that_do_not_fit_are_refused(source, target, error):
    with pytest.raises(error):
        fit_space(source, target)


def small_clip() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=1280,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def test_the_other_encoder_is_found_in_a_pipeline_and_its_zero_picture_is_kandinskys(tmp_path):
    made = small_clip()
    made.save_pretrained(tmp_path / "pipeline" / "image_encoder")
    encoder = TargetEncoder(tmp_path / "pipeline")
    assert (encoder.width, encoder.space) == (1280, "vit-bigg")
    zero = torch.zeros(1, 3, 28, 28)  # diffusers' KandinskyV22PriorPipeline.get_zero_embed
    with torch.no_grad():
        assert torch.allclose(encoder.negative(), made(zero).image_embeds[0], atol=1e-6)
    rows = encoder.embed([Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 50), "blue")])
    assert rows.shape == (2, 1280) and not torch.allclose(rows[0], rows[1])
    with pytest.raises(CheckpointError, match="wanted a CLIP image encoder"):
        TargetEncoder(tmp_path)


def test_an_encoder_is_held_against_its_weights_and_a_name_alone_is_not_looked_for(tmp_path):
    small_clip().save_pretrained(tmp_path / "clip")
    with pytest.raises(CheckpointError, match="nowhere: wanted a CLIP image encoder"):  # and nothing asked of the hub
        TargetEncoder("nowhere")
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**6}))
    with pytest.raises(CheckpointError, match="far more parameters .* num_hidden_layers"):
        TargetEncoder(tmp_path / "clip")
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config))
    state = load_file(tmp_path / "clip" / "model.safetensors")
    state["visual_projection.weight"][0, 0] = math.nan
    save_file(state, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="visual_projection.weight holds NaN or infinite values"):
        TargetEncoder(tmp_path / "clip")
    del state["visual_projection.weight"]  # transformers would give it random numbers
    save_file(state, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 parameters missing: visual_projection.weight"):
        TargetEncoder(tmp_path / "clip")
