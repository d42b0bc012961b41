"""Speed of every tower at full size beside the reference, as a share of what the device can do. By hand:

    python tests/bench/bench_towers.py [--reference REFERENCE] [--only image audio] [--batches 1 8] [--out FOLDER]

REFERENCE is a checkout of facebookresearch/ImageBind; without it ours are measured alone. Weights are made up, inputs
are on the device already. The ways of a tower take turns, and so does a bare product as wide as its widest layer, the
measure of them all; medians over rounds. FOLDER gets ``towers.json`` after each batch, and at the end ``towers.png``: a
roofline of the device, and how many times as fast as the reference in float32 each way is.
``--draw FOLDER`` draws again what is there. Without a card batches are small; elsewhere 1, 8, 64 and 256.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from torch.utils.flop_counter import FlopCounterMode

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2])]
import cases  # noqa: E402
from make_golden import reference_model, stand_in_for_missing_packages  # noqa: E402

from bind2gen.imagebind.fused import fast_bfloat16  # noqa: E402
from bind2gen.imagebind.model import ImageBindModel  # noqa: E402

CARD = torch.cuda.is_available()
DEVICE = "cuda" if CARD else "cpu"
TOWER = {"image": "vision", "video": "vision", **{n: n for n in ("text", "audio", "depth", "thermal", "imu")}}
HALVES = ("bfloat16", "float16") if CARD else ("bfloat16",)
BATCHES = (1, 8, 64, 256) if CARD else (1, 8)
ROUNDS, SECONDS = 3, 3.0  # at least
CONTEXT, END = 77, 49_407
TALL = 4096  # rows of the bare product at most: taller ones wait for memory
FLOAT32 = "reference float32"
GIB = 2**30


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """From meta to the device, with random values; the reference's causal mask as it is."""
    module.to_empty(device=DEVICE)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            tensor.copy_(torch.full_like(tensor, float("-inf")).triu(1)) if "mask" in name else tensor.normal_(std=0.02)
    return module.eval().requires_grad_(False)


def our_tower(name: str, dtype: str) -> ImageBindModel:
    with torch.device("meta"):
        model = ImageBindModel(cases.config("huge"), [name]).to(getattr(torch, dtype))
    return filled(model)


def reference_tower(name: str) -> torch.nn.Module:
    on_cpu = mock.patch.object(torch, "linspace", lambda *a, **k: _linspace(*a, **{**k, "device": "cpu"}))
    with on_cpu, torch.device("meta"):
        model = reference_model("huge")
    for parts in model.children():
        if TOWER[name] in parts:
            filled(parts[TOWER[name]])
    return model


_linspace = torch.linspace


def batch(name: str, size: int) -> torch.Tensor:
    """(size, 1, *sample) on the device."""
    if name == "text":
        ids = torch.randint(1, END, (size, 1, CONTEXT), device=DEVICE)
        ids[..., -1] = END
        return ids
    shape = cases.config("huge").tower(TOWER[name]).input_shape
    shape = (shape[0], 2, *shape[1:]) if name == "video" else shape
    return torch.randn(size, 1, *shape, device=DEVICE)


Way = Callable[[torch.Tensor], Any]


def ways(name: str, compiled: bool, with_reference: bool) -> dict[str, Way]:
    """What is compared, by name, slowest first."""
    made: dict[str, Way] = {}
    if with_reference:
        reference, tower = reference_tower(name), TOWER[name]

        def plain(x: torch.Tensor) -> Any:
            return reference({tower: x if name in ("audio", "video") else x.squeeze(1)})

        def cast(dtype: str) -> Way:
            def run(x: torch.Tensor) -> Any:
                with torch.autocast(DEVICE, getattr(torch, dtype)):
                    return plain(x)

            return run

        made = {FLOAT32: plain} | {f"reference autocast {dtype}": cast(dtype) for dtype in HALVES}
    for dtype in ("float32", *HALVES):
        model = our_tower(name, dtype)
        made[f"ours {dtype}"] = lambda x, model=model: model.encode(name, x)
    if compiled:
        graph = torch.compile(model.towers[TOWER[name]], mode="reduce-overhead")
        made[f"ours {dtype} compiled"] = lambda x, m=model: graph(x.flatten(0, 1).to(m.dtype))
    return made


