"""Files to embeddings: a whole run beside its encoder alone and its reading alone with the same workers. By hand:

    python tests/bench/bench_files.py FOLDER --modality image [--workers 0 1 2] [--batch-size 16] [--imagebind FOLDER]

FOLDER holds the files; all are read once first, so that the disk does not count. A round runs the encoder alone (on
the batches, prepared before and kept), reading alone and the whole, one after the other. ``--threads 1 --workers 1``
gives each stage a core of its own: there the whole should come to the slower of the two. Where both want the same
cores, ``bound`` is what these allow: the processor seconds of both stages alone over the number of cores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bind2gen.cli.batches import Batch, BatchReader
from bind2gen.cli.sensors import SensorOptions
from bind2gen.files.bundled import bundled_path
from bind2gen.imagebind.loading import load_imagebind, load_processor
from bind2gen.imagebind.pace import Pace, in_words
from bind2gen.imagebind.processes import processors, start_server
from bind2gen.imagebind.workers import Piece, encoded, prepared
from bind2gen.modality import MODALITIES, clip_mask_key

KEPT = 1024  # files whose batches are kept for the encoder alone


def spent(work: Callable[[Pace], Any], pace: Pace) -> tuple[float, float]:
    """Seconds, and processor seconds of this process and of its workers."""
    started, before = time.perf_counter(), time.process_time()
    work(pace)
    theirs = pace.decoding if pace.workers and not pace.apart else 0.0
    return time.perf_counter() - started, time.process_time() - before + theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--modality", default="image")
    parser.add_argument("--imagebind", default=str(bundled_path() / "imagebind"))
    parser.add_argument("--workers", type=int, nargs="+", default=[0, processors()])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = sorted(str(path) for path in args.folder.iterdir())
    for file in files:
        Path(file).read_bytes()
    kind, device = MODALITIES[args.modality], torch.device(args.device)
    start_server()
    model = load_imagebind(args.imagebind, modalities=[args.modality]).to(device).eval()
    reader = BatchReader(args.modality, load_processor(args.imagebind), SensorOptions({}, {}), False)
    batches = [Batch(i, files[i : i + args.batch_size]) for i in range(0, len(files), args.batch_size)]

    @torch.no_grad()
    def encode(piece: Piece) -> torch.Tensor:
        clips = torch.as_tensor(piece.arrays[kind.input_key]).to(device, non_blocking=True)
        return model.encode(args.modality, clips, clip_mask=piece.arrays.get(clip_mask_key(kind)))

    some = batches[: max(1, KEPT // args.batch_size)]
    kept = [Piece({name: torch.as_tensor(x) for name, x in piece.arrays.items()}, piece.about)
            for piece in prepared(reader, some, workers=0, pace=Pace(device))]  # fmt: skip
    list(prepared(reader, batches[:2], workers=1, pace=Pace(device)))  # the server has imported everything
    encode(kept[0])
    share = len(files) / sum(piece.about.count for piece in kept)
    for workers in args.workers:
        pace = Pace(device)

        def reading(pace: Pace, workers: int = workers) -> None:
            for _ in prepared(reader, batches, workers=workers, pace=pace):
                pass

        def whole(pace: Pace, workers: int = workers) -> None:
            for piece, _ in encoded(reader, batches, encode, workers=workers, pace=pace):
                pace.inputs += piece.about.count

        encoder = [share * x for x in spent(lambda _: [encode(piece).cpu() for piece in kept], Pace(device))]
        read, run = spent(reading, Pace(device)), spent(whole, pace)
        slower = max(encoder[0], read[0])
        bound = max(slower, (encoder[1] + read[1]) / processors()) if device.type == "cpu" else slower
        print(in_words(pace.figures(), args.modality))
        print(f"  alone: encoder {len(files) / encoder[0]:.4g} a second, reading {len(files) / read[0]:.4g}")
        print(f"  the run is {slower / run[0]:.0%} of the slower, {bound / run[0]:.0%} of what the cores allow; "
              f"{run[1]:.1f} CPU s, both alone {encoder[1] + read[1]:.1f}")  # fmt: skip
        told = {"encoder": encoder, "reading": read, "run": run, "threads": args.threads, "cores": processors()}
        print(json.dumps(told | pace.figures() | {"load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
