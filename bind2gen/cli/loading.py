"""Models by name, folder or hub id, on the device and in the dtype asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Bind2GenError, HostError
from ..files.bundled import ENCODER_PART, PROCESSOR_PART, bundled_names, bundled_path
from ..files.hub import INDEX, is_hub_id, pipeline_index
from .arguments import DEFAULT_MODEL, UsageError
from .reporting import one_line, progress, quiet_hub, quiet_models

if TYPE_CHECKING:
    import torch

    from ..hosts.pictures.contract import Host
    from ..imagebind.config import ImageBindConfig
    from ..imagebind.model import ImageBindModel
    from ..imagebind.processor import ImageBindProcessor
    from ..pipelines.unclip import ImageBindUnCLIPPipeline

TELLING_FILES = (INDEX, "config.json", "model.safetensors", "imagebind_huge.pth")  # one is in any model
TIMEOUT = 10.0  # seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """Which models to load.

    Attributes:
        label: what users call it; goes into pictures and embedding files. Holds no folders of this machine.
        source: local folder or hub id of the pipeline.
        imagebind: encoder that was asked for apart from the pipeline, or None.
        whole: the pipeline has an encoder of its own.
        adapter: folder of the adapter that was asked for, or None.
        host: what kind of pipeline is to be loaded with ImageBind in front; None is one of ours, or a Stable unCLIP.
        ip_adapter: file of the host's IP-Adapter, or None.
    """

    label: str
    source: str
    imagebind: str | None
    whole: bool
    adapter: str | None = None
    host: Host | None = None
    ip_adapter: str | None = None

    @property
    def encoder(self) -> Path:
        """Folder or file of the encoder."""
        return Path(self.source, ENCODER_PART) if self.imagebind is None else Path(self.imagebind)


def choose_model(
    model: str,
    imagebind: str | None,
    *,
    adapter: str | None = None,
    needs_pipeline: bool = True,
    option: str = "--model",
) -> ModelChoice:
    """Find out what ``--model`` and ``--imagebind`` name, before any weights are read.

    Args:
        needs_pipeline: False where the encoder is enough (``embed``).
        option: by which ``model`` was given.

    Raises:
        Bind2GenError: no such folder, no pipeline in it, hub out of reach.
        UsageError: a host without an encoder, and no ``--imagebind``.
    """
    if adapter is not None and not Path(adapter, "config.json").is_file():
        raise HostError(f"--adapter {adapter}: wanted a folder that bind2gen fit-gap wrote, found no config.json in it")
    if imagebind is not None and not Path(imagebind).exists() and not is_hub_id(imagebind):
        raise HostError(f"--imagebind {imagebind}: no such file or folder, and no hub id like owner/name")
    if imagebind is not None and is_hub_id(imagebind):
        check_hub(imagebind, "--imagebind")
    if imagebind is not None and not needs_pipeline:
        return ModelChoice(_label(imagebind), imagebind, imagebind, whole=False)
    bundled = model == DEFAULT_MODEL or model in bundled_names()  # a folder of that name is ./mini
    if not bundled and not Path(model).exists() and not is_hub_id(model):
        known = ", ".join(bundled_names()) or "none"
        raise HostError(f"{option} {model}: no such folder, no hub id like owner/name, no bundled model ({known})")
    source = str(bundled_path(model)) if bundled else model
    if is_hub_id(source):
        check_hub(source, option)
    whole = bool(_index(source, option).get(ENCODER_PART, [None])[0])
    if not whole and imagebind is None:
        raise UsageError(f"{option} {model} has no ImageBind encoder of its own: add --imagebind PATH_OR_ID")
    label = " + ".join(_label(part) for part in (source, imagebind, adapter) if part is not None)
    return ModelChoice(label, source, imagebind, whole, adapter)


def check_hub(source: str, argument: str) -> None:
    """Ask the hub once for a repository; its downloads retry for minutes where there is no network.

    Raises:
        HostError: there is no such repository, or the hub is out of reach and the cache holds nothing of it.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    cached = any(isinstance(try_to_load_from_cache(source, name), str) for name in TELLING_FILES)
    offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None
    if not offline:
        try:
            with quiet_hub(quiet=True):
                HfApi().repo_info(source, timeout=TIMEOUT)
            return
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in (401, 403, 404):
                advice = "mind the spelling; for a private or gated one log in with `hf auth login`"
                raise HostError(f"{argument} {source}: the hub shows no such repository; {advice}") from error
            offline = one_line(error)[:200]
        except Exception as error:  # noqa: BLE001  (the hub's client raises those of its HTTP library, which changes)
            offline = one_line(error)[:200] or type(error).__name__
    if not cached:
        raise HostError(f"{argument} {source}: the hub cannot be reached and the cache has none ({offline})")


