"""Parts passed by hand: every way of building a pipeline draws the same picture, and nothing is guessed or dropped."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from bind2gen.cli import build_parser, main
from bind2gen.cli.detectors import load_detection
from bind2gen.errors import Bind2GenWarning, CheckpointError, HostError
from bind2gen.files.embeddings import load_embeddings
from bind2gen.hosts.pictures import unclip
from bind2gen.hosts.pictures.unclip_files import PARTS, load_host
from bind2gen.imagebind.config import HUGE, TINY, ImageBindConfig
from bind2gen.imagebind.loading import load_config, load_processor
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline as Pipeline
from bind2gen.space.adapter import EmbeddingAdapter

GUIDANCE = {"guidance_scale": 3.0, "guidance_rescale": 0.7}
GRID = ["--detector", "grid", "--route", "rescoring"]
SOUND = (np.sin(np.arange(16_000) / 7).astype(np.float32), 16_000)


def draw(pipe: Pipeline) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    return pipe(audio=SOUND, num_inference_steps=2, output_type="np", generator=seed).images


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_pipeline) -> Path:
    """The toy pipeline with guidance, and a processor that its encoder's config does not tell."""
    made = make_pipeline()
    made.processor = ImageBindProcessor.for_config(made.imagebind.config, audio={"mean": -1.0})
    path = tmp_path_factory.mktemp("parts") / "pipeline"
    Pipeline(**made.components, **GUIDANCE).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def whole(folder) -> Pipeline:
    return Pipeline.from_pretrained(folder)


@pytest.fixture
def encoder() -> ImageBindModel:
    """Another encoder than the pipeline's, of the same sizes."""
    towers = TINY().towers
    towers["text"] = towers["text"] | {"vocab_size": 49_408}
    torch.manual_seed(9)
    return ImageBindModel(ImageBindConfig(32, towers)).eval()


def host_parts(folder: Path) -> dict:
    host = load_host(folder)
    return {name: getattr(host, name) for name in PARTS}


BY_HAND = ("imagebind", "processor", "adapter")
WAYS = {
    "components": lambda pipe, folder: Pipeline(**pipe.components),
    "from_pipe": lambda pipe, folder: Pipeline.from_pipe(pipe),
    "some components": lambda pipe, folder: Pipeline.from_pretrained(folder, adapter=pipe.adapter, unet=pipe.unet),
    "host parts": lambda pipe, folder: Pipeline(**host_parts(folder), **{n: getattr(pipe, n) for n in BY_HAND}),
    "folder, encoder's folder": lambda pipe, folder: Pipeline.from_host(folder, imagebind=folder / "imagebind"),
    "folder, one tower": lambda pipe, folder: Pipeline.from_host(
        str(folder), imagebind=str(folder / "imagebind"), modalities=["audio"]
    ),
    "folder, encoder": lambda pipe, folder: Pipeline.from_host(folder, imagebind=pipe.imagebind),
    "folder, encoder of a subfolder": lambda pipe, folder: Pipeline.from_host(
        folder, imagebind=ImageBindModel.from_pretrained(folder, subfolder="imagebind")
    ),
    "folder, all parts": lambda pipe, folder: Pipeline.from_host(folder, **{n: getattr(pipe, n) for n in BY_HAND}),
    "pipeline, its encoder": lambda pipe, folder: Pipeline.from_host(pipe, imagebind=pipe.imagebind),
    "pipeline, encoder's folder": lambda pipe, folder: Pipeline.from_host(pipe, imagebind=folder / "imagebind"),
    "bare host, adapter": lambda pipe, folder: Pipeline.from_host(
        load_host(folder), imagebind=folder / "imagebind", adapter=pipe.adapter
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_building_draws_the_same_picture(way, folder, whole):
    built = WAYS[way](whole, folder)
    assert abs(draw(built) - draw(whole)).max() < 1e-5  # weights mapped from a file may round a sum otherwise
    assert {name: built.config[name] for name in GUIDANCE} == GUIDANCE
    assert built.processor.audio.mean == -1.0


def test_the_picture_depends_on_what_is_kept(folder, whole):
    """Or the test above could not fail."""
    plain = EmbeddingAdapter.from_means(dict(zip(whole.adapter.known, whole.adapter.means, strict=True)))
    for changed in ({"adapter": plain}, {"processor": ImageBindProcessor.for_config(whole.imagebind.config)}):
        assert abs(draw(Pipeline(**whole.components | changed)) - draw(whole)).max() > 1e-3


def test_a_folder_whose_index_has_the_guidance_still_loads(folder, whole, tmp_path):
    old = shutil.copytree(folder, tmp_path / "old")
    index, config = old / "model_index.json", old / "adapter" / "config.json"
    assert not GUIDANCE.keys() & json.loads(index.read_text()).keys()
    index.write_text(json.dumps(json.loads(index.read_text()) | GUIDANCE))
    new = {*GUIDANCE, "norm", "encoder"}
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k not in new}))
    loaded = Pipeline.from_pretrained(old)
    assert np.array_equal(draw(loaded), draw(whole))
    assert {name: Pipeline(**loaded.components).config[name] for name in GUIDANCE} == GUIDANCE
    assert np.array_equal(draw(Pipeline.from_host(old, imagebind=old / "imagebind")), draw(whole))


