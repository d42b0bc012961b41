"""``bind2gen demo``: the demos in a browser."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Bind2GenError, DependencyError
from ..files.own_folder import own_folder
from .arguments import INPUT_MODALITIES, UsageError, add_adapter, add_loudness, add_models, whole
from .detect import add_detector_choice
from .hosts import add_generator, choose_host, load_chosen
from .loading import ModelChoice, choose_device, choose_dtype, choose_model, encoder_fingerprint, load_encoder
from .reporting import quiet_models, say

try:
    import resource
except ImportError:  # Windows
    resource = None

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from ..store import EmbeddingStore
    from ..studio import DetectionStudio, Studio
    from ..studio.searching import SearchStudio

    AnyStudio = Studio | DetectionStudio | SearchStudio

NAMES = ("sound2image", "detect", "arithmetic", "search")
DETECT, SEARCH = "detect", "search"
GENERATOR = "--generator"  # what other commands call --host, which is an address here
HOST, PORT = "127.0.0.1", 7860
WAKE = 1.0  # s; signals are looked at when a wait ends
DEMOS = "bind2gen.demos"
PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries demos/ inside the package; a checkout has it beside the package.
FOLDERS = (PACKAGE / "demos", PACKAGE.parent / "demos")
UPLOAD_FOLDER = "GRADIO_TEMP_DIR"  # the only folder that Gradio serves files from, besides the next
EXAMPLES_FOLDER = "GRADIO_EXAMPLES_CACHE"
AUTH = "BIND2GEN_DEMO_AUTH"


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "demo",
        help="play with it in a browser",
        description="Serve the demos as a web page, to this machine alone unless --host or --share says otherwise. "
        "Nothing is sent anywhere; uploads and pictures are deleted.",
    )
    parser.add_argument(
        "name",
        nargs="?",
        choices=NAMES,
        metavar="NAME",
        help=f"{', '.join(NAMES)} (default: all that there is what for)",
    )
    add_models(parser, model_help="bundled name, pipeline folder or hub id; a host alone needs --imagebind")
    add_adapter(parser)
    add_generator(parser, GENERATOR)
    add_detector_choice(parser.add_argument_group("detector"))
    parser.add_argument(
        "--db", metavar="PLACE",
        help="store that bind2gen index made with this model, to search in; visitors see names and small pictures of "
        "its files",
    )  # fmt: skip
    group = parser.add_argument_group("server")
    group.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", HOST), help="address to listen at")
    group.add_argument(
        "--port",
        type=whole(1, 65_535),
        default=os.environ.get("GRADIO_SERVER_PORT", str(PORT)),
        metavar="N",
        help="where to listen",
    )
    group.add_argument("--share", action="store_true", help="also open a public tunnel through gradio.live")
    group.add_argument(
        "--proxies", default=os.environ.get("FORWARDED_ALLOW_IPS", ""), metavar="ADDRESSES",
        help="of a proxy before this server (10.0.0.0/8,127.0.0.1): visitors are told apart by its X-Forwarded-For",
    )  # fmt: skip
    group.add_argument(
        "--root-path", type=_root_path, default=os.environ.get("GRADIO_ROOT_PATH", ""), metavar="PATH",
        help="where a proxy serves the page, if not at its root: /tools/b2g of https://host/tools/b2g/, or the whole",
    )  # fmt: skip
    group.add_argument(
        "--auth", type=_auth, metavar="NAME:PASSWORD",
        help=f"that all visitors must know; in the variable {AUTH} no other user of this machine sees it",
    )  # fmt: skip
    add_loudness(parser)
    parser.set_defaults(run=run)


def _root_path(text: str) -> str:
    """A path or an address, without the slash at its end."""
    if text and not re.fullmatch(r"(https?://[^/?#\s]+)?(/[^/?#\s]+)*/?", text):
        raise argparse.ArgumentTypeError(f"wanted a path such as /tools/b2g, or https://host/tools/b2g, got {text!r}")
    return text.rstrip("/")


def _auth(text: str) -> str:
    """A name and a password, or nothing."""
    name, _, password = text.partition(":")
    if text and not (name and password):
        raise argparse.ArgumentTypeError("wanted NAME:PASSWORD, got only one of them")
    return text


def _auth_of_environment() -> str:
    """Not the option's default, which --help would show."""
    try:
        return _auth(os.environ.get(AUTH, ""))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{AUTH}: {error}") from error


def run(args: argparse.Namespace) -> None:
    """Load, warm the models, serve until Ctrl-C."""
    _check_gradio()
    auth = args.auth or _auth_of_environment()
    names = (args.name,) if args.name else NAMES
    if DETECT in names and (reason := _no_detector(args)):
        if args.name:
            raise UsageError(reason)
        say(f"bind2gen demo: without {DETECT}: {reason}")
        names = tuple(name for name in names if name != DETECT)
    if args.db is None and args.name == SEARCH:
        raise UsageError("search: wanted --db PLACE, a store that bind2gen index made")
    if args.db is None:
        names = tuple(name for name in names if name != SEARCH)
    studios = _studios(args, names)
    try:
        for studio in dict.fromkeys(studios.values()):
            studio.warm()
        options = {"share": args.share, "proxies": args.proxies, "root_path": args.root_path, "auth": auth}
        serve(studios, host=args.host, port=args.port, **options)
    finally:
        for studio in studios.values():
            studio.close()


