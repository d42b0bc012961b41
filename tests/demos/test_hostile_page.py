"""What visitors name their files and write into texts is shown as it is; nothing of it runs in anybody's browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.store import EmbeddingStore, Item
from bind2gen.studio.files import VisitorFiles
from bind2gen.studio.searching import SearchStudio

RUNS = "<img src=x onerror=window.ran=1>"
NAMES = (f"{RUNS}.wav", "\"' onmouseover='window.ran=1.wav", "${window.ran=1}{{window.ran=1}}&lt;script&gt;.wav")


@pytest.fixture
def tab(visit):
    """A page that notes when anything of a visitor's is run, and what dialogues open."""
    tab, opened = visit(), []
    tab.on("dialog", lambda dialogue: (opened.append(dialogue.message), dialogue.dismiss()))
    yield tab
    assert tab.evaluate("window.ran") is None and opened == []
    assert tab.locator("img[src=x], script:has-text('window.ran')").count() == 0


def sounds(name):
    return {"name": name, "mimeType": "audio/wav", "buffer": b"this is no sound " * 10}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_words_in_the_page_and_its_errors(tab, name):
    tab.get_by_label("Clear").first.click()
    with tab.expect_response(lambda answer: "/upload?" in answer.url):
        tab.locator("input[type=file][accept*=audio]").first.set_input_files(files=[sounds(name)])
    tab.wait_for_timeout(300)
    tab.get_by_role("button", name="Draw", exact=True).click()
    alert = tab.locator("#status .b2g-alert")
    alert.get_by_text("wanted a sound file").wait_for()
    assert "/" not in alert.inner_text().split(": wanted")[0]
    tab.get_by_test_id("toast-body").first.hover()


def test_texts_are_words_in_labels_captions_and_legends(tab, scene, artefacts):
    words = f"{RUNS}, a <b>clock</b>"
    tab.get_by_role("textbox", name="Words").first.fill(words)
    tab.get_by_label("Clear").first.click()
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#status").get_by_text("Done in").wait_for()
    tab.get_by_role("tab", name="Find it").click()
    tab.locator("#detect-inputs input[type=file][accept*=image]").set_input_files(scene)
    tab.wait_for_timeout(1000)
    tab.get_by_role("tabpanel").get_by_role("textbox", name="Words").fill(words)
    tab.get_by_role("button", name="Find", exact=True).click()
    tab.locator("#detect-status").get_by_text("Done in").wait_for()
    assert tab.locator("#legend b").first.inner_text() == RUNS and "<b>clock</b>" in tab.locator("#legend").inner_text()
    tab.screenshot(path=artefacts / "hostile-words.png", full_page=True)


def test_names_of_a_library_are_words_too(page, server, browser, tmp_path, monkeypatch):
    """Whoever filled the store need not be who serves it."""
    width = server.searching.encoder.model.config.embed_dim
    store, vector = EmbeddingStore.create(tmp_path / "db", width=width), np.eye(1, width, dtype=np.float32)[0]
    store.add([Item(f"/far/away/{RUNS.replace('/', '')}", "image", vector), Item("/far/a'\"b", "audio", vector)])
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    studio = SearchStudio(server.searching.encoder, store, worker=server.studio.worker)
    kept = VisitorFiles(tmp_path)
    blocks = page.build({"search": studio}, kept)
    url = page.launch(blocks, kept, megabytes=1, host="127.0.0.1", port=None)
    tab = browser.new_page()
    tab.goto(url)
    tab.get_by_role("textbox", name="Words to search by").fill("a dog")
    tab.get_by_role("button", name="Search", exact=True).click()
    tab.locator("#search-status").get_by_text("Done in").wait_for(timeout=90_000)
    assert RUNS in tab.locator("#found").inner_text() and tab.evaluate("window.ran") is None
    assert "/far/" not in tab.content()
    tab.close()
    blocks.close(verbose=False)
    store.close()


def test_what_is_taken_home_names_no_place_on_the_server(server, scene, tmp_path):
    """Neither in the text within the files, nor in their names, nor in what scripts are told besides."""
    gradio_client = pytest.importorskip("gradio_client")
    before = set(server.uploads.rglob("*"))  # of other tests, broken ones among them
    tone = tmp_path / "my own tone.wav"
    soundfile.write(tone, 0.3 * np.sin(np.arange(32_000) / 6), 16_000)
    caller = gradio_client.Client(server.url, verbose=False, download_files=str(tmp_path / "home"))
    handed = gradio_client.handle_file(str(tone))
    drawn = caller.predict(audio=handed, text="a dog", steps=1, api_name="/sound2image")
    boxes = caller.predict(picture=gradio_client.handle_file(str(scene)), audio=handed, api_name="/detect")
    slide = caller.predict(text_first="a", audio_second=handed, pictures=3, steps=1, api_name="/arithmetic")
    found = caller.predict(audio=handed, count=3, api_name="/search")
    places = [str(server.uploads), str(tmp_path), str(scene.parent), "/tmp", "site-packages"]
    new = set(server.uploads.rglob("*")) - before
    taken = [path for path in new if path.suffix in (".png", ".webp") and path.is_file()]
    texts = [path.read_bytes().decode("latin-1") for path in taken if path not in server.kept._kept]
    for path in taken:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                texts.append(json.dumps(picture.text))
    texts += [json.dumps(part) for part in (drawn[1:3], boxes[1], found[0])]
    markup = "".join(map(str, (*drawn[3:], *boxes[2:], *slide[3:], *found[1:])))
    texts.append(re.sub(r'(href|src)="gradio_api/file=[^"]*"', "", markup))  # by which alone it is known what to show
    assert len(texts) > 15 and not [(place, text[:100]) for text in texts for place in places if place in text]
    assert all(re.fullmatch(r"[\w-]+\.(png|webp)", path.name) for path in taken if str(path) not in server.kept._kept)
