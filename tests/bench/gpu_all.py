"""All that is to be known of a card, in under nine minutes, when there is one for a short time. By hand:

    python tests/bench/gpu_all.py [--out FOLDER] [--reference REFERENCE] [--compile] [--only encoder fronts ...]

Encoder: every tower at full size with the golden values' made-up weights, in float32, bfloat16 and float16: its error
against the reference's recorded output, and with ``--compile`` what compiling changes. Fronts: log-mel spectrograms
made on the card, as a share of the encoder's time. Pictures: the bundled pipeline on the card beside the processor, in
each precision and offloaded. Full: Stable unCLIP 2.1's published architecture with made-up weights, through our loading
path. Towers: ``bench_towers.py``, last. Each part is written to ``FOLDER/gpu_all.json`` when it is done, towers to
``towers.json`` and ``towers.png``. ``pytest -k cuda tests`` holds the toy hosts against the processor. Without a card
it runs at toy size, to try the script itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2]), str(Path(__file__).parent)]
import bench_towers  # noqa: E402
import bench_unclip  # noqa: E402
import cases  # noqa: E402

from bind2gen import ImageBindProcessor, ImageBindUnCLIPPipeline, bundled_path  # noqa: E402

CARD = torch.cuda.is_available()
DEVICE = "cuda" if CARD else "cpu"
SIZE = "huge" if CARD else "small"
DTYPES = ("float32", "bfloat16", "float16")
TOWERS = {name: (name,) for name in ("text", "audio", "depth", "thermal", "imu")} | {"vision": ("image", "video")}
BATCH = 64 if CARD else 2  # items
SECONDS = 0.7 if CARD else 0.05  # that a rate is measured for
TEXTS = ["a dog", "a clock", "a helicopter", "the sea"]
STEPS = 20
GIBIBYTE = 2**30


def rate(work: Callable[[], Any], items: int) -> dict[str, float]:
    """Items a second, after one call to warm up, and peak memory of the card in GiB."""
    work()
    _wait()
    if CARD:
        torch.cuda.reset_peak_memory_stats()
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        work()
        _wait()
        rounds += 1
    taken = time.perf_counter() - started
    return {"items_per_s": round(rounds * items / taken, 2), "peak_gib": _peak()}


def encoder(compiled: bool) -> Iterator[dict[str, Any]]:
    """One row a tower, case and precision."""
    golden = np.load(cases.GOLDEN[SIZE])
    for tower, names in TOWERS.items():
        whole, inputs = cases.filled_model(SIZE, [tower]), cases.inputs(SIZE)
        for dtype in DTYPES:
            model = cases.cast(whole, getattr(torch, dtype)).to(DEVICE)
            for name in names:
                row, x = {"case": name, "dtype": dtype}, inputs[name].to(DEVICE)
                with torch.inference_mode():
                    got = model.encode(name, x, reference_scale=True)
                    row["error"] = cases.relative_error(got.float().cpu(), golden[name])
                    if compiled and name in ("image", "audio"):
                        made = torch.compile(model.encode)(name, x, reference_scale=True)
                        row["compiled_beside_eager"] = cases.relative_error(
                            made.float().cpu(), got.float().cpu().numpy()
                        )
                yield row
            del model
            _free()
        del whole


def fronts() -> Iterator[dict[str, Any]]:
    """Waveforms to spectrograms to embeddings, on the card, in float16 there."""
    processor = ImageBindProcessor()
    model = bench_towers.our_tower("audio", "float16" if CARD else "float32")
    sounds = list(torch.randn(BATCH, 32_000).numpy())

    def spectrograms() -> torch.Tensor:
        return processor(audio=sounds, sampling_rate=16_000, device=DEVICE)["audio_values"]

    clips = spectrograms()
    made = rate(spectrograms, len(clips))
    with torch.inference_mode():
        embedded = rate(lambda: model.encode("audio", clips), len(clips))
    yield {"spectrograms": made, "encoder": embedded, "share": embedded["items_per_s"] / made["items_per_s"]}


def pictures() -> Iterator[dict[str, Any]]:
    """One row a way of running the bundled pipeline; differences, 0..255, from the processor's float32 pictures."""

    def drawn(pipe: ImageBindUnCLIPPipeline) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(TEXTS))]
        return pipe(text=TEXTS, num_inference_steps=STEPS, generator=generators, output_type="np").images * 255

    def fresh(dtype: str) -> ImageBindUnCLIPPipeline:
        pipe = ImageBindUnCLIPPipeline.from_pretrained(bundled_path(), dtype=getattr(torch, dtype))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    wanted = drawn(fresh("float32"))
    ways: dict[str, Callable[[ImageBindUnCLIPPipeline], Any]] = {"on the card": lambda pipe: pipe.to(DEVICE)}
    if CARD:
        ways |= {
            "model offload": lambda pipe: pipe.enable_model_cpu_offload(),
            "sequential offload": lambda pipe: pipe.enable_sequential_cpu_offload(),
            "group offload": lambda pipe: pipe.enable_group_offload(torch.device(DEVICE), offload_type="leaf_level"),
        }
    for dtype in DTYPES:
        for way, place in ways.items():
            if way != "on the card" and dtype != "float16":
                continue
            row = {"way": way, "dtype": dtype}
            try:
                pipe = fresh(dtype)
                place(pipe)
                difference = np.abs(drawn(pipe) - wanted)
                row |= {"mean_difference": float(difference.mean())} | rate(lambda p=pipe: drawn(p), len(TEXTS))
                row["held_after_mib"] = round(torch.cuda.memory_allocated() / 2**20, 1) if CARD else 0.0
            except Exception as error:  # what one way lacks is a row, not the end
                row["failed"] = f"{type(error).__name__}: {str(error)[:200]}"
            yield row
            pipe = None
            _free()


