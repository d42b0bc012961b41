"""The page in a real browser: a visitor uploads, clicks, waits, stops; on a desk, on a phone, in the dark."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import threading
import time

import av
import numpy as np
import pytest
from PIL import Image

from bind2gen.files.pictures import DESCRIPTION

SETTLING = 300  # ms from an upload, or an example, to the page that shows it
BROWSERS_BOUND = 20 << 20  # bytes


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
    box, slider = (tab.get_by_role(role, name="Steps").first for role in ("spinbutton", "slider"))
    for _ in range(20):  # what is typed before the page has taken in its first values is lost
        box.fill(str(steps))
        box.press("Tab")
        tab.wait_for_timeout(300)
        if slider.input_value() == str(steps):
            return
    raise AssertionError(f"steps stay at {slider.input_value()}")


def finished(tab, where="#status"):
    tab.locator(where).get_by_text("Done in").wait_for()


def spread(tab, where="#pictures"):
    """Standard deviation of what the picture's place shows, 0..255."""
    shot = Image.open(io.BytesIO(tab.locator(f"{where} img").first.screenshot())).convert("RGB")
    return np.asarray(shot, dtype=float).std(axis=(0, 1)).max()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)], ids=["desk", "phone"])
def test_the_first_screen_shows_a_result_and_what_else_there_is(visit, server, artefacts, width, height):
    tab = visit(width=width, height=height)
    pictures = tab.locator("#pictures img")
    assert pictures.count() == 4 and "cat · seed 0" in tab.locator("#pictures figcaption").first.inner_text()
    for k in range(4):
        box = pictures.nth(k).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= height and 150 < box["width"] <= 280
        assert pictures.nth(k).evaluate("image => image.complete && image.naturalWidth > 0")
    assert spread(tab) > 8 and "cat" in tab.locator("#heard").inner_text()
    tab.screenshot(path=artefacts / f"sound2image-start-{width}.png", full_page=True)
    kinds, sounds = tab.locator("#kinds button"), tab.locator("#example-sounds button")
    assert kinds.all_inner_texts() == list(server.studio.kinds)
    words = tab.get_by_role("textbox", name="Words")
    kinds.get_by_text("lion", exact=True).click()
    tab.locator(".b2g-sound").first.get_by_text("Drop Audio Here").wait_for()  # each takes the other's place
    assert words.input_value() == "lion"
    sounds.get_by_text("dog", exact=True).click()
    tab.locator(".b2g-sound").first.get_by_test_id("waveform-controls").wait_for()
    assert words.input_value() == ""


def test_a_sound_is_uploaded_and_its_picture_appears(visit, files, artefacts, bundled_side):
    tab = visit()
    upload(tab, files / "tone.wav")
    set_steps(tab, 6)
    tab.get_by_role("button", name="Draw", exact=True).click()
    finished(tab)
    assert spread(tab) > 8
    assert "· seed 0" in tab.locator("#pictures").inner_text()
    assert tab.locator("#pictures img").first.evaluate("image => image.clientWidth") > 300  # shown large
    with tab.expect_download() as taken:
        tab.locator("#pictures").get_by_role("link", name="Save").click()
    assert re.fullmatch(r"[a-z0-9-]+-seed-0\.png", taken.value.suggested_filename)
    with Image.open(taken.value.path()) as saved:
        assert max(saved.size) >= 512 and saved.text["seed"] == "0" and saved.text["steps"] == "6"
        unknown = json.loads(saved.text["understood"])["audio"]["known"] is False
        words = "None of the things I know" if unknown else next(iter(json.loads(saved.text["heard"])))
        assert words in tab.locator("#heard").inner_text()
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
        assert says in tab.locator("#status .b2g-alert").inner_text()  # stays when the toast has gone
    tab.screenshot(path=artefacts / f"refused-{name.replace('.', '-')}.png")


@pytest.fixture
def slow_drawing(server):
    """Steps so slow that a click comes before the last of them, however busy the machine."""
    hook = server.studio.pipe.unet.register_forward_pre_hook(lambda *_: time.sleep(0.3))
    yield
    hook.remove()


def idle(tab, server):
    for _ in range(200):
        if not server.studio.worker.busy:
            return
        tab.wait_for_timeout(50)
    pytest.fail("it works on")


def test_stop_ends_the_drawing_and_keeps_the_picture_as_far_as_it_got(visit, server, slow_drawing):
    tab = visit()
    set_steps(tab, 50)
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#pictures img[alt=preview]").first.wait_for()
    tab.get_by_role("button", name="Stop", exact=True).first.click()
    tab.locator("#status").get_by_text("Stopped; this is as far as it got.").wait_for()
    assert tab.locator("#pictures figcaption").all_inner_texts()[0].startswith("cat · seed 0")
    assert tab.locator("#pictures img").count() == 1  # no longer the four that the page begins with
    assert tab.locator("#pictures").get_by_role("link", name="Save").is_visible()
    assert "%" in tab.locator("#heard").inner_text()
    idle(tab, server)
    tab.get_by_role("button", name="Stop", exact=True).first.click()
    tab.locator("#status").get_by_text("Nothing to stop.").wait_for()


