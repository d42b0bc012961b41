"""Hub ids: told from paths, and asked about once before anything is downloaded."""

from __future__ import annotations

import re
from pathlib import Path

from ..cli.reporting import one_line, quiet_hub
from ..errors import HostError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TELLING_FILES = ("model_index.json", "config.json", "model.safetensors", "imagebind_huge.pth")  # one is in any model
TIMEOUT = 10.0  # seconds


def is_hub_id(name: str) -> bool:
    """Whether ``name`` reads as ``owner/name`` and no such path exists."""
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists()


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
