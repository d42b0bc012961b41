"""The page in a real browser: a visitor uploads, clicks, waits, stops; on a desk, on a phone, in the dark."""

from __future__ import annotations

import io
import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 90_000  # ms
SETTLING = 300  # ms from an upload, or an example, to the page that shows it
BROWSERS_BOUND = 20 << 20  # bytes
NAMED = ("button", "textbox", "slider", "spinbutton", "combobox", "tab", "checkbox", "link")  # roles that need a name
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """Open the page; at the end, nothing but this server must have been asked for anything."""
    contexts, strangers, faults = [], [], []

    def opened(width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        tab = context.new_page()
        tab.on(
            "request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else strangers.append(r.url)
        )
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.goto(server.url)
        tab.get_by_role("button", name="Draw", exact=True).wait_for()
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert strangers == []
    assert faults == []


def upload(tab, path, kind="audio"):
    """Replace what is in the sound's (or another file's) place."""
    if kind == "audio" and tab.get_by_label("Clear").first.is_visible():
        tab.get_by_label("Clear").first.click()
    hand_over(tab, tab.locator(f"input[type=file][accept*={kind}]").first, path)


def hand_over(tab, place, path):
    """Upload, and wait until the server has it; what the browser itself refuses is never sent."""
    if os.path.getsize(path) > BROWSERS_BOUND:
        place.set_input_files(str(path))
        return
    with tab.expect_response(lambda answer: "/upload?" in answer.url):
        place.set_input_files(str(path))
    tab.get_by_text("Uploading").first.wait_for(state="hidden")
    tab.wait_for_timeout(SETTLING)


def set_steps(tab, steps):
    tab.get_by_role("button", name="Settings").first.click()
    box = tab.get_by_role("spinbutton", name="Steps").first
    box.fill(str(steps))
    box.press("Tab")


def finished(tab, where="#status"):
    tab.locator(where).get_by_text("Done in").wait_for()


def spread(tab, where="#pictures"):
    """Standard deviation of what the picture's place shows, 0..255."""
    shot = Image.open(io.BytesIO(tab.locator(f"{where} img").first.screenshot())).convert("RGB")
    return np.asarray(shot, dtype=float).std(axis=(0, 1)).max()


def test_a_sound_is_uploaded_and_its_picture_appears(visit, files, artefacts):
    tab = visit()
    tab.screenshot(path=artefacts / "sound2image-start.png")
    upload(tab, files / "tone.wav")
    set_steps(tab, 6)
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#pictures img").first.wait_for()  # a preview comes before the end, or the picture itself
    finished(tab)
    assert spread(tab) > 8
    assert "seed 0 · round trip" in tab.locator("#pictures").inner_text()
    assert tab.locator("#pictures a").first.get_attribute("download") is not None
    assert "%" in tab.locator("#heard").inner_text()
    natural = tab.locator("#pictures img").first.evaluate("image => [image.naturalWidth, image.clientWidth]")
    assert natural[0] == 64 and natural[1] > 300  # shown large
    tab.screenshot(path=artefacts / "sound2image.png", full_page=True)


def test_the_picture_is_drawn_by_keyboard_alone_on_a_phone_in_the_dark(visit, artefacts):
    tab = visit(width=390, height=844, color_scheme="dark")
    wide = tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]  # no scrolling sideways
    tab.locator("body").press("Home")
    for _ in range(80):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.innerText") == "Draw":
            break
    else:
        pytest.fail("the button cannot be reached by Tab")
    tab.keyboard.press("Enter")
    finished(tab)
    assert spread(tab) > 8
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in background.strip("rgba()").split(",")[:3]) < 150
    tab.screenshot(path=artefacts / "sound2image-phone-dark.png", full_page=True)


def test_every_control_has_a_name(visit):
    tab = visit()
    for name in ("More to mix in", "Weights", "Settings"):
        tab.get_by_role("button", name=name).first.click()
    tree = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node.get("ignored")
        and node.get("role", {}).get("value") in NAMED
        and not node.get("name", {}).get("value", "").strip()
    ]
    assert nameless == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.wav", "text.wav: wanted"),
        ("empty.wav", "the file is empty"),
        ("huge.wav", "exceed"),  # found by the browser or cut off by the server
        ("bomb.png", "bomb.png: a picture of 8000 x 8000 is refused"),
    ],
)
def test_bad_uploads_are_told_in_one_line(name, says, visit, files, artefacts):
    tab = visit()
    if name.endswith(".png"):
        tab.get_by_role("button", name="More to mix in").click()
        upload(tab, files / name, "image")
    else:
        upload(tab, files / name)
    if name != "huge.wav":
        tab.get_by_role("button", name="Draw", exact=True).click()
    toast = tab.get_by_test_id("toast-body").first
    toast.wait_for()
    assert says in toast.inner_text()
    assert "/" not in toast.inner_text()  # no folder of the server
    if name != "huge.wav":
        assert says in tab.locator("#status").get_by_role("alert").inner_text()  # stays when the toast has gone
    tab.screenshot(path=artefacts / f"refused-{name.replace('.', '-')}.png")


@pytest.fixture
def slow_drawing(server):
    """Steps so slow that a click comes before the last of them, however busy the machine."""
    hook = server.studio.pipe.unet.register_forward_pre_hook(lambda *_: time.sleep(0.3))
    yield
    hook.remove()


