"""``bind2gen search``: what in a store is nearest to a sound, a picture, words, or a sum of them."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .arguments import (
    INPUT_MODALITIES,
    UsageError,
    add_inputs,
    add_models,
    add_output,
    add_unwanted,
    given_inputs,
    given_unwanted,
    share,
    weight,
    whole,
)
from .files import PICTURE_SUFFIXES, check_out_file, save_picture
from .index import add_store
from .inputs import Inputs, read_inputs
from .loading import choose_device, choose_dtype, choose_model, encoder_fingerprint, load_encoder
from .reporting import say
from .sensors import add_sensors, sensor_options

if TYPE_CHECKING:
    from ..store import Hit, Part
    from ..store.encoder import Encoder

MAX_COUNT = 1000
TAKEN_OUT, VARIETY = 0.5, 0.4  # of store.places, which imports torch
FILM = "film"  # of store.contract, which imports numpy


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "search",
        help="find files in a store by a sound, a picture, words, or a sum of them",
        description="Find what is nearest in a store that bind2gen index made. Several inputs are one query, their "
        "sum. Queries are moved over the modality gap to what is searched, as far as the model's adapter knows it.",
    )
    add_store(parser)
    add_inputs(parser)
    group = parser.add_argument_group("what to find")
    add_unwanted(group)
    group.add_argument("--weight", nargs="+", action="extend", type=weight, default=[], metavar="MODALITY=W",
                       help="of a sum's parts, such as audio=0.7; below zero it is taken out (default: 1)")  # fmt: skip
    kinds = (*INPUT_MODALITIES, FILM)
    group.add_argument("--modality", choices=kinds, metavar="NAME",
                       help=f"find only: {', '.join(kinds)} (a film's pictures and sound)")  # fmt: skip
    group.add_argument("--where", metavar="EXPRESSION",
                       help="only rows of which this is so, in the store's own language, over path, modality, start, "
                       "end, size, mtime_ns: \"path LIKE '%%/2024/%%' AND start > 60\"")  # fmt: skip
    group.add_argument("-k", "--count", type=whole(1, MAX_COUNT), default=10, metavar="N", help="how many")
    group.add_argument("--diversity", type=share, metavar="D",
                       help="0..1, how much to prefer what is unlike what was found already (default: "
                       f"{VARIETY} for sums, else 0)")  # fmt: skip
    group.add_argument("--exact", action="store_true", help="compare with every row, though the store has an index")
    group.add_argument("--sheet", metavar="PICTURE", help="picture to write, of what was found")
    add_models(parser, model_help="bundled name, pipeline folder or hub id that the store was made with")
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, open the store, embed the query, search, tell."""
    given, against = given_inputs(args), given_unwanted(args)
    weights = dict(args.weight)
    if strange := [name for name in weights if name not in given]:
        raise UsageError(f"--weight {strange[0]}: there is no --{strange[0]}")
    sensors = sensor_options(args, {*given, *against})
    inputs, unwanted = read_inputs(given, keep_going=args.keep_going), read_inputs(against)
    sheet = check_out_file(args.sheet, PICTURE_SUFFIXES, args) if args.sheet else None
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    from ..store import EmbeddingStore
    from ..store.encoder import Encoder
    from ..store.relevance import Relevance

    with EmbeddingStore.open(args.db, fingerprint=encoder_fingerprint(choice), model=choice.label) as store:
        model, processor = load_encoder(
            choice, modalities=[*given, *against], device=device, dtype=dtype, quiet=args.quiet
        )
        sensors.adapt(processor)
        encoder = Encoder.of(model, processor, choice.imagebind or choice.source)
        parts = _parts(inputs, encoder, sensors, args, weights, 1.0)
        several = len(parts) > 1
        parts += _parts(unwanted, encoder, sensors, args, {}, -TAKEN_OUT)
        own = [os.path.abspath(file) for name, files in inputs.files.items() if name != "text" for file in files]
        hits = store.search(
            parts, args.count, modality=args.modality, where=args.where, without=own, adapter=encoder.adapter,
            relevance=Relevance.beside(choice.encoder), exact=args.exact,
            diversity=(VARIETY if several else 0.0) if args.diversity is None else args.diversity,
        )  # fmt: skip
    _tell(args, hits)
    if sheet:
        from ..store.sheet import contact_sheet

        words = [value for values in given.values() for value in values]
        save_picture(contact_sheet(hits, " + ".join(os.path.basename(word) or word for word in words)), sheet)
    return inputs.finished()


def _parts(
    inputs: Inputs, encoder: Encoder, sensors: Any, args: argparse.Namespace, weights: dict[str, float], default: float
) -> list[Part]:
    from ..store import Part

    found = inputs.embedded(
        encoder.model, encoder.processor, sensors, batch_size=args.batch_size, quiet=args.quiet or default < 0
    )
    if inputs.count and not any(found.values()):
        raise InputError(f"none of the {inputs.count} inputs can be read: {inputs.skipped[0]['reason']}")
    return [
        Part(name, vector.cpu(), weights.get(name, default)) for name, rows in found.items() for vector in rows.values()
    ]


def _tell(args: argparse.Namespace, hits: list[Hit]) -> None:
    """What was found, and whether any of it is likely to be what was meant, where that was measured."""
    from ..store.relevance import LIKELY

    known = [hit.probability for hit in hits if hit.probability is not None]
    nothing = not hits or (len(known) == len(hits) and max(known) < LIKELY)
    if args.json:
        print(json.dumps({"results": [hit.to_dict() for hit in hits], "nothing_relevant": nothing}))
        return
    if nothing:
        likeliest = f"; the likeliest, with {100 * max(known):.0f} %, follow" if known else ""
        say(f"bind2gen: note: nothing relevant was found{likeliest}")
    if args.quiet:
        return
    for hit in hits:
        item, chance = hit.item, "" if hit.probability is None else f"  {100 * hit.probability:3.0f} %"
        when = "" if item.start is None else f"  {item.start:.1f} to {item.end:.1f} s"
        print(f"{hit.score:6.3f}{chance}  {item.modality}  {item.path}{when}")
