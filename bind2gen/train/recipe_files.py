"""Where recipes lie. No torch import: the command line looks for them before it loads anything."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, did_you_mean

RECIPES = Path(__file__).parent / "recipes"
MAPS = "map_"  # recipes of that prefix are of closed-form maps: see maps/recipe.py


def bundled_recipes(*, maps: bool = False) -> list[str]:
    """Names of the recipes that ship with the package, of training runs or of closed-form maps."""
    return sorted(path.stem for path in RECIPES.glob("*.toml") if path.stem.startswith(MAPS) == maps)


def recipe_path(name: str | Path, *, maps: bool = False) -> Path:
    """The file that a path or a bundled recipe's name means.

    Raises:
        InputError: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = bundled_recipes(maps=maps)
    if str(name) in known:
        return RECIPES / f"{name}.toml"
    hint = did_you_mean(str(name), known)
    raise InputError(f"{name}: wanted a recipe (TOML), found no such file; bundled are {', '.join(known)}{hint}")
