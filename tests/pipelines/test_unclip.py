from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, EulerDiscreteScheduler
from PIL import Image

import bind2gen
from bind2gen.errors import (
    Bind2GenWarning,
    CheckpointError,
    HostError,
    InputError,
    ModalityError,
    NonFiniteError,
    ShapeError,
)
from bind2gen.hosts.pictures import unclip
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.pipelines.unclip import ImageBindPipelineOutput, ImageBindUnCLIPPipeline
from bind2gen.preprocess import depth

RATE = 16_000
STEPS = 3
PATH_TO_PACKAGE = {"PYTHONPATH": str(Path(bind2gen.__file__).parents[1])}  # for a process that runs elsewhere


def tone(hertz: float, seconds: float = 2.5) -> tuple[np.ndarray, int]:
    return np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE).astype(np.float32), RATE


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(n) for n in numbers]


def draw(pipe: ImageBindUnCLIPPipeline, **call) -> np.ndarray:
    call = {"num_inference_steps": STEPS, "output_type": "np", "guidance_scale": 3.0} | call
    return pipe(**call).images


def test_same_seed_same_picture_other_seed_other_picture(tiny_pipeline):
    one, two = (draw(tiny_pipeline, audio=tone(440), generator=seeds(3)) for _ in range(2))
    assert np.array_equal(one, two)
    assert abs(one - draw(tiny_pipeline, audio=tone(440), generator=seeds(4))).max() > 1e-3


def test_a_picture_is_the_same_alone_and_in_a_batch(tiny_pipeline):
    sounds = [tone(200), tone(400), tone(3000, 5.0)]
    batch = draw(tiny_pipeline, audio=sounds, generator=seeds(7, 8, 9))
    for i, sound in enumerate(sounds):
        assert abs(draw(tiny_pipeline, audio=sound, generator=seeds(7 + i))[0] - batch[i]).max() < 1e-4
    assert abs(batch[0] - batch[2]).max() > 1e-3


def test_pictures_of_one_input_follow_each_other(tiny_pipeline):
    call = {"audio": [tone(200), tone(900)], "num_images_per_prompt": 2, "generator": seeds(0, 1, 0, 1)}
    output = tiny_pipeline(num_inference_steps=STEPS, output_type="np", **call)
    assert output.images.shape == (4, 16, 16, 3) and output.image_embeds.shape == (2, 32)
    alone = tiny_pipeline(num_inference_steps=STEPS, output_type="np", audio=tone(900), generator=seeds(1)).images
    assert abs(output.images[3] - alone[0]).max() < 1e-4


def test_of_several_the_one_is_kept_that_comes_back_nearest(tiny_pipeline):
    call = {"audio": [tone(200), tone(900)], "num_inference_steps": STEPS}
    every = tiny_pipeline(**call, num_images_per_prompt=3, generator=seeds(*range(6)), return_roundtrip=True)
    seen = tiny_pipeline.adapter({"image": tiny_pipeline.embed(image=every.images)["image"]})
    wanted = torch.cosine_similarity(seen, every.image_embeds.repeat_interleave(3, dim=0))
    assert torch.allclose(every.roundtrip, wanted, atol=1e-5) and wanted.view(2, 3).std(1).min() > 1e-4
    best = tiny_pipeline(**call, best_of=3, generator=seeds(*range(6)))
    assert torch.allclose(best.roundtrip, wanted.view(2, 3).max(1).values, atol=1e-5)
    for i, place in enumerate(wanted.view(2, 3).argmax(1).tolist()):
        assert np.array_equal(np.asarray(best.images[i]), np.asarray(every.images[3 * i + place]))
    assert tiny_pipeline(**call, generator=seeds(0, 1)).roundtrip is None


