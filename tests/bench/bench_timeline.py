"""Peak memory of embed_timeline on long and short recordings. By hand:

    python tests/bench/bench_timeline.py [--minutes 1 60] [--json OUT]

Writes noise as 44.1 kHz stereo WAV and motion as 200 Hz CSV to a temporary folder, then embeds each with the toy model
in a process of its own, so that one run's memory is not another's peak. Wanted: 60 min within 50 MB of 1 min.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[2]))

WANTED_MB = 50.0  # of growth from the shortest to the longest recording
SOUND_RATE, MOTION_RATE = 44_100, 200  # Hz


def write_sound(path: Path, minutes: float) -> None:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", SOUND_RATE, 2, subtype="PCM_16") as file:
        for _ in range(round(minutes * 60)):
            file.write(0.1 * rng.standard_normal((SOUND_RATE, 2)))


def write_motion(path: Path, minutes: float) -> None:
    """Jittered milliseconds, so that samples have to be interpolated, which is the costlier way."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("time (ms),ax,ay,az,gx,gy,gz\n")
        for second in range(round(minutes * 60)):
            times = 1000 * second + 5 * (np.arange(MOTION_RATE) + rng.uniform(-0.4, 0.4, MOTION_RATE))
            values = rng.standard_normal((6, MOTION_RATE)) + [[0], [0], [9.8], [0], [0], [0]]
            np.savetxt(file, np.vstack([times + 10, values]).T, fmt="%.9g", delimiter=",")


def measure(modality: str, path: str) -> dict[str, float]:
    """In a process of its own."""
    import torch

    from bind2gen.imagebind.config import TINY
    from bind2gen.imagebind.model import ImageBindModel
    from bind2gen.imagebind.timeline import embed_timeline
    from bind2gen.preprocess.audio import AudioSettings
    from bind2gen.preprocess.imu import ImuSettings

    torch.set_num_threads(1)
    model = ImageBindModel(TINY(["audio", "imu"])).eval()
    settings = {
        "audio": AudioSettings(num_mel_bins=32, target_length=44, clip_duration=0.4),
        "imu": ImuSettings(sampling_rate=40.0, samples=80),
    }[modality]
    start = time.process_time()
    count = sum(1 for _ in embed_timeline(model, settings, path, modality, hop=1.0))
    seconds = time.process_time() - start
    return {"windows": count, "cpu_s": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 60.0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("MODALITY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for modality, name, write in (("audio", "sound.wav", write_sound), ("imu", "motion.csv", write_motion)):
            for minutes in options.minutes:
                path = Path(folder) / name
                write(path, minutes)
                command = [sys.executable, __file__, "--measure", modality, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                row = {"modality": modality, "minutes": minutes, **json.loads(done.stdout.splitlines()[-1])}
                rows.append(row)
                rate = minutes * 60 / row["cpu_s"]
                print(
                    f"{modality:6} {minutes:6g} min: {row['windows']:6} windows, {row['cpu_s']:7.1f} s of CPU "
                    f"({rate:6.0f} x real time), peak {row['peak_mb']:7.1f} MB",
                    flush=True,
                )
                path.unlink()
            peaks = [row["peak_mb"] for row in rows if row["modality"] == modality]
            grown = peaks[-1] - peaks[0]
            verdict = "ok" if grown <= WANTED_MB else "NOT MET"
            print(f"{modality:6} grew by {grown:.1f} MB (wanted at most {WANTED_MB:g}): {verdict}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
