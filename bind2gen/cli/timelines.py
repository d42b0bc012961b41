"""``bind2gen embed --timeline``: one embedding for each window of long recordings."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from ..errors import Bind2GenError, InputError
from ..files.embeddings import EmbeddingSet
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..imagebind.timeline import embed_timeline
from ..preprocess.containers import opened_container
from ..preprocess.sources import opened
from .inputs import Inputs
from .reporting import progress
from .sensors import SensorOptions, in_options

MICROSECONDS = 1_000_000  # in a second; FFmpeg counts durations in them


def embed_recordings(
    model: ImageBindModel,
    processor: ImageBindProcessor,
    inputs: Inputs,
    names: dict[str, list[str]],
    sensors: SensorOptions,
    args: argparse.Namespace,
    details: dict[str, str],
) -> EmbeddingSet:
    """Windows of all recordings, in the order of the inputs; of what is read nothing is held but the vectors.

    Args:
        inputs: what was given; what cannot be read is left out where it says so.
        names: modality -> what to call them in the result, one name a window.
        args: window, hop, batch_size and quiet are used.
        details: of the result; window and hop are added where they were given.
    """
    vectors: dict[str, np.ndarray] = {}
    rows: dict[str, list[str]] = {}
    times: dict[str, np.ndarray] = {}
    for name, sources in inputs.files.items():
        parts, spans, rows[name] = [], [], []
        for number, (source, label) in enumerate(zip(sources, names[name], strict=True)):
            try:
                found, when = _embed(model, processor, name, source, sensors, args)
            except InputError as error:
                inputs.skip(name, number, error)
                continue
            parts.append(found)
            spans.append(when)
            rows[name] += [label] * len(found)
        if not parts:
            raise InputError(f"none of the recordings of {name} can be read: {inputs.skipped[-1]['reason']}")
        vectors[name], times[name] = np.concatenate(parts), np.concatenate(spans)
    said = {key: str(getattr(args, key)) for key in ("window", "hop") if getattr(args, key) is not None}
    return EmbeddingSet(vectors, rows, details | said, times)


def _embed(
    model: ImageBindModel,
    processor: ImageBindProcessor,
    name: str,
    source: str,
    sensors: SensorOptions,
    args: argparse.Namespace,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) float32 and start and end (N, 2) float64 s of one recording's windows."""
    recording: Any = source
    stated = sensors.stated() if name == "imu" else None
    if sensors.loading.get(name, {}).get("row") is not None:  # a short window of a data set: nothing to stream
        recording = sensors.load(name, source, processor)
    vectors, times = [], []
    with in_options(name), progress(f"embed {name} (s)", total=_seconds(source, name), quiet=args.quiet) as bar:
        moments = embed_timeline(
            model, processor, recording, name, window=args.window, hop=args.hop, batch_size=args.batch_size,
            stated=stated,
        )  # fmt: skip
        for start, end, vector in moments:
            vectors.append(vector.cpu().numpy())
            times.append((start, end))
            bar.update(round(end) - bar.n)
    return np.stack(vectors), np.array(times, dtype=np.float64)


def _seconds(source: str, name: str) -> int | None:
    """Length for the progress bar, as far as a header tells."""
    if name == "imu":
        return None
    try:
        with opened(source, name) as file, opened_container(file, source, name) as container:
            return None if container.duration is None else round(container.duration / MICROSECONDS)
    except Bind2GenError:  # what is wrong with the file is said where it is read
        return None