def test_the_conditioning_is_shift_blend_norm(tiny_pipeline):
    weights = {"audio": 0.7, "image": 0.3}
    output = tiny_pipeline(audio=tone(440), image=picture(0), weights=weights, num_inference_steps=1)
    adapter, sound, photo = tiny_pipeline.adapter, output.embeds["audio"], output.embeds["image"]
    assert torch.allclose(sound.norm(), torch.tensor(1.0), atol=1e-5)
    blended = 0.7 * adapter.shift("audio", sound) + 0.3 * photo
    wanted = blended / blended.norm() * unclip.host_norm(tiny_pipeline)
    assert torch.allclose(output.image_embeds, wanted, atol=1e-4)
    by_hand = tiny_pipeline.condition(tiny_pipeline.embed(audio=tone(440), image=picture(0)), weights)
    assert torch.equal(by_hand, output.image_embeds)


def test_a_weight_of_zero_removes_a_modality(tiny_pipeline):
    alone = draw(tiny_pipeline, audio=tone(440), generator=seeds(0))
    weighted = draw(tiny_pipeline, audio=tone(440), text="a cat", weights={"text": 0}, generator=seeds(0))
    assert np.array_equal(alone, weighted)
    assert abs(alone - draw(tiny_pipeline, audio=tone(440), text="a cat", generator=seeds(0))).max() > 1e-4


def test_one_input_is_shared_by_a_batch(tiny_pipeline):
    output = tiny_pipeline(audio=[tone(200), tone(900)], text="a dog", num_inference_steps=1, generator=seeds(0, 1))
    alone = tiny_pipeline(audio=tone(900), text="a dog", num_inference_steps=1, generator=seeds(1))
    assert torch.allclose(output.image_embeds[1:], alone.image_embeds, atol=1e-4)
    assert len(output.images) == 2 and isinstance(output.images[0], Image.Image)


def test_embeddings_used_can_be_fed_back(tiny_pipeline):
    first = tiny_pipeline(audio=tone(440), num_inference_steps=STEPS, output_type="np", generator=seeds(0))
    again = draw(tiny_pipeline, image_embeds=first.image_embeds, guidance_scale=None, generator=seeds(0))
    assert abs(first.images - again).max() < 1e-5
    call = {"image_embeds": first.image_embeds / 9, "guidance_scale": None}
    shorter = draw(tiny_pipeline, **call, generator=seeds(0))
    assert abs(first.images - shorter).max() < 1e-5  # only the direction counts ...
    raw = draw(tiny_pipeline, **call, rescale_embeds=False, generator=seeds(0))
    assert abs(first.images - raw).max() > 1e-3  # ... unless asked otherwise


def test_saving_and_loading_gives_identical_pictures(tiny_folder, tiny_pipeline):
    wanted = draw(tiny_pipeline, audio=tone(440), prompt="abc", generator=seeds(0))
    ours = ImageBindUnCLIPPipeline.from_pretrained(tiny_folder)
    stock = DiffusionPipeline.from_pretrained(tiny_folder, trust_remote_code=True)
    assert isinstance(stock, ImageBindUnCLIPPipeline)
    for pipe in (ours, stock):
        pipe.set_progress_bar_config(disable=True)
        # Weights mapped from a file are aligned otherwise, which may round a sum otherwise.
        assert abs(draw(pipe, audio=tone(440), prompt="abc", generator=seeds(0)) - wanted).max() < 1e-5
        for name in ("imagebind", "adapter", "image_normalizer", "unet", "vae", "text_encoder"):
            saved, loaded = getattr(tiny_pipeline, name).state_dict(), getattr(pipe, name).state_dict()
            assert saved.keys() == loaded.keys() and all(torch.equal(saved[key], loaded[key]) for key in saved)


