from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DecoderOutput
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.hosts.pictures.feature_autoencoder import FeatureAutoencoder
from bind2gen.mini import draw, draw_decoder, draw_generator, draw_pack, draw_training
from bind2gen.mini.__main__ import main
from bind2gen.mini.data import Sample
from bind2gen.mini.draw_decoder import ENDED_BELOW, Adversary, Features
from bind2gen.mini.draw_generator import noise_schedule, sample
from bind2gen.mini.draw_judge import Judged
from bind2gen.mini.draw_pack import Pack, kinds_of, load_pictures, write_pack
from bind2gen.mini.draw_training import Drawing, altered
from bind2gen.mini.evaluate.sheets import LINE, MARGIN
from bind2gen.train.loop import LoopConfig

WIDTH = 16  # of the embeddings
CONFIG = LoopConfig(steps=2, batch_size=8, learning_rate=1e-3, warmup_steps=1, ema_decay=0.9, log_every=1)


def embed(pictures: list[Image.Image]) -> torch.Tensor:
    """The mean colour, turned about."""
    colours = torch.tensor(np.stack([np.asarray(picture).mean((0, 1)) for picture in pictures]), dtype=torch.float32)
    turn = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    return F.normalize(colours @ turn, dim=1)


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    """A pack of 64-pixel pictures of two labels, a concept of few sounds and the sea."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw_pack, "KIND_FROM", 12)
        patch.setattr(draw_pack, "SIZE", 64)
        patch.setattr(draw_pack, "TYPICAL", 5)
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("draw") / "pack.safetensors"
        write_pack(path, load_pictures(data), timm.create_model("tf_efficientnet_lite0").eval(), embed)
    return path


@pytest.fixture(scope="module")
def pack(path) -> Pack:
    return Pack.load(path)


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(draw_generator, "WIDTH", 32)
    monkeypatch.setattr(draw_generator, "LAYERS", 1)
    monkeypatch.setattr(draw_generator, "SAMPLING_STEPS", 2)
    monkeypatch.setattr(draw_training, "CHANNELS", (12, 8, 8, 16, 16))
    monkeypatch.setattr(draw, "JUDGED_ON", 2)


def test_kinds_have_photos_enough_or_sounds_too():
    counts = {("dog", "pug"): 40, ("", "sea_lion"): 10, ("", "ant"): 10, ("cat", "tabby"): 9}
    samples = [Sample("", concept, {"label": label}) for (concept, label), n in counts.items() for _ in range(n)]
    assert kinds_of(samples, {"dog": 0, "sea lion": 10, "ant": 9, "cat": 100}) == ["dog", "sea lion"]


def test_a_pack_holds_the_photos_and_what_is_known_of_them(pack, data):
    assert pack.kinds == ["anchor", "barrel", "cannon", "cat", "chair", "dog", "sea"]
    assert pack.pixels.shape[1:] == (64, 64, 3) and len(pack.pixels) == 6 * 12 + 40
    shown = pack.pixels[pack.names == "dog"].reshape(-1, 3).mean(0)
    assert shown.argmax() == 0  # red there, cannons green
    assert pack.pixels[pack.names == "cannon"].reshape(-1, 3).mean(0).argmax() == 1
    assert torch.allclose(pack.embeds, embed([Image.fromarray(p) for p in pack.pixels]), atol=1e-3)
    conditions = draw_generator.Conditions(pack)
    dogs = pack.embeds[torch.from_numpy(pack.typical & (pack.names == "dog"))]
    assert F.cosine_similarity(conditions.means[5], dogs.mean(0), dim=0) > 0.999  # what a bark is drawn like
    assert pack.held_out.any() and not (pack.held_out & pack.typical).any()
    assert all(1 <= (pack.typical & (pack.kind == k)).sum() <= 5 for k in range(7))


def test_photos_that_look_like_many_others_of_their_kind_are_typical(monkeypatch):
    monkeypatch.setattr(draw_pack, "TYPICAL", 20)
    torch.manual_seed(0)
    names, embeds = np.repeat(["dog", "cat"], [80, 10]), torch.zeros(90, 2)
    embeds[:80, 0] = embeds[80:, 1] = 1.0
    embeds[:39] = F.normalize(torch.tensor([1.0, 0.8]), dim=0)  # less surely dogs
    features = torch.randn(90, 8, 4, 4)
    features[:80:2] += 1.5 * torch.randn(8, 4, 4)  # every other dog resembles all of its kind
    features[78] = features[76]  # a photo saved twice
    chosen = draw_pack.choose_typical(names, features, embeds, ["cat", "dog"])
    assert chosen[80:].all() and chosen[:80].sum() == 20 and chosen[40:80:2].sum() == 20


@torch.no_grad()
def test_latents_of_the_training_photos_are_white(pack):
    drawing = Drawing(pack, CONFIG, torch.device("cpu"))
    own = torch.from_numpy(pack.pixels[~pack.held_out])
    latents = drawing.kept.encode(draw_training.to_unit_range(own)).latent_dist.mode()
    # A channel that is nearly the same everywhere is rounded in half precision before its deviation is taken.
    assert latents.mean((0, 2, 3)).abs().max() < 0.05 and (latents.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_what_is_no_pack_is_refused(tmp_path, capsys):
    (tmp_path / "pack").write_bytes(b"nothing")
    with pytest.raises(InputError, match="wanted a pack"):
        Pack.load(tmp_path / "pack")
    assert main(["draw", "--pack", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "wanted a pack as draw-pack writes it" in capsys.readouterr().err


def test_a_pack_wants_the_stage_before(tmp_path, capsys, data, teachers):
    arguments = ["draw-pack", "--data", str(data), "--teachers", str(teachers), "--out", str(tmp_path)]
    assert main(arguments) == 1 and "run that stage first" in capsys.readouterr().err


def test_altered_pictures_are_mirrored_or_enlarged(monkeypatch):
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(200, 3, 4, 4) - 0.5, 32, mode="bicubic")
    monkeypatch.setattr(draw_training, "ZOOMED", 0.0)
    whole = altered(smooth)
    same, mirrored = ((whole - side).abs().amax((1, 2, 3)) < 1e-4 for side in (smooth, smooth.flip(3)))
    assert (same ^ mirrored).all() and 60 < same.sum() < 140
    monkeypatch.setattr(draw_training, "ZOOMED", 1.0)
    zoomed = altered(smooth)
    assert zoomed.abs().max() <= 1 and ((zoomed - smooth).abs().amax((1, 2, 3)) > 1e-3).all()


def test_the_schedule_is_the_shifted_cosine_and_ends_in_noise():
    signal = noise_schedule().alphas_cumprod.double()
    level = (1 - signal[:-1]) / signal[:-1]
    cosine = torch.tan(torch.arange(1, 1000, dtype=torch.float64) / 1000 * torch.pi / 2).square()
    middle = slice(50, 950)  # the ends are moved so that the last step is pure noise
    assert torch.allclose(level[middle], 1.6**2 * cosine[middle], rtol=0.05)
    assert signal[-1] < 1e-6 and (signal.diff() < 0).all()


def test_samples_follow_what_is_asked_as_far_as_guidance_says(monkeypatch):
    """A UNet that is sure of latents which depend on the label alone: all steps lead there, guidance goes beyond."""
    schedule = noise_schedule()

    class Sure(torch.nn.Module):
        config = type("Config", (), {"sample_size": 2, "in_channels": 3, "cross_attention_dim": 4})

        def forward(self, latents, timesteps, encoder_hidden_states, class_labels):
            wanted = class_labels[:, :1, None, None].expand_as(latents)
            signal = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
            noise = (latents - signal.sqrt() * wanted) / (1 - signal).sqrt()
            return type("Found", (), {"sample": signal.sqrt() * noise - (1 - signal).sqrt() * wanted})

    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [-2.0, 1.0]])
    for guidance in (1.0, 3.0):
        found = sample(Sure(), labels, guidance)
        assert torch.allclose(found.mean((1, 2, 3)), guidance * labels[:, 0], atol=0.05)


@pytest.fixture
def seen() -> list[torch.Tensor]:
    """Features at four strides."""
    torch.manual_seed(0)
    return [torch.randn(4, channels, side, side) for channels, side in ((24, 16), (40, 8), (112, 4), (320, 2))]


def test_features_of_four_strides_are_compared(pack):
    with torch.no_grad():
        found = Features(pack.lite0)(torch.rand(1, 3, 64, 64) * 2 - 1)
    assert [tuple(part.shape[1:]) for part in found] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]


def test_the_discriminator_begins_late_and_is_ended_when_it_wins(seen, monkeypatch):
    monkeypatch.setattr(draw_decoder, "MEMORY", 0.8)
    adversary = Adversary(seen)
    assert adversary.weight(0.29) == 0 and 0 < adversary.weight(0.35) < adversary.weight(0.45) == adversary.weight(1)
    other = [torch.zeros_like(part) for part in seen]  # nothing that a photo has
    steps = next(step for step in range(2000) if adversary.learn(seen, other))
    assert steps > 5 and adversary.mean_loss < ENDED_BELOW and adversary.weight(1.0) == 0


def test_where_pictures_are_like_photos_it_goes_on(seen):
    adversary = Adversary(seen)
    assert not any(adversary.learn(seen, seen) for _ in range(20)) and adversary.mean_loss > 1.9


def test_an_ended_discriminator_sends_the_decoder_back(pack, small, monkeypatch):
    drawing = Drawing(pack, CONFIG, torch.device("cpu"))
    for step in range(2):
        drawing.step(step, 0.9)
    monkeypatch.setattr(drawing.adversary, "learn", lambda *seen: True)
    drawing.step(2, 0.9)
    live, kept = drawing.decoder.network.state_dict(), drawing.decoder.kept.state_dict()
    assert all(torch.equal(live[name], kept[name]) for name in live) and not drawing.decoder.optimizer.state


def test_a_run_leaves_diffusers_folders_and_goes_on_from_its_state(path, pack, small, tmp_path):
    arguments = ["draw", "--pack", str(path), "--out", str(tmp_path), "--batch", "8", "--columns", "2"]
    assert main([*arguments, "--steps", "2"]) == 0
    folder = tmp_path / "draw"
    unet = UNet2DConditionModel.from_pretrained(folder / "parts" / "unet")
    autoencoder = FeatureAutoencoder.from_pretrained(folder / "parts" / "vae")
    assert unet.config.in_channels == autoencoder.config.latent_channels == 112
    assert DDPMScheduler.from_pretrained(folder / "parts" / "scheduler").config.prediction_type == "v_prediction"
    assert {"unet", "vae", "image_normalizer", "scheduler"} == {part.name for part in (folder / "parts").iterdir()}
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["after"]["samples"] == 16 and figures["before"]["samples"] == 0
    kind_high = 64 + LINE + 2 * MARGIN
    assert Image.open(folder / "drawn.webp").size == (2 * 64 + 2 * MARGIN, len(pack.kinds) * kind_high)
    assert Image.open(folder / "reconstructions.webp").size[1] % kind_high == 0
    before = torch.load(folder / "state.pt", weights_only=True)
    assert main([*arguments, "--steps", "3"]) == 0
    after = torch.load(folder / "state.pt", weights_only=True)
    assert (before["step"], after["step"]) == (2, 3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(list(row.values())).all() for row in rows)


def by_colour(pack: Pack) -> torch.nn.Sequential:
    """A judge that takes a picture for the kind of the nearest mean colour."""
    colours = draw_training.to_unit_range(torch.from_numpy(pack.pixels)).mean((2, 3))
    means = torch.stack([colours[torch.from_numpy(pack.kind == kind)].mean(0) for kind in range(len(pack.kinds))])
    last = torch.nn.Linear(3, len(means))
    last.weight.data, last.bias.data = 2 * means, -means.square().sum(1)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), last)


def test_the_judge_tells_what_is_drawn(pack, path, small, tmp_path, capsys):
    assert main(["draw-judge", "--pack", str(path), "--out", str(tmp_path)]) == 1
    assert "wanted what stage draw leaves" in capsys.readouterr().err
    judged = Judged(pack, by_colour(pack))
    assert judged.of_photos.accuracy() > 0.4

    class Knows(FeatureAutoencoder):
        """Whatever is drawn is a photo of what was asked for."""

        asked: list[np.ndarray]

        def decode(self, latents, return_dict=True):
            return DecoderOutput(draw_training.to_unit_range(torch.from_numpy(self.asked.pop(0))))

    knows = Knows(block_out_channels=draw_training.CHANNELS, sample_size=64)
    means = np.concatenate([pack.pixels[pack.names == kind][:2] for kind in pack.kinds])
    photos = pack.pixels[pack.held_out]
    knows.asked = [means, photos, photos]
    figures = judged.figures(Drawing(pack, CONFIG, torch.device("cpu")).unet.network, knows, count=2)
    assert figures["photos_first"] == figures["reconstructions_first"] == figures["judge"]
    assert figures["reconstructions_same"] == 1 and figures["means_first"] > 0.4
    assert figures["distance_to_training_photos"] < 1  # some of them are training photos


def test_a_resumed_run_takes_the_steps_of_one_that_was_not_stopped(pack, small):
    def losses(drawing: Drawing, steps: range) -> list[float]:
        return [drawing.step(step, step / 4)["generator"] for step in steps]

    whole = Drawing(pack, CONFIG, torch.device("cpu"))
    losses(whole, range(1))
    state = copy.deepcopy(whole.state())
    wanted = losses(whole, range(1, 2))
    again = Drawing(pack, CONFIG, torch.device("cpu"))
    again.load(state)
    assert losses(again, range(1, 2)) == pytest.approx(wanted, rel=1e-4)
    assert again.decoder.average.n_averaged == 2


def test_steps_are_taken_in_half_precision_too(pack, small, monkeypatch):
    monkeypatch.setattr(draw_training, "half_precision", lambda device: torch.autocast(device, torch.bfloat16))
    losses = Drawing(pack, CONFIG, torch.device("cpu")).step(0, 0.9)
    assert losses.keys() == {"generator", "decoder", "discriminator"} and np.isfinite(list(losses.values())).all()


def test_minutes_end_a_run(path, small, tmp_path):
    run = draw.Run(Pack.load(path), tmp_path, CONFIG, torch.device("cpu"), minutes=1.0, columns=1)
    run.spent = 60.0
    run.number = 7
    run.train()
    assert run.progress == 1.0 and run.number == 7 and (tmp_path / "parts" / "unet").is_dir()
