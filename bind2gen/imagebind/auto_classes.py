"""transformers' AutoConfig, AutoModel and AutoProcessor know our classes once bind2gen is imported, in either order,
and mteb's list of models knows our encoders.

Registering takes classes that load torch, which ``import bind2gen`` must not. So the modules of ours that register are
imported when the Auto classes are: at once where transformers was there first, or else as soon as that module has run.
(The model is registered when there is a configuration of it: AutoModel's module runs before PreTrainedModel's.)
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

logger = logging.getLogger(__name__)

REGISTERED_BY = {  # their module -> ours, which registers at its end
    "transformers.models.auto.configuration_auto": "bind2gen.imagebind.config",
    "transformers.models.auto.processing_auto": "bind2gen.imagebind.processor",
    "mteb.models.model_implementations": "bind2gen.evaluate.mteb",
}


class _AutoClassFinder(MetaPathFinder):
    """Finds nothing itself: it lets the other finders find their modules, and has ours imported after them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in REGISTERED_BY:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                _register(fullname)

            spec.loader.exec_module = run_and_register
        return spec


def _register(name: str) -> None:
    try:
        importlib.import_module(REGISTERED_BY[name])  # while it is being imported, this does nothing
    except ImportError as error:  # whoever uses transformers for something else must not suffer from it
        logger.warning("%s does not know bind2gen's: %s", name.split(".")[0], error)


def install() -> None:
    """Register now what transformers is ready for, and the rest when it is."""
    if any(isinstance(finder, _AutoClassFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _AutoClassFinder())
    for name in REGISTERED_BY:
        if name in sys.modules:
            _register(name)
