"""Speed of the front ends beside the reference's loader and the decoders' own rates, in one run. By hand:

    python tests/bench/bench_preprocess.py --reference REFERENCE [--threads 2] [--json OUT]

REFERENCE is a checkout of facebookresearch/ImageBind. Sounds: 5 s, stereo, 44.1 kHz WAV to the huge model's three mel
clips; the reference's own loader reads with soundfile here (torchaudio reads no files without torchcodec), with its
clip sampler's even starts. Video: 10 s of 320 x 240 at 25 frames/s to the model's 15 views, beside decoding the whole
file with PyAV. Motion: one hour of 100 Hz CSV to windows, beside reading the columns with numpy alone. Contestants take
turns; medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import types
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "parity"), str(Path(__file__).parents[2])]
from make_golden import stand_in_for_missing_packages  # noqa: E402

from bind2gen.imagebind.processor import ImageBindProcessor  # noqa: E402

SOUNDS, SOUND_SECONDS, SOUND_RATE = 64, 5, 44_100
VIDEO_SECONDS, FRAME_RATE, VIDEO_SIZE = 10, 25, (320, 240)
VIDEOS = 4
MOTION_SECONDS, MOTION_RATE = 3600, 100
WANTED = {"audio": 5.0, "video": 0.8}

Clip = namedtuple("Clip", "clip_start_sec clip_end_sec clip_index aug_index is_last_clip")


class EvenClips:
    """Stands in for pytorchvideo's sampler: ``clips_per_video`` clips at even starts, as its current release has it."""

    def __init__(self, clip_duration: float, clips_per_video: int) -> None:
        self.length, self.count, self.index = clip_duration, clips_per_video, 0

    def __call__(self, last: float | None, duration: float, annotation: object = None) -> Clip:
        start = max(duration - self.length, 0) * self.index / max(self.count - 1, 1)
        self.index = (self.index + 1) % self.count
        return Clip(start, start + self.length, 0, 0, self.index == 0)

    def reset(self) -> None:
        self.index = 0


def reference_loader(reference: Path) -> Callable[[list[str]], torch.Tensor]:
    """The reference's ``load_and_transform_audio_data``."""
    stand_in_for_missing_packages(reference)
    for name in ("pytorchvideo", "pytorchvideo.data", "pytorchvideo.transforms", "pkg_resources"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["pytorchvideo"].transforms = sys.modules["pytorchvideo.transforms"]
    for name, attribute, value in (
        ("pytorchvideo.data.clip_sampling", "ConstantClipsPerVideoSampler", EvenClips),
        ("pytorchvideo.data.encoded_video", "EncodedVideo", object),
    ):
        module = types.ModuleType(name)
        setattr(module, attribute, value)
        sys.modules[name] = module
    from imagebind import data

    def read(path: str) -> tuple[torch.Tensor, int]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    data.torchaudio.load = read
    return lambda paths: data.load_and_transform_audio_data(paths, "cpu")


def write_inputs(folder: Path) -> tuple[list[str], list[str], str]:
    """Sounds, videos and a recording of noise and slow changes."""
    rng = np.random.default_rng(0)
    sounds, videos = [], []
    for i in range(SOUNDS):
        sounds.append(str(folder / f"{i}.wav"))
        # Both channels are the same, for the reference takes the first and we their mean.
        soundfile.write(sounds[-1], rng.normal(0, 0.1, (SOUND_SECONDS * SOUND_RATE, 1)).repeat(2, 1), SOUND_RATE)
    for i in range(VIDEOS):
        videos.append(str(folder / f"{i}.mp4"))
        with av.open(videos[-1], "w") as container:
            stream = container.add_stream("mpeg4", rate=FRAME_RATE)
            stream.width, stream.height = VIDEO_SIZE
            scene = (
                rng.integers(0, 256, (VIDEO_SIZE[1] // 8, VIDEO_SIZE[0] // 8, 3), dtype=np.uint8)
                .repeat(8, 0)
                .repeat(8, 1)
            )
            for k in range(VIDEO_SECONDS * FRAME_RATE):
                for packet in stream.encode(av.VideoFrame.from_ndarray(np.roll(scene, k, 1), format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    count = MOTION_SECONDS * MOTION_RATE
    rows = np.concatenate(
        [np.arange(count)[:, None] / MOTION_RATE, rng.normal(0, 1, (count, 6)) + [0, 0, 9.8, 0, 0, 0]], 1
    )
    motion = str(folder / "walk.csv")
    np.savetxt(motion, rows, delimiter=",", fmt="%.6f", comments="", header="time (s),ax,ay,az,gx,gy,gz")
    return sounds, videos, motion


def decode(paths: list[str]) -> None:
    """Every frame of every file, as RGB arrays: PyAV's own rate."""
    for path in paths:
        with av.open(path) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                frame.to_ndarray(format="rgb24")


def race(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn:  # the first round warms caches up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    processor, reference = ImageBindProcessor(), reference_loader(options.reference)
    with tempfile.TemporaryDirectory() as folder:
        sounds, videos, motion = write_inputs(Path(folder))
        apart = (processor(audio=sounds[:2])["audio_values"] - reference(sounds[:2])).abs().max().item()
        audio = race({"ours": lambda: processor(audio=sounds), "reference": lambda: reference(sounds)}, options.rounds)
        video = race({"ours": lambda: processor(video=videos), "decode": lambda: decode(videos)}, options.rounds)
        table = {
            "ours": lambda: processor(imu=motion),
            "numpy": lambda: np.loadtxt(motion, delimiter=",", skiprows=1),
        }
        imu = race(table, min(options.rounds, 3))
    ratios = {"audio": audio["reference"] / audio["ours"], "video": video["decode"] / video["ours"]}
    print(f"audio  {SOUNDS / audio['ours']:.1f} files/s, reference {SOUNDS / audio['reference']:.1f}: ", end="")
    print(f"{ratios['audio']:.2f}x (wanted {WANTED['audio']:g}x); largest difference {apart:.2g}")
    print(f"video  {VIDEOS / video['ours']:.2f} files/s, decoding alone {VIDEOS / video['decode']:.2f}: ", end="")
    print(f"{ratios['video']:.2f}x (wanted {WANTED['video']:g}x)")
    hours = MOTION_SECONDS / 3600
    print(f"imu    {hours / imu['ours']:.2f} hours/s, numpy's reading alone {hours / imu['numpy']:.2f}: ", end="")
    print(f"{imu['numpy'] / imu['ours']:.2f}x")
    if options.json:
        options.json.write_text(json.dumps({"audio": audio, "video": video, "imu": imu, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
