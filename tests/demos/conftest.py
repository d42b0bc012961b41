"""One server with the bundled model for all tests of the demos, and files that visitors upload."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.bundled import bundled_path
from bind2gen.cli.demo import UPLOAD_FOLDER, demos
from bind2gen.detection import ImageBindDetectionPipeline
from bind2gen.pipeline import ImageBindUnCLIPPipeline
from bind2gen.studio import DetectionStudio, Studio
from bind2gen.studio.detecting import known_weakness
from bind2gen.studio.files import VisitorFiles
from bind2gen.studio.words import words_of

RATE = 16_000  # Hz


@dataclass(frozen=True)
class Server:
    """What is served."""

    url: str
    studio: Studio
    detecting: DetectionStudio
    blocks: Any
    uploads: Path
    kept: VisitorFiles


@pytest.fixture(scope="session")
def page() -> Any:
    """The module that builds the page."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    pytest.importorskip("gradio", reason="the demos need Gradio: pip install 'bind2gen[demos]'")
    return importlib.import_module(f"{demos().__name__}.page")


@pytest.fixture(scope="session")
def server(page, tmp_path_factory) -> Iterator[Server]:
    uploads = tmp_path_factory.mktemp("uploads")
    before = os.environ.get(UPLOAD_FOLDER)
    os.environ[UPLOAD_FOLDER] = str(uploads)
    pipe = ImageBindUnCLIPPipeline.from_pretrained(bundled_path("mini"))
    pipe.set_progress_bar_config(disable=True)
    words = words_of(bundled_path() / "imagebind")
    studio = Studio(pipe, words=words)
    studio.warm()
    detection = ImageBindDetectionPipeline.from_pretrained(modalities=["audio", "text"])
    detecting = DetectionStudio(detection, words=words, worker=studio.worker, note=known_weakness(bundled_path()))
    detecting.warm()
    kept = VisitorFiles(uploads)
    blocks = page.build({"sound2image": studio, "detect": detecting, "arithmetic": studio}, kept)
    url = page.launch(blocks, kept, megabytes=studio.limits.megabytes, host="127.0.0.1", port=None)
    yield Server(url, studio, detecting, blocks, uploads, kept)
    blocks.close(verbose=False)
    studio.close()
    os.environ.pop(UPLOAD_FOLDER)
    if before is not None:
        os.environ[UPLOAD_FOLDER] = before


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Good and bad uploads."""
    folder = tmp_path_factory.mktemp("files")
    soundfile.write(folder / "tone.wav", 0.3 * np.sin(np.arange(2 * RATE) / 6), RATE)
    (folder / "text.wav").write_text("this is no sound " * 50)
    (folder / "empty.wav").write_bytes(b"")
    with open(folder / "huge.wav", "wb") as file:
        file.truncate(500 << 20)  # sparse
    Image.new("1", (8_000, 8_000)).save(folder / "bomb.png")  # 8 kB, 64 megapixels
    return folder


@pytest.fixture(scope="session")
def scene(page) -> Path:
    """An example picture with a clock, an insect and a frog in it."""
    return Path(page.__file__).with_name("pictures") / "three.webp"


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Path:
    """Where screenshots go: kept by CI if it says where."""
    folder = os.environ.get("BIND2GEN_CI_OUTPUT")
    if folder is None:
        return tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)