def test_a_fresh_process_needs_nothing_but_the_folder(tiny_folder, tiny_pipeline, tmp_path):
    """Nothing of ours is imported beforehand: diffusers finds the classes by what the folder says."""
    program = (
        "import sys, torch\n"
        "from diffusers import DiffusionPipeline\n"
        "assert 'bind2gen' not in sys.modules\n"
        f"pipe = DiffusionPipeline.from_pretrained({str(tiny_folder)!r}, trust_remote_code=True)\n"
        f"call = dict(text='a dog', num_inference_steps={STEPS}, guidance_scale=3.0, output_type='latent')\n"
        f"latents = pipe(**call, generator=torch.Generator().manual_seed(0)).images\n"
        f"torch.save(latents, {str(tmp_path / 'latents.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=os.environ | PATH_TO_PACKAGE)
    wanted = draw(tiny_pipeline, text="a dog", output_type="latent", generator=seeds(0))
    assert torch.allclose(torch.load(tmp_path / "latents.pt"), wanted, atol=1e-5)


def test_a_hub_repository_is_fetched_whole_and_runs_no_code_of_its_own(tiny_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_folder, tmp_path / "snapshot")
    (folder / "pipeline.py").write_text("raise SystemExit('code from the hub was run')")
    asked = {}

    def fetch(repository, allow_patterns, **options):
        asked[repository] = options
        return str(folder)

    monkeypatch.setattr("bind2gen.hosts.pictures.packaged.snapshot_download", fetch)
    pipe = ImageBindUnCLIPPipeline.from_pretrained("someone/sounds", revision="v1")
    assert asked == {"someone/sounds": {"revision": "v1"}} and pipe.imagebind.config.embed_dim == 32


def test_a_saved_pipeline_serves_as_host_for_another_encoder(tiny_folder, make_imagebind):
    pipe = ImageBindUnCLIPPipeline.from_host(tiny_folder, imagebind=make_imagebind())
    pipe.set_progress_bar_config(disable=True)
    whole = ImageBindUnCLIPPipeline.from_pretrained(tiny_folder)
    whole.set_progress_bar_config(disable=True)
    images = [draw(p, image=picture(0), generator=seeds(0)) for p in (pipe, whole)]
    assert abs(images[0] - images[1]).max() < 1e-5  # pictures are not shifted: the missing adapter does not matter


def test_a_loaded_host_is_shared_not_copied(make_host, make_imagebind):
    host, imagebind = make_host(), make_imagebind()
    processor = ImageBindProcessor.for_config(imagebind.config)
    pipe = ImageBindUnCLIPPipeline.from_host(host, imagebind=imagebind, processor=processor)
    for name in ("unet", "vae", "text_encoder", "image_normalizer", "scheduler", "tokenizer"):
        assert getattr(pipe, name) is getattr(host, name)


def test_a_host_and_an_encoder_are_loaded_from_folders(tmp_path, make_host, make_imagebind):
    host, imagebind = make_host(), make_imagebind()
    host.save_pretrained(tmp_path / "host")
    imagebind.save_pretrained(tmp_path / "imagebind")
    processor = ImageBindProcessor.for_config(imagebind.config)
    processor.save_pretrained(tmp_path / "imagebind")
    folders = {"host": tmp_path / "host", "imagebind": tmp_path / "imagebind"}
    loaded = ImageBindUnCLIPPipeline.from_host(**folders, modalities=["audio"])
    assert list(loaded.imagebind.towers) == ["audio"]
    whole = ImageBindUnCLIPPipeline.from_host(host, imagebind=imagebind, processor=processor)
    for pipe in (loaded, whole):
        pipe.set_progress_bar_config(disable=True)
    a, b = (draw(pipe, audio=tone(440), generator=seeds(0)) for pipe in (loaded, whole))
    assert abs(a - b).max() < 1e-5
    with pytest.raises(ModalityError, match="vision"):
        loaded(image=picture(0))


def test_depth_infrared_and_motion_make_pictures_too(tiny_pipeline):
    rng = np.random.default_rng(0)
    given = {
        "depth": depth.load(rng.uniform(1, 5, (40, 50)).astype(np.float32), sensor="xtion"),
        "thermal": rng.integers(0, 256, (40, 50), dtype=np.uint8),
        "imu": {"samples": rng.normal(size=(6, 300)).astype(np.float32) + 9.8, "sampling_rate": 100.0},
    }
    out = tiny_pipeline(**given, num_inference_steps=1)
    assert set(out.embeds) == set(given) and len(out.images) == 1
    for name, value in given.items():
        alone = tiny_pipeline.embed(**{name: value})[name]
        assert torch.allclose(out.embeds[name], alone, atol=1e-5)
        assert torch.allclose(alone.norm(dim=1), torch.ones(1), atol=1e-5)


def test_the_processor_saved_beside_an_encoder_is_used(tmp_path, make_host, make_imagebind):
    imagebind = make_imagebind()
    imagebind.save_pretrained(tmp_path)
    ImageBindProcessor.for_config(imagebind.config, audio={"policy": "cover"}).save_pretrained(tmp_path)
    pipe = ImageBindUnCLIPPipeline.from_host(make_host(), imagebind=tmp_path)
    assert pipe.processor.audio.policy == "cover"


def test_half_precision_reaches_everything_that_is_loaded(tmp_path, make_host, make_imagebind):
    make_host().save_pretrained(tmp_path / "host")
    imagebind = make_imagebind()
    imagebind.save_pretrained(tmp_path / "imagebind")
    ImageBindProcessor.for_config(imagebind.config).save_pretrained(tmp_path / "imagebind")
    pipe = ImageBindUnCLIPPipeline.from_host(tmp_path / "host", imagebind=tmp_path / "imagebind", dtype=torch.bfloat16)
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype, pipe.imagebind.dtype} == {torch.bfloat16}
    (tmp_path / "imagebind" / "model.safetensors").write_bytes(b"\0" * 99)
    with pytest.raises(CheckpointError, match="imagebind"):
        ImageBindUnCLIPPipeline.from_host(tmp_path / "host", imagebind=tmp_path / "imagebind")


