"""Where the bundled models and example sounds lie: inside an installed wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

from ..errors import Bind2GenError, UnreadableError, did_you_mean
from .hub import INDEX

PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries adapters/ inside the package; an editable install and a checkout have it beside the package.
ROOTS = (PACKAGE / "adapters", PACKAGE.parent / "adapters")
# Folders of a saved pipeline; an adapter may lie beside an encoder.
ADAPTER_PART, ENCODER_PART, PROCESSOR_PART, DETECTOR_PART = "adapter", "imagebind", "processor", "detector"
EXAMPLE_PREFIX = "example:"


def bundled_path(name: str = "mini") -> Path:
    """Folder of a bundled model in diffusers' layout.

    Raises:
        Bind2GenError: no such model is bundled with this installation.
    """
    for root in ROOTS:
        if name in _names(root):
            return root / name
    known = ", ".join(bundled_names()) or "none, so the installation is incomplete: reinstall bind2gen"
    raise Bind2GenError(f"wanted the bundled model {name!r}, found no such one; bundled are: {known}")


def bundled_names() -> list[str]:
    """Names of the bundled models."""
    return sorted({name for root in ROOTS for name in _names(root)})


def example_sounds() -> dict[str, Path]:
    """The example sounds that come with the bundled model: name -> file."""
    if "mini" not in bundled_names():
        return {}
    return {path.stem: path for path in sorted((bundled_path("mini") / "sounds").glob("*.flac"))}


def concept_of(name: str) -> str:
    """The concept that a sound is meant as: ``police_van`` -> ``police van``."""
    return name.replace("_", " ")


def resolve_example(source: str) -> str:
    """``example:dog`` -> path of that example sound; anything else stays as it is.

    Raises:
        UnreadableError: there is no example of that name.
    """
    if not source.startswith(EXAMPLE_PREFIX):
        return source
    name, sounds = source.removeprefix(EXAMPLE_PREFIX), example_sounds()
    if name not in sounds:
        known = ", ".join(sounds) or "none"
        hint = did_you_mean(name, sounds, EXAMPLE_PREFIX + "{}")
        raise UnreadableError(f"{source}: wanted an example sound, known are: {known}{hint}")
    return str(sounds[name])


def _names(root: Path) -> list[str]:
    return [path.parent.name for path in root.glob(f"*/{INDEX}")]
