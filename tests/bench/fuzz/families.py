"""The loaders, each as a function of a path, and how many of 20,000 inputs each gets: by what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bind2gen.imagebind.config import TINY


@dataclass(frozen=True)
class Family:
    """One kind of input.

    Attributes:
        load: of the file, or the folder, to whatever comes; arrays and tensors in it must be finite.
        share: of 20,000 inputs.
    """

    load: Callable[[Path], Any]
    share: int


@cache
def processor() -> Any:
    from bind2gen.imagebind.processor import ImageBindProcessor

    return ImageBindProcessor.for_config(TINY(["image", "audio", "depth", "thermal", "imu"]))


def _sound(path: Path) -> Any:
    from bind2gen.preprocess.sound_files import sound_blocks

    return processor()(audio=path), [block for block, _ in sound_blocks(path)]


def _picture(path: Path) -> Any:
    return processor()(images=path)


def _film(path: Path) -> Any:
    from bind2gen.errors import InputError
    from bind2gen.preprocess.films import frames_of

    found: list[Any] = []
    for read in (lambda: processor()(video=path), lambda: processor()(audio=path), lambda: list(frames_of(path, 0.5))):
        try:
            found.append(read())
        except InputError as error:
            refused = error
    if not found:
        raise refused
    return found


def _recognised(path: Path) -> Any:
    from bind2gen.store.contents import recognise

    return recognise(str(path))


def _measured_picture(kind: str) -> Callable[[Path], Any]:
    return lambda path: processor()(**{kind: path})


def _names(path: Path) -> Any:
    from bind2gen.space.vocabulary import read_names

    return read_names(path)


def _recipe(path: Path) -> Any:
    from bind2gen.errors import InputError
    from bind2gen.train.maps.recipe import load_map_recipe
    from bind2gen.train.recipe import load_recipe, load_stages

    for load in (load_map_recipe, load_stages):
        try:
            return load(path)
        except InputError:
            pass
    return load_recipe(path)


def _word_table(path: Path) -> Any:
    from bind2gen.preprocess.text import TextSettings, transform

    units = "words" if path.name.startswith("words") else "pairs"
    return transform("a dog", TextSettings(8, str(path), units))


def _pairs(path: Path) -> Any:
    from bind2gen.train.shards import open_pairs

    pairs = open_pairs(path.parent, "audio", "image", split="train", by_concept=False, buffer=10, index=None)
    return [pairs.read(i).name for i in range(len(pairs))], list(pairs.groups())


def _tensors(path: Path) -> Any:
    from bind2gen.files.weights import open_weights

    weights = open_weights(path)
    return [weights[key].shape for key in weights]  # what is in them is for those who load a network


def _checkpoint(path: Path) -> Any:
    from bind2gen.imagebind.checkpoint import load_official_checkpoint

    return load_official_checkpoint(path, modalities=["audio", "imu"], config=TINY(["audio", "imu"])).state_dict()


def _encoder(path: Path) -> Any:
    from bind2gen.imagebind.loading import load_config, load_imagebind, load_processor, read_fingerprint

    model, own = load_imagebind(path).eval(), load_processor(path)
    own.check(model.config)
    inputs = {"audio": (np.ones(800, np.float32) / 2, 16_000.0)}
    return model(**own(**inputs)).audio_embeds, read_fingerprint(path), load_config(path).embed_dim


def _adapter(path: Path) -> Any:
    from bind2gen.pipelines.parts import load_adapter

    adapter = load_adapter(path)
    width = adapter.config.embed_dim
    return adapter.state_dict(), adapter({"audio": torch.eye(1, width), "image": torch.eye(2, width)[1:]})


def _classifier(path: Path) -> Any:
    from bind2gen.space.classifier import EmbeddingClassifier

    classifier = EmbeddingClassifier.from_pretrained(path)
    return classifier.state_dict(), classifier(torch.eye(1, classifier.config.embed_dim)).probabilities


def _class_map(path: Path) -> Any:
    from bind2gen.space.class_map import ClassMap

    learned = ClassMap.from_pretrained(path)
    return learned.state_dict(), learned(torch.eye(1, learned.config.source_dim), "audio")


def _detector(path: Path) -> Any:
    from bind2gen.hosts.boxes.loading import load_detector

    detector = load_detector(path)
    found = detector.detect(
        detector.encode_image(np.full((160, 200, 3), 90, np.uint8)),
        torch.eye(2, detector.embed_dim),
        threshold=0.01,
        masks=False,
    )
    return detector.model.state_dict(), found.xyxy, found.scores


def _pipeline(path: Path) -> Any:
    from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline

    pipe = ImageBindUnCLIPPipeline.from_pretrained(path)
    return [part.state_dict() for part in pipe.components.values() if hasattr(part, "state_dict")]


def _ip_adapter(path: Path) -> Any:
    from bind2gen.hosts.pictures.ip_adapter import read_adapter

    return read_adapter(path)


def _beside(path: Path) -> Any:
    from bind2gen.pipelines.calibration import Calibration
    from bind2gen.space.everyday import words_of
    from bind2gen.store.relevance import Relevance

    relevance = Relevance.beside(path)
    return (
        Calibration.load(path).threshold,
        relevance and relevance.probability("audio", "image", 0.3),
        getattr(words_of(path), "vectors", ()),
    )


def _embeddings(path: Path) -> Any:
    from bind2gen.files.embeddings import load_embeddings

    found = load_embeddings(path)
    return dict(found.vectors), dict(found.times)


def _vocabulary(path: Path) -> Any:
    from bind2gen.space.vocabulary import Vocabulary

    return Vocabulary.from_file(path / "o365_clip.npy" if path.is_dir() else path).vectors


def _store(path: Path) -> Any:
    from bind2gen.store import EmbeddingStore

    with EmbeddingStore.open(path, fingerprint={"audio": [1.0, 2.0]}) as store:
        query = np.eye(1, store.facts.width, dtype=np.float32)[0]
        return [(hit.score, hit.item.vector) for hit in store.search(query, 3)], len(store.files())


FAMILIES: dict[str, Family] = {
    "sounds": Family(_sound, 3200), "pictures": Family(_picture, 4200), "films": Family(_film, 700),
    "recognised": Family(_recognised, 1400), "depth": Family(_measured_picture("depth"), 1500),
    "thermal": Family(_measured_picture("thermal"), 800), "imu": Family(_measured_picture("imu"), 1100),
    "names": Family(_names, 900), "recipes": Family(_recipe, 900), "word tables": Family(_word_table, 600),
    "pairs": Family(_pairs, 600), "shards": Family(_pairs, 500), "weights": Family(_tensors, 900),
    "checkpoints": Family(_checkpoint, 150), "encoders": Family(_encoder, 60), "adapters": Family(_adapter, 200),
    "classifiers": Family(_classifier, 200), "class maps": Family(_class_map, 150), "detic": Family(_detector, 60),
    "yolo": Family(_detector, 150), "owl": Family(_detector, 20), "pipelines": Family(_pipeline, 10),
    "IP-adapters": Family(_ip_adapter, 300), "measured": Family(_beside, 700), "embeddings": Family(_embeddings, 900),
    "vocabularies": Family(_vocabulary, 600), "stores": Family(_store, 200),
}  # fmt: skip


def arrays(value: Any) -> Iterator[Any]:
    """Every array, tensor and float in what a loader gave."""
    if isinstance(value, np.ndarray | torch.Tensor | float):
        yield value
    elif isinstance(value, dict) or hasattr(value, "items"):
        for part in value.values():
            yield from arrays(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays(part)