def test_an_encoder_in_training_mode_is_pointed_out(make_pipeline):
    pipe = make_pipeline()
    pipe.imagebind.train()
    with pytest.warns(Bind2GenWarning, match="training mode"):
        pipe.embed(text="a dog")


def test_a_host_of_another_width_is_refused_naming_both(make_host, make_imagebind):
    with pytest.raises(HostError, match="wanted a host for embeddings of width 32, found 24"):
        ImageBindUnCLIPPipeline.from_host(make_host(24), imagebind=make_imagebind())
    with pytest.raises(HostError, match="int"):
        ImageBindUnCLIPPipeline.from_host(3, imagebind=make_imagebind())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pipelines_take_float32_inputs(make_pipeline, dtype):
    pipe, full = make_pipeline().to(dtype), make_pipeline()
    call = {"generator": seeds(0), "latents": torch.randn(1, 4, 8, 8, generator=seeds(1)[0])}
    half, whole = (draw(p, audio=tone(440), **call) for p in (pipe, full))
    assert np.isfinite(half).all() and abs(half - whole).mean() < 0.05
    embeds = full.embed(audio=tone(440))["audio"]
    assert np.isfinite(draw(pipe, image_embeds=embeds)).all()


def test_given_latents_are_where_denoising_starts(tiny_pipeline):
    noise = torch.randn(1, 4, 8, 8, generator=seeds(1)[0])
    one, two = (draw(tiny_pipeline, audio=tone(440), latents=noise, generator=seeds(0)) for _ in range(2))
    other = draw(tiny_pipeline, audio=tone(440), latents=-noise, generator=seeds(0))
    assert np.array_equal(one, two) and abs(one - other).max() > 1e-3


def test_the_callback_sees_every_step_and_may_stop_or_change(tiny_pipeline):
    seen = []

    def stop_after_two(pipe, step, timestep, tensors):
        seen.append((step, int(timestep), tuple(tensors["latents"].shape)))
        pipe._interrupt = step == 1
        return {}

    call = {"audio": tone(440), "num_inference_steps": 5}
    stopped = draw(tiny_pipeline, **call, generator=seeds(0), callback_on_step_end=stop_after_two)
    assert [s[0] for s in seen] == [0, 1] and seen[0][1] > seen[1][1] and seen[0][2] == (1, 4, 8, 8)
    assert abs(stopped - draw(tiny_pipeline, **call, generator=seeds(0))).max() > 1e-4
    blank = draw(
        tiny_pipeline, audio=tone(440), generator=seeds(0), output_type="latent",
        callback_on_step_end=lambda pipe, step, timestep, tensors: {"latents": torch.zeros_like(tensors["latents"])},
    )  # fmt: skip
    assert blank.abs().max() == 0


