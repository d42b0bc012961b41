from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModel

from bind2gen.errors import InputError, ModalityError, ShapeError
from bind2gen.imagebind.config import HUGE, TINY, TINY_TOWERS, ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.tower import MAX_LOGIT_SCALE
from bind2gen.modality import MODALITIES

NAMES = tuple(MODALITIES)
END = 999  # the largest id of the tiny vocabulary ends a text
NEAR = {torch.float16: 5e-3, torch.bfloat16: 4e-2}  # norm of the difference of unit vectors


def sample_shape(name: str) -> tuple[int, ...]:
    tower = TINY().tower(MODALITIES[name].tower)
    return (tower.input_shape[0], tower.frames, *tower.input_shape[1:]) if name == "video" else tower.input_shape


def clips(name: str, batch: int = 2, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    shape = (batch, count, *sample_shape(name))
    if name != "text":
        return torch.randn(shape, generator=generator)
    ids = torch.randint(1, END, shape, generator=generator)
    ends = torch.randint(2, 20, shape[:2], generator=generator)
    places = torch.arange(shape[-1])
    ids[places == ends[..., None]] = END
    return ids.masked_fill(places > ends[..., None], 0)


def randomised(model: ImageBindModel) -> ImageBindModel:
    """Every parameter random, also those that start at zero or one, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def model() -> ImageBindModel:
    torch.manual_seed(0)
    return randomised(ImageBindModel(TINY())).eval()


def distance(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got.float() - wanted.float()).norm(dim=-1).max() / wanted.float().norm(dim=-1).min())


# ---- what a tower computes ----


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_last_block_readout_equals_computing_all_rows(model, name):
    tower = model.tower(name)
    x = clips(name).flatten(0, 1)
    last, seen = tower.blocks[-1], {}
    handle = last.register_forward_pre_hook(lambda module, args: seen.update(tokens=args[0], readout=args[1]))
    short = tower(x)
    handle.remove()
    rows = last(seen["tokens"])[torch.arange(len(x)), seen["readout"]]  # every row, then the one that is read
    full = torch.nn.functional.normalize(tower.head(rows), dim=-1)
    assert distance(short, full) < 1e-5


@torch.inference_mode()
def test_text_without_its_padding_equals_the_whole_context(model):
    ids = clips("text")
    whole = model.towers["text"](ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
    assert distance(model.encode("text", ids, pool=False), whole) < 1e-5


@torch.inference_mode()
def test_text_after_its_end_is_not_read(model):
    ids = clips("text", batch=4, count=1)
    noisy = torch.where((ids == END).cumsum(-1) - (ids == END).int() > 0, torch.randint_like(ids, 1, END), ids)
    assert (noisy != ids).any()
    assert distance(model.encode("text", noisy), model.encode("text", ids)) < 1e-5
    changed = ids.clone()
    changed[..., 1] = END - changed[..., 1]
    assert distance(model.encode("text", changed), model.encode("text", ids)) > 1e-3


@torch.inference_mode()
def test_a_still_equals_its_frame_shown_twice(model):
    still = clips("image")
    shown_twice = still.unsqueeze(3).expand(-1, -1, -1, 2, -1, -1)
    assert distance(model.encode("image", still), model.encode("video", shown_twice)) < 1e-5


@torch.inference_mode()
def test_frames_of_a_video_are_told_apart(model):
    video = clips("video")
    assert distance(model.encode("video", video.flip(3)), model.encode("video", video)) > 1e-3


# ---- clips and scales ----


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_embeddings_are_unit_norm_and_means_of_clips(model, name):
    x = clips(name)
    each, pooled = model.encode(name, x, pool=False), model.encode(name, x)
    assert torch.allclose(each.norm(dim=-1), torch.ones(2, 3), atol=1e-5)
    assert torch.allclose(pooled.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert distance(pooled, torch.nn.functional.normalize(each.mean(1), dim=-1)) < 1e-5
    for s in range(3):
        assert distance(each[:, s], model.encode(name, x[:, s : s + 1])) < 1e-5


@torch.inference_mode()
def test_reference_scale_averages_after_scaling_without_renormalising(model):
    x = clips("audio")
    wanted = 20 * model.encode("audio", x, pool=False).mean(1)
    assert distance(model.encode("audio", x, reference_scale=True), wanted) < 1e-5


@torch.inference_mode()
def test_masked_clips_do_not_count(model):
    x = clips("audio")
    mask = torch.tensor([[True, True, False], [True, False, False]])
    got = model.encode("audio", x, clip_mask=mask)
    assert distance(got[:1], model.encode("audio", x[:1, :2])) < 1e-5
    assert distance(got[1:], model.encode("audio", x[1:, :1])) < 1e-5
    output = model(audio_values=x, audio_clip_mask=mask)
    assert torch.equal(output.audio_embeds, got)


@torch.inference_mode()
def test_batch_size_bounds_a_pass_and_changes_nothing(model):
    x, sizes = clips("depth", batch=3), []
    handle = model.towers["depth"].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    got = model.encode("depth", x, batch_size=4)
    handle.remove()
    assert sizes == [4, 4, 1]
    assert distance(got, model.encode("depth", x)) < 1e-5


def test_fixed_scales_are_the_reference_ones(model):
    scales = {name: model.logit_scale(name).item() for name in NAMES}
    wanted = {"text": 1 / 0.07, "image": 1, "video": 1, "audio": 20, "depth": 5, "thermal": 10, "imu": 5}
    assert scales == pytest.approx(wanted)


def test_learned_text_scale_is_clipped_at_100():
    model = ImageBindModel(TINY(), ["text"])
    with torch.no_grad():
        model.towers["text"].log_logit_scale.fill_(math.log(MAX_LOGIT_SCALE) + 1)
    assert model.logit_scale("text").item() == MAX_LOGIT_SCALE == 100
    with torch.inference_mode():
        norms = model.eval().encode("text", clips("text", count=1), reference_scale=True).norm(dim=-1)
    assert torch.allclose(norms, torch.full((2,), 100.0))


# ---- transformers behaviour ----


@torch.inference_mode()
def test_forward_takes_any_mix_and_agrees_with_encode(model):
    inputs = {MODALITIES[name].input_key: clips(name) for name in NAMES}
    output = model(**inputs)
    for name in NAMES:
        assert torch.equal(output[MODALITIES[name].embeds_key], model.encode(name, clips(name)))
    assert output.keys() == {MODALITIES[name].embeds_key for name in NAMES}
    assert len(model(audio_values=inputs["audio_values"], return_dict=False)) == 1


def test_subsets_of_towers(model):
    part = ImageBindModel(TINY(), ["video", "audio"])
    assert list(part.towers) == ["vision", "audio"]
    assert set(part.config.towers) == {"vision", "audio"}
    with pytest.raises(ModalityError, match="no text tower"):
        part.encode("text", clips("text"))
    with pytest.raises(ModalityError, match="no tower for"):
        ImageBindModel(part.config, ["depth"])


def test_building_a_subset_leaves_the_callers_config_alone():
    config = TINY()
    ImageBindModel(config, ["audio"])
    assert list(ImageBindModel(config).towers) == list(TINY_TOWERS)


def test_save_and_load_whole_and_in_part(model, tmp_path, caplog):
    model.save_pretrained(tmp_path)
    whole = ImageBindModel.from_pretrained(tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(whole.state_dict()[key], value), key
    part = ImageBindModel.from_pretrained(tmp_path, modalities=["audio", "image"])
    assert list(part.towers) == ["vision", "audio"]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in part.state_dict().items())
    # Weights mapped from a file are aligned otherwise, which may round a sum otherwise.
    assert distance(part.encode("audio", clips("audio")), model.encode("audio", clips("audio"))) < 1e-5
    assert "not used" not in caplog.text and "newly initialized" not in caplog.text


def test_a_saved_part_describes_itself(model, tmp_path):
    model.save_pretrained(tmp_path / "whole")
    ImageBindModel.from_pretrained(tmp_path / "whole", modalities=["audio"]).save_pretrained(tmp_path / "part")
    assert list(ImageBindModel.from_pretrained(tmp_path / "part").towers) == ["audio"]
    with pytest.raises(ModalityError, match="no tower for"):
        ImageBindModel.from_pretrained(tmp_path / "part", modalities=["text"])


def test_auto_classes_find_the_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is ImageBindConfig
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is ImageBindModel
    assert distance(loaded.encode("imu", clips("imu")), model.encode("imu", clips("imu"))) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_half_precision_stays_near_float32(model, name, dtype):
    half = ImageBindModel(TINY(), [name]).eval()
    half.load_state_dict({k: v for k, v in model.state_dict().items() if k in half.state_dict()})
    got = half.to(dtype).encode(name, clips(name))
    assert got.dtype == torch.float32
    assert distance(got, model.encode(name, clips(name))) < NEAR[dtype]


def test_loading_in_bfloat16_keeps_the_text_scale_exact(tmp_path):
    model = ImageBindModel(TINY(), ["text"])
    with torch.no_grad():
        model.towers["text"].log_logit_scale.fill_(4.59)  # bfloat16 would make it 4.59375, another 0.4 %
    model.save_pretrained(tmp_path)
    loaded = ImageBindModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.logit_scale("text"), model.logit_scale("text"))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_towers_compile_without_graph_breaks(model, name):
    x = clips(name).flatten(0, 1)
    compiled = torch.compile(model.tower(name), backend="eager", fullgraph=True)
    assert distance(compiled(x), model.tower(name)(x)) < 1e-6


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_.*able. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["text", "audio"])
def test_gradient_checkpointing_gives_the_same_gradients(name):
    torch.manual_seed(0)
    towers = TINY_TOWERS | {"audio": replace(TINY_TOWERS["audio"], drop_path=0.0)}
    model = ImageBindModel(ImageBindConfig(32, towers), [name]).train()
    gradients, passes = [], []
    model.tower(name).blocks[0].attention.register_forward_hook(lambda *_: passes.append(checkpointing))
    for checkpointing in (False, True):
        model.gradient_checkpointing_enable() if checkpointing else model.gradient_checkpointing_disable()
        model.zero_grad()
        model.encode(name, clips(name))[:, 0].sum().backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    assert passes == [False, True, True]  # computed again on the way back
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][key], gradient, atol=1e-6), key


def test_stochastic_depth_acts_only_in_training():
    torch.manual_seed(0)
    model = ImageBindModel(TINY(), ["imu"])
    x = clips("imu")
    with torch.no_grad():
        assert distance(model.train().encode("imu", x), model.encode("imu", x)) > 1e-3
        assert torch.equal(model.eval().encode("imu", x), model.encode("imu", x))


def test_drop_path_grows_linearly_to_the_last_block():
    with torch.device("meta"):
        blocks = ImageBindModel(HUGE(["imu"])).towers["imu"].blocks
    rates = [getattr(block.drop_path, "p", 0.0) for block in blocks]
    assert rates == pytest.approx([0, 0.14, 0.28, 0.42, 0.56, 0.7])


def test_the_released_size_builds_without_memory():
    with init_empty_weights():
        model = ImageBindModel(HUGE())
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.num_parameters() == 1_200_781_057  # imagebind_huge without its causal mask and four fixed scales


# ---- what is refused ----


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("image", (2, 3, 28, 28)),  # no clip axis
        ("image", (2, 1, 1, 28, 28)),
        ("image", (2, 1, 3, 28, 27)),
        ("video", (2, 1, 3, 3, 28, 28)),  # three frames
        ("audio", (2, 32, 44)),
        ("audio", (0, 1, 1, 32, 44)),
        ("audio", (2, 0, 1, 32, 44)),
        ("imu", (2, 1, 80, 6)),
    ],
)
def test_wrong_shapes_name_what_was_wanted_and_what_came(model, name, shape):
    with pytest.raises(ShapeError) as error:
        model.encode(name, torch.zeros(shape))
    assert "wanted (B, S, " in str(error.value) and str(shape) in str(error.value)


@pytest.mark.parametrize("ids", [torch.full((1, 1, 77), 1000), torch.full((1, 1, 77), -1), torch.zeros(1, 1, 77)])
def test_wrong_token_ids(model, ids):
    with pytest.raises(ShapeError, match=r"token ids in 0\.\.999"):
        model.encode("text", ids)


@pytest.mark.parametrize("mask", [torch.ones(2, 2), torch.zeros(2, 3), torch.tensor([[1, 0, 0], [0, 0, 0]])])
def test_wrong_clip_masks(model, mask):
    with pytest.raises(ShapeError, match="clip_mask"):
        model.encode("audio", clips("audio"), clip_mask=mask)


def test_unknown_names(model):
    with pytest.raises(ModalityError, match="unknown modality 'smell'"):
        model.encode("smell", torch.zeros(1))
    with pytest.raises(ModalityError, match="no tower for"):
        ImageBindModel(TINY(), ["smell"])
    with pytest.raises(ModalityError, match="unknown model inputs"):
        model(smell_values=torch.zeros(1))
    with pytest.raises(ModalityError, match="no input given"):
        model()
    with pytest.raises(InputError, match="TowerConfig: unknown settings .'widht'."):
        ImageBindConfig(32, {"audio": {"widht": 3}})


# ---- a convolutional network of timm as the stem ----

NETWORK = replace(
    TINY_TOWERS["vision"], stem="network", network="test_efficientnet", input_shape=(3, 70, 96), frames=1, kernel=()
)


@torch.inference_mode()
def test_network_stem_gives_a_token_for_each_cell_of_the_network():
    torch.manual_seed(0)
    tower = randomised(ImageBindModel(ImageBindConfig(16, {"vision": NETWORK}))).eval().towers["vision"]
    assert NETWORK.grid == (3, 3)  # 70 and 96 pixels, both rounded up to strides of 32
    pixels = torch.randn(2, 3, 70, 96)
    features = tower.stem.network.forward_features(pixels)
    tokens = tower.stem(pixels)
    wanted = tower.stem.norm(tower.stem.projection(features).flatten(2).transpose(1, 2))
    assert tokens.shape == (2, 9, 32) and torch.equal(tokens, wanted)
    assert distance(tower(pixels), tower(pixels.roll(32, -1))) > 1e-4
    assert torch.equal(tower(pixels[:, :, None]), tower(pixels))  # a film's single frame


@torch.inference_mode()
def test_network_stem_is_saved_and_loaded_with_its_statistics(tmp_path):
    config = ImageBindConfig(16, {"vision": replace(NETWORK, input_shape=(3, 32, 32))})
    model = randomised(ImageBindModel(config))
    pixels = torch.randn(4, 1, 3, 32, 32)
    with torch.enable_grad():
        model.train().encode("image", 3 * pixels + 1)  # moves the running statistics
    model.eval().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert distance(again.encode("image", pixels), model.encode("image", pixels)) < 1e-6


@torch.inference_mode()
def test_words_for_the_network_reach_it_and_are_saved(tmp_path):
    args = {"act_layer": "tanh", "pad_type": "same"}
    config = ImageBindConfig(16, {"vision": replace(NETWORK, input_shape=(3, 32, 32), network_args=args)})
    model = randomised(ImageBindModel(config)).eval()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config.tower("vision").network_args == args
    assert len({config.tower("vision"), again.config.tower("vision")}) == 1
    pixels = torch.randn(4, 1, 3, 32, 32)
    assert distance(again.encode("image", pixels), model.encode("image", pixels)) < 1e-6
    other = ImageBindModel(ImageBindConfig(16, {"vision": replace(NETWORK, input_shape=(3, 32, 32))})).eval()
    other.load_state_dict(model.state_dict())
    assert distance(other.encode("image", pixels), model.encode("image", pixels)) > 1e-2


@pytest.mark.parametrize("args", [{"checkpoint_path": "x.pth"}, {"pretrained": True}, {"act_layer": "fuo"}])
def test_other_words_for_the_network_are_refused(args):
    config = ImageBindConfig(16, {"vision": replace(NETWORK, network_args=args)})
    with pytest.raises((ModalityError, InputError), match=f"network_args.*{next(iter(args))}"):
        ImageBindModel(config)


def test_networks_that_timm_does_not_have_are_refused():
    config = ImageBindConfig(16, {"vision": replace(NETWORK, network="hf-hub:someone/network")})
    with pytest.raises(ModalityError, match="hf-hub:someone/network"):
        ImageBindModel(config)
