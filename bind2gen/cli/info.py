"""``bind2gen info``: versions, devices, generators, bundled models and sounds."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__
from ..files.bundled import bundled_names, bundled_path, example_sounds
from .arguments import add_output

PACKAGES = (
    "torch", "torchvision", "torchaudio", "diffusers", "transformers", "accelerate", "huggingface_hub",
    "open_clip_torch", "safetensors", "soundfile", "av", "numpy", "pillow",
)  # fmt: skip
MEGABYTE = 1_000_000  # bytes


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser("info", help="show versions, devices, generators, bundled models and example sounds")
    add_output(parser, writes=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Gather and print."""
    facts = {
        "bind2gen": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "hosts": _hosts(),
        "models": [_model(name) for name in bundled_names()],
        "example_sounds": [f"example:{name}" for name in example_sounds()],
    }
    if args.json:
        print(json.dumps(facts))
        return
    models = [f"{m['name']} ({m['bytes'] / MEGABYTE:.1f} MB)" for m in facts["models"]]
    print(f"bind2gen {__version__}, Python {facts['python']}, {facts['platform']}")
    print("packages:", ", ".join(f"{name} {found or 'missing'}" for name, found in facts["packages"].items()))
    print("devices:", ", ".join(f"{d['name']} ({d['description']})" for d in facts["devices"]))
    print("hosts of `generate` and `film`:" if facts["hosts"] else "hosts: none")
    for host in facts["hosts"]:
        size = f"{host['space']} {host['width']}, {host['gigabytes']:g} GB in half precision"
        print(f"  {host['name']} ({size}; {host['licence']}): {host['weights']}")
        print(f"    needs {host['needs']}; goes with {host['goes_with']}")
    print("models:", ", ".join(models) or "none")
    print("example sounds:", ", ".join(facts["example_sounds"]) or "none")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, str]]:
    try:
        import torch
    except (ImportError, OSError) as error:  # a broken installation is what this command is asked about
        return [{"name": "none", "description": f"torch cannot be imported: {error}"}]
    cuda = [
        {"name": f"cuda:{i}", "description": torch.cuda.get_device_name(i)}
        for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    mps = [{"name": "mps", "description": "Apple GPU"}] if torch.backends.mps.is_available() else []
    from ..imagebind.fused import fast_bfloat16

    fast = f"bfloat16 by {how}" if (how := fast_bfloat16()) else "no fast bfloat16"
    return [*cuda, *mps, {"name": "cpu", "description": f"{torch.get_num_threads()} threads, {fast}"}]


def _hosts() -> list[dict[str, Any]]:
    try:
        from ..hosts.pictures.contract import known_hosts

        return [asdict(slot) for host in known_hosts() for slot in host.SLOTS]
    except (ImportError, OSError):  # as in _devices, which says why
        return []


def _model(name: str) -> dict[str, Any]:
    folder = bundled_path(name)
    return {"name": name, "path": str(folder), "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())}