def test_who_waits_sees_his_place_and_may_leave_the_queue(visit, server, artefacts):
    held, free = threading.Event(), threading.Event()
    work = server.studio.worker.run(lambda report, stop: (held.set(), free.wait(60)), "held", steps=1)
    thread = threading.Thread(target=lambda: list(work))
    thread.start()
    assert held.wait(60)
    try:
        tab = visit()
        tab.get_by_role("button", name="Draw", exact=True).click()
        line = tab.locator("#status").get_by_text("Waiting for your turn: you are next.")
        line.wait_for()
        assert float(line.evaluate("e => getComputedStyle(e.closest('.html-container')).opacity")) == 1
        tab.screenshot(path=artefacts / "waiting.png")
        tab.get_by_role("button", name="Stop", exact=True).first.click()
        tab.locator("#status").get_by_text("Stopped.").wait_for()
    finally:
        free.set()
        thread.join(60)


def film(path, codec, picture):
    """A file of one second of sound, with or without a picture."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=48_000)
        shown = container.add_stream(picture, rate=5) if picture else None
        if shown:
            shown.width = shown.height = 32
            shown.pix_fmt = "yuv420p"
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(shown.encode(frame))
            container.mux(shown.encode(None))
        tone = (0.3 * np.sin(np.arange(48_000) / 20)).astype(np.float32)[None]
        fifo = av.AudioFifo()
        whole = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        whole.sample_rate = 48_000
        fifo.write(whole)
        while frame := fifo.read(stream.codec_context.frame_size or 960, partial=True):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec", "picture"), [("a.webm", "libopus", None), ("a.mp4", "aac", "mpeg4")])
def test_sounds_that_browsers_call_videos_are_taken_by_choice_and_by_drop(visit, tmp_path, name, codec, picture):
    tab, path = visit(), film(tmp_path / name, codec, picture)
    upload(tab, path)
    set_steps(tab, 1)
    tab.get_by_role("button", name="Draw", exact=True).click()
    finished(tab)
    tab.get_by_label("Clear").first.click()
    content = base64.b64encode(path.read_bytes()).decode()
    kind = f"video/{path.suffix[1:]}"
    dropped = tab.evaluate_handle(
        """([name, kind, content]) => { const list = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
        list.items.add(new File([bytes], name, {type: kind})); return list; }""",
        [name, kind, content],
    )
    with tab.expect_response(lambda answer: "/upload?" in answer.url):
        tab.locator(".b2g-sound").first.get_by_text("Drop Audio Here").dispatch_event("drop", {"dataTransfer": dropped})
    tab.get_by_test_id("waveform-controls").first.wait_for()
    assert tab.get_by_test_id("toast-body").count() == 0


def test_a_visitor_records_with_large_buttons(visit):
    tab = visit(permissions=["microphone"])
    place = tab.locator(".b2g-sound").first
    for name in ("Record audio", "Record", "Stop"):
        button = place.get_by_role("button", name=name, exact=True)
        button.wait_for()
        assert button.bounding_box()["height"] >= 44
        button.click()
        tab.wait_for_timeout(SETTLING)
    place.get_by_test_id("waveform-controls").wait_for()
    set_steps(tab, 1)
    tab.get_by_role("button", name="Draw", exact=True).click()
    finished(tab)


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
    with tab.expect_download() as taken:
        tab.locator("#boxes").get_by_role("link", name="Save").click()
    assert taken.value.suggested_filename == "clock-bird-cat-above-0-05.webp"
    with Image.open(taken.value.path()) as saved:
        about = json.loads(saved.getexif()[DESCRIPTION])
    assert about["threshold"] == 0.05 and len(about["boxes"]) == boxes_told(tab)


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
    tab.get_by_role("tabpanel").get_by_role("textbox", name="Words").fill("a clock, a bird, a police van")
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
    alert = tab.locator("#detect-status .b2g-alert")
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


def test_a_sound_is_dropped_and_pictures_like_it_appear(visit, files, artefacts):
    tab = visit()
    tab.get_by_role("tab", name="Search").click()
    tab.locator("#search-sounds button").get_by_text("cat", exact=True).click()
    tab.locator("#search-inputs .b2g-sound").first.get_by_test_id("waveform-controls").wait_for()
    tab.get_by_role("button", name="Search", exact=True).click()
    finished(tab, "#search-status")
    found = tab.locator("#found figure")
    assert found.count() >= 4 and found.first.inner_text().startswith("cat")
    assert found.first.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    shown = tab.locator("#found").text_content()
    tab.get_by_role("textbox", name="Words to search by").fill("a clock")
    tab.get_by_role("textbox", name="Words to search by").press("Enter")
    tab.wait_for_function("was => document.querySelector('#found').textContent != was", arg=shown)
    finished(tab, "#search-status")
    tab.screenshot(path=artefacts / "search.png", full_page=True)


def test_a_search_by_nothing_is_told_in_one_line_on_a_phone(visit, artefacts):
    tab = visit(width=390, height=844, color_scheme="dark")
    tab.get_by_role("tab", name="Search").click()
    tab.get_by_role("button", name="Search", exact=True).click()
    tab.locator("#search-status .b2g-alert").get_by_text("nothing to search by").wait_for()
    wide = tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]  # no scrolling sideways
    tab.screenshot(path=artefacts / "search-phone-dark.png", full_page=True)
