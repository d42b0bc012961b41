"""The detector that the options name, behind the route that they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HostError, UnreadableError
from ..files.bundled import DETECTOR_PART
from ..files.hub import is_hub_id
from ..hosts.boxes import GRID, PICKLES
from .arguments import UsageError
from .inputs import check_file
from .loading import check_hub, choose_model, load_encoder
from .reporting import progress

if TYPE_CHECKING:
    import torch

    from ..pipelines.detection import ImageBindDetectionPipeline
    from ..space.vocabulary import Vocabulary


def load_detection(
    args: argparse.Namespace,
    *,
    modalities: list[str],
    device: torch.device,
    parts: tuple[Any, Any] | None = None,
    dtype: str = "float32",
) -> ImageBindDetectionPipeline:
    """The bundled detector, or the one that ``--detector`` names behind the route that ``--route`` names.

    Args:
        parts: encoder and processor that ``--imagebind`` or ``--model`` name, where they are loaded already.
        dtype: of the detector; prompts are embedded in float32.

    Raises:
        UsageError: options that do not go together.
        HostError, CheckpointError: something cannot be loaded.
    """
    import torch

    from ..pipelines.detection import ImageBindDetectionPipeline

    check_choice(args)
    place = {"device": device, "dtype": getattr(torch, dtype)}
    if args.detector is None and args.route is None:
        folder = choose_model(args.model, None).source
        with progress("load", total=None, quiet=args.quiet):
            return ImageBindDetectionPipeline.from_pretrained(folder, modalities=modalities, **place)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    from ..hosts.boxes.loading import load_detector

    with progress("load detector", total=None, quiet=args.quiet):
        detector = load_detector(args.detector or Path(choice.source) / DETECTOR_PART, **place)
    encoder, processor = parts or load_encoder(
        choice, modalities=modalities, device=device, dtype=torch.float32, quiet=args.quiet
    )
    return _joined(args, encoder, processor, detector)


def check_choice(args: argparse.Namespace) -> None:
    """What can be seen to be wrong before anything is loaded.

    Raises:
        UsageError: options that do not go together.
        HostError, UnreadableError: no such detector, vocabulary or map; a hub out of reach.
    """
    route = args.route or ("words" if args.detector else None)
    if args.imagebind and not args.detector:
        raise UsageError("--imagebind: a model's own detector knows the model's own encoder only; add --detector")
    if args.route in ("words", "map") and not args.detector:
        raise UsageError(f"--route {args.route}: the model's own detector needs none; add --detector")
    if args.detector == GRID and route != "rescoring":
        raise UsageError(f"--detector {GRID}: windows know no classes; add --route rescoring")
    if args.class_map and route != "map":
        raise UsageError("--class-map: is for --route map")
    if route == "map" and not args.class_map:
        raise UsageError("--route map: needs --class-map DIR, which bind2gen fit-class-map writes")
    if args.vocabulary and route != "words":
        raise UsageError("--vocabulary: is for --route words")
    if args.detector not in (None, GRID):
        _check_detector(args.detector)
    if route == "words" and not args.vocabulary:
        raise UsageError("--route words: needs --vocabulary FILE: class vectors of many words (.npy, .npz), or, of a "
                         "detector with a text tower, names, one a line")  # fmt: skip
    if args.vocabulary:
        check_file(args.vocabulary, "vocabulary")
    if args.class_map and not Path(args.class_map).is_dir():
        raise UnreadableError(f"--class-map {args.class_map}: no such folder; bind2gen fit-class-map writes one")
    choice = choose_model(args.model, args.imagebind, adapter=args.adapter, needs_pipeline=False)
    if args.detector is None and not (Path(choice.source) / DETECTOR_PART).is_dir():
        advice = "name a detector with --detector"
        raise HostError(f"--model {args.model}: wanted a pipeline with {DETECTOR_PART}/ in it, found none; {advice}")


def _check_detector(source: str) -> None:
    path = Path(source)
    if path.is_file() and path.suffix.lower() in PICKLES:
        return
    if not path.is_dir() and not is_hub_id(source):
        raise HostError(f"--detector {source}: no Detic .pth, no folder, no hub id like owner/name, and not {GRID}")
    if is_hub_id(source):
        check_hub(source, "--detector")


def _joined(args: argparse.Namespace, encoder: Any, processor: Any, detector: Any) -> ImageBindDetectionPipeline:
    """The detector behind the route that was asked for."""
    from ..pipelines.detection import own_calibration
    from ..pipelines.detectors import prompted_by_map, prompted_by_words, rescored

    route, adapter = args.route or "words", _adapter(args, encoder)
    if route == "map":
        return prompted_by_map(detector, encoder, processor, args.class_map)
    if route == "words":
        return prompted_by_words(detector, encoder, processor, args.vocabulary, adapter=adapter)
    nothing = _nothing(args, encoder, processor) if "audio" in encoder.towers else None
    known = own_calibration(choose_model(args.model, args.imagebind, needs_pipeline=False).encoder)
    return rescored(detector, encoder, processor, adapter=adapter, nothing=nothing, calibration=known)


def _adapter(args: argparse.Namespace, encoder: Any) -> Any:
    """What ``--adapter`` names; else the model's own if the encoder is, the one beside the encoder, or no means."""
    from ..pipelines.parts import fitting_adapter, load_adapter, saved_adapter

    if args.adapter:
        named = load_adapter(args.adapter)
        named.claim(encoder)
        return named
    own = saved_adapter(choose_model(args.model, args.imagebind).source)
    return fitting_adapter(encoder, own, args.imagebind) if args.imagebind else own


def _nothing(args: argparse.Namespace, encoder: Any, processor: Any) -> Vocabulary:
    """Sounds that no thing makes, which get no boxes: the model's own file, or made for another encoder."""
    from ..pipelines.detection import NOTHING_FILE
    from ..pipelines.prompt_inputs import embed_nothing
    from ..space.vocabulary import Vocabulary

    if not args.imagebind:
        file = Path(choose_model(args.model, None).source) / DETECTOR_PART / NOTHING_FILE
        if file.is_file():
            return Vocabulary.from_file(file)
    return embed_nothing(encoder, processor)