def full() -> Iterator[dict[str, Any]]:
    """Stable unCLIP 2.1 and imagebind_huge's audio tower, float16, one picture of 768 pixels and four."""
    if not CARD:
        return
    with tempfile.TemporaryDirectory() as name:
        folder, started = Path(name), time.perf_counter()
        bench_unclip.build_host(folder / "host")
        bench_unclip.build_imagebind(folder / "imagebind")
        built = time.perf_counter()
        pipe = ImageBindUnCLIPPipeline.from_host(
            folder / "host", imagebind=folder / "imagebind", modalities=["audio"], dtype=torch.float16
        ).to(DEVICE)
        pipe.set_progress_bar_config(disable=True)
        loaded = time.perf_counter()
        yield {"build_s": round(built - started, 1), "load_s": round(loaded - built, 1)}
        for count in (1, 4):
            embeds = torch.randn(count, 1024, generator=torch.Generator().manual_seed(0))

            def draw(embeds: torch.Tensor = embeds) -> Any:
                return pipe(image_embeds=embeds, num_inference_steps=STEPS, output_type="pt").images

            found = draw()
            yield {"pictures": count, "finite": bool(found.isfinite().all())} | rate(draw, count)


def _wait() -> None:
    if CARD:
        torch.cuda.synchronize()


def _peak() -> float:
    return round(torch.cuda.max_memory_allocated() / GIBIBYTE, 2) if CARD else 0.0


def _free() -> None:
    gc.collect()
    if CARD:
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the results")
    parser.add_argument("--reference", type=Path, help="a checkout of facebookresearch/ImageBind, for towers")
    parser.add_argument("--compile", action="store_true", help="compiled, too")
    parser.add_argument("--only", nargs="+", choices=("encoder", "fronts", "pictures", "full", "towers"))
    options = parser.parse_args()
    parts = {"encoder": lambda: encoder(options.compile), "fronts": fronts, "pictures": pictures, "full": full}
    about = bench_towers.about()
    result: dict[str, Any] = dict(about)
    print(about, flush=True)
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        started, rows = time.perf_counter(), []
        for row in part():
            rows.append(row)
            print(name, row, flush=True)
            result[name] = rows
            (options.out / "gpu_all.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    if not options.only or "towers" in options.only:
        few = {} if CARD else {"only": ["imu"], "batches": [1]}
        bench_towers.run(options.out, options.reference, compiled=options.compile, **few)


if __name__ == "__main__":
    main()