def bare_product(name: str, rows: int, dtype: str) -> tuple[Way, float]:
    """A product as of the tower's MLP, and its operations."""
    width = cases.config("huge").tower(TOWER[name]).width
    rows = min(rows, TALL)
    a, b = (torch.randn(s, device=DEVICE, dtype=getattr(torch, dtype)) for s in ((rows, width), (4 * width, width)))
    return lambda _: a @ b.t(), 8.0 * rows * width**2


def timed(run: Way, x: torch.Tensor) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(x)
    if CARD:
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def working_memory(run: Way, x: torch.Tensor) -> float:
    """GiB of a card that a call needs beside weights and input; 0 without a card."""
    if not CARD:
        run(x)
        return 0.0
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run(x)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) / GIB


@torch.inference_mode()
def measured(name: str, size: int, runs: dict[str, Way]) -> Iterator[dict[str, Any]]:
    """One row a way."""
    x = batch(name, size)
    tokens = CONTEXT if name == "text" else cases.config("huge").tower(TOWER[name]).tokens
    with FlopCounterMode(display=False) as counter:
        runs["ours float32"](x)
    weights = sum(p.numel() for p in our_parameters(name))
    products = {dtype: bare_product(name, size * tokens, dtype) for dtype in ("float32", *HALVES)}
    all_runs = runs | {f"product {dtype}": run for dtype, (run, _) in products.items()}
    working = {way: working_memory(run, x) for way, run in all_runs.items()}  # and to warm up
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in all_runs}
    started, rounds = time.perf_counter(), 0
    while rounds < ROUNDS or time.perf_counter() - started < SECONDS:
        for way, run in all_runs.items():
            taken[way].append(timed(run, x))
        rounds += 1
    wall, cpu = ({way: statistics.median(r[k] for r in rounds) for way, rounds in taken.items()} for k in (0, 1))
    for way in runs:
        dtype = next(dtype for dtype in (*HALVES, "float32") if dtype in way)
        peak = products[dtype][1] / wall[f"product {dtype}"]
        rate = counter.get_total_flops() / wall[way]
        row = {"case": name, "batch": size, "way": way, "items_per_s": size / wall[way], "gflops": rate / 1e9}
        row |= {"share": rate / peak, "product_gflops": peak / 1e9, "wall_s": wall[way], "cpu_s": cpu[way]}
        row |= {"working_gib": working[way]} if CARD else {}
        row["per_byte"] = counter.get_total_flops() / (weights * (4 if dtype == "float32" else 2))
        if FLOAT32 in wall:
            row |= {"ratio": wall[FLOAT32] / wall[way], "cpu_ratio": cpu[FLOAT32] / max(cpu[way], 1e-9)}
        yield row


def our_parameters(name: str) -> Iterator[torch.nn.Parameter]:
    with torch.device("meta"):
        return ImageBindModel(cases.config("huge"), [name]).parameters()