def test_another_encoder_gets_the_guidance_but_not_the_adapter(folder, whole, encoder):
    for host in (folder, whole):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipe = Pipeline.from_host(host, imagebind=encoder, processor=whole.processor)
        assert not pipe.adapter.known and {name: pipe.config[name] for name in GUIDANCE} == GUIDANCE
        with pytest.warns(Bind2GenWarning, match="audio: no mean .*bind2gen fit-gap --imagebind"):
            pipe.condition(pipe.embed(audio=SOUND))
    assert whole.adapter.known and whole.adapter.fits(whole.imagebind) and not whole.adapter.fits(encoder)
    with pytest.warns(Bind2GenWarning, match="another encoder"):  # unless asked for
        Pipeline(**whole.components | {"imagebind": encoder})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_encoder_is_known_in_any_dtype_and_with_any_towers(dtype, folder, whole):
    part = ImageBindModel.from_pretrained(folder / "imagebind", modalities=["audio"], dtype=dtype)
    assert whole.adapter.fits(part) and part.fingerprint().keys() == {"audio"}
    assert not EmbeddingAdapter(32).fits(part)


def test_an_adapter_given_to_one_host_does_not_take_its_guidance_to_the_next(folder, whole):
    mine = EmbeddingAdapter.from_means(dict(zip(whole.adapter.known, whole.adapter.means, strict=True)))
    assert Pipeline.from_host(folder, imagebind=whole.imagebind, adapter=mine).config.guidance_scale == 3.0
    assert mine.config.guidance_scale is None
    assert Pipeline(**whole.components, guidance_scale=5.0).config.guidance_scale == 5.0
    assert whole.config.guidance_scale == 3.0
    bare = Pipeline.from_host(load_host(folder), imagebind=whole.imagebind, processor=whole.processor, adapter=mine)
    assert (bare.config.guidance_scale, bare.config.guidance_rescale) == (10.0, 0.0)


def test_an_adapter_beside_the_encoder_is_found(folder, whole, encoder, tmp_path):
    """As ``bind2gen fit-gap`` leaves it, its length too; one with anchors is another host's, and stays out."""
    encoder.save_pretrained(tmp_path)
    whole.processor.save_pretrained(tmp_path)
    means = {"image": torch.eye(32)[0], "audio": torch.eye(32)[1]}
    for anchors in (None, (torch.eye(32)[:3], torch.eye(32)[3:6])):
        made = EmbeddingAdapter.from_means(means, anchors=anchors)
        made.register_to_config(norm=7.5, guidance_scale=9.0)
        made.save_pretrained(tmp_path / "adapter")
        for imagebind in (tmp_path, ImageBindModel.from_pretrained(tmp_path)):
            pipe = Pipeline.from_host(folder, imagebind=imagebind)
            assert pipe.adapter.known == ([] if anchors else ["image", "audio"]) and pipe.config.guidance_scale == 3.0
            assert pipe.adapter.config.norm == (None if anchors else 7.5)


