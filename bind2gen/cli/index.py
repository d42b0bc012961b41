"""``bind2gen index``: folders of files into a store of embeddings, for ``bind2gen search``."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from ..modality import MODALITIES
from .arguments import INPUT_MODALITIES, UsageError, above_zero, add_models, add_output
from .loading import choose_device, choose_dtype, choose_model, encoder_fingerprint, load_encoder, load_settings
from .reporting import FAILED, one_line, progress, say
from .sensors import add_sensors, sensor_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..store import EmbeddingStore
    from ..store.embedding import Embedded
    from ..store.indexing import Report
    from ..store.walking import Found
    from .loading import ModelChoice

DEFAULT_MODALITIES = ("image", "audio", "video")  # of store.embedding, which imports torch
FEW = 20  # files that are listed one by one


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


def run(args: argparse.Namespace) -> int:
    """Check, open or make the store, load the encoder, walk, embed, commit."""
    for folder in args.folders:
        if not os.path.isdir(folder):
            raise UsageError(f"{folder}: wanted a folder, there is none")
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    from ..store.embedding import FileEmbedder
    from ..store.encoder import Encoder
    from ..store.indexing import index_folders, locally

    store = _opened(args, choice)
    with store, store.writing():
        settings = store.facts.settings
        sensors = sensor_options(args, settings["modalities"])

        def embed(chunks: Iterator[list[Found]]) -> Iterable[Embedded]:
            """Called where there is something to embed: a run without needs no model."""
            loading = {"modalities": settings["modalities"], "device": device, "dtype": dtype, "quiet": args.quiet}
            model, processor = load_encoder(choice, **loading)
            sensors.adapt(processor)
            encoder = Encoder.of(model, processor, choice.imagebind or choice.source)
            embedder = FileEmbedder(
                encoder, **settings, batch_size=args.batch_size, load=sensors.load, stated=sensors.stated()
            )
            return locally(embedder)(chunks)

        with progress("index", total=None, quiet=args.quiet) as bar:
            report = index_folders(
                store, args.folders, embed, prune=args.prune, started=bar.reset,
                advanced=lambda part: bar.update(part.files),
            )  # fmt: skip
        return _tell(args, store, report)


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


def _tell(args: argparse.Namespace, store: EmbeddingStore, report: Report) -> int:
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
        print(json.dumps({"db": args.db, "model": store.facts.model, **counts, "total": len(store)} | gone |
                         {"skipped": skipped}))  # fmt: skip
    elif not args.quiet:
        words = f"{report.embedded} files embedded, {report.unchanged} unchanged, {len(report.skipped)} skipped"
        print(f"{args.db}: {words}; {len(store)} rows")
    return FAILED if report.skipped else 0
