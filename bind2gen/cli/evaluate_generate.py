"""``bind2gen eval generate``: pictures and films that were made of sounds, against the sounds and against real ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError, UnreadableError
from ..files.endings import FILMS
from ..files.tables import read_csv
from .arguments import UsageError, add_models, add_output
from .files import check_out_file, save_figures
from .inputs import read_inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder, one_reason
from .reporting import progress, quiet_models

if TYPE_CHECKING:
    import torch

COLUMNS = ("sound", "made")  # of the csv, besides "real"


def add_parser(suites: Any) -> None:
    """Add this suite to the subparsers ``suites``."""
    parser = suites.add_parser(
        "generate",
        help="pictures and films made of sounds: likeness to the sound and to real pictures, FID, KID, AIS, IIS",
        description="Cosines of pairs (the ImageBind score, AIS, IIS), plain and standardised against all other "
        "pictures, and distances between made and real pictures as sets (FID, KID, CLIP-FID). Without --clip and "
        "--inception all is measured in the encoder's own space, which flatters pictures that were made by it.",
    )
    parser.add_argument(
        "--pairs", required=True, metavar="CSV",
        help="columns: sound, made (a picture, or a film), and if there are any real (a photo of the same thing); "
        "paths from the csv's folder",
    )  # fmt: skip
    parser.add_argument(
        "--clip", metavar="DIR_OR_ID", help="CLIP image encoder (the papers: ViT-B/32) for IIS, CLIP-FID"
    )
    parser.add_argument("--inception", metavar="FILE", help="torch-fidelity's InceptionV3 weights, for FID and KID")
    parser.add_argument("--wav2clip", metavar="FILE", help="Wav2CLIP.pt, for AIS; with --clip (ViT-B/32)")
    parser.add_argument("--out", metavar="JSON", help="file to write the figures to")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use")
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, embed, compare, tell."""
    columns = _read_pairs(Path(args.pairs))
    for option in ("inception", "wav2clip"):
        if (value := getattr(args, option)) and not Path(value).is_file():
            raise UnreadableError(f"--{option} {value}: no such file")
    if args.wav2clip and not args.clip:
        raise UsageError("--wav2clip: wanted --clip too, a ViT-B/32, in whose space it is")
    out = check_out_file(args.out, (".json",), args) if args.out else None
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    options = {"device": device, "dtype": choose_dtype(args.dtype, device, choice), "quiet": args.quiet}
    model, processor = load_encoder(choice, modalities=["audio", "image"], **options)
    from ..imagebind.embedding import embed_inputs

    def encoder(kind: str) -> Callable[[Sequence[str]], torch.Tensor]:
        return lambda files: embed_inputs(model, processor, {kind: list(files)})[kind]

    seen = {name: files for name, files in columns.items() if name != "sound"}
    kinds = {name: "video" if _films(name, files) else "image" for name, files in seen.items()}
    rows = {"sound": _rows("listen", columns["sound"], encoder("audio"), args)}
    rows |= {name: _rows("look", files, encoder(kinds[name]), args) for name, files in seen.items()}
    told: dict[str, Any] = {
        "bind2gen": __version__,
        "model": choice.label,
        "pairs": len(columns["made"]),
        "made": kinds["made"],
    }
    if kinds["made"] == "video":
        video = processor.video
        told["video"] = {"clips": video.num_clips, "frames": video.num_frames, "crops": video.num_crops}
    told["metrics"] = metrics = {f"ImageBind score ({choice.label})": _like(rows["sound"], rows["made"])}
    if "real" in rows:
        metrics[f"the same, real pictures ({choice.label})"] = _like(rows["sound"], rows["real"])
    other = {name: _pictured(files, kinds[name]) for name, files in seen.items()}
    metrics |= _by_others(args, columns, other, rows, choice.label)
    if out:
        save_figures(told, out)
    if args.json:
        print(json.dumps(told))
    elif not args.quiet:
        print("\n".join(_table(told)))
    return 0


