"""A packaged model: its adapter, and that it draws as the stage that trained its generator does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.schedulers import scheduling_dpmsolver_multistep
from safetensors.torch import save_file

from bind2gen.errors import InputError
from bind2gen.hosts.pictures import unclip
from bind2gen.hosts.pictures.feature_autoencoder import FeatureAutoencoder
from bind2gen.hosts.pictures.unclip_files import load_host
from bind2gen.imagebind.config import ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini import draw_generator, package, thresholds
from bind2gen.mini.data import Sample
from bind2gen.mini.draw import PARTS
from bind2gen.mini.draw_generator import GUIDANCE, TEXT_WIDTH, Conditions, build_generator
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.vocabulary import Vocabulary

WIDTH, CONCEPTS = 16, ("bee", "cab", "dad")


def draw(seed: int, *shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture
def drawn(tmp_path) -> tuple[Path, Conditions]:
    """The folder of a stage ``draw`` in small, and its conditions."""
    torch.manual_seed(0)
    embeds, kind = draw(1, 200, 32), np.arange(200) % 3
    pack = SimpleNamespace(
        embeds=embeds, kind=kind, kinds=list(CONCEPTS), names=np.array(CONCEPTS)[kind],
        held_out=kind < 0, typical=kind >= 0,
    )  # fmt: skip
    conditions, saved = Conditions(pack), tmp_path / "draw" / PARTS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw_generator, "WIDTH", 32)
        patch.setattr(draw_generator, "LAYERS", 1)
        build_generator(112, 2, 32).half().save_pretrained(saved / "unet")
    autoencoder = FeatureAutoencoder(block_out_channels=(12, 8, 8, 16, 16), sample_size=32)
    autoencoder.half().save_pretrained(saved / "vae")
    conditions.normalizer.save_pretrained(saved / "image_normalizer")
    return tmp_path / "draw", conditions


def test_weights_are_rounded_by_a_512th_at_most():
    layer = torch.nn.Linear(64, 64)
    before = layer.weight.clone()
    assert not torch.equal(package.rounded(layer).weight, before)
    assert torch.allclose(layer.weight, before, rtol=2**-9 + 2**-11, atol=1e-6)  # and to half precision


def test_the_packaged_pipeline_samples_as_stage_draw_does(drawn, make_imagebind, tmp_path, monkeypatch):
    """The same start and the same noise at every step: the same latents, by way of the saved folder."""
    folder, conditions = drawn
    parts, encoder = package.generator_parts(folder), make_imagebind()
    own = {"imagebind": encoder, "processor": ImageBindProcessor.for_config(encoder.config)}
    adapter = EmbeddingAdapter.from_means({"image": conditions.means[0] / 32**0.5})
    pipe = ImageBindUnCLIPPipeline(**parts, **own, adapter=adapter, guidance_scale=GUIDANCE, guidance_rescale=0.0)
    package.save_half(pipe, tmp_path / "pipeline")
    assert not any(str(folder) in path.read_text() for path in (tmp_path / "pipeline").glob("*/*.json"))
    pipe = ImageBindUnCLIPPipeline.from_pretrained(tmp_path / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert unclip.host_norm(pipe) == pytest.approx(32**0.5, rel=0.01)
    monkeypatch.setattr(draw_generator, "SAMPLING_STEPS", 4)
    # Even level 0 of an embedding's noise adds a little, which the two draw otherwise.
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(unclip, "randn_tensor", lambda shape, **_: torch.zeros(shape))

    def same_noise() -> None:
        noise = torch.Generator().manual_seed(7)
        monkeypatch.setattr(
            scheduling_dpmsolver_multistep, "randn_tensor", lambda shape, **_: torch.randn(shape, generator=noise)
        )

    same_noise()
    trained = package.rounded(UNet2DConditionModel.from_pretrained(folder / PARTS / "unet"))
    wanted = draw_generator.sample(trained, conditions.of(conditions.means))
    same_noise()
    start = torch.randn(3, 112, 2, 2, generator=torch.Generator().manual_seed(0))
    call = {"image_embeds": conditions.means, "rescale_embeds": False, "latents": start, "num_inference_steps": 4}
    found = pipe(**call, output_type="latent").images
    assert torch.allclose(found, wanted, atol=1e-3)  # the normaliser is saved in half precision
    assert pipe(**call).images[0].size == (32, 32)
    host = load_host(tmp_path / "pipeline")
    assert host.unet.config.in_channels == host.vae.config.latent_channels == 112


def test_the_text_encoder_is_small_and_says_nothing():
    tokenizer, encoder = package.silent_text()
    ids = tokenizer(["a dog", ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert not encoder(ids)[0].any() and encoder(ids)[0].shape == (2, 2, TEXT_WIDTH)
    assert sum(p.numel() for p in encoder.parameters()) < 20_000


def test_maps_lead_to_photos_of_a_concept_or_else_to_the_name():
    photos, texts = dict(zip(CONCEPTS, draw(0, 3, WIDTH), strict=True)), draw(1, 4, WIDTH)
    names = np.repeat([*CONCEPTS, "eel"], 40)
    centres, numbers = draw(2, 4, WIDTH), np.repeat(np.arange(4), 40)
    sounds = F.normalize(centres[numbers] + 0.2 * draw(6, 160, WIDTH), dim=-1)
    drawn = dict(zip(CONCEPTS[:2], draw(3, 2, WIDTH), strict=True))
    anchors = torch.stack(list(drawn.values()))
    asked = []

    def embed_text(captions: list[str]) -> torch.Tensor:
        asked.extend(captions)
        return texts[[[*CONCEPTS, "eel"].index(caption.split()[-1]) for caption in captions]]

    items = {"audio": package.Items(sounds, names, torch.arange(160))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "TEMPLATES", ("a {}",))
        patch.setattr(package, "RESIDUAL", 0.0)
        adapter, ridges = package.fit_adapter(embed_text, items, photos, drawn)
    assert asked == ["a bee", "a cab", "a dad", "a eel"] and ridges.keys() == {"audio"}
    meant = adapter({"audio": sounds}, anchored=False)
    places = torch.stack([*anchors, photos["dad"], adapter.shift("text", texts[3:])[0]])
    assert ((meant @ places.T).argmax(1).numpy() == numbers).mean() > 0.95
    ours = numbers < 2  # what is drawn
    assert torch.allclose(adapter({"audio": sounds[ours]}), anchors[numbers[ours]], atol=0.05)
    assert adapter.config.anchor_names == list(drawn)
    assert torch.allclose(adapter.means[0], torch.stack(list(photos.values())).mean(0))


def test_a_stage_that_was_not_trained_is_named(tmp_path):
    with pytest.raises(InputError, match="hear/imagebind: wanted the towers of stage hear, found none"):
        package.trained_encoder(tmp_path)


def test_the_encoder_has_the_towers_of_all_stages(make_imagebind, tmp_path, monkeypatch):
    whole = make_imagebind()
    senses = {name: whole.config.towers[name] for name in ("thermal", "depth", "imu")}
    monkeypatch.setattr(package, "TOWERS", senses)
    monkeypatch.setattr(package, "EMBED_DIM", whole.config.embed_dim)
    monkeypatch.setattr(package, "SETTINGS", dict.fromkeys(senses))
    heard = ImageBindModel(
        ImageBindConfig(
            whole.config.embed_dim, {name: whole.config.towers[name] for name in ("vision", "text", "audio")}
        )
    )
    heard.load_state_dict(whole.state_dict(), strict=False)
    heard.save_pretrained(tmp_path / "hear/imagebind")
    ImageBindProcessor.for_config(heard.config).save_pretrained(tmp_path / "hear/imagebind")
    for name in senses:
        (tmp_path / name / "checkpoint").mkdir(parents=True)
        (tmp_path / name / "checkpoint/step.json").write_text('{"step": 1}')
        own = {key: value for key, value in whole.state_dict().items() if key.startswith(f"towers.{name}.")}
        save_file(own, tmp_path / name / "checkpoint/model.safetensors")
    model, processor = package.trained_encoder(tmp_path)
    wanted = whole.state_dict()
    assert model.state_dict().keys() == wanted.keys() and not model.training
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_words_are_known_from_where_few_right_sounds_lie_below():
    likeness, right = np.linspace(0, 1, 201), np.arange(201) % 2 == 0
    words = tuple(((("bee" if ok else "cab"), 1.0),) for ok in right)
    concepts, samples = np.array(["bee"] * 201 + ["eel"]), [Sample("a.ogg", "", {})] * 202
    sounds = SimpleNamespace(
        concepts=concepts, samples=samples, held_out=np.ones(202, bool), waveforms=[np.zeros(1)] * 202, sample_rate=1
    )

    def embedded(audio: list) -> SimpleNamespace:
        assert len(audio) == 201
        return SimpleNamespace(words=words, likeness=likeness.tolist(), familiar=likeness[::-1].tolist())

    prompter = SimpleNamespace(
        vocabulary=Vocabulary(CONCEPTS, torch.eye(3)),
        class_embeddings=embedded,
        sounds=SimpleNamespace(labels=CONCEPTS),
    )
    least, sure, found = thresholds.known_prompt(prompter, sounds)
    assert least == pytest.approx(0.05, abs=0.005) and found["sounds_named"] == pytest.approx(101 / 201)
    assert sure == pytest.approx(0.05, abs=0.005) and found["sounds_unfamiliar"] == pytest.approx(10 / 201)


def test_what_is_known_by_its_sound_is_trained_and_judged_or_drawn(tmp_path):
    """The sea is judged and the dad drawn; the cab is neither, so what it is called is among the others."""
    EmbeddingAdapter(anchor_names=["dad"], num_anchors=1).save_pretrained(tmp_path / "adapter")
    (tmp_path / thresholds.DETECTOR_PART).mkdir()
    concepts, labels = ("sea", "dad", "cab", "", "", ""), ("waves", "dad", "taxi", "rain", "eel", "")
    sounds = SimpleNamespace(concepts=np.array(concepts), labels=np.array(labels), trained=np.arange(6) != 4)

    def embed_text(captions: list[str]) -> torch.Tensor:
        return draw(1, len(captions), WIDTH)

    thresholds.save_sounds(tmp_path, sounds, embed_text)
    found = [Vocabulary.from_file(tmp_path / thresholds.DETECTOR_PART / name).names
             for name in (thresholds.SOUNDS_FILE, thresholds.OTHERS_FILE)]  # fmt: skip
    assert found == [("dad", "sea"), ("rain", "taxi")]