def choose_device(name: str) -> torch.device:
    """``auto`` is cuda, mps or cpu, the first there is.

    Raises:
        UsageError: no device of that kind exists at all.
        Bind2GenError: this machine has none.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError):
        device = None
    if device is None or device.type not in there:
        raise UsageError(f"--device: wanted auto, cpu, cuda, cuda:NUMBER or mps, got {name!r}")
    found = ", ".join(kind for kind, is_there in there.items() if is_there)
    if not there[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise Bind2GenError(f"--device {name}: this machine has no such device; found {found}")
    return device


def choose_dtype(name: str, device: torch.device, choice: ModelChoice) -> torch.dtype:
    """``auto`` is float16 on cuda, bfloat16 for large models on processors that multiply it, else float32.

    Small models gain a sixth by it, and draw the same on all processors without it. MPS overflows in float16.
    """
    import torch

    from ..imagebind.fused import fast_bfloat16

    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.float16
    fast = device.type == "cpu" and fast_bfloat16() and not (choice.host and choice.host.float32_on_cpu)
    return torch.bfloat16 if fast and _config(choice).is_large else torch.float32


def load_pipeline(
    choice: ModelChoice, *, modalities: list[str], device: torch.device, dtype: torch.dtype, quiet: bool
) -> ImageBindUnCLIPPipeline:
    """The pipeline, on its device; its own progress bar is off."""
    logger.info("loading %s on %s in %s", choice.label, device, dtype)
    with quiet_models(quiet=quiet), progress("load", total=3, quiet=quiet) as bar:
        from ..pipelines.unclip import ImageBindUnCLIPPipeline  # seconds: torch, diffusers, transformers

        bar.update()
        if choice.imagebind is None:
            with one_reason(choice.source):
                own = {"dtype": dtype} | _needed_towers(choice, modalities, dtype)
                pipe = ImageBindUnCLIPPipeline.from_pretrained(choice.source, **own)
            if choice.adapter is not None:
                own = {"imagebind": pipe.imagebind, "processor": pipe.processor}
                pipe = ImageBindUnCLIPPipeline.from_host(pipe, **own, adapter=choice.adapter)
        else:
            pipe = ImageBindUnCLIPPipeline.from_host(
                choice.source, imagebind=choice.imagebind, adapter=choice.adapter, modalities=modalities, dtype=dtype
            )
        bar.update()
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
        bar.update()
    return pipe


def _needed_towers(choice: ModelChoice, modalities: list[str], dtype: torch.dtype) -> dict[str, ImageBindModel]:
    """A pipeline's own encoder: the towers of ``modalities`` (none: all), and the one whose words say what is heard."""
    if not modalities:
        return {}
    from ..imagebind.model import ImageBindModel

    towers = list(dict.fromkeys([*modalities, *({"text"} & set(_config(choice).modalities))]))
    own = {"subfolder": ENCODER_PART, "modalities": towers, "dtype": dtype}
    return {"imagebind": ImageBindModel.from_pretrained(choice.source, **own)}


def load_encoder(
    choice: ModelChoice, *, modalities: list[str], device: torch.device, dtype: torch.dtype, quiet: bool
) -> tuple[ImageBindModel, ImageBindProcessor]:
    """The encoder and its front ends alone, with no more towers than are needed."""
    logger.info("loading the encoder of %s on %s in %s", choice.label, device, dtype)
    with quiet_models(quiet=quiet, drawing=False), progress("load", total=3, quiet=quiet) as bar:
        from ..imagebind.loading import load_imagebind, load_processor
        from ..imagebind.model import ImageBindModel
        from ..imagebind.processor import ImageBindProcessor

        bar.update()
        if choice.imagebind is None:
            with one_reason(choice.source):
                model = ImageBindModel.from_pretrained(
                    choice.source, subfolder=ENCODER_PART, modalities=modalities, dtype=dtype
                )
                processor = ImageBindProcessor.from_pretrained(choice.source, subfolder=PROCESSOR_PART)
        else:
            processor = load_processor(choice.imagebind)
            model = load_imagebind(choice.imagebind, modalities=modalities, dtype=dtype)
        bar.update()
        model.to(device).eval()
        bar.update()
    return model, processor


def load_settings(choice: ModelChoice) -> tuple[ImageBindProcessor, ImageBindConfig]:
    """The front ends and the encoder's configuration; no weights are read.

    Raises:
        Bind2GenError: there are none, or they cannot be read.
    """
    with quiet_models(quiet=True, drawing=False):
        from ..imagebind.loading import load_processor
        from ..imagebind.processor import ImageBindProcessor

        if choice.imagebind is not None:
            with one_reason(choice.imagebind):
                return load_processor(choice.imagebind), _config(choice)
        config = _config(choice)
        with one_reason(choice.source):
            return ImageBindProcessor.from_pretrained(choice.source, subfolder=PROCESSOR_PART), config


def _config(choice: ModelChoice) -> ImageBindConfig:
    """Of the encoder."""
    with quiet_models(quiet=True, drawing=False), one_reason(choice.imagebind or choice.source):
        from ..imagebind.config import ImageBindConfig
        from ..imagebind.loading import load_config

        if choice.imagebind is not None:
            return load_config(choice.imagebind)
        return ImageBindConfig.from_pretrained(choice.source, subfolder=ENCODER_PART)


def encoder_fingerprint(choice: ModelChoice) -> dict[str, list[float]]:
    """What tells the encoder from others, of all its towers; no network is built.

    Raises:
        Bind2GenError: its weights cannot be read.
    """
    with quiet_models(quiet=True, drawing=False):
        from ..imagebind.loading import read_fingerprint

        if choice.imagebind is not None:
            return read_fingerprint(choice.imagebind)
        with one_reason(choice.source):
            return read_fingerprint(choice.source, subfolder=ENCODER_PART)


class one_reason:
    """Turns what the loaders of diffusers and transformers raise into one line that names the model."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Bind2GenError) or not isinstance(error, Exception):
            return
        raise HostError(f"{self.source}: cannot be loaded ({type(error).__name__}: {one_line(error)[:300]})") from error


def _label(source: str) -> str:
    return source if is_hub_id(source) else Path(source).resolve().name


def _index(source: str, option: str) -> dict:
    """The parts of a pipeline, by name."""
    with quiet_hub(quiet=True):
        values = pipeline_index(source)
    if values is None:
        raise HostError(f"{option} {source}: wanted a folder or hub id with {INDEX}, found none")
    return {name: value for name, value in values.items() if isinstance(value, list) and value}
