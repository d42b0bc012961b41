"""The bundled model's recipe in numbers: sizes of the small towers and their inputs, names, captions."""

from __future__ import annotations

from ..imagebind.config import TowerConfig
from ..preprocess.depth import DepthSettings
from ..preprocess.imu import ImuSettings
from ..preprocess.thermal import ThermalSettings

EMBED_DIM = 256
IMAGE_SIZE = 64  # pixels
IMU_RATE, IMU_SAMPLES = 100.0, 200  # Hz, about the recordings' own; 2 s
CONTEXT = 32  # tokens
SENSOR_WIDTH, DEPTH_BASELINE = 640, 0.075  # pixels and metres: a Kinect's
DEPTH_VIEWS = (250, 30)  # synthetic depth maps of each concept: to train on, to judge on


def _one_channel(logit_scale: float) -> TowerConfig:
    return TowerConfig(
        128, 1, 4, "patches", (1, IMAGE_SIZE, IMAGE_SIZE), kernel=(1, 1), stride=(1, 1),
        stem_channels=(16, 32, 64, 128), stem_blocks=1, drop_path=0.1, head_dropout=0.1, logit_scale=logit_scale,
    )  # fmt: skip


TOWERS: dict[str, TowerConfig] = {
    "depth": _one_channel(logit_scale=5.0),
    "thermal": _one_channel(logit_scale=10.0),
    "imu": TowerConfig(
        96, 3, 4, "windows", (6, IMU_SAMPLES), kernel=(10,), stride=(10,), drop_path=0.1, head_dropout=0.2,
        logit_scale=5.0,
    ),
}  # fmt: skip

SETTINGS = {
    "depth": DepthSettings(size=IMAGE_SIZE),
    "thermal": ThermalSettings(size=IMAGE_SIZE),
    "imu": ImuSettings(sampling_rate=IMU_RATE, samples=IMU_SAMPLES),
}

# Caption templates, in the spirit of CLIP's prompt set; {} is a concept or one of its finer labels.
TEMPLATES = (
    "{}", "a {}", "a photo of a {}", "a picture of a {}", "a photo of the {}", "a blurry photo of a {}",
    "a close-up of a {}", "a small photo of a {}", "an image of a {}", "one {}",
)  # fmt: skip


# The concepts with plenty of both sound and photos; the others are trained too, but too thin to judge.
JUDGED = (
    "dog", "cat", "bird", "frog", "cow", "sheep", "pig", "insect", "sea", "train", "car", "police van", "keyboard",
    "clock", "helicopter", "airplane", "drone",
)  # fmt: skip
