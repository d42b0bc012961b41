"""Fixtures shared by the tests: a toy ImageBind and a toy unCLIP host, built offline from seeded random weights."""

from __future__ import annotations

import json
import os
import runpy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WALL = Path(__file__).with_name("wall")
# Of the libraries themselves nothing is asked to stay offline: that they do is what is to be seen.
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE"):
    os.environ.pop(name, None)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # of visitors' gradio_client and the Trainer; test_offline goes without
# Processes that tests begin, and their own, have the same wall, and note what they try in this process's file.
_log = tempfile.NamedTemporaryFile(prefix="bind2gen-wall-")  # noqa: SIM115  (as long as this process)
os.environ["WALL_LOG"] = _log.name
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(WALL), os.environ.get("PYTHONPATH"))))
runpy.run_path(str(WALL / "sitecustomize.py"))

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from bind2gen.files.bundled import bundled_path
from bind2gen.imagebind.config import TINY, ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline
from bind2gen.space.adapter import EmbeddingAdapter

EMBED_DIM = 32
FULL_SIZE = "test_parity.py"  # name of the files that build models of full size

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors; their subprocesses read the variable
    os.environ["OMP_NUM_THREADS"] = str(max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of ``-n auto``: one a processor, four at most, for each takes two gigabytes."""
    return min(4, os.cpu_count())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """The tests of a file share its fixtures, and no two models of full size are in memory."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return FULL_SIZE if file.endswith(FULL_SIZE) else file

    return Files(config, log)


def letters() -> CLIPTokenizer:
    """Knows the words a to h; 8 tokens."""
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"{c}</w>": i + 2 for i, c in enumerate("abcdefgh")}}
    vocabulary |= {c: i + 10 for i, c in enumerate("abcdefgh")}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8)


def build_host(width: int = EMBED_DIM) -> StableUnCLIPImg2ImgPipeline:
    """A random StableUnCLIPImg2ImgPipeline for embeddings of ``width``; 16x16 pictures."""
    torch.manual_seed(0)
    tokenizer = letters()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4), cross_attention_dim=32, class_embed_type="projection", norm_num_groups=8,
        projection_class_embeddings_input_dim=2 * width,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=width)
    with torch.no_grad():
        normalizer.mean.normal_(std=0.5)
        normalizer.std.uniform_(0.5, 1.5)
    host = StableUnCLIPImg2ImgPipeline(
        feature_extractor=None, image_encoder=None, image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False),
        tokenizer=tokenizer, text_encoder=CLIPTextModel(text), unet=unet,
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False), vae=vae,
    )  # fmt: skip
    for name in ("unet", "vae", "text_encoder"):
        getattr(host, name).eval()
    return host


def build_diffusion(xl: bool) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """A random Stable Diffusion 1.5, or SDXL, with the published ones' blocks and 16x16 pictures."""
    torch.manual_seed(0)
    tokenizer, crossing = letters(), ("CrossAttnDownBlock2D",) * 3
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=16,
    )  # fmt: skip
    down, options = (*crossing, "DownBlock2D"), {"cross_attention_dim": 16}
    if xl:
        down, options = ("DownBlock2D", *crossing[:2]), {
            "cross_attention_dim": 32, "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 16 + 6 * 4, "transformer_layers_per_block": (1, 1, 2),
            "use_linear_projection": True,
        }  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8, 16, 16)[: len(down)], attention_head_dim=2, norm_num_groups=4,
        down_block_types=down, up_block_types=tuple(kind.replace("Down", "Up") for kind in down[::-1]), **options,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    parts = {
        "vae": vae.eval(), "text_encoder": CLIPTextModel(text).eval(), "tokenizer": tokenizer, "unet": unet.eval(),
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
    }  # fmt: skip
    if xl:
        second = CLIPTextModelWithProjection(text).eval()
        pipe = StableDiffusionXLPipeline(**parts, text_encoder_2=second, tokenizer_2=tokenizer, add_watermarker=False)
    else:
        pipe = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_ip_adapter(unet: UNet2DConditionModel, width: int = EMBED_DIM) -> dict[str, dict[str, torch.Tensor]]:
    """A random IP-Adapter in the published files' layout, loud enough to be seen in a toy's pictures."""
    generator, cross = torch.Generator().manual_seed(3), unet.config.cross_attention_dim

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 2 / shape[-1] ** 0.5

    places = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    names = [name for name in places if "motion_modules" not in name]
    wide = [unet.get_submodule(name.removesuffix(".processor")).to_q.out_features for name in names]
    layers = {f"{2 * i + 1}.to_{part}_ip.weight": drawn(side, cross) for i, side in enumerate(wide) for part in "kv"}
    projection = {"proj.weight": drawn(4 * cross, width), "proj.bias": drawn(4 * cross)}
    norm = {"norm.weight": torch.ones(cross), "norm.bias": torch.zeros(cross)}
    return {"image_proj": projection | norm, "ip_adapter": layers}


