"""``bind2gen index``: folders of files into a store of embeddings, for ``bind2gen search``."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from ..files.bundled import bundled_names
from ..modality import MODALITIES
from .arguments import (
    INPUT_MODALITIES,
    UsageError,
    above_zero,
    add_models,
    add_output,
    finite,
    whole,
)
from .loading import choose_device, choose_dtype, choose_model, encoder_fingerprint, load_encoder, load_settings
from .reporting import FAILED, one_line, only_ours, progress, say, tell_pace
from .sensors import add_sensors, sensor_options

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ..imagebind.pace import Pace
    from ..store import EmbeddingStore, Facts
    from ..store.embedding import Embedded, FileEmbedder
    from ..store.indexing import Embed, Report
    from ..store.walking import Found
    from .loading import ModelChoice
    from .sensors import SensorOptions

DEFAULT_MODALITIES = ("image", "audio", "video")  # of store.reading, which imports torch
FEW = 20  # files that are listed one by one
MAX_WORKERS, MAX_GPUS = 10_000, 64


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "index",
        help="embed the files of folders into a store, for search",
        description="Walk folders, recognise pictures, sounds and films by their content, embed them, and keep the "
        "embeddings with a thumbnail each. Run again it embeds only what is new or changed; it may be stopped or "
        "killed at any time. A long recording gets one row a window, a film its pictures, its sound track and their "
        "sum over the same windows.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders, with the folders in them")
    add_store(parser)
    known = ",".join(DEFAULT_MODALITIES)
    parser.add_argument(
        "--modalities", type=_modalities, metavar="LIST",
        help=f"what to index files as, such as image,thermal (default: of {known} those that the model has); text: "
        "each .txt file is one",
    )  # fmt: skip
    parser.add_argument("--prune", action="store_true", help="forget files of these folders that are gone")
    group = parser.add_argument_group("long recordings")
    group.add_argument("--hop", type=above_zero, metavar="S", help="seconds between windows (default: half a window)")
    group.add_argument("--window", type=above_zero, metavar="S", help="seconds of a window (default: the model's clip)")
    group = parser.add_argument_group("in several processes, or on several machines")
    group.add_argument(
        "--ray", metavar="ADDRESS",
        help="embed on a Ray cluster: local (processes of this machine), auto (the cluster that this machine is part "
        "of) or HOST:PORT of its head; all of its machines must see the folders",
    )  # fmt: skip
    group.add_argument(
        "--workers", type=whole(0, MAX_WORKERS), metavar="N",
        help="processes that read files beside the one that encodes (default: none for less than 500 files, else one a "
        "processor, up to 8); with --ray each has a model of its own (default: one a GPU, or one for each four CPUs)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-worker", type=_gpus, metavar="G",
        help="0.5: two workers share one (default: 1 where the cluster has any, 0 with --device cpu)",
    )  # fmt: skip
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use")
    add_sensors(parser)
    add_output(parser, writes=False)
    parser.set_defaults(run=run, batch_size=16)


def add_store(parser: argparse.ArgumentParser) -> None:
    """``--db``."""
    parser.add_argument(
        "--db", required=True, metavar="PLACE",
        help="the store: a folder or s3://... (LanceDB), a file ending in .db or http://host:19530 (Milvus)",
    )  # fmt: skip


def _modalities(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in INPUT_MODALITIES]:
        known = ", ".join(INPUT_MODALITIES)
        raise argparse.ArgumentTypeError(f"wanted some of {known}, separated by commas, got {unknown[0]!r}")
    return sorted(set(names), key=INPUT_MODALITIES.index)


def _gpus(text: str) -> float:
    if not 0 <= (value := finite(text)) <= MAX_GPUS:
        raise argparse.ArgumentTypeError(f"wanted a number in 0..{MAX_GPUS}, got {text!r}")
    return value


def run(args: argparse.Namespace) -> int:
    """Check, open or make the store, load the encoder, walk, embed, commit."""
    for folder in args.folders:
        if not os.path.isdir(folder):
            raise UsageError(f"{folder}: wanted a folder, there is none")
    if args.gpus_per_worker is not None and args.ray is None:
        raise UsageError("--gpus-per-worker: there is no --ray")
    if args.workers == 0 and args.ray is not None:
        raise UsageError("--workers: wanted one or more with --ray, got 0")
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device("cpu" if args.ray else args.device)  # is it there?
    if args.ray is not None:
        from ..store.cluster import check_cluster

        check_cluster(args.ray)
    from ..imagebind.pace import Pace
    from ..store.indexing import index_folders

    pace = Pace(device)
    store = _opened(args, choice)
    with store, store.writing():
        sensors = sensor_options(args, store.facts.settings["modalities"])
        made = (args, store.facts, sensors)
        embed = _here(choice, pace, *made) if args.ray is None else _on_ray(*made)
        alone = only_ours(on=args.ray is not None and not args.verbose)
        with alone, progress("index", total=None, quiet=args.quiet) as bar:
            report = index_folders(
                store, args.folders, embed, prune=args.prune, started=bar.reset,
                advanced=lambda part: bar.update(part.files),
            )  # fmt: skip
        return _tell(args, store, report, pace)


def _here(choice: ModelChoice, pace: Pace, args: argparse.Namespace, facts: Facts, sensors: SensorOptions) -> Embed:
    """On this machine; the model is loaded where there is something to embed: a run without needs none."""
    from ..imagebind.processes import start_server, usual_workers

    def embed(chunks: Iterator[list[Found]]) -> Generator[Embedded]:
        todo = list(chunks)
        workers = usual_workers(sum(map(len, todo))) if args.workers is None else args.workers
        if workers:
            start_server()  # imports while the model is loaded
        yield from _embedder(args, choice, facts, sensors).stream(todo, workers=workers, pace=pace)

    return embed


def _on_ray(args: argparse.Namespace, facts: Facts, sensors: SensorOptions) -> Embed:
    from ..store.cluster import on_ray

    gpus = 0.0 if args.gpus_per_worker is None and args.device == "cpu" else args.gpus_per_worker
    theirs = argparse.Namespace(
        model=args.model if args.model in bundled_names() else _anywhere(args.model), dtype=args.dtype, quiet=True,
        imagebind=_anywhere(args.imagebind), device="cpu" if gpus == 0 and args.device == "auto" else args.device,
        batch_size=args.batch_size,
    )  # fmt: skip
    return on_ray(partial(_in_worker, theirs, facts, sensors), args.ray, workers=args.workers, gpus=gpus)


def _anywhere(source: str | None) -> str | None:
    """A model as it is found from other folders: its own name where it is a hub id."""
    return os.path.abspath(source) if source is not None and os.path.exists(source) else source


def _in_worker(args: argparse.Namespace, facts: Facts, sensors: SensorOptions) -> FileEmbedder:
    """What a worker of a cluster embeds with, if its model is the one of the store."""
    from ..imagebind.model import same_towers

    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    embedder = _embedder(args, choice, facts, sensors)
    if not all(same_towers(facts.fingerprint, embedder.encoder.model.fingerprint())):
        raise StoreError(f"{choice.label}: this machine has another model of that name than made the store")
    return embedder


def _embedder(args: argparse.Namespace, choice: ModelChoice, facts: Facts, sensors: SensorOptions) -> FileEmbedder:
    from ..store.embedding import FileEmbedder
    from ..store.encoder import Encoder

    device, names = choose_device(args.device), facts.settings["modalities"]
    dtype = choose_dtype(args.dtype, device, choice)
    model, processor = load_encoder(choice, modalities=names, device=device, dtype=dtype, quiet=args.quiet)
    sensors.adapt(processor)
    encoder = Encoder.of(model, processor, choice.imagebind or choice.source)
    return FileEmbedder(
        encoder, **facts.settings, batch_size=args.batch_size, load=sensors.load, stated=sensors.stated()
    )


def _opened(args: argparse.Namespace, choice: ModelChoice) -> EmbeddingStore:
    """The store, if it is of this model and these settings; a new one where there is none."""
    from ..store import EmbeddingStore
    from ..store.store import is_there

    found = encoder_fingerprint(choice)
    said = {name: value for name in ("modalities", "window", "hop") if (value := getattr(args, name)) is not None}
    if is_there(args.db):
        store = EmbeddingStore.open(args.db, fingerprint=found, model=choice.label)
        for name, value in said.items():
            if store.facts.settings.get(name) != value:
                kept = store.facts.settings.get(name)
                store.close()
                raise UsageError(f"--{name}: this store was made with {kept}; give that, or index into another store")
        return store
    config = load_settings(choice)[1]
    default = [name for name in DEFAULT_MODALITIES if MODALITIES[name].tower in config.modalities]
    settings = {"modalities": default, "window": None, "hop": None} | said
    source = {"model": args.model, "imagebind": args.imagebind}
    return EmbeddingStore.create(
        args.db, width=config.embed_dim, model=choice.label, fingerprint=found, settings=settings, source=source
    )


def _tell(args: argparse.Namespace, store: EmbeddingStore, report: Report, pace: Pace) -> int:
    for path, reason in report.skipped[: None if args.verbose else FEW]:
        say(f"bind2gen: skipped: {one_line(reason if path in reason else f'{path}: {reason}')}")
    if (more := len(report.skipped) - FEW) > 0 and not args.verbose:
        say(f"bind2gen: skipped: and {more} more; --verbose or --json lists all")
    if report.gone and not report.pruned:
        say(f"bind2gen: note: {len(report.gone)} files of these folders are gone; --prune forgets them")
    counts = {"found": report.found, "unchanged": report.unchanged, "embedded": report.embedded, "rows": report.rows}
    if args.json:
        skipped = [{"path": path, "reason": one_line(reason)} for path, reason in report.skipped]
        gone = {"gone": report.gone, "pruned": report.pruned}
        pace_of_it = {"pace": pace.figures()} if pace.inputs else {}
        print(json.dumps({"db": args.db, "model": store.facts.model, **counts, "total": len(store)} | gone |
                         {"skipped": skipped} | pace_of_it))  # fmt: skip
    elif not args.quiet:
        words = f"{report.embedded} files embedded, {report.unchanged} unchanged, {len(report.skipped)} skipped"
        print(f"{args.db}: {words}; {len(store)} rows")
        tell_pace({"files": pace}, args)
    return FAILED if report.skipped else 0
