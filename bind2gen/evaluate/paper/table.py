"""The paper's table, line by line: which command gives which number. Imports nothing heavy, for the command line.

Numbers: arXiv 2305.05665, tables 2 to 4 and 7; sizes: its table 1.
"""

from __future__ import annotations

from dataclasses import dataclass

ZERO_SHOT, RETRIEVAL, FEW_SHOT = TASKS = ("zero-shot", "retrieval", "few-shot")
MTEB = "bind2gen eval mteb --tasks "
PAPER = "bind2gen eval paper --set "


@dataclass(frozen=True)
class Line:
    """A set that has a reader here.

    Attributes:
        title, modality: of the set.
        paper: zero-shot, 0..1.
        expected: how many items the paper tested.
        layout: of its folder, as published, in words.
        tasks: what can be done with it; the first is the default.
        metric: of the zero-shot number: "accuracy", or "mAP", the mean over the labels of average precision.
        reader: module of this package whose ``read`` reads it.
    """

    title: str
    modality: str
    paper: float
    expected: int
    layout: str
    tasks: tuple[str, ...] = (ZERO_SHOT,)
    metric: str = "accuracy"
    reader: str = ""


SETS = {
    "sun-rgbd": Line(
        "SUN RGB-D, depth alone", "depth", 0.351, 4_660,
        "SUNRGBD/ beside SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", TASKS, reader="sun_rgbd",
    ),
    "nyu-d": Line(
        "NYU-v2, depth alone", "depth", 0.540, 653, "nyu_depth_v2_labeled.mat beside splits.mat",
        (ZERO_SHOT, RETRIEVAL), reader="nyu",
    ),
    "llvip": Line(
        "LLVIP, person or background", "thermal", 0.634, 15_809, "Annotations/, infrared/test/ and visible/test/",
        (ZERO_SHOT, RETRIEVAL), reader="llvip",
    ),
    "ego4d": Line(
        "Ego4D, scenarios by IMU", "imu", 0.250, 68_865, "ego4d.json, imu/UID.csv and annotations/narration.json",
        reader="ego4d",
    ),
    "places365": Line(
        "Places365", "image", 0.454, 36_500, "places365_val.txt, categories_places365.txt and val_256/",
        reader="places",
    ),
    "esc50": Line(
        "ESC-50", "audio", 0.669, 2_000, "audio/ and meta/esc50.csv", (ZERO_SHOT, FEW_SHOT), reader="esc50",
    ),
    "audioset": Line(
        "AudioSet, its evaluation part", "audio", 0.176, 19_048,
        "eval_segments.csv, class_labels_indices.csv and the sounds, YTID.wav or the like", metric="mAP",
        reader="audioset",
    ),
    "vggsound": Line(
        "VGGSound, its test part", "audio", 0.278, 14_073, "vggsound.csv and the sounds, YTID_SSSSSS.wav or the like",
        reader="vggsound",
    ),
}  # fmt: skip

# What mteb has: set, task, number, command.
OTHERS = (
    ("ImageNet-1K", ZERO_SHOT, "77.7", MTEB + "Imagenet1kZeroShot"),
    ("Kinetics-400", ZERO_SHOT, "50.0", MTEB + "Kinetics400ZeroShot"),
    ("MSR-VTT", "text to video", "R@1 36.1", MTEB + "MSRVTTT2V"),
    ("MSR-VTT", "text to video and audio", "R@1 36.8, R@10 70.0", MTEB + "MSRVTTT2VA"),
    ("ESC-50, mteb's prompts", ZERO_SHOT, "66.9", MTEB + "ESC50_Zeroshot"),
    ("Clotho", "text to audio", "R@1 6.0, R@10 28.4", MTEB + "ClothoT2ARetrieval.v2"),
    ("AudioCaps", "text to audio", "R@1 9.3, R@10 42.3", MTEB + "AudioCapsT2ARetrieval"),
)


def lines() -> list[tuple[str, str, str, str]]:
    """Set, task, the paper's number in per cent ("" where it has none), command."""
    own = []
    for name, line in SETS.items():
        for task in line.tasks:
            number = f"{100 * line.paper:.1f}{' mAP' * (line.metric == 'mAP')}" if task == ZERO_SHOT else ""
            number = "figure 3" if task == FEW_SHOT else number
            own.append((line.title, task, number, PAPER + name + f" --task {task}" * (task != line.tasks[0])))
    return [*own, *OTHERS]