def bandwidth() -> float:
    """Bytes a second that are read and written by a copy of 512 MiB."""
    a = torch.empty(2**29, dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    return 2 * a.numel() / min(timed(lambda _: b.copy_(a), a)[0] for _ in range(4))


def about() -> dict[str, str]:
    name = (
        torch.cuda.get_device_name()
        if CARD
        else f"{torch.get_num_threads()} CPU threads, {fast_bfloat16() or 'no'} bfloat16"
    )
    return {"device": name, "torch": torch.__version__}


def draw(result: dict[str, Any], path: Path) -> None:
    """Left: operations a second over operations a byte of weights, under the device's roofs. Right: ratios."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    roof, bars = figure.subplots(1, 2, width_ratios=(1, 1.2))
    rows, colors = result["rows"], {"float32": "#8c8c8c", "bfloat16": "#c44e52", "float16": "#4c72b0"}
    per_byte = sorted({row["per_byte"] for row in rows})
    span = [per_byte[0] / 2, per_byte[-1] * 2]
    for dtype, color in colors.items():
        ours = [row for row in rows if row["way"] == f"ours {dtype}"]
        if not ours:
            continue
        peak = max(row["product_gflops"] for row in ours)
        roof.plot(span, [min(peak, result["bandwidth"] * at / 1e9) for at in span], color=color, lw=1)
        label = f"{dtype}: bare product {peak:,.0f} GFLOP/s"
        roof.scatter([r["per_byte"] for r in ours], [r["gflops"] for r in ours], color=color, s=18, label=label)
        for row in ours:
            roof.annotate(f" {row['case']} {row['batch']}", (row["per_byte"], row["gflops"]), fontsize=6)
    roof.set(xscale="log", yscale="log", xlabel="operations a byte of weights", ylabel="GFLOP/s",
             title=f"{result['device']}, torch {result['torch']}")  # fmt: skip
    for axis in (roof.xaxis, roof.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    roof.legend(fontsize=7)
    largest = {
        case: max(row["batch"] for row in rows if row["case"] == case)
        for case in dict.fromkeys(r["case"] for r in rows)
    }
    last = [row for row in rows if row["batch"] == largest[row["case"]] and "ratio" in row]
    names = list(dict.fromkeys(row["way"] for row in last))
    for k, way in enumerate(names):
        found = {row["case"]: row["ratio"] for row in last if row["way"] == way}
        at = [list(largest).index(case) + (k - len(names) / 2 + 0.5) * 0.8 / len(names) for case in found]
        drawn = bars.bar(at, list(found.values()), 0.8 / len(names), label=way)
        bars.bar_label(drawn, fmt="%.1f", fontsize=6)
    bars.set_xticks(range(len(largest)), [f"{case}, {size}" for case, size in largest.items()], fontsize=8)
    bars.set(ylabel="times as fast as the reference in float32", title="by modality and batch")
    if names:
        bars.margins(y=0.12)
        bars.legend(fontsize=7, ncols=len(names), loc="upper center")
    figure.savefig(path, dpi=130)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| modality, batch | way | items/s | share of the product | times the reference |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = f"{row['ratio']:.2f} ({row['cpu_ratio']:.2f})" if "ratio" in row else ""
        share = f"{row['share']:.0%} of {row['product_gflops']:,.0f} GFLOP/s"
        share += f", {row['working_gib']:.2f} GiB beside the weights" if "working_gib" in row else ""
        lines.append(
            f"| {row['case']}, {row['batch']} | {row['way']} | {row['items_per_s']:,.3g} | {share} | {ratio} |"
        )
    return "\n".join(lines)


def run(
    out: Path,
    reference: Path | None,
    *,
    only: Sequence[str] = tuple(TOWER),
    batches: Sequence[int] = BATCHES,
    compiled: bool = False,
) -> None:
    """Measure, print and write; rows of other modalities in ``out`` stay."""
    if reference:
        stand_in_for_missing_packages(reference)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "towers.json"
    result = about() | {"bandwidth": bandwidth(), "rows": []}
    if file.exists():  # another part of the same run
        result["rows"] = [row for row in json.loads(file.read_text())["rows"] if row["case"] not in only]
    for name in only:
        runs = ways(name, compiled, reference is not None)
        for size in batches:
            rows = list(measured(name, size, runs))
            print(table(rows), flush=True)
            result["rows"] += rows
            file.write_text(json.dumps(result, indent=1) + "\n")
        del runs
        gc.collect()
        if CARD:
            torch.cuda.empty_cache()
    draw(result, out / "towers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--only", nargs="+", choices=TOWER, default=list(TOWER))
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--draw", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.draw:
        result = json.loads((options.draw / "towers.json").read_text())
        print(table(result["rows"]))
        draw(result, options.draw / "towers.png")
        return
    run(options.out, options.reference, only=options.only, batches=options.batches, compiled=options.compile)


if __name__ == "__main__":
    main()
