"""Stage ``draw``: a generator in the space of EfficientNet-Lite0's features, and the decoder of that space, together.

From a pack (draw_pack.py) alone, on a GPU for some minutes or on a CPU for a number of steps. What there is, is saved
every minute as diffusers' own folders, so it may be stopped at any moment; a run in the same folder goes on.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..files.atomic import swap_in, written_whole
from ..train.curves import forget
from ..train.loop import LoopConfig
from .draw_decoder import peak_signal_to_noise, to_pixels, to_unit_range
from .draw_generator import draw
from .draw_pack import Pack
from .draw_training import Drawing
from .evaluate.sheets import sheet
from .figures import keep

logger = logging.getLogger(__name__)

PARTS, STATE, LOG = "parts", "state.pt", "metrics.jsonl"  # what is made, what a run goes on from, losses by step
SAVE_EVERY, SHEET_EVERY = 60, 180  # seconds
SMOOTHED = 0.98  # of the losses that are told
SHARD = "15MB"  # largest file of weights
JUDGED_ON, SHOWN, SHEET_COLUMNS = 64, 32, 8  # held-out photos for the signal-to-noise ratio, and on a sheet
WANTED = {"psnr_db": 18.0}


class Run:
    """One run: how far it is, and what it leaves in its folder.

    Args:
        minutes: that it may take, all its starts together, saving included; None: ``config.steps`` steps instead.
        columns: pictures of each kind on the sheet.
    """

    def __init__(
        self, pack: Pack, folder: Path, config: LoopConfig, device: torch.device, minutes: float | None, columns: int
    ) -> None:
        self.began, self.spent, self.training = time.monotonic(), 0.0, 0.0  # seconds: of earlier starts; in steps
        self.folder, self.minutes, self.columns, self.number = folder, minutes, columns, 0
        self.pack, self.config, self.drawing = pack, config, Drawing(pack, config, device)
        self.losses: dict[str, float] = {}
        self.shown = np.flatnonzero(pack.held_out)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE).is_file():
            state = torch.load(folder / STATE, map_location=device, weights_only=True)
            self.number, self.spent, self.training = state["step"], state["seconds"], state["training"]
            self.drawing.load(state["drawing"])
            logger.info("resumed %s at step %d", folder, self.number)

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.began

    @property
    def progress(self) -> float:
        """0 to 1, by the time where it is limited, else by steps."""
        done = self.number / self.config.steps if self.minutes is None else self.seconds / (60 * self.minutes)
        return min(done, 1.0)

    def train(self) -> None:
        saved = shown = time.monotonic()
        on_gpu = self.drawing.device.type == "cuda"
        keep(self.folder, "before", self.figures, self.drawing.kept, WANTED)
        forget(self.folder / LOG, self.number + 1)
        with open(self.folder / LOG, "a") as log, tqdm(total=100, unit="%", mininterval=5) as bar:
            while self.progress < 1:
                started = time.monotonic()
                for name, loss in self.drawing.step(self.number, self.progress).items():
                    self.losses[name] = loss + SMOOTHED * (self.losses.get(name, loss) - loss)
                self.number += 1
                self.training += time.monotonic() - started
                if self.number % self.config.log_every == 0:
                    log.write(json.dumps({"step": self.number, "seconds": round(self.seconds, 1)} | self.losses) + "\n")
                    log.flush()
                    bar.update(int(100 * self.progress) - bar.n)
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                if on_gpu and time.monotonic() - shown > SHEET_EVERY:  # on a CPU sheets take long: only at the end
                    self.show()
                    shown = time.monotonic()
        self.save()
        self.show()

    # ---- what is left ----

    def save(self) -> None:
        """Parts in half precision as diffusers saves them, figures, and the state."""
        drawing = self.drawing
        parts = {"unet": drawing.unet.kept, "vae": drawing.kept, "image_normalizer": drawing.conditions.normalizer}
        fresh = self.folder / f"{PARTS}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for name, part in parts.items():
            copy.deepcopy(part).half().save_pretrained(fresh / name, max_shard_size=SHARD)
        drawing.schedule.save_pretrained(fresh / "scheduler")
        swap_in(fresh, self.folder / PARTS)
        shutil.rmtree(self.folder / f"{PARTS}.old", ignore_errors=True)
        keep(self.folder, "after", self.figures, drawing.kept, WANTED)
        state = {"step": self.number, "seconds": self.seconds, "training": self.training, "drawing": drawing.state()}
        with written_whole(self.folder / STATE) as temporary:
            torch.save(state, temporary)

    def figures(self, autoencoder: nn.Module) -> dict[str, float]:
        """None of them judges what is drawn."""
        held_out = self.pack.pixels[self.shown[:: max(1, len(self.shown) // JUDGED_ON)]]
        samples = self.number * self.config.batch_size
        return self.losses | {
            "psnr_db": peak_signal_to_noise(autoencoder, held_out),
            "samples": samples,
            "samples_per_s": samples / self.training if self.training else 0.0,
            "minutes": self.seconds / 60,
        }

    @torch.no_grad()
    def show(self) -> None:
        """Sheets: of each kind, half drawn from its mean and half from held-out photos; and reconstructions."""
        chosen = self.shown[:: max(1, len(self.shown) // SHOWN)]
        pictures = to_unit_range(self.pack.pixels[chosen]).to(self.drawing.device)
        back = to_pixels(self.drawing.kept(pictures).sample)
        captions = self.pack.names[chosen].tolist()
        drawn, of_mean = [], -(-self.columns // 2)
        for number in range(len(self.pack.kinds)):
            of_kind = self.pack.kind == number
            own = np.flatnonzero(of_kind & self.pack.held_out)
            own = own if len(own) else np.flatnonzero(of_kind)  # a small kind may have none held out
            near = self.drawing.conditions.embeds[torch.from_numpy(np.resize(own, self.columns - of_mean))]
            drawn += [self.drawing.conditions.means[number].expand(of_mean, -1), near]
        labels = self.drawing.conditions.of(torch.cat(drawn))
        with self.drawing.half:
            made = draw(self.drawing.unet.kept.eval(), self.drawing.kept, labels)
        rows = made.reshape(len(self.pack.kinds), self.columns, *made.shape[1:])
        pairs = zip(self.pack.pixels[chosen], back, strict=True)
        sheets = {
            "drawn": sheet([(row, [kind]) for kind, row in zip(self.pack.kinds, rows, strict=True)]),
            "reconstructions": sheet(
                [(pair, [kind]) for pair, kind in zip(pairs, captions, strict=True)], SHEET_COLUMNS
            ),
        }
        for name, picture in sheets.items():
            with written_whole(self.folder / f"{name}.webp") as temporary:
                picture.save(temporary, quality=90)


def run_draw(
    texts: object,
    folder: Path,
    config: LoopConfig,
    *,
    pack: Path,
    minutes: float | None = None,
    batch: int | None = None,
    columns: int = 8,
) -> None:
    """Train on the GPU where there is one; see :class:`Run`. The other stages' ``texts`` are not asked for anything."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = replace(config, batch_size=batch) if batch else config
    torch.backends.cudnn.benchmark = True
    Run(Pack.load(pack), folder, config, device, minutes, columns).train()