def _studios(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, AnyStudio]:
    """What each demo works with; all take turns in one worker, and share the encoder where the detector allows it."""
    from ..space.everyday import words_of
    from ..studio import DetectionStudio, Studio
    from ..studio.detecting import known_weakness
    from .detectors import load_detection
    from .understood import understanding

    drawn = [name for name in names if name not in (DETECT, SEARCH)]
    if drawn:
        unasked = {"prompt": "", "ip_adapter_scale": None, "begin_with": None, "steer": None}
        choice = choose_host(argparse.Namespace(**vars(args) | unasked | {"host": args.generator}), option=GENERATOR)
    else:
        choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    store = _opened(args.db, choice) if SEARCH in names else None
    words = words_of(choice.encoder)
    device, drawing, parts = choose_device(args.device), None, None
    dtype = choose_dtype(args.dtype, device, choice)
    if drawn:
        pipe = load_chosen(choice, modalities=list(INPUT_MODALITIES), device=device, dtype=dtype, quiet=args.quiet)
        known = understanding(pipe, choice)
        drawing = Studio(pipe, words=words, understanding=known, batch_size=args.batch_size)
        parts = (pipe.imagebind, pipe.processor)
    studios: dict[str, AnyStudio] = dict.fromkeys(drawn, drawing)
    if DETECT in names:
        towers = ["audio", "image", "text"]
        with quiet_models(quiet=args.quiet):
            detection = load_detection(args, modalities=towers, device=device, parts=parts)
        note = "" if args.detector or args.route else known_weakness(Path(choice.source))
        studios[DETECT] = DetectionStudio(detection, words=words, worker=drawing and drawing.worker, note=note)
    if store is not None:
        from ..store.encoder import Encoder
        from ..store.relevance import Relevance
        from ..studio.searching import SearchStudio

        options = {"modalities": ["audio", "image", "text"], "device": device, "dtype": dtype, "quiet": args.quiet}
        encoder = Encoder.of(*(parts or load_encoder(choice, **options)), choice.imagebind or choice.source)
        worker = next((studio.worker for studio in studios.values()), None)
        studios[SEARCH] = SearchStudio(encoder, store, relevance=Relevance.beside(choice.encoder), worker=worker)
    return {name: studios[name] for name in names}


def _opened(place: str, choice: ModelChoice) -> EmbeddingStore:
    """The store, if it is this encoder's."""
    from ..store import EmbeddingStore

    return EmbeddingStore.open(place, fingerprint=encoder_fingerprint(choice), model=choice.label)


def _no_detector(args: argparse.Namespace) -> str | None:
    """Why there is nothing to detect with, if so."""
    from ..files.bundled import DETECTOR_PART

    if args.detector or args.route:
        return None
    if args.imagebind:
        return "the bundled detector knows the bundled encoder only; name another one with --detector"
    if not (Path(choose_model(args.model, None).source) / DETECTOR_PART).is_dir():
        return f"{args.model} has no detector of its own; name one with --detector"
    return None


def serve(
    studios: Mapping[str, AnyStudio],
    *,
    host: str,
    port: int,
    share: bool,
    proxies: str = "",
    root_path: str = "",
    auth: str = "",
) -> None:
    """Serve until Ctrl-C; what visitors leave lies in a folder of its own, which goes at the end."""
    from ..studio.files import PREFIX, VisitorFiles

    _take_all_connections()
    with own_folder(PREFIX) as folder:
        os.environ[UPLOAD_FOLDER] = os.environ[EXAMPLES_FOLDER] = str(folder)
        page, files = importlib.import_module(f"{demos().__name__}.page"), VisitorFiles(folder)
        blocks = page.build(studios, files)
        megabytes = min(studio.limits.megabytes for studio in studios.values())
        try:
            url = page.launch(
                blocks, files, megabytes=megabytes, host=host, port=port, share=share, proxies=proxies,
                root_path=root_path, auth=auth,
            )  # fmt: skip
        except OSError as error:
            raise Bind2GenError(f"cannot listen at {host}, port {port}: is it taken? Try another --port") from error
        try:
            say(f"bind2gen demo: {url} (Ctrl-C ends it)")
            while True:  # Ctrl-C, and a container that is told to stop, raise
                time.sleep(WAKE)
        finally:
            blocks.close(verbose=False)


def _take_all_connections() -> None:
    """As many as the system allows, for each is an open file, and those that say nothing must not keep others out."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # where "unlimited" is more than there can be
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def demos() -> ModuleType:
    """The package of the demos' widgets, ``bind2gen.demos``, from a wheel or from a checkout.

    Raises:
        DependencyError: it is not part of this installation.
    """
    if DEMOS in sys.modules:
        return sys.modules[DEMOS]
    folder = next((folder for folder in FOLDERS if (folder / "page.py").is_file()), None)
    if folder is None:
        raise DependencyError("the demos are not part of this installation: reinstall bind2gen")
    spec = importlib.util.spec_from_file_location(
        DEMOS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[DEMOS] = module
    spec.loader.exec_module(module)
    return module


def _check_gradio() -> None:
    """Gradio is there, and told to keep to itself before it is imported."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_SHARE="False")
    if importlib.util.find_spec("gradio") is None:
        raise DependencyError('bind2gen demo needs Gradio: pip install "bind2gen[demos]"')