def test_the_default_guidance_is_the_pipelines_own(tiny_pipeline):
    default = draw(tiny_pipeline, audio=tone(440), generator=seeds(0), guidance_scale=None)
    ten = draw(tiny_pipeline, audio=tone(440), generator=seeds(0), guidance_scale=10.0)
    assert np.array_equal(default, ten)
    without = draw(tiny_pipeline, audio=tone(440), generator=seeds(0), guidance_scale=1.0)
    assert abs(ten - without).max() > 1e-3


def test_rescaled_guidance_brings_the_spread_back_to_that_of_no_guidance(tiny_pipeline, monkeypatch):
    """One step of a plain sampler, from the same noise: latents differ as the predictions do."""
    sampler = DDIMScheduler.from_config(tiny_pipeline.scheduler.config, prediction_type="epsilon")
    monkeypatch.setattr(tiny_pipeline, "scheduler", sampler)

    def predicted(**options):
        start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        call = {"num_inference_steps": 1, "output_type": "latent", "latents": start, "generator": seeds(0, 1)}
        return draw(tiny_pipeline, image_embeds=torch.eye(2, 32), **call, **options)

    plain, guided = predicted(guidance_scale=1.0), predicted(guidance_scale=20.0, guidance_rescale=0.0)
    half, whole = (predicted(guidance_scale=20.0, guidance_rescale=phi) for phi in (0.5, 1.0))
    assert torch.equal(guided, predicted(guidance_scale=20.0, guidance_rescale=None))  # the pipeline's own is 0
    far, nearer, near = (abs(found - plain).mean() for found in (guided, half, whole))
    assert near < nearer < far
    assert torch.allclose(half, (guided + whole) / 2, atol=1e-4)  # linear in one step


def test_prompts_noise_and_output_types(tiny_pipeline):
    plain = draw(tiny_pipeline, audio=tone(440), generator=seeds(0))
    for change in ({"prompt": "abcd"}, {"negative_prompt": "hhh"}, {"noise_level": 700}):
        assert abs(plain - draw(tiny_pipeline, audio=tone(440), generator=seeds(0), **change)).max() > 1e-5, change
    latents = draw(tiny_pipeline, audio=tone(440), generator=seeds(0), output_type="latent")
    assert latents.shape == (1, 4, 8, 8)
    images, conditioning, embeds = tiny_pipeline(audio=tone(440), num_inference_steps=1, return_dict=False)
    assert len(images) == 1 and conditioning.shape == (1, 32) and set(embeds) == {"audio"}
    wide = draw(tiny_pipeline, audio=tone(440), generator=seeds(0), height=24, width=32)
    assert wide.shape == (1, 24, 32, 3)


def test_the_hosts_own_switches_work(make_pipeline):
    pipe = make_pipeline()
    plain = draw(pipe, audio=tone(440), generator=seeds(0))
    pipe.enable_attention_slicing()
    assert abs(draw(pipe, audio=tone(440), generator=seeds(0)) - plain).max() < 1e-4
    pipe.disable_attention_slicing()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert abs(draw(pipe, audio=tone(440), generator=seeds(0)) - plain).max() > 1e-3


