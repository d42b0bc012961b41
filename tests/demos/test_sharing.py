"""What visitors leave each other: jobs, bytes, and nothing on the disk. On a small server with small limits."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from bind2gen.studio.limits import MEGABYTE

gradio_client = pytest.importorskip("gradio_client", reason="the demos need Gradio: pip install 'bind2gen[demos]'")

PATIENCE = 60  # s


def files_in(folder):
    return {Path(place, name) for place, _, names in os.walk(folder) for name in names}  # of which some just go


def uploads_in(folder):
    return {path for path in files_in(folder) if path.suffix == ".wav"}


def test_drawn_pictures_animations_and_uploads_are_deleted_and_examples_are_not(small, tmp_path, monkeypatch):
    examples = files_in(small.kept.folder)
    caller = gradio_client.Client(small.url, verbose=False, download_files=str(tmp_path))
    caller.predict(text_first="a", text_second="a bee", audio_second=None, pictures=3, steps=1, api_name="/arithmetic")
    small.upload("203.0.113.50", 100)
    (small.kept.folder / "tmpbroken").write_bytes(b"an upload that broke off")
    left = files_in(small.kept.folder) - examples
    assert sorted(path.suffix for path in left) == ["", *[".png"] * 10, ".wav", ".webp"]  # small pictures also enlarged
    address = f"{small.url}gradio_api/file={next(path for path in left if path.suffix == '.webp')}"
    assert httpx.get(address).status_code == 200
    monkeypatch.setattr(small.kept, "age", 0.1)
    small.wait_until(lambda: files_in(small.kept.folder) == examples)
    assert examples and httpx.get(address).status_code in (403, 404)
    small.wait_until(lambda: not any({str(path) for path in left} & known for known in small.blocks.temp_file_sets))


def test_one_address_cannot_fill_the_queue_and_no_crowd_makes_it_longer(small, held, monkeypatch):
    assert [small.ask("203.0.113.1", name).status_code for name in ("sound2image", "hear", "sound2image")] == [
        200,
        200,
        429,
    ]
    refused = small.ask("203.0.113.1")
    assert "at most 2 jobs at a time" in refused.json()["detail"] and "\n" not in refused.text
    assert small.ask("198.51.100.7, 203.0.113.1").status_code == 429  # the first part was written by the visitor
    assert small.ask("203.0.113.2").status_code == 200
    monkeypatch.setattr(small.blocks._queue, "max_size", 3)
    assert small.ask("203.0.113.3").status_code == 503


def test_who_is_stopped_while_he_waits_is_told_so_last(small, held):
    assert small.join("203.0.113.11", "mine").status_code == 200
    small.wait_until(lambda: any(job.session == "mine" for job in small.studio.worker._jobs))
    assert small.studio.stop("mine")
    completed = next(line for line in small.news("mine").splitlines() if "process_completed" in line)
    assert "Stopped." in completed and "Waiting" not in completed


def test_who_had_too_many_jobs_may_have_others_when_they_are_done(small):
    for _ in range(5):
        small.wait_until(lambda: small.ask("203.0.113.4").status_code == 200)


def test_a_request_holds_one_file_however_it_is_sent(small):
    before = uploads_in(small.kept.folder)
    ten = small.upload("203.0.113.5", *[int(0.095 * MEGABYTE)] * 10)
    assert ten.status_code == 413 and "one by one" in ten.text and "\n" not in ten.text
    body = (b"--b\r\nContent-Disposition: form-data; name=files; filename=a.wav\r\n\r\n", *[b"x" * 50_000] * 10)
    untold = small.post("upload", "203.0.113.5", "multipart/form-data; boundary=b", content=iter(body))
    assert untold.status_code == 413 and uploads_in(small.kept.folder) == before
    assert small.upload("203.0.113.5", int(0.095 * MEGABYTE)).status_code == 200


def test_one_address_has_its_share_of_the_disk_and_others_have_theirs(small):
    sent = [small.upload("203.0.113.6", int(0.095 * MEGABYTE)) for _ in range(12)]
    codes = [answer.status_code for answer in sent]
    assert codes == sorted(codes) and 5 < codes.count(200) < 12 and codes[-1] == 413
    assert "at most 1 MB of uploads and pictures an hour" in sent[-1].text and "\n" not in sent[-1].text
    assert small.upload("203.0.113.7", 1000).status_code == 200
    sent = [small.upload(f"2001:db8::{k}", int(0.095 * MEGABYTE)).status_code for k in range(1, 12)]
    assert sent[0] == 200 and sent[-1] == 413  # one network, one visitor
    assert small.upload("2001:db8:0:1::1", 1000).status_code == 200


def test_a_picture_beyond_the_share_is_refused_in_words(small):
    small.kept.charge("203.0.113.8", MEGABYTE)
    asked = small.ask("203.0.113.8").json()["event_id"]
    answer = httpx.get(f"{small.url}gradio_api/call/sound2image/{asked}", timeout=PATIENCE).text
    assert "event: error" in answer and "at most 1 MB of uploads and pictures an hour" in answer


def test_nothing_goes_round_the_queue_or_writes_elsewhere(small):
    visitor = "203.0.113.9"
    for way in ("run", "api"):  # Gradio's ways to call without the queue
        assert small.post(f"{way}/hear", visitor, json={"data": ["a"] * 13}).status_code == 404
    for path in ("process_recording", "component_server", "stream/x", "vibe-edit"):
        assert small.post(path, visitor).status_code == 403
    assert httpx.get(f"{small.url}gradio_api/deep_link?session_hash=x").status_code == 403
    assert small.post("queue/join", visitor, json={"data": ["x" * (2 << 20)]}).status_code == 413