def test_stop_ends_the_drawing(visit, server, slow_drawing):
    tab = visit()
    set_steps(tab, 50)
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#status").get_by_text("Step").wait_for()
    tab.get_by_role("button", name="Stop", exact=True).first.click()
    tab.locator("#status").get_by_text("topped").wait_for()
    for _ in range(200):
        if not server.studio.worker.busy:
            break
        tab.wait_for_timeout(50)
    assert not server.studio.worker.busy
    tab.get_by_role("button", name="Draw", exact=True).is_enabled()


def to_detection(tab, example=None):
    """Open the tab; lay an example's picture, sounds and words into it."""
    tab.get_by_role("tab", name="Find it").click()
    tab.get_by_role("button", name="Find", exact=True).wait_for()
    if example:
        tab.locator("#detect-examples").get_by_role("button", name=example).click()
        tab.locator("#detect-inputs .image-container img").first.wait_for()
        tab.wait_for_timeout(SETTLING)


def boxes_told(tab):
    return int(tab.locator("#boxes figcaption").inner_text().split(" box")[0])


def shown_picture(tab):
    return tab.locator("#boxes img").get_attribute("src")


def test_boxes_of_sounds_disappear_with_the_threshold_and_no_network_runs(visit, server, artefacts, monkeypatch):
    tab = visit()
    to_detection(tab, "Three sounds at once")
    tab.screenshot(path=artefacts / "detect-start.png", full_page=True)
    tab.get_by_role("button", name="Find", exact=True).click()
    finished(tab, "#detect-status")
    count = boxes_told(tab)
    assert count > 0 and spread(tab, "#boxes") > 8
    legend = tab.locator("#legend li")
    assert legend.count() == 3
    colours = {
        legend.nth(i).locator(".b2g-swatch").evaluate("e => getComputedStyle(e).backgroundColor") for i in range(3)
    }
    assert len(colours) == 3
    tab.screenshot(path=artefacts / "detect.png", full_page=True)
    with_boxes = shown_picture(tab)
    monkeypatch.setattr(server.detecting.pipe, "encode_image", None)
    monkeypatch.setattr(server.detecting.pipe, "find", None)
    slider = tab.locator("#threshold input[type=range]")
    slider.focus()
    slider.press("End")
    tab.locator("#boxes figcaption").get_by_text("0 boxes above 1.00").wait_for()
    assert shown_picture(tab) != with_boxes
    assert "Nothing in the picture makes any of these sounds." in tab.locator("#detect-status").inner_text()
    assert legend.get_by_text("nothing here makes it").count() == 3
    slider.press("Home")
    tab.locator("#boxes figcaption").get_by_text("above 0.05").wait_for()
    assert boxes_told(tab) >= count


def test_a_sound_whose_source_is_not_there_gets_no_box_and_words_do(visit, artefacts):
    tab = visit(color_scheme="dark")
    to_detection(tab, "A sound whose source is not there")
    tab.get_by_role("button", name="Find", exact=True).click()
    finished(tab, "#detect-status")
    said = tab.locator("#detect-status").inner_text()
    assert ("Nothing in the picture makes this sound." in said) == (boxes_told(tab) == 0)
    tab.screenshot(path=artefacts / "detect-nothing-dark.png", full_page=True)


def test_a_visitors_own_picture_and_words_on_a_phone_in_the_dark(visit, scene, artefacts):
    tab = visit(width=390, height=844, color_scheme="dark")
    to_detection(tab)
    hand_over(tab, tab.locator("#detect-inputs input[type=file][accept*=image]"), scene)
    tab.get_by_role("tabpanel").get_by_role("textbox", name="Words").fill("a clock, an insect, a police van")
    tab.get_by_role("button", name="Find", exact=True).click()
    finished(tab, "#detect-status")
    assert tab.locator("#legend li").count() == 3
    wide = tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]  # no scrolling sideways
    tab.screenshot(path=artefacts / "detect-phone-dark.png", full_page=True)


def test_nothing_to_search_and_a_bad_picture_are_told_in_one_line(visit, files, artefacts):
    tab = visit()
    to_detection(tab)
    tab.get_by_role("button", name="Find", exact=True).click()
    alert = tab.locator("#detect-status").get_by_role("alert")
    alert.get_by_text("no picture to search").wait_for()
    hand_over(tab, tab.locator("#detect-inputs input[type=file][accept*=image]"), files / "bomb.png")
    tab.get_by_role("tabpanel").get_by_role("textbox", name="Words").fill("a dog")
    tab.get_by_role("button", name="Find", exact=True).click()
    alert.get_by_text("bomb.png: a picture of 8000 x 8000 is refused").wait_for()
    assert "/" not in alert.inner_text()  # no folder of the server


def test_arithmetic_shows_a_slide(visit, artefacts):
    tab = visit()
    tab.get_by_role("tab", name="Arithmetic").click()
    tab.get_by_role("button", name="Settings").last.click()
    box = tab.get_by_role("spinbutton", name="Steps").last
    box.fill("3")
    box.press("Tab")
    tab.get_by_role("button", name="Slide", exact=True).click()
    finished(tab, "#slide-status")
    assert tab.locator("#strip img").count() == 5 and tab.locator("#differences img").count() == 3
    assert spread(tab, "#differences") > 4
    tab.screenshot(path=artefacts / "arithmetic.png", full_page=True)
