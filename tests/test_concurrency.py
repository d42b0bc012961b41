"""Threads, processes and readers beside a writer get what one alone gets."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen import ImageBindDetectionPipeline
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.store import EmbeddingStore, Item

ROOT = Path(__file__).parents[1]
THREADS, RATE = 16, 16_000  # Hz
PICTURE = str(ROOT / "demos" / "pictures" / "three.webp")


def sounds(folder: Path) -> list[str]:
    """Of different lengths, so of different numbers of clips."""
    paths = [str(folder / f"{k}.wav") for k in range(THREADS)]
    for k, path in enumerate(paths):
        time = np.arange(int((0.5 + 0.3 * k) * RATE)) / RATE
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * (200 + 90 * k) * time), RATE)
    return paths


def test_sixteen_threads_get_what_one_gets_bit_for_bit(tmp_path, tiny_pipeline):
    encoder, processor = tiny_pipeline.imagebind, tiny_pipeline.processor
    finder, paths = ImageBindDetectionPipeline.from_pretrained(), sounds(tmp_path)

    def embed(k: int) -> np.ndarray:
        found = embed_inputs(encoder, processor, {"audio": [paths[k]], "text": [f"number {k}"], "image": [PICTURE]})
        return torch.cat(list(found.values())).numpy()

    def draw(k: int) -> np.ndarray:
        generator = [torch.Generator().manual_seed(k)]
        return np.asarray(tiny_pipeline(audio=paths[k], num_inference_steps=2, generator=generator).images[0])

    def detect(k: int) -> np.ndarray:
        found = finder(PICTURE, text=["a dog", "a clock", "a bird"][k % 3], threshold=0.01)
        return np.concatenate([found.xyxy.ravel(), found.scores.ravel()])

    jobs = [(call, k) for k in range(THREADS) for call in (embed, draw, detect)]
    alone = [call(k) for call, k in jobs]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda job: job[0](job[1]), jobs))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert len({one.tobytes() for one in alone}) > 2 * THREADS  # each its own, and what is detected of three words


PROCESSES = """
import multiprocessing, sys
from functools import partial
import torch
from torch.utils.data import DataLoader
from bind2gen import ImageBindModel, ImageBindProcessor
from bind2gen.imagebind.embedding import embed_inputs

def embed(model, processor, path):
    return embed_inputs(model, processor, {"audio": [path]})["audio"]

def same(name, found, wanted):
    assert torch.cat(found).sub(torch.cat(wanted)).abs().max() < 1e-6, name
    print(name, flush=True)

if __name__ == "__main__":
    folder, paths = sys.argv[1], sys.argv[2:]
    torch.set_num_threads(2)
    model = ImageBindModel.from_pretrained(folder + "/imagebind").eval()
    call = partial(embed, model, ImageBindProcessor.from_pretrained(folder + "/processor"))
    torch.randn(500, 500) @ torch.randn(500, 500)  # by threads that no forked process has
    wanted = [call(path) for path in paths]
    for how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(1) as pool:  # a spawned one imports all anew
            same(how, pool.map(call, paths), wanted)
    loader = DataLoader(paths, batch_size=1, num_workers=2, collate_fn=lambda batch: call(batch[0]))
    same("workers", list(loader), wanted)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_forked_and_spawned_processes_and_loaders_workers_get_the_same(tmp_path, tiny_folder):
    (tmp_path / "program.py").write_text(PROCESSES)
    words = [sys.executable, "-W", "error::UserWarning:bind2gen", tmp_path / "program.py", tiny_folder]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([*words, *sounds(tmp_path)[:3]], capture_output=True, text=True, check=False, timeout=500,
                          env=environment | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.stdout.split() == ["fork", "spawn", "workers"], done.stderr[-2000:]


def test_readers_see_whole_commits_while_another_writes(tmp_path):
    pytest.importorskip("lancedb")
    rows, commits = 7, 12
    vectors = np.eye(8, dtype=np.float32)
    place = str(tmp_path / "db")
    EmbeddingStore.create(place, width=8).close()

    def write() -> None:
        with EmbeddingStore.open(place) as store:
            for k in range(commits):
                store.add([Item(f"/f{k}", "image", vectors[k % 8], float(part), None, k, k) for part in range(rows)])
                if k % 5 == 4:
                    store.tidy()

    def read(shared: EmbeddingStore | None) -> list[int]:
        store, seen = shared or EmbeddingStore.open(place), []
        while not writing.done() or not seen:
            seen.append(len(store))
            assert len(store.search(vectors[0], 3)) <= 3
        return [*seen, len(store)]

    with ThreadPoolExecutor(5) as pool, EmbeddingStore.open(place) as shared:
        writing = pool.submit(write)
        counts = [part.result() for part in [pool.submit(read, store) for store in (None, None, shared, shared)]]
        writing.result()
    for seen in counts:
        assert all(count % rows == 0 for count in seen) and seen == sorted(seen) and seen[-1] == rows * commits


def test_a_pictures_bytes_do_not_change_while_it_is_read(tmp_path):
    from bind2gen.cli.files import save_picture

    path, pictures = tmp_path / "a.png", [Image.new("RGB", (64, 64), (k, k, k)) for k in range(40)]
    save_picture(pictures[0], path)

    def read() -> int:
        seen = 0
        while not writing.done():
            with Image.open(path) as image:
                assert len(set(image.convert("L").tobytes())) == 1
            seen += 1
        return seen

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(lambda: [save_picture(picture, path) for picture in pictures] and None)
        assert all(reader.result() >= 0 for reader in [pool.submit(read), pool.submit(read)])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
