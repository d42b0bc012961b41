"""The bundled model's recipe in numbers: sizes of towers and inputs, names, captions. Schedules: recipes/mini.toml."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path

from ..hosts.detic.config import DeticConfig
from ..imagebind.config import ImageBindConfig, TowerConfig
from ..preprocess.audio import AudioSettings
from ..preprocess.depth import DepthSettings
from ..preprocess.image import ImageSettings
from ..preprocess.imu import ImuSettings
from ..preprocess.text import TextSettings
from ..preprocess.thermal import ThermalSettings
from .data import IMU_RATE

EMBED_DIM = 256
IMAGE_SIZE = 64  # pixels
CLIP_SECONDS = 4.0
MEL_BINS = 64
MEL_FRAMES = 400  # 398 frames of 10 ms in 4 s, padded
IMU_SAMPLES = 200  # 2 s at 100 Hz
VOCABULARY = 8192  # the first merges of CLIP's table; rarer words become several tokens
CONTEXT = 32  # tokens
FIGURES = 600  # synthetic pictures of each posture
SENSOR_WIDTH, DEPTH_BASELINE = 640, 0.075  # pixels and metres: a Kinect's
DEPTH_VIEWS = (250, 30)  # synthetic depth maps of each concept: to train on, to judge on


def _one_channel(logit_scale: float) -> TowerConfig:
    return TowerConfig(
        128, 1, 4, "patches", (1, IMAGE_SIZE, IMAGE_SIZE), kernel=(1, 1), stride=(1, 1),
        stem_channels=(16, 32, 64, 128), stem_blocks=1, drop_path=0.1, head_dropout=0.1, logit_scale=logit_scale,
    )  # fmt: skip


TOWERS: dict[str, TowerConfig] = {
    "vision": TowerConfig(
        256, 2, 4, "patches", (3, IMAGE_SIZE, IMAGE_SIZE), kernel=(1, 1), stride=(1, 1),
        stem_channels=(48, 96, 160, 256), stem_blocks=1, bias_kv=False, drop_path=0.1,
    ),
    "text": TowerConfig(
        128, 2, 4, "tokens", (CONTEXT,), vocab_size=VOCABULARY, stem_norm=False, bias_kv=False, causal=True,
        logit_scale=1 / 0.07, learned_logit_scale=True,
    ),
    "audio": TowerConfig(
        192, 2, 4, "patches", (1, MEL_BINS, MEL_FRAMES), kernel=(1, 1), stride=(1, 1),
        stem_channels=(16, 48, 96, 192), stem_blocks=1, drop_path=0.1, head_dropout=0.1, logit_scale=20.0,
    ),
    "depth": _one_channel(logit_scale=5.0),
    "thermal": _one_channel(logit_scale=10.0),
    "imu": TowerConfig(
        96, 3, 4, "windows", (6, IMU_SAMPLES), kernel=(10,), stride=(10,), drop_path=0.1, head_dropout=0.2,
        logit_scale=5.0,
    ),
}  # fmt: skip

ALIGNED = ("audio", "thermal", "imu", "depth")  # towers trained against the frozen images

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


def mini_config() -> ImageBindConfig:
    """The small ImageBind: all six towers, of the common classes."""
    return ImageBindConfig(EMBED_DIM, TOWERS)


def image_settings() -> ImageSettings:
    return ImageSettings(size=IMAGE_SIZE)


def audio_settings() -> AudioSettings:
    return AudioSettings(num_mel_bins=MEL_BINS, target_length=MEL_FRAMES, clip_duration=CLIP_SECONDS, policy="cover")


def depth_settings() -> DepthSettings:
    return DepthSettings(size=IMAGE_SIZE)


def thermal_settings() -> ThermalSettings:
    return ThermalSettings(size=IMAGE_SIZE)


def imu_settings() -> ImuSettings:
    return ImuSettings(sampling_rate=IMU_RATE, samples=IMU_SAMPLES)


def text_settings(folder: Path) -> TextSettings:
    """Settings with the shortened vocabulary, which is written to ``folder``."""
    return TextSettings(context_length=CONTEXT, vocabulary=str(write_vocabulary(folder)))


def write_vocabulary(folder: Path) -> Path:
    """The head of CLIP's merge table (MIT licence, as shipped with open_clip), so that ids stay below VOCABULARY."""
    lines = (
        gzip.decompress(files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    )
    merges = VOCABULARY - 2 * 256 - 2  # byte tokens with and without end-of-word, two special tokens
    path = folder / "bpe.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines[: merges + 1]).encode(), mtime=0))
    return path


def detector_config() -> DeticConfig:
    """The small Detic: a ResNet of ten layers, two cascade stages, no masks, class vectors of the joint space."""
    return DeticConfig(
        "resnet", (1, 1, 1, 1), (48, 80, 128, 192), fpn_width=80, fc_width=160, mask_width=0, embed_dim=EMBED_DIM,
        class_bias=True, norm_groups=16, stage_weights=(10.0, 20.0), short_side=192, long_side=320,
        proposals_per_level=200, proposals=96,
    )  # fmt: skip