def tiny_imagebind() -> ImageBindModel:
    """The toy encoder with a vocabulary that CLIP's tokenizer can index."""
    towers = TINY().towers
    towers["text"] = towers["text"] | {"vocab_size": 49_408}
    torch.manual_seed(1)
    return ImageBindModel(ImageBindConfig(EMBED_DIM, towers)).eval()


def build_pipeline() -> ImageBindUnCLIPPipeline:
    """Toy encoder and toy host, with known means for the gap shift."""
    imagebind = tiny_imagebind()
    means = 0.3 * torch.randn(3, EMBED_DIM, generator=torch.Generator().manual_seed(2)) / EMBED_DIM**0.5
    adapter = EmbeddingAdapter.from_means(dict(zip(("image", "audio", "text"), means, strict=True)))
    pipe = ImageBindUnCLIPPipeline.from_host(
        build_host(), imagebind=imagebind, processor=ImageBindProcessor.for_config(imagebind.config), adapter=adapter
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(autouse=True)
def stays_at_home(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in whose time something reached for the network, unless it is marked to ask for it."""
    before = os.path.getsize(_log.name)
    yield
    with open(_log.name) as file:
        file.seek(before)
        tried = [json.loads(line) for line in file]
    # A visitor's program, which asks the hub who may be calling.
    tried = [one for one in tried if not any("gradio_client/client.py" in frame for frame in one[2])]
    if tried and not request.node.get_closest_marker("asks_the_network"):
        what, host, stack = tried[0]
        pytest.fail(f"{len(tried)} reached for the network: {what} of {host}\n{''.join(stack)}")


@pytest.fixture(scope="session")
def bundled_side() -> int:
    """Pixels of a side of the bundled model's pictures, as its files say."""
    unet, vae = (json.loads((bundled_path() / part / "config.json").read_text()) for part in ("unet", "vae"))
    return unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)


@pytest.fixture(scope="session")
def make_host() -> Callable[..., StableUnCLIPImg2ImgPipeline]:
    return build_host


@pytest.fixture(scope="session")
def make_diffusion() -> Callable[[bool], StableDiffusionPipeline | StableDiffusionXLPipeline]:
    return build_diffusion


@pytest.fixture(scope="session")
def make_ip_adapter() -> Callable[..., dict[str, dict[str, torch.Tensor]]]:
    return build_ip_adapter


@pytest.fixture(scope="session")
def make_imagebind() -> Callable[[], ImageBindModel]:
    return tiny_imagebind


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[[], ImageBindUnCLIPPipeline]:
    return build_pipeline


@pytest.fixture(scope="session")
def tiny_pipeline() -> ImageBindUnCLIPPipeline:
    return build_pipeline()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy pipeline, saved."""
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    build_pipeline().save_pretrained(folder)
    return folder
