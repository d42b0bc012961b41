"""The endpoints by name, as scripts call them, and what the server refuses."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.errors import DependencyError
from bind2gen.files.bundled import example_sounds
from bind2gen.studio import Studio
from bind2gen.studio.animation import SMALLEST
from bind2gen.studio.files import VisitorFiles

gradio_client = pytest.importorskip("gradio_client", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

VISITORS = 8
PATIENCE = 120  # s for all visitors together


def client(server, folder=None):
    options = {"download_files": str(folder)} if folder else {}
    return gradio_client.Client(server.url, verbose=False, httpx_kwargs={"timeout": PATIENCE}, **options)


def example(name):
    return gradio_client.handle_file(str(example_sounds()[name]))


def draw(caller, **given):
    return caller.predict(api_name="/sound2image", **({"steps": 2} | given))


def pixels(result):
    files, *_ = result
    return np.stack([np.asarray(Image.open(item["image"]).convert("RGB"), dtype=int) for item in files])


def test_the_page_says_how_weak_the_detector_is_on_whole_photographs(server):
    texts = [str(part["props"].get("value")) for part in server.blocks.config["components"]]
    assert server.detecting.note and any(server.detecting.note in text for text in texts)


def test_endpoints_are_the_documented_ones_with_these_parameters(server):
    found = client(server).view_api(return_format="dict", print_info=False)["named_endpoints"]
    parameters = {name: [p["parameter_name"] for p in about["parameters"]] for name, about in found.items()}
    mixed = ["audio", "text", "image", "depth", "depth_sensor", "thermal", "imu"]
    weights = [f"weight_{name}" for name in ("audio", "text", "image", "depth", "thermal", "imu")]
    drawing = ["seed", "steps", "guidance"]
    things = [f"{kind}_{which}" for which in ("first", "second") for kind in ("text", "audio", "image")]
    assert parameters == {
        "/sound2image": [*mixed, *weights, *drawing, "pictures"],
        "/hear": [*mixed, *weights],
        "/detect": ["picture", "audio", "audio_second", "audio_third", "text", "threshold"],
        "/detect_threshold": ["threshold"],
        "/arithmetic": [*things, "pictures", "amount", *drawing],
        "/search": ["audio", "text", "audio_second", "image", "without", "modality", "count"],
        "/stop": [],
        "/stop_detect": [],
        "/stop_arithmetic": [],
        "/stop_search": [],
    }


def test_a_sound_becomes_the_pictures_of_its_seeds(server, tmp_path, bundled_side):
    caller = client(server, tmp_path)
    two = draw(caller, audio=example("frog"), seed=5, pictures=2)
    heard, details = two[1], two[2]
    assert heard["label"] == max(details["heard"], key=details["heard"].get)
    assert details["seeds"] == [5, 6] and details["stopped"] is False
    assert len(details["round_trip"]) == 2 and all(-1 <= score <= 1 for score in details["round_trip"])
    assert pixels(two).shape == (2, bundled_side, bundled_side, 3)
    alone = draw(caller, audio=example("frog"), seed=6)
    assert abs(pixels(alone)[0] - pixels(two)[1]).max() <= 1
    assert abs(pixels(two)[0] - pixels(two)[1]).mean() > 5


def test_the_page_begins_with_pictures_that_this_very_model_drew(server, page, tmp_path, tiny_pipeline):
    opening = page.sound2image.opening
    shown = opening.opening_of(server.studio)
    files, heard, details, *_ = draw(client(server, tmp_path), audio=example(opening.SOUND), steps=20)
    assert len(shown.seeds) == 4 and list(shown.seeds)[0] == details["seeds"][0]
    kept = {seed: np.asarray(Image.open(path).convert("RGB"), dtype=int) for seed, path in shown.seeds.items()}
    drawn = pixels([files])[0]
    apart = {seed: abs(drawn - picture).mean() for seed, picture in kept.items()}
    assert apart[0] < 4 < 15 < min(apart[seed] for seed in list(shown.seeds)[1:])  # levels of 255; WebP loses about 2
    assert details["understood"] == shown.understood and details["heard"] == pytest.approx(shown.heard, abs=1e-3)
    assert files[0]["caption"] == "cat · seed 0" and details["notes"] == []
    studio = Studio(tiny_pipeline, words=("a", "b"))
    assert opening.opening_of(studio) is None  # of another model they would not be its own
    studio.close()


def test_what_is_not_drawn_or_unknown_is_said_in_place_of_a_certainty(server, tmp_path):
    caller = client(server, tmp_path)
    files, heard, details, *_ = draw(caller, audio=example("drone"), steps=1)
    assert files[0]["caption"] == "drone, not among what I draw · seed 0" and heard["label"] == "drone"
    drawn = details["understood"]["audio"]["drawn"]
    [note] = details["notes"]
    assert drawn in server.studio.kinds and note.startswith("heard: drone, which is not among the things that this")
    assert note.endswith(f"the nearest of them is {drawn}")
    files, heard, details, *_ = draw(caller, text="a unicorn", steps=1)
    assert files[0]["caption"] == "none of the things I know · seed 0"
    assert heard["label"] == "None of the things I know" and not heard["confidences"]
    assert details["notes"][0].startswith("read: ") and "like none of the things" in details["notes"][0]
    files, _, details, *_ = draw(caller, audio=example("drone"), text="a clock", weight_audio=0, steps=1)
    assert files[0]["caption"] == "clock · seed 0" and details["notes"] == []


def test_hearing_names_sounds_and_texts(server):
    caller = client(server)
    for name in ("dog", "clock"):
        heard = caller.predict(audio=example(name), api_name="/hear")
        assert heard["label"] == next(iter(server.studio.hear({"audio": str(example_sounds()[name])})))
    silent = caller.predict(text="a train", api_name="/hear")
    assert silent["label"] == "train"


def test_a_weight_of_zero_leaves_the_sound_out(server, tmp_path):
    caller = client(server, tmp_path)
    both = draw(caller, audio=example("dog"), text="a clock", weight_audio=0)
    assert abs(pixels(both) - pixels(draw(caller, text="a clock"))).max() <= 1


def test_arithmetic_gives_slide_differences_and_animation(server, tmp_path, bundled_side):
    strip, differences, animation, *_ = client(server, tmp_path).predict(
        text_first="a bird", audio_second=example("car"), pictures=3, steps=2, api_name="/arithmetic"
    )
    assert [item["caption"].split(" · ")[0] for item in strip] == ["0%", "50%", "100%"]
    assert [item["caption"] for item in differences] == ["first − second", "second − first"]
    with Image.open(animation) as moving:
        assert moving.is_animated and max(moving.size) >= SMALLEST


def find(caller, picture, *sounds, **given):
    """Path of the picture with boxes, and the details."""
    slots = dict(zip(("audio", "audio_second", "audio_third"), sounds, strict=False))
    answer = caller.predict(picture=gradio_client.handle_file(str(picture)), api_name="/detect", **slots, **given)
    return answer[0], answer[1]


def test_boxes_of_sounds_and_words_are_those_of_the_library(server, scene, tmp_path):
    drawn, told = find(client(server, tmp_path), scene, example("clock"), None, example("frog"), text="a dog, rain")
    assert [(p["label"], p["kind"]) for p in told["prompts"]] == [
        ("sound 1", "audio"), ("sound 3", "audio"), ("a dog", "text"), ("rain", "text"),
    ]  # fmt: skip
    assert len({p["colour"] for p in told["prompts"]}) == 4
    assert told["threshold"] == pytest.approx(server.detecting.threshold, abs=0.006)  # of two decimals on the slider
    sounds = [str(example_sounds()[name]) for name in ("clock", "frog")]
    pipe = server.detecting.pipe
    wanted = pipe(scene, audio=sounds, text=["a dog", "rain"], threshold=told["threshold"])
    assert [box["label"] for box in told["boxes"]] == [
        {"clock": "sound 1", "frog": "sound 3"}.get(name, name) for name in wanted.names
    ]
    assert np.allclose([box["xyxy"] for box in told["boxes"]], wanted.xyxy, atol=0.051)
    assert Image.open(drawn).width >= 640


def test_the_threshold_filters_the_last_finding_without_any_network(server, scene, monkeypatch):
    caller = client(server)
    _, low = find(caller, scene, example("clock"), example("bird"), threshold=0.05)
    scores = [box["score"] for box in low["boxes"]]
    assert len(scores) > 1
    monkeypatch.setattr(server.detecting.pipe, "encode_image", None)
    monkeypatch.setattr(server.detecting.pipe, "find", None)
    middle = (scores[0] + scores[1]) / 2
    told, *_ = caller.predict(threshold=middle, api_name="/detect_threshold")
    assert told["boxes"] == low["boxes"][:1] and told["threshold"] == pytest.approx(middle)
    told, *_ = caller.predict(threshold=1, api_name="/detect_threshold")
    assert told["boxes"] == [] and [p["boxes"] for p in told["prompts"]] == [0, 0]


def test_a_search_without_picture_prompt_or_with_a_bad_one_is_one_line(server, scene, files):
    caller = client(server)
    bad = gradio_client.handle_file(str(files / "text.wav"))
    for given, says in (
        (dict(audio=example("dog")), "no picture to search"),
        (dict(picture=gradio_client.handle_file(str(scene))), "nothing to look for"),
        (dict(picture=gradio_client.handle_file(str(scene)), audio=bad), "text.wav: wanted"),
        (dict(picture=gradio_client.handle_file(str(files / "bomb.png")), text="a dog"), "bomb.png: a picture of"),
        (dict(picture=gradio_client.handle_file(str(scene)), text="a,b,c,d,e,f,g,h"), "at most 7"),
        (
            dict(picture=gradio_client.handle_file(str(scene)), text="a dog", threshold=2),
            "threshold: wanted a number from 0 to 1, got 2",
        ),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=says) as caught:
            caller.predict(api_name="/detect", **given)
        assert "\n" not in str(caught.value) and str(server.uploads) not in str(caught.value)


def test_eight_visitors_at_once_all_get_pictures(server, tmp_path):
    results, errors = {}, []

    def visit(k):
        try:
            results[k] = pixels(draw(client(server, tmp_path / str(k)), text="a dog", seed=k))
        except Exception as error:  # noqa: BLE001  (gathered, and none is wanted)
            errors.append(error)

    threads = [threading.Thread(target=visit, args=(k,)) for k in range(VISITORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not errors and len(results) == VISITORS
    assert len({result.tobytes() for result in results.values()}) == VISITORS  # each his own seed


def test_a_cancelled_drawing_stops_and_the_next_one_is_whole(server, tmp_path):
    caller = client(server, tmp_path)
    job = caller.submit(text="a dog", steps=50, api_name="/sound2image")
    next(iter(job))
    job.cancel()
    result = draw(client(server, tmp_path / "next"), text="a dog")
    assert result[2]["stopped"] is False and not server.studio.worker.busy


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"steps": 51}, "steps: wanted a whole number from 1 to 50, got 51"),
        ({"pictures": 5}, "pictures: wanted a whole number from 1 to 4, got 5"),
        ({"seed": -1}, "seed: wanted a whole number from 0 to 4294967295, got -1"),
        ({"text": "x" * 301}, "at most 300 characters, got 301"),
        ({"depth_sensor": "eye"}, "depth camera: wanted one of kinect_v1"),
        ({"text": None}, "nothing was given"),
        ({"weight_text": 0}, "at least one above zero"),
    ],
)
def test_limits_hold_for_scripts_too_in_our_words_and_without_a_traceback(server, files, given, says, capfd):
    given = {"text": "a dog"} | given
    if "depth_sensor" in given:
        given["depth"] = gradio_client.handle_file(str(files / "bomb.png"))
    with pytest.raises(gradio_client.exceptions.AppError, match=says):
        draw(client(server), **given)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["text.wav", "empty.wav"])
def test_bad_sounds_are_one_line_without_folders(server, files, name):
    with pytest.raises(gradio_client.exceptions.AppError, match=name) as caught:
        draw(client(server), audio=gradio_client.handle_file(str(files / name)))
    assert "\n" not in str(caught.value) and str(server.uploads) not in str(caught.value)


def test_nothing_outside_the_upload_folder_is_given_or_read(server):
    mine = Path(__file__).resolve()
    for path in ("/etc/passwd", str(mine), "pyproject.toml", "../etc/passwd"):
        assert httpx.get(f"{server.url}gradio_api/file={path}").status_code == 403
    with open(example_sounds()["dog"], "rb") as file:
        [uploaded] = httpx.post(f"{server.url}gradio_api/upload", files={"files": ("dog.flac", file)}).json()
    assert "event: complete" in hear_file_at(server, uploaded)
    for path in (str(mine), "/etc/passwd", str(example_sounds()["dog"])):
        assert "event: error" in hear_file_at(server, path)
    assert not any(found.name == mine.name for found in server.uploads.rglob("*"))


def hear_file_at(server, path):
    """Ask without the client, which would upload what lies here, for what the server hears in a file of its own."""
    defaults = [None, None, None, "kinect_v1", None, None, *[1.0] * 6]
    upload = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.wav"}
    asked = httpx.post(f"{server.url}gradio_api/call/hear", json={"data": [upload, *defaults]})
    return httpx.get(f"{server.url}gradio_api/call/hear/{asked.json()['event_id']}", timeout=PATIENCE).text


def test_the_server_fetches_nothing_on_behalf_of_visitors(server):
    for path in (
        "file=http://127.0.0.1:9/x",
        "file=https://example.com/x",
        "proxy=https://example.com/x",
        "file/http:/x",
    ):
        answer = httpx.get(f"{server.url}gradio_api/{path}")
        assert answer.status_code == 403
    elsewhere = {"path": "https://example.com/a.wav", "meta": {"_type": "gradio.FileData"}, "orig_name": "a.wav"}
    with pytest.raises(gradio_client.exceptions.AppError, match="wanted an uploaded file, got an address"):
        draw(client(server), audio=elsewhere)


def test_the_page_may_reach_this_server_only_and_says_so(server):
    answer = httpx.get(server.url)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    allowed = {word for words in policy.values() for word in words.split()}
    assert allowed <= {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}


def test_an_upload_beyond_the_limit_is_cut_off_by_the_server(server, files):
    with open(files / "huge.wav", "rb") as file:
        chunk = file.read(21_000_000)
    answer = httpx.post(f"{server.url}gradio_api/upload", files={"files": ("huge.wav", chunk)})
    assert answer.status_code == 413


def test_without_a_proxy_nobody_names_his_own_address(server):
    with open(__file__, "rb") as file:
        answer = httpx.post(
            f"{server.url}gradio_api/upload", files={"files": file}, headers={"x-forwarded-for": "203.0.113.10"}
        )
    assert answer.status_code == 200 and set(server.kept._sums) == {"127.0.0.1"}


def test_the_queue_is_bounded(server, page):
    assert server.blocks._queue.max_size == server.blocks._queue.default_concurrency_limit == page.JOBS
    fns = [fn for fn in server.blocks.fns.values() if fn.api_name in ("sound2image", "hear", "detect", "arithmetic")]
    assert len(fns) == 4 and {(fn.concurrency_id, fn.concurrency_limit) for fn in fns} == {("model", "default")}
    assert server.blocks.state_session_capacity == page.SESSIONS


def test_nothing_is_reported_home(server):
    config = server.blocks.config
    assert config["analytics_enabled"] is False and not server.blocks.share
    assert server.blocks.run_history is False and not server.blocks.stylesheets


def test_a_page_with_one_demo_has_its_endpoints_only(page, tiny_pipeline, tmp_path):
    studio = Studio(tiny_pipeline, words=("a", "b"))
    fns = page.build({"arithmetic": studio}, VisitorFiles(tmp_path)).fns.values()
    names = {fn.api_name for fn in fns if fn.api_visibility == "public"}
    assert names == {"arithmetic", "stop_arithmetic"}
    studio.close()


def test_an_installation_without_demos_says_so(monkeypatch, tmp_path):
    from bind2gen.cli import demo

    monkeypatch.setattr(demo, "FOLDERS", (tmp_path,))
    monkeypatch.delitem(demo.sys.modules, demo.DEMOS, raising=False)
    with pytest.raises(DependencyError, match="reinstall"):
        demo.demos()


def test_the_script_in_readme_runs(server, tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "demos" / "README.md").read_text(encoding="utf-8")
    [script] = [part for part in text.split("```") if "http://127.0.0.1:7860" in part and part.startswith("python")]
    monkeypatch.chdir(tmp_path)
    Image.open(Path(__file__).parents[2] / "demos" / "pictures" / "three.webp").convert("RGB").save("street.jpg")
    soundfile.write("siren.wav", *soundfile.read(example_sounds()["bird"]))
    names: dict = {}
    exec(script.removeprefix("python\n").replace("http://127.0.0.1:7860", server.url), names)
    assert names["found"]["threshold"] == 0.7


def test_a_sound_finds_pictures_by_name_and_shows_nothing_else_of_them(server):
    caller = client(server)
    details, page, _ = caller.predict(audio=example("cat"), modality="image", count=4, api_name="/search")
    found = details["results"]
    assert len(found) == 4 and all(one["modality"] == "image" for one in found)
    assert found == sorted(found, key=lambda one: -one["score"])
    assert sum(one["name"].startswith("cat") for one in found) >= 3  # which this model drew
    assert "/" not in "".join(one["name"] for one in found) and str(Path(__file__).parents[2]) not in page
    sounds, *_ = caller.predict(text="a dog", modality="audio", count=1, api_name="/search")
    assert sounds["results"][0]["name"] == "dog.flac"
    both, *_ = caller.predict(audio=example("cat"), text="a dog", modality="anything", api_name="/search")
    without, *_ = caller.predict(text="a dog", without="a dog", modality="audio", count=1, api_name="/search")
    assert {one["modality"] for one in both["results"]} == {"image", "audio"} and len(both["results"]) == 12
    assert without["results"][0]["score"] < sounds["results"][0]["score"] or without["results"] == sounds["results"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to search by"),
        ({"text": "a", "modality": "imu"}, "wanted to find"),
        ({"text": "a", "count": 1000}, "count: wanted a whole number from 1 to 24"),
    ],
)
def test_searches_that_cannot_be_are_one_line(server, given, message):
    with pytest.raises(gradio_client.exceptions.AppError, match=message):
        client(server).predict(**given, api_name="/search")
