"""Detectors by file, folder or hub id, with the way from prompts to their class vectors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HostError, UnreadableError
from ..files.hub import check_hub, is_hub_id
from .arguments import UsageError
from .inputs import check_file
from .loading import DETECTOR_PART, choose_dtype, choose_model, load_encoder
from .reporting import progress

if TYPE_CHECKING:
    import torch

    from ..hosts.boxes.detections import Detector
    from ..pipelines.detection import ImageBindDetectionPipeline
    from ..space.vocabulary import Vocabulary

PICKLES = (".pth", ".pt", ".pkl")  # released Detic checkpoints
OWL_KINDS = ("owlvit", "owlv2")
GRID = "grid"  # windows over the whole picture, for rescoring without any detector
RESCORING_THRESHOLD = 0.4  # with encoders whose folder has no calibration.json, in which it was measured


def load_detection(
    args: argparse.Namespace, *, modalities: list[str], device: torch.device, parts: tuple[Any, Any] | None = None
) -> ImageBindDetectionPipeline:
    """The bundled detector, or the one that ``--detector`` names behind the route that ``--route`` names.

    Args:
        parts: encoder and processor that ``--imagebind`` or ``--model`` name, where they are loaded already.

    Raises:
        UsageError: options that do not go together.
        HostError, CheckpointError: something cannot be loaded.
    """
    from ..pipelines.detection import ImageBindDetectionPipeline

    check_choice(args)
    if args.detector is None and args.route is None:
        folder = choose_model(args.model, None).source
        with progress("load", total=None, quiet=args.quiet):
            return ImageBindDetectionPipeline.from_pretrained(folder, modalities=modalities, device=device)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    with progress("load detector", total=None, quiet=args.quiet):
        detector = _detector(args, device)
    encoder, processor = parts or load_encoder(
        choice, modalities=modalities, device=device, dtype=choose_dtype("float32", device), quiet=args.quiet
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
        raise UsageError("--route map: needs --class-map DIR, which bind2gen fit-adapter writes")
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
        raise UnreadableError(f"--class-map {args.class_map}: no such folder; bind2gen fit-adapter writes one")
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
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


def _detector(args: argparse.Namespace, device: torch.device) -> Any:
    """A detector, or what proposes boxes."""
    from ..hosts.boxes.detic.detector import DeticDetector
    from ..hosts.boxes.owl import OwlDetector
    from ..hosts.boxes.windows import GridProposer

    source = args.detector
    if source == GRID:
        return GridProposer()
    if source is None:
        return DeticDetector.from_pretrained(Path(choose_model(args.model, None).source) / DETECTOR_PART, device=device)
    path = Path(source)
    if path.is_file() and path.suffix.lower() in PICKLES:
        return DeticDetector.from_official(path, device=device)
    if _kind(source) in OWL_KINDS:
        owl = OwlDetector.from_pretrained(source)
        owl.model.to(device)
        return owl
    return DeticDetector.from_pretrained(source, device=device)


def _kind(source: str) -> str:
    """``model_type`` of a folder's or hub id's config.json; empty where there is none."""
    path = Path(source) / "config.json"
    if is_hub_id(source):
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(source, "config.json"))
        except Exception:  # noqa: BLE001  (the loader that comes next says what is missing)
            return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _joined(args: argparse.Namespace, encoder: Any, processor: Any, detector: Detector) -> ImageBindDetectionPipeline:
    """The detector behind its route."""
    from ..hosts.boxes.rescoring import RescoringDetector, RescoringSettings
    from ..pipelines.calibration import Calibration
    from ..pipelines.class_prompts import ClassPrompter
    from ..pipelines.detection import ImageBindDetectionPipeline, own_calibration
    from ..space.class_map import ClassMap
    from ..studio.words import EVERYDAY_WORDS

    route = args.route or "words"
    adapter = _adapter(args, encoder)
    if route == "map":
        class_map = ClassMap.from_pretrained(args.class_map)
        return ImageBindDetectionPipeline(detector, ClassPrompter(encoder, processor, route=route, class_map=class_map))
    if route == "words":
        prompter = ClassPrompter(
            encoder, processor, route=route, vocabulary=_vocabulary(args.vocabulary, detector), adapter=adapter
        )
        return ImageBindDetectionPipeline(detector, prompter)
    nothing = _nothing(args, encoder, processor) if "audio" in encoder.towers else None
    prompter = ClassPrompter(encoder, processor, route=route, adapter=adapter, nothing=nothing)
    # What a cut-out may be besides: as CLIP names pictures, by a softmax over many words with the learned scale.
    background = prompter.class_embeddings(text=[f"a {word}" for word in EVERYDAY_WORDS]).embeds
    scale = float(encoder.logit_scale("text").detach())
    rescoring = RescoringDetector(
        detector,
        lambda crops: encoder.encode("image", processor(images=crops, device=encoder.device)["pixel_values"]),
        embed_dim=encoder.config.embed_dim,
        background=background,
        settings=RescoringSettings(temperature=1 / scale),
    )
    known = own_calibration(choose_model(args.model, args.imagebind, needs_pipeline=False).encoder)
    return ImageBindDetectionPipeline(
        rescoring, prompter, calibration=known or Calibration(threshold=RESCORING_THRESHOLD)
    )


def _adapter(args: argparse.Namespace, encoder: Any) -> Any:
    """The model's own adapter where the encoder is its own, else the one beside the encoder, or one without means."""
    from ..pipelines.parts import fitting_adapter, saved_adapter

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


def _vocabulary(path: str, detector: Any) -> Vocabulary:
    from ..space.vocabulary import Vocabulary, read_names

    own_text = getattr(detector, "embed_text", None)
    if Path(path).suffix.lower() in (".npy", ".npz") or own_text is None:
        return Vocabulary.from_file(path)
    return Vocabulary.from_texts(read_names(path), own_text, source=Path(path).name)