def test_clip_skip_leaves_the_last_layers_of_the_text_encoder_out(tiny_pipeline):
    """The oracle is diffusers' way, where transformers still has its parts: an earlier hidden state, normed."""
    encoder, tokenizer = tiny_pipeline.text_encoder, tiny_pipeline.tokenizer
    ids = tokenizer("abc", padding="max_length", return_tensors="pt").input_ids
    final_norm = getattr(encoder, "text_model", encoder).final_layer_norm
    wanted = final_norm(encoder(ids, output_hidden_states=True).hidden_states[-2])
    plain, given = encoder(ids)[0], []

    def keep(pipe, step, timestep, tensors):
        given.append(tensors["prompt_embeds"])

    call = {"audio": tone(440), "prompt": "abc", "negative_prompt": "abc", "callback_on_step_end": keep}
    draw(tiny_pipeline, **call, clip_skip=1, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    assert torch.allclose(given[0], torch.cat([plain, wanted]), atol=1e-5)  # as in diffusers, the negative is whole
    assert torch.equal(encoder(ids)[0], plain) and abs(plain - wanted).max() > 1e-2


def test_a_host_that_reads_no_prompts_says_so(make_pipeline):
    """Its text encoder gives zeros, as the bundled one's."""
    pipe, call = make_pipeline(), {"audio": tone(440), "generator": seeds(0)}
    for part in pipe.text_encoder.final_layer_norm.parameters():
        torch.nn.init.zeros_(part)
    plain = draw(pipe, **call)
    for name in ("prompt", "negative_prompt"):
        with pytest.warns(Bind2GenWarning, match=f"^{name}: this host reads none; words go in by text=$"):
            assert np.array_equal(draw(pipe, **call | {"generator": seeds(0), name: "abc"}), plain)


def test_words_of_prompts_that_the_host_does_not_read_are_named(tiny_pipeline):
    call = {"audio": tone(1), "num_inference_steps": 1}  # its tokenizer knows letters, and takes 6 of them
    with pytest.warns(Bind2GenWarning, match="^prompt: the host reads 8 tokens; lost: 'g h'"):
        tiny_pipeline(**call, prompt="a b c d e f g h", guidance_scale=1.0)
    with pytest.warns(Bind2GenWarning, match="^negative_prompt: .*lost: 'h'"):
        tiny_pipeline(**call, prompt="a b c d e f", negative_prompt="b a b c d e h")


def test_lora_weights_load_and_unload(tmp_path, make_pipeline):
    peft = pytest.importorskip("peft")
    from diffusers.utils import convert_state_dict_to_diffusers

    donor = make_pipeline()
    donor.unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(donor.unet))
    donor.save_lora_weights(tmp_path, unet_lora_layers=layers)

    pipe = make_pipeline()
    plain = draw(pipe, audio=tone(440), generator=seeds(0))
    pipe.load_lora_weights(tmp_path)
    adapted = draw(pipe, audio=tone(440), generator=seeds(0))
    off = draw(pipe, audio=tone(440), generator=seeds(0), cross_attention_kwargs={"scale": 0.0})
    assert abs(adapted - plain).max() > 1e-3 and abs(off - plain).max() < 1e-5
    assert abs(adapted - draw(donor, audio=tone(440), generator=seeds(0))).max() < 1e-5
    pipe.unload_lora_weights()
    assert np.array_equal(draw(pipe, audio=tone(440), generator=seeds(0)), plain)


