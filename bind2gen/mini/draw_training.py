"""Training of generator and decoder of stage ``draw``, step by step, on the same photos."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..errors import NonFiniteError
from ..hosts.pictures.feature_autoencoder import FeatureAutoencoder
from ..train.loop import LoopConfig, averaging, half_precision, learning_rate_factor, parameter_groups
from .draw_conditions import drawn_weights
from .draw_decoder import NETWORK, STAGES, Adversary, Features, reconstruction_loss, to_unit_range
from .draw_generator import Conditions, build_generator, generator_loss, noise_schedule
from .draw_pack import Pack

DECODER_RATE, DECODER_BETAS = 5e-4, (0.5, 0.99)
DECODED = 8  # every so many of a step's photos are decoded too
LATENT_NOISE = 0.4  # at most, in deviations: a generator's latents are not exact either
TYPICAL_SHARE = 0.6  # of the photos that are drawn
CHANNELS = (12, 64, 96, 160, 224)  # of the decoder; see FeatureAutoencoder
ZOOMED, LEAST_ZOOM = 0.5, 0.8  # share of photos of which only a part is shown, and its least side


class Part:
    """A network with its optimiser and its moving average."""

    def __init__(self, network: nn.Module, config: LoopConfig, rate: float, betas: tuple[float, float]) -> None:
        self.network, self.rate, self.clip = network, rate, config.clip_norm
        device = next(network.parameters()).device
        groups = parameter_groups(network, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, rate, betas, fused=device.type == "cuda")
        self.average = AveragedModel(network, multi_avg_fn=averaging(config.ema_decay))
        self.kept = self.average.module.requires_grad_(False)

    def step(self, loss: torch.Tensor, rate_factor: float) -> float:
        """Gives the loss; raises :class:`NonFiniteError` before anything is spoilt."""
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        if not math.isfinite(value := loss.item()) or not math.isfinite(norm):
            raise NonFiniteError(f"{type(self.network).__name__}: the loss is {value}, the norm of its gradient {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate_factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.network)
        return value

    def go_back(self) -> None:
        """To the moving average, without momentum."""
        self.network.load_state_dict(self.kept.state_dict())
        self.optimizer.state.clear()

    def state(self) -> dict:
        parts = {"network": self.network, "optimizer": self.optimizer, "average": self.average}
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict) -> None:
        for name, part in {"network": self.network, "optimizer": self.optimizer, "average": self.average}.items():
            part.load_state_dict(state[name])


def altered(pictures: torch.Tensor) -> torch.Tensor:
    """Half of (N, 3, H, W) in -1..1 mirrored, and of :data:`ZOOMED` of them a part, enlarged."""
    count, at = len(pictures), pictures.device
    zoomed = torch.rand(count, device=at) < ZOOMED
    side = torch.where(zoomed, LEAST_ZOOM + (1 - LEAST_ZOOM) * torch.rand(count, device=at), 1.0)
    mirror = 1 - 2 * torch.randint(2, (count,), device=at)
    place = torch.zeros(count, 2, 3, device=at)
    place[:, 0, 0], place[:, 1, 1] = side * mirror, side
    place[:, :, 2] = (1 - side[:, None]) * (2 * torch.rand(count, 2, device=at) - 1)
    grid = F.affine_grid(place, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, "bicubic", "border", align_corners=False).clamp(-1, 1)


class Drawing:
    """Generator and decoder in training.

    Args:
        pack: what they learn from.
        config: its ``batch_size`` is the generator's.
    """

    def __init__(self, pack: Pack, config: LoopConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.pack, self.config, self.device, self.half = pack, config, device, half_precision(device.type)
        side, channels = pack.pixels.shape[1], len(pack.latent_mean)
        self.features = Features(pack.lite0).to(device, memory_format=torch.channels_last)
        self.autoencoder = FeatureAutoencoder(NETWORK, STAGES, channels, block_out_channels=CHANNELS, sample_size=side)
        self.autoencoder.encoder.load_state_dict(self.features.layers[: 2 + STAGES].state_dict())
        self.autoencoder.latent_mean.copy_(pack.latent_mean)
        self.autoencoder.latent_std.copy_(pack.latent_std)
        self.autoencoder.to(device, memory_format=torch.channels_last).train()
        unet = build_generator(channels, side // 16, pack.embeds.shape[1])
        unet.to(device, memory_format=torch.channels_last).train()
        self.unet = Part(unet, config, config.learning_rate, (0.9, config.beta2))
        self.decoder = Part(self.autoencoder.decoder, config, DECODER_RATE, DECODER_BETAS)
        self.kept = copy.deepcopy(self.autoencoder).eval()  # with the moving average of its decoder
        self.kept.decoder = self.decoder.kept
        self.conditions, self.schedule = Conditions(pack).to(device), noise_schedule()
        self.pixels = torch.from_numpy(pack.pixels).to(device)
        names = np.where(pack.held_out, "", pack.names)
        self.weights = torch.from_numpy(drawn_weights(names, pack.typical, TYPICAL_SHARE)).float().to(device)
        with torch.no_grad():
            some = self.features(to_unit_range(self.pixels[:: len(self.pixels) // 64 + 1]))
        self.adversary = Adversary(some).to(device)

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One step of both on photos drawn for it; ``progress`` is 0..1. Gives the losses."""
        torch.manual_seed(int(np.random.default_rng([self.config.seed, step]).integers(2**31)))
        factor = learning_rate_factor(int(progress * self.config.steps), self.config)
        chosen = torch.multinomial(self.weights, self.config.batch_size, replacement=True)
        pictures = altered(to_unit_range(self.pixels[chosen])).contiguous(memory_format=torch.channels_last)
        with self.half:
            with torch.no_grad():
                latents = self.autoencoder.encode(pictures).latent_dist.mode().float()
            loss = generator_loss(self.unet.network, self.schedule, latents, self.conditions.drawn(chosen))
        losses = {"generator": self.unet.step(loss, factor)}
        return losses | self._decode(pictures[::DECODED], latents[::DECODED], progress, factor)

    def _decode(
        self, pictures: torch.Tensor, latents: torch.Tensor, progress: float, factor: float
    ) -> dict[str, float]:
        noise = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, device=self.device) * torch.randn_like(latents)
        weight = self.adversary.weight(progress)
        with self.half:
            made = self.autoencoder.decode(latents + noise).sample
            with torch.no_grad():
                real_seen = self.features(pictures)
            made_seen = self.features(made)
            loss = reconstruction_loss(made, pictures, made_seen, real_seen)
            against = self.adversary.loss(made_seen) if weight else 0.0
        losses = {"decoder": loss.item()}
        self.decoder.step(loss + weight * against, factor)
        if weight:
            with self.half:
                ended = self.adversary.learn(real_seen, made_seen)
            losses["discriminator"] = self.adversary.mean_loss.item()
            if ended:
                self.decoder.go_back()
        return losses

    def state(self) -> dict:
        modules = {"adversary": self.adversary, "adversary_optimizer": self.adversary.optimizer}
        parts = {"unet": self.unet.state(), "decoder": self.decoder.state()}
        return parts | {name: module.state_dict() for name, module in modules.items()}

    def load(self, state: dict) -> None:
        self.unet.load(state["unet"])
        self.decoder.load(state["decoder"])
        self.adversary.load_state_dict(state["adversary"])
        self.adversary.optimizer.load_state_dict(state["adversary_optimizer"])
