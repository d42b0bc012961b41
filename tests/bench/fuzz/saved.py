"""Weights, folders of models and stores, small: saved by what they are to be loaded by."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from bind2gen.files.embeddings import EmbeddingSet, save_embeddings
from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel
from bind2gen.hosts.boxes.yolo import YoloDetector
from bind2gen.hosts.boxes.yolo.network import YoloConfig, YoloModel
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.imagebind.released_names import MASK, reference_key, scale_key
from bind2gen.pipelines.calibration import Calibration
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.class_map import ClassMap
from bind2gen.space.classifier import EmbeddingClassifier
from bind2gen.space.vocabulary import Vocabulary
from bind2gen.store import EmbeddingStore, Item
from bind2gen.store.relevance import Relevance

WIDTH = TINY().embed_dim
TOWERS = ["audio", "imu"]  # of the saved encoder: the smallest two
DETIC = DeticConfig(
    "resnet", (1, 1, 1, 1), (4, 4, 4, 4), fpn_width=32, fc_width=8, mask_width=4, embed_dim=8, norm_groups=8,
    short_side=64, long_side=64,
)  # fmt: skip
YOLO = YoloConfig(
    (4,) * 7, squeezed=4, coarse=4, lateral=4, fine=4, answers=2, context=2, embed_dim=4, long_side=64, objectness=1e-6
)


def saved(folder: Path) -> None:
    """``folder/FAMILY/0/...`` of each."""
    torch.manual_seed(0)
    for family, save in FAMILIES.items():
        place = folder / family / "0"
        place.mkdir(parents=True)
        save(place)


def _state() -> dict[str, torch.Tensor]:
    return {"weight": torch.randn(4, 3), "bias": torch.arange(4), "half": torch.randn(5).half()}


def _weights(place: Path) -> None:
    """Each of its own folder: a bare file is what is opened."""
    save_file(_state(), place / "a.safetensors")
    for number, (name, options) in enumerate(
        (("a.pth", {}), ("a.bin", {}), ("b.pth", {"_use_new_zipfile_serialization": False})), 1
    ):
        (place.parent / str(number)).mkdir()
        torch.save(_state(), place.parent / str(number) / name, **options)
    several = place.parent / "4" / "several"
    several.mkdir(parents=True)
    (several / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 96}, "weight_map": dict.fromkeys(_state(), "model-1.safetensors")})
    )
    save_file(_state(), several / "model-1.safetensors")


def _checkpoint(place: Path) -> None:
    """As imagebind_huge.pth names its parameters, at toy size."""
    model = ImageBindModel(TINY(TOWERS))
    state = {
        reference_key(*key.removeprefix("towers.").split(".", 1)): value for key, value in model.state_dict().items()
    }
    state[MASK] = torch.zeros(4, 4)
    for name in TOWERS:
        if TINY().tower(name).logit_scale:
            state[scale_key(name)] = torch.tensor([float(np.log(TINY().tower(name).logit_scale))])
    torch.save(state, place / "toy.pth")


def _encoder(place: Path) -> None:
    config = TINY(TOWERS)
    ImageBindModel(config).save_pretrained(place / "encoder")
    ImageBindProcessor.for_config(config).save_pretrained(place / "encoder")


def _adapter(place: Path) -> None:
    means = {name: torch.randn(WIDTH) for name in ("image", "audio")}
    made = EmbeddingAdapter.from_means(
        means,
        maps={"audio": torch.eye(WIDTH)},
        anchors=(torch.randn(3, WIDTH), torch.randn(3, WIDTH)),
        anchor_names=["a", "b", "c"],
    )
    made.with_map(
        torch.randn(WIDTH, 8), source_mean=torch.randn(WIDTH), target_mean=torch.randn(8), norm=3.0, space="x"
    ).save_pretrained(place / "adapter")


def _classifier(place: Path) -> None:
    EmbeddingClassifier(WIDTH, ["dog", "cat"], encoder={"audio": [1.0, 2.0]}).save_pretrained(place / "classifier")


def _class_map(place: Path) -> None:
    ClassMap.from_fit(
        torch.randn(WIDTH, 8),
        text_mean=torch.randn(WIDTH),
        target_mean=torch.randn(8),
        gaps={"audio": torch.randn(WIDTH)},
    ).save_pretrained(place / "class_map")


def _detic(place: Path) -> None:
    model = DeticModel(DETIC)
    DeticDetector(model).save_pretrained(place / "detic")
    other = place.parent / "1"
    other.mkdir()
    torch.save({"model": model.state_dict(), "iteration": 3}, other / "detic.pth")


def _yolo(place: Path) -> None:
    YoloDetector(YoloModel(YOLO)).save_pretrained(place / "yolo")


def _owl(place: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "hosts" / "boxes"))
    from test_owl import build

    build("owlv2").save_pretrained(place / "owl")


def _pipeline(place: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from conftest import build_pipeline

    build_pipeline().save_pretrained(place / "pipeline")


def _ip_adapter(place: Path) -> None:
    layers = {"0.to_k_ip.weight": torch.randn(8, 4), "0.to_v_ip.weight": torch.randn(8, 4)}
    projection = {
        "proj.weight": torch.randn(16, 8),
        "proj.bias": torch.randn(16),
        "norm.weight": torch.ones(4),
        "norm.bias": torch.ones(4),
    }
    torch.save({"image_proj": projection, "ip_adapter": layers}, place / "ip.bin")
    other = place.parent / "1"
    other.mkdir()
    named = {"image_proj": projection, "ip_adapter": layers}
    save_file(
        {f"{kind}.{key}": v for kind, values in named.items() for key, v in values.items()}, other / "ip.safetensors"
    )


def _measured(place: Path) -> None:
    """What lies beside an encoder."""
    folder = place / "measured"
    folder.mkdir()
    Calibration(0.4, 0.2, 0.1).save(folder)
    Relevance({"audio->image": (10.0, -3.0), "text->image": (8.0, -2.0)}).save(folder)
    Vocabulary(("dog", "cat"), torch.randn(2, 4)).save(folder / "names.npz")


def _embeddings(place: Path) -> None:
    vectors = np.eye(3, 4, dtype=np.float32)
    times = np.array([[0, 1], [1, 2], [2, 3]], np.float64)
    made = EmbeddingSet(
        {"audio": vectors, "text": vectors},
        {"audio": ["a.wav"] * 3, "text": ["x", "y", "z"]},
        {"m": "toy"},
        {"audio": times},
    )
    for number, suffix in enumerate((".npz", ".safetensors", ".json")):
        folder = place.parent / str(number)
        folder.mkdir(exist_ok=True)
        save_embeddings(folder / f"a{suffix}", made)


def _vocabulary(place: Path) -> None:
    Vocabulary(("dog", "cat", "cow"), torch.randn(3, 4)).save(place / "a.npz")
    other = place.parent / "1" / "table"
    other.mkdir(parents=True)
    np.save(other / "o365_clip.npy", np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
    (other / "Objects365_names_fix.csv").write_text("1,Person,person\n2,Dog,dog\n3,Cat,cat\n")


def _store(place: Path) -> None:
    vectors = np.eye(6, 8, dtype=np.float32)
    with EmbeddingStore.create(place / "store", width=8, model="toy", fingerprint={"audio": [1.0, 2.0]}) as store:
        store.add(
            [
                Item(f"/a/{i}.wav", "audio", vector, size=i, mtime_ns=i, thumbnail=b"x")
                for i, vector in enumerate(vectors)
            ]
        )


FAMILIES: dict[str, Callable[[Path], None]] = {
    "weights": _weights, "checkpoints": _checkpoint, "encoders": _encoder, "adapters": _adapter,
    "classifiers": _classifier, "class maps": _class_map, "detic": _detic, "yolo": _yolo, "owl": _owl,
    "pipelines": _pipeline,
    "IP-adapters": _ip_adapter, "measured": _measured, "embeddings": _embeddings, "vocabularies": _vocabulary,
    "stores": _store,
}  # fmt: skip
