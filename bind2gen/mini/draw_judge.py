"""Stage ``draw-judge``: is what was drawn taken for its kind, by a judge that shares nothing with the generator?

The judge of bind2gen/evaluate is trained on the pack's photos at 64 pixels, from nothing. Lite0, in whose features the
generator draws, has no say.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import nn

from ..errors import InputError
from ..hosts.pictures.feature_autoencoder import FeatureAutoencoder
from .data import ImageSet, Sample
from .draw import PARTS
from .draw_decoder import to_pixels, to_unit_range
from .draw_generator import Conditions, draw
from .draw_pack import Pack
from .evaluate.judge import judge_features, judge_logits, prepare_judge
from .evaluate.likeness import THUMBNAIL, closeness, nearest, thumbnails, variety
from .evaluate.verdicts import Verdicts, from_scores
from .figures import keep

JUDGE_SIZE = 64  # pixels
WANTED = {"means_first": 0.8, "photos_first": 0.45}  # what the trial reached, see README.md


def smaller(pixels: np.ndarray, size: int = JUDGE_SIZE) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, size, size, 3)."""
    parts = torch.from_numpy(pixels).split(256)
    return np.concatenate([to_pixels(F.adaptive_avg_pool2d(to_unit_range(part), size)) for part in parts])


class Judged:
    """A pack's photos before a judge, and pictures beside them.

    Args:
        judge: see :func:`~bind2gen.mini.evaluate.judge.build_judge`; its logits are those of the pack's kinds.
    """

    def __init__(self, pack: Pack, judge: nn.Sequential) -> None:
        self.pack, self.judge, self.classes = pack, judge.eval(), tuple(pack.kinds)
        self.pixels, self.names = smaller(pack.pixels), pack.names[pack.held_out]
        self.of_photos = self._verdicts(self.pixels[pack.held_out], self.names)

    @torch.no_grad()
    def _verdicts(self, pixels: np.ndarray, wanted: np.ndarray) -> Verdicts:
        return from_scores(judge_logits(self.judge, pixels), wanted, self.classes)

    def figures(self, unet: nn.Module, autoencoder: FeatureAutoencoder, count: int) -> dict[str, float]:
        """Shares of right answers, and how varied and how new the pictures are.

        Args:
            count: pictures of each kind's mean, at least 2.
        """
        kept, conditions = self.pack.held_out, Conditions(self.pack).to(autoencoder.device)
        wanted = np.repeat(self.classes, count)
        of_means = smaller(draw(unet, autoencoder, conditions.of(conditions.means.repeat_interleave(count, 0))))
        of_photos = smaller(draw(unet, autoencoder, conditions.of(conditions.embeds[torch.from_numpy(kept)]), seed=1))
        shown = torch.from_numpy(self.pack.pixels[kept]).split(64)
        with torch.no_grad():
            back = [to_pixels(autoencoder(to_unit_range(part).to(autoencoder.device)).sample) for part in shown]
        again = self._verdicts(smaller(np.concatenate(back)), self.names)
        gallery = thumbnails(self.pixels[~kept])
        ours, real = (nearest([thumbnails(pixels)], gallery) for pixels in (of_means, self.pixels[kept]))
        new = closeness(ours, wanted, real, self.names)
        varied = variety(self._groups(of_means, wanted), self._groups(self.pixels[kept], self.names))
        return {
            "judge": self.of_photos.accuracy(),
            "judge_mean_class": self.of_photos.mean_over_concepts(),
            "means_first": self._verdicts(of_means, wanted).mean_over_concepts(),
            "photos_first": self._verdicts(of_photos, self.names).accuracy(),
            "reconstructions_first": again.accuracy(),
            "reconstructions_same": float((again.found == self.of_photos.found).mean()),
            "variety": varied.pixels / varied.pixels_of_photos,
            "distance_to_training_photos": new.ratio_of_medians,
        }

    def _groups(self, pixels: np.ndarray, names: np.ndarray) -> list[tuple[np.ndarray, torch.Tensor]]:
        small, features = smaller(pixels, THUMBNAIL), judge_features(self.judge, pixels)
        own = [names == name for name in self.classes]
        return [(small[mask], features[torch.from_numpy(mask)]) for mask in own]


def run_judge(texts: object, folder: Path, *, pack: Path, steps: int | None = None, columns: int = 8) -> None:
    """Judge what stage ``draw`` left beside ``folder``, on the GPU where there is one; write ``figures.json``."""
    parts = folder.parent / "draw" / PARTS
    if not parts.is_dir():
        raise InputError(f"{parts}: wanted what stage draw leaves, found none; run that stage first")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unet = UNet2DConditionModel.from_pretrained(parts / "unet").to(device).eval()
    autoencoder = FeatureAutoencoder.from_pretrained(parts / "vae").to(device).eval()
    held = Pack.load(pack)
    samples = [Sample(str(number), name, {}) for number, name in enumerate(held.names)]
    photos = ImageSet(smaller(held.pixels), samples)
    own, kept = (photos.take(mask) for mask in (~held.held_out, held.held_out))
    judged = Judged(held, prepare_judge(own, kept, held.kinds, folder / "judge", steps=steps))
    keep(folder, "after", lambda model: judged.figures(unet, model, max(2, columns)), autoencoder, WANTED)
