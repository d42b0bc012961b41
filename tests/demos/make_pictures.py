"""Makes README's pictures anew: a screenshot of each tab, and sounds turning into pictures, as one that moves.

    PYTHONPATH=. python tests/demos/make_pictures.py demos/readme

Needs the demos' extra, playwright and Chromium. To be run after the bundled model was trained anew.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from bind2gen.cli.demo import UPLOAD_FOLDER, demos
from bind2gen.files.bundled import bundled_path, example_sounds
from bind2gen.hosts.boxes.drawing import font
from bind2gen.pipelines.detection import ImageBindDetectionPipeline
from bind2gen.space.everyday import words_of
from bind2gen.studio import DetectionStudio, Progress, Studio, denoising
from bind2gen.studio.detecting import known_weakness
from bind2gen.studio.files import VisitorFiles

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WIDTH, HEIGHT = 1180, 900  # pixels of the window
SHOWN = (  # demo, tab, example, button, status
    ("sound2image", "Draw it", "clock", "Draw", "#status"),
    ("detect", "Find it", "Three sounds at once", "Find", "#detect-status"),
    ("arithmetic", "Arithmetic", "a lion → dog", "Slide", "#slide-status"),
)
PATIENCE = 120_000  # ms
HEARD = ("cat", "bird", "clock", "dog", "helicopter", "police_van")  # sounds of the moving picture
COLUMNS, SIDE, LINE = 3, 128, 20  # of its grid; pixels
FRAME, REST = 350, 2500  # ms; no faster than three a second


def moving(studio: Studio, path: Path) -> None:
    """Sounds clearing up into pictures, side by side."""
    sounds = {name: file for name, file in example_sounds().items() if name in HEARD}
    films, denoising.PAUSE = {}, 0  # every preview, however fast this machine is
    for name, file in sounds.items():
        news = list(studio.draw({"audio": str(file)}, steps=30))
        films[name] = [item.pictures[0] for item in news if isinstance(item, Progress) and item.pictures]
        films[name].append(news[-1].pictures[0])
    count = min(len(film) for film in films.values())
    rows = -(-len(films) // COLUMNS)
    frames = []
    for k in range(count):
        sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LINE)), "white")
        pen = ImageDraw.Draw(sheet)
        for place, (name, film) in enumerate(films.items()):
            left, top = place % COLUMNS * SIDE, place // COLUMNS * (SIDE + LINE)
            sheet.paste(film[k - count].resize((SIDE - 4, SIDE - 4), Image.Resampling.BICUBIC), (left + 2, top + LINE))
            pen.text(
                (left + SIDE / 2, top + LINE / 2), f"sound of: {name.replace('_', ' ')}", "#334155", font(12), "mm"
            )
        frames.append(sheet)
    times = [FRAME] * (count - 1) + [REST]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=70, method=6, minimize_size=True
    )


def screenshots(url: str, folder: Path) -> None:
    """Each tab, with an example worked out in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for demo, name, example, button, status in SHOWN:
            tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            tab.set_default_timeout(PATIENCE)
            tab.goto(url)
            tab.get_by_role("tab", name=name).click()
            tab.get_by_role("button", name=example, exact=True).first.click()
            tab.wait_for_timeout(1500)
            tab.get_by_role("button", name=button, exact=True).click()
            tab.locator(status).get_by_text("Done in").wait_for()
            tab.wait_for_timeout(500)
            shot = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
            shot.save(folder / f"{demo}.webp", quality=80, method=6)
        browser.close()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    studio = importlib.import_module(f"{demos().__name__}.opening").bundled_studio()
    words = words_of(bundled_path() / "imagebind")
    detection = ImageBindDetectionPipeline.from_pretrained(modalities=["audio", "text"])
    note = known_weakness(bundled_path())
    detecting = DetectionStudio(detection, words=words, worker=studio.worker, note=note)
    moving(studio, folder / "drawing.webp")
    with tempfile.TemporaryDirectory() as uploads:
        os.environ[UPLOAD_FOLDER] = uploads
        page = importlib.import_module(f"{demos().__name__}.page")
        kept = VisitorFiles(uploads)
        blocks = page.build({"sound2image": studio, "detect": detecting, "arithmetic": studio}, kept)
        try:
            screenshots(page.launch(blocks, kept, megabytes=20, host="127.0.0.1", port=None), folder)
        finally:
            blocks.close(verbose=False)
            studio.close()


if __name__ == "__main__":
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    main(Path(sys.argv[1]))