def _by_others(
    args: argparse.Namespace, columns: Mapping[str, Sequence[str]], pictures: Mapping[str, Any],
    rows: Mapping[str, torch.Tensor], label: str,
) -> dict[str, Any]:  # fmt: skip
    """IIS, AIS and distances: by CLIP and Inception where they are given, else by the encoder."""
    from ..evaluate import generation

    found: dict[str, Any] = {}
    real, spaces = "real" in pictures, {}
    if args.clip:
        from ..train.maps.spaces import TargetEncoder

        with quiet_models(quiet=args.quiet), one_reason(args.clip):
            clip = TargetEncoder(args.clip)
        spaces["CLIP"] = {name: _rows("CLIP", files, clip.embed, args) for name, files in pictures.items()}
    if args.wav2clip:
        heard = _rows("Wav2CLIP", columns["sound"], generation.wav2clip(Path(args.wav2clip)), args)
        if heard.shape != spaces["CLIP"]["made"].shape:
            raise UsageError(
                f"--clip {args.clip}: wanted ViT-B/32 (512 wide), Wav2CLIP's space; it is {clip.width} wide"
            )
        found["AIS"] = _like(heard, spaces["CLIP"]["made"])
    if not real:
        return found
    if not args.clip:
        spaces[label] = {name: rows[name] for name in pictures}
    for name, space in spaces.items():
        found["IIS (CLIP)" if name == "CLIP" else f"IIS ({name}, not CLIP)"] = _like(space["made"], space["real"])
    if args.inception:
        network = generation.inception(Path(args.inception))
        spaces["Inception"] = {name: _rows("Inception", files, network, args) for name, files in pictures.items()}
    for name, space in spaces.items():
        found[f"distances ({name})"] = asdict(generation.distances(space["made"], space["real"]))
    return found


def _like(given: torch.Tensor, made: torch.Tensor) -> dict[str, Any]:
    from ..evaluate.generation import likeness

    return asdict(likeness(given, made))


def _rows(name: str, items: Sequence[Any], embed: Any, args: argparse.Namespace) -> torch.Tensor:
    from ..evaluate.generation import gathered

    with progress(name, total=len(items), quiet=args.quiet) as bar:
        return gathered(items, embed, bar.update)


def _read_pairs(file: Path) -> dict[str, list[str]]:
    """Column -> files, all of them there.

    Raises:
        UnreadableError: the csv or a file in it is missing.
    """
    table = read_csv(file, COLUMNS, f"--pairs {file}")
    columns = {name: [str(file.parent / one) for one in table[name]] for name in (*COLUMNS, "real") if name in table}
    if not len(table):
        raise UnreadableError(f"--pairs {file}: wanted a row a picture, found none")
    for name, files in columns.items():
        read_inputs({"audio" if name == "sound" else "image": files})
    return columns


def _films(name: str, files: Sequence[str]) -> bool:
    """Whether a column is of films.

    Raises:
        InputError: of both.
    """
    films = [Path(file).suffix.lower() in FILMS for file in files]
    if any(films) and not all(films):
        raise InputError(f"--pairs: the column {name} holds films and pictures; give them apart")
    return films[0]


def _pictured(files: Sequence[str], kind: str) -> list[Any]:
    """What other networks see of them: pictures, and of films the frame in the middle."""
    from PIL import Image

    from ..preprocess.films import opened_film
    from ..preprocess.image import upright

    if kind == "image":
        return [upright(file) for file in files]
    pictures = []
    for file in files:
        with opened_film(file) as film:
            pixels, _ = film.at(film.line.count // 2)  # (3, H, W)
        pictures.append(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))
    return pictures


def _table(told: Mapping[str, Any]) -> list[str]:
    lines = [f"{told['pairs']} pairs by {told['model']}" + (f", films as {told['video']}" if "video" in told else "")]
    lines += ["", "| what | cosine | standardised | right one first | median rank |", "|---|---|---|---|---|"]
    after = []
    for name, one in told["metrics"].items():
        if "cosine" in one:
            z = "" if one["standardised"] is None else f"{one['standardised']:.2f}"
            values = f"{one['cosine']:.3f} ± {one['error']:.3f} | {z} | {one['first']:.1%} | {one['median_rank']:g}"
            lines.append(f"| {name} | {values} |")
        else:
            kernel = f"{one['kernel']:.4f} ± {one['kernel_deviation']:.4f}"
            after.append(f"{name}: Fréchet {one['frechet']:.2f}, kernel {kernel}")
    return lines + ([""] + after if after else [])