def test_videos_and_files_go_in(tiny_pipeline, tmp_path):
    picture(0).save(tmp_path / "photo.png")
    by_path = tiny_pipeline(image=str(tmp_path / "photo.png"), num_inference_steps=1, generator=seeds(0))
    by_value = tiny_pipeline(image=picture(0), num_inference_steps=1, generator=seeds(0))
    assert torch.equal(by_path.embeds["image"], by_value.embeds["image"])
    frames = torch.randint(0, 256, (40, 3, 30, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert tiny_pipeline(video=(frames, 10.0), num_inference_steps=1).embeds["video"].shape == (1, 32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"text": "a", "best_of": 2, "output_type": "np"}, InputError, "they look at pictures"),
        ({"text": "a", "best_of": 0}, InputError, "best_of: wanted a whole number in 1"),
        ({}, InputError, "one of the two"),
        ({"audio": tone(1), "image_embeds": torch.ones(1, 32)}, InputError, "one of the two"),
        ({"image_embeds": torch.ones(1, 31)}, ShapeError, r"\(B, 32\), got \(1, 31\)"),
        ({"image_embeds": torch.zeros(1, 32)}, ShapeError, "no direction"),
        ({"image_embeds": torch.full((1, 32), float("nan"))}, NonFiniteError, "NaN"),
        ({"image_embeds": [1, 2]}, ShapeError, "got list"),
        ({"audio": [tone(1), tone(2)], "text": ["a", "b", "c"]}, ShapeError, "2 of audio, 3 of text"),
        ({"audio": tone(1), "weights": {"smell": 1.0}}, ModalityError, "smell"),
        ({"audio": tone(1), "weights": {"audio": 0.0}}, InputError, "above zero"),
        ({"audio": tone(1), "weights": {"audio": -1.0}}, InputError, "above zero"),
        ({"audio": tone(1), "weights": {"audio": float("nan")}}, InputError, "finite"),
        ({"audio": tone(1), "weights": [1.0]}, InputError, 'weights: wanted a dict such as {"audio": 1.0}, got list'),
        ({"audio": "a dog"}, InputError, "no such file; words go in as text="),
        ({"audio": picture(0)}, InputError, "; pictures go in as image="),
        ({"prompt": "a dog"}, InputError, "one of the two; words alone are text='a dog'"),
        ({"audio": tone(1), "clip_skip": 2}, InputError, r"clip_skip: wanted a whole number in 0\.\.1 .layers., got 2"),
        ({"image_embeds": torch.ones(1, 32), "weights": {"audio": 1.0}}, InputError, "weights"),
        ({"audio": []}, InputError, "empty list"),
        ({"depth": torch.arange(27.0).reshape(3, 3, 3)}, ShapeError, "one depth a pixel"),
        ({"audio": tone(1), "noise_level": 1000}, InputError, "0..999"),
        ({"audio": tone(1), "num_inference_steps": 0}, InputError, "num_inference_steps"),
        ({"audio": tone(1), "guidance_scale": float("nan")}, InputError, "guidance_scale"),
        ({"audio": tone(1), "guidance_rescale": 1.5}, InputError, r"guidance_rescale: wanted a number in 0\.\.1"),
        ({"audio": tone(1), "num_images_per_prompt": 0}, InputError, "num_images_per_prompt"),
        ({"audio": tone(1), "output_type": "jpeg"}, InputError, "output_type"),
        ({"audio": tone(1), "callback_on_step_end_tensor_inputs": ["x"]}, InputError, "latents"),
        ({"audio": tone(1), "latents": torch.ones(2, 4, 8, 8)}, ShapeError, r"\(1, 4, 8, 8\), got \(2, 4, 8, 8\)"),
        ({"audio": tone(1), "generator": seeds(1, 2)}, InputError, "list of 1"),
        ({"audio": tone(1), "generator": 3}, InputError, "got int"),
        ({"audio": tone(1), "height": 15}, InputError, "multiples of 2"),
        ({"audio": tone(1), "prompt": ["a", "b"]}, HostError, "prompt"),
        ({"audio": tone(1), "prompt": 3}, InputError, "prompt"),
        ({"audio": "no/such/file.wav"}, InputError, "no/such/file.wav"),
    ],
)
def test_bad_calls_are_named(tiny_pipeline, call, error, words):
    with pytest.raises(error, match=words):
        tiny_pipeline(num_inference_steps=call.pop("num_inference_steps", 1), **call)


def test_type_checkers_know_what_a_call_gives():
    """`pipe(...).images[0].save(...)` passes pyright: nothing in the types of the two lacks the attribute."""
    [returned, anything] = get_args(get_type_hints(ImageBindUnCLIPPipeline.__call__)["return"])
    assert anything is Any and returned is ImageBindPipelineOutput
    [images, anything] = get_args(get_type_hints(returned)["images"])
    assert anything is Any and images == list[Image.Image]
