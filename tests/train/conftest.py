"""Small pairs of pictures and infrared, written as files, for the tests of training."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = np.linspace(20, 235, 12).astype(int)


def picture(number: int) -> np.ndarray:
    """(40, 48, 3) uint8: a hue and a gradient of its own for each number."""
    y, x = np.mgrid[:40, :48] / 48
    channels = [COLOURS[number % 12] * (0.6 + 0.4 * x), 255 * y, COLOURS[(5 * number) % 12] * (1 - 0.5 * y)]
    return np.stack(channels, -1).astype(np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few steps take less time than the picture of how they went."""
    monkeypatch.setattr("bind2gen.train.loop.plot_curves", lambda folder: None)


@pytest.fixture
def csv_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with ``pairs.csv``: pictures and the infrared of each, some held out."""

    def make(count: int = 8, *, held_out: int = 0, name: str = "csv") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        lines = ["image,thermal,concept,split,note"]
        for i in range(count):
            pixels = picture(i)
            (folder / f"{i}.png").write_bytes(encoded(pixels))
            (folder / f"{i}_ir.png").write_bytes(encoded(pixels[..., 0]))
            split = "test" if i >= count - held_out else ("train" if i % 2 else "")
            lines.append(f'{i}.png,{i}_ir.png,{"even" if i % 2 == 0 else "odd"},{split},"a, b"')
        (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
        return folder

    return make


@pytest.fixture
def write_shard(tmp_path: Path) -> Callable[[str, dict[str, bytes]], Path]:
    """Writes a tar of the given members."""

    def write(name: str, members: dict[str, bytes]) -> Path:
        path = tmp_path / "shards" / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def shard_folder(write_shard: Callable[[str, dict[str, bytes]], Path]) -> Callable[..., Path]:
    """Makes a folder of shards with pictures and infrared: ``counts[k]`` samples in shard k."""

    def make(counts: tuple[int, ...] = (5, 3)) -> Path:
        number = 0
        for k, count in enumerate(counts):
            members = {}
            for i in range(number, number + count):
                members[f"{i:04}.png"] = encoded(picture(i))
                members[f"{i:04}.thermal.png"] = encoded(picture(i)[..., 0])
                members[f"{i:04}.cls"] = b"even" if i % 2 == 0 else b"odd"
            path = write_shard(f"{k:03}.tar", members)
            number += count
        return path.parent

    return make
