"""Time and memory to load the encoder for sounds, beside the reference model. By hand:

    python tests/bench/bench_loading.py --reference REFERENCE --checkpoint imagebind_huge.pth [--threads 2] [--json OUT]

REFERENCE is a checkout of facebookresearch/ImageBind. The checkpoint is the released file, or a stand-in with made-up
values that is written to that path if nothing is there (4.8 GB; speed does not depend on the values). One fresh process
each: time from imported to loaded and to the first embedding, and the process's peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2])]
import cases  # noqa: E402
from make_golden import reference_model, stand_in_for_missing_packages  # noqa: E402

from bind2gen.imagebind.checkpoint import load_official_checkpoint  # noqa: E402
from bind2gen.imagebind.model import ImageBindModel  # noqa: E402
from bind2gen.imagebind.released_names import reference_key  # noqa: E402

SHAPE = (1, 3, 1, 128, 204)  # one sound of three clips
WANTED = 0.25  # at most, as a ratio to the reference
RATIOS = ("load_s", "load_cpu_s", "first_s", "peak_gb")


def write_stand_in(path: Path) -> None:
    """A file of the released one's keys, shapes and size."""
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in ImageBindModel(cases.config("huge")).state_dict().items()}
    names = {key: reference_key(*key.split(".", 2)[1:]) for key in shapes}
    state = {names[key]: torch.from_numpy(cases.fill_value(names[key], shape, "a")) for key, shape in shapes.items()}
    state["modality_preprocessors.text.mask"] = torch.full((77, 77), -math.inf).triu(1)
    for name, scale in {"audio": 20, "depth": 5, "thermal": 10, "imu": 5}.items():
        state[f"modality_postprocessors.{name}.1.log_logit_scale"] = torch.tensor(math.log(scale))
    torch.save(state, path)


def peak_memory() -> int:
    """Bytes that this process ever held. On Linux ru_maxrss begins at the size of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def load_once(which: str, checkpoint: Path) -> dict[str, float]:
    """In this process: load for audio, embed one sound, and say what that took. The reference has no part-loading."""
    imported = peak_memory()
    start, cpu = time.perf_counter(), time.process_time()
    if which == "reference":
        model = reference_model("huge")
        model.load_state_dict(torch.load(checkpoint, weights_only=True))  # as its imagebind_huge(pretrained=True)
    else:
        model = load_official_checkpoint(checkpoint, modalities=["audio"])
    loaded, cpu = time.perf_counter(), time.process_time() - cpu
    x = torch.zeros(SHAPE)
    with torch.inference_mode():
        model({"audio": x}) if which == "reference" else model.encode("audio", x)
    first = time.perf_counter()
    memory = {"peak_gb": peak_memory() / 1e9, "import_gb": imported / 1e9}
    return {"load_s": loaded - start, "load_cpu_s": cpu, "first_s": first - start} | memory


def loading(arguments: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    for which in ("reference", "ours"):
        command = [sys.executable, __file__, "--reference", arguments.reference, "--checkpoint", arguments.checkpoint]
        command += ["--threads", arguments.threads, "--load-once", which]
        answers = []
        for _ in range(arguments.load_rounds):
            done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
            answers.append(json.loads(done.stdout.splitlines()[-1]))
        rows.append({"model": which} | {key: statistics.median(a[key] for a in answers) for key in answers[0]})
    for key in RATIOS:
        rows[1][f"{key}_ratio"] = rows[1][key] / rows[0][key]
    return rows


def show_loading(rows: list[dict[str, object]]) -> None:
    titles = f"{'load s':>8} {'load CPU s':>11} {'first embedding s':>18} {'peak GB':>8} {'imports GB':>11}"
    print(f"{'audio only':12} {titles}")
    for row in rows:
        times = f"{row['load_s']:8.2f} {row['load_cpu_s']:11.2f} {row['first_s']:18.2f}"
        print(f"{row['model']:12} {times} {row['peak_gb']:8.2f} {row['import_gb']:11.2f}")
    ratios = [rows[1][f"{key}_ratio"] for key in RATIOS]
    print(f"{'ratio':12} {ratios[0]:8.3f} {ratios[1]:11.3f} {ratios[2]:18.3f} {ratios[3]:8.3f}", end="")
    print(f"   wanted: at most {WANTED}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of facebookresearch/ImageBind")
    parser.add_argument("--checkpoint", type=Path, required=True, help="imagebind_huge.pth; made up there if missing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--load-rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--load-once", choices=("reference", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)  # the licence note, once a load
    stand_in_for_missing_packages(arguments.reference)
    if arguments.load_once:
        print(json.dumps(load_once(arguments.load_once, arguments.checkpoint)))
        return
    if not arguments.checkpoint.exists():
        write_stand_in(arguments.checkpoint)
    machine = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    result = machine | {"platform": platform.platform(), "threads": arguments.threads, "loading": loading(arguments)}
    show_loading(result["loading"])
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