def test_a_folder_of_an_adapter_counts_as_the_adapter(folder, whole, encoder, sound, tmp_path, capsys):
    mine = EmbeddingAdapter.from_means({"image": torch.eye(32)[0], "audio": torch.eye(32)[1]})
    mine.register_to_config(norm=7.5)
    mine.save_pretrained(tmp_path / "mine")
    host = load_host(folder)
    host.image_normalizer = type(host.image_normalizer)(embedding_dim=32)  # mean 0, std 1: says nothing
    pipe = Pipeline.from_host(host, imagebind=encoder, processor=whole.processor, adapter=tmp_path / "mine")
    assert pipe.condition({"audio": torch.eye(1, 32)}).norm().item() == pytest.approx(7.5)
    assert pipe.adapter.known == ["image", "audio"] and pipe.config.guidance_scale == 10.0
    for lacking in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="cannot be loaded as EmbeddingAdapter"):
            Pipeline.from_host(folder, imagebind=encoder, processor=whole.processor, adapter=lacking)

    common = ["generate", "--audio", str(sound), "--model", str(folder), "--steps", "2", "--quiet"]
    for name, more in (("own", []), ("mine", ["--adapter", str(tmp_path / "mine")])):
        assert main([*common, *more, "--out", str(tmp_path / f"{name}.png")]) == 0
    own, other = (Image.open(tmp_path / f"{name}.png") for name in ("own", "mine"))
    assert abs(np.asarray(own, float) - np.asarray(other, float)).max() > 1
    assert (own.info["model"], other.info["model"]) == (folder.name, f"{folder.name} + mine")
    assert own.info["guidance"] == other.info["guidance"]  # the host's own stays
    capsys.readouterr()
    assert main([*common, "--adapter", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 1
    assert "wanted a folder that bind2gen fit-gap wrote" in capsys.readouterr().err


def test_an_adapter_of_another_width_is_refused(whole):
    with pytest.raises(HostError, match="adapter: made for embeddings of width 16, the encoder's are 32"):
        Pipeline(**whole.components | {"adapter": EmbeddingAdapter(16)})


@pytest.fixture
def sound(tmp_path) -> Path:
    soundfile.write(tmp_path / "sound.wav", *SOUND)
    return tmp_path / "sound.wav"


def test_the_command_line_keeps_what_belongs_to_the_encoder(folder, whole, sound, tmp_path, capsys):
    common = ["--audio", str(sound), "--model", str(folder), "--steps", "2", "--quiet"]
    for name, more in (("default", []), ("by_hand", ["--imagebind", str(folder / "imagebind")])):
        assert main(["generate", *common, *more, "--out", str(tmp_path / f"{name}.png")]) == 0
    assert capsys.readouterr().err == ""
    default, by_hand = (np.asarray(Image.open(tmp_path / f"{name}.png"), float) for name in ("default", "by_hand"))
    assert abs(default - by_hand).max() <= 1 and default.std() > 1  # one grey level of 255: rounding
    embed = ["embed", "--audio", str(sound), "--quiet", "--imagebind", str(folder / "imagebind")]
    assert main([*embed, "--out", str(tmp_path / "x.npz")]) == 0
    wanted = whole.embed(audio=str(sound))["audio"].numpy()
    assert abs(load_embeddings(tmp_path / "x.npz").vectors["audio"] - wanted).max() < 1e-5


@pytest.mark.parametrize("command", ["generate", "embed", "inspect", "detect"])
def test_the_command_line_guesses_no_processor(command, folder, sound, tmp_path, capsys):
    alone = shutil.copytree(folder / "imagebind", tmp_path / "alone")
    Image.new("RGB", (32, 32)).save(tmp_path / "seen.png")
    words = [str(sound), "--as", "audio"] if command == "inspect" else ["--audio", str(sound)]
    words += [*GRID, "--image", str(tmp_path / "seen.png")] if command == "detect" else []
    out = [] if command == "inspect" else ["--out", str(tmp_path / ("x.npz" if command == "embed" else "x.png"))]
    model = ["--model", str(folder)] if command == "generate" else []
    assert main([command, *words, *out, *model, "--imagebind", str(alone)]) == 1
    assert "wanted the processor that it was trained with" in capsys.readouterr().err


@pytest.mark.parametrize("own", [True, False])
def test_detecting_with_an_encoder_by_hand_keeps_its_adapter(own, folder, whole, encoder, tmp_path):
    place = folder / "imagebind"
    if not own:
        place = tmp_path / "other"
        encoder.save_pretrained(place)
        whole.processor.save_pretrained(place)
    words = ["detect", "--image", "x.png", "--audio", "x.wav", "--model", str(folder), "--imagebind", str(place)]
    args = build_parser().parse_args([*words, *GRID, "--quiet", "--out", "y.png"])
    pipe = load_detection(args, modalities=["audio", "image", "text"], device=torch.device("cpu"))
    with nullcontext() if own else pytest.warns(Bind2GenWarning, match="no mean"):
        pipe.prompter.from_embeds({"audio": torch.eye(1, 32)})
    assert (pipe.prompter.adapter.known == whole.adapter.known) is own


# ---- processors ----


def test_the_processor_is_found_beside_the_encoder_or_in_its_pipeline(folder, tmp_path):
    for place in (folder, folder / "imagebind", ImageBindModel.from_pretrained(folder, subfolder="imagebind")):
        assert load_processor(place).audio.mean == -1.0
    shutil.copytree(folder / "imagebind", tmp_path / "imagebind")
    shutil.copytree(folder / "processor", tmp_path / "processor")
    with pytest.raises(CheckpointError, match="wanted the processor"):  # a neighbour, but of no pipeline
        load_processor(tmp_path / "imagebind")


def test_a_processor_that_cannot_be_known_is_refused(encoder, make_host, tmp_path):
    encoder.save_pretrained(tmp_path)
    for imagebind in (tmp_path, encoder):
        with pytest.raises(CheckpointError, match="found no processor_config.json .* processor="):
            Pipeline.from_host(make_host(), imagebind=imagebind)


def test_released_weights_want_what_imagebind_huge_wants(tmp_path):
    """By their key names, by imagebind_huge's towers in a config of ours, and not by anything else."""
    wanted = ImageBindProcessor().to_dict()
    HUGE(["audio"]).save_pretrained(tmp_path / "ours")
    released = tmp_path / "imagebind_huge.safetensors"
    save_file({"modality_preprocessors.audio.cls_token": torch.zeros(1)}, released)
    for place in (tmp_path / "ours", released):
        assert load_processor(place).to_dict() == wanted and load_config(place).towers == HUGE().towers
    save_file({"some.other.weight": torch.zeros(1)}, released)
    with pytest.raises(CheckpointError, match="of another model"):
        load_processor(released)
    towers = HUGE().towers
    towers["audio"]["input_shape"] = (1, 64, 400)
    ImageBindConfig(1024, towers).save_pretrained(tmp_path / "ours")
    with pytest.raises(CheckpointError, match="wanted the processor"):
        load_processor(tmp_path / "ours")


# ---- the length of an embedding ----


def test_a_normalizer_that_was_never_measured_gives_no_length(make_pipeline):
    pipe = make_pipeline()
    measured = unclip.host_norm(pipe)
    pipe.adapter.register_to_config(norm=7.5)
    assert unclip.host_norm(pipe) == measured  # the host's own figures come first
    with torch.no_grad():
        pipe.image_normalizer.mean.zero_()
        pipe.image_normalizer.std.fill_(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unclip.host_norm(pipe) == 7.5 == Pipeline(**pipe.components).adapter.config.norm
        assert pipe.condition({"image": torch.eye(2, 32)}).norm(dim=1).tolist() == pytest.approx([7.5, 7.5])
    pipe.adapter.register_to_config(norm=None)
    with pytest.warns(Bind2GenWarning, match=r"does not say how long .* 5\.7 stands in"):
        assert unclip.host_norm(pipe) == pytest.approx(32**0.5)
