"""Embeddings on disk: ``.npz``, ``.safetensors`` or ``.json``, all with the names of the inputs beside the vectors.

For a modality ``audio`` the file holds ``audio`` (N, D) float32 and ``audio_inputs`` (N names; in safetensors a JSON
list in the metadata), and of a timeline ``audio_times``, (N, 2) float64: start and end of each row's window in seconds.
Rows of one recording share its name. In JSON they are ``inputs``, ``vectors`` and ``times`` of
``{"details": ..., "embeddings": {"audio": ...}}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import EmptyInputError, InputError, NonFiniteError, ShapeError, UnreadableError
from .arrays import read_arrays
from .atomic import written_whole
from .parsed import SAFETENSORS_LENGTH_BYTES

INPUTS, TIMES = "_inputs", "_times"  # after the modality's name
DETAILS = "details"


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings of some inputs.

    Attributes:
        vectors: modality -> (N, D) float32, unit norm.
        inputs: modality -> N names, of files or the texts themselves.
        details: how they were made: model, version.
        times: modality -> (N, 2) float64, start and end of each row in seconds, of timelines; empty where a row is a
            whole input.
    """

    vectors: Mapping[str, np.ndarray]
    inputs: Mapping[str, list[str]]
    details: Mapping[str, str]
    times: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.vectors:
            raise EmptyInputError("embeddings: wanted at least one modality, got none")
        if set(self.vectors) != set(self.inputs):
            raise InputError(f"embeddings of {sorted(self.vectors)}, but names of {sorted(self.inputs)}")
        for modality, array in self.vectors.items():
            if array.ndim != 2 or array.dtype != np.float32 or len(array) != len(self.inputs[modality]):
                names = len(self.inputs[modality])
                raise ShapeError(f"{modality}: wanted ({names}, D) float32, got {array.shape} {array.dtype}")
            if not np.isfinite(array).all():
                raise NonFiniteError(f"{modality}: wanted finite embeddings, found NaN or infinity")
        for modality, array in self.times.items():
            rows = len(self.vectors.get(modality, ()))
            if array.shape != (rows, 2) or array.dtype != np.float64:
                raise ShapeError(f"times of {modality}: wanted ({rows}, 2) float64, got {array.shape} {array.dtype}")
            if not np.isfinite(array).all():
                raise NonFiniteError(f"times of {modality}: wanted finite seconds, found NaN or infinity")


def save_embeddings(path: str | os.PathLike[str], embeddings: EmbeddingSet) -> None:
    """Write embeddings; the suffix says in which form. The file appears whole or not at all.

    Raises:
        InputError: the suffix is none of :data:`FORMATS`.
        Bind2GenError: the system refuses to write there.
    """
    save = _format(path)[0]
    with written_whole(path) as temporary:
        save(temporary, embeddings)


def load_embeddings(path: str | os.PathLike[str]) -> EmbeddingSet:
    """Read what :func:`save_embeddings` wrote.

    Raises:
        InputError: unknown suffix.
        UnreadableError: no such file, or it is not of that form.
    """
    load = _format(path)[1]
    try:
        return load(Path(path))
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  (each of the three readers has a tree of errors of its own)
        raise UnreadableError(f"{path}: cannot be read as embeddings ({type(error).__name__}: {error})") from error


def _save_npz(path: Path, embeddings: EmbeddingSet) -> None:
    arrays: dict[str, Any] = _arrays(embeddings)
    arrays |= {f"{name}{INPUTS}": np.array(names, dtype=np.str_) for name, names in embeddings.inputs.items()}
    np.savez(path, **{DETAILS: np.array(json.dumps(dict(embeddings.details)))}, **arrays)


def _load_npz(path: Path) -> EmbeddingSet:
    with path.open("rb") as file:
        arrays = read_arrays(file, str(path))
    if not isinstance(arrays, dict):
        raise ValueError("one array alone")
    details = json.loads(str(arrays.pop(DETAILS)))
    inputs = {name.removesuffix(INPUTS): arrays.pop(name).tolist() for name in list(arrays) if name.endswith(INPUTS)}
    return EmbeddingSet(*_split(arrays, inputs, details))


def _save_safetensors(path: Path, embeddings: EmbeddingSet) -> None:
    from safetensors.numpy import save_file

    metadata = {f"{name}{INPUTS}": json.dumps(names) for name, names in embeddings.inputs.items()}
    metadata[DETAILS] = json.dumps(dict(embeddings.details))
    # safetensors stores memory as it lies, so a transposed view would come back scrambled.
    save_file({name: np.ascontiguousarray(array) for name, array in _arrays(embeddings).items()}, path, metadata)
    _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """By name: safetensors writes it in an order that is another one in each process, and so would the file be."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(SAFETENSORS_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(SAFETENSORS_LENGTH_BYTES)
            file.write(text.ljust(length))  # with spaces, as the format has it


def _load_safetensors(path: Path) -> EmbeddingSet:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    names = {key.removesuffix(INPUTS): json.loads(value) for key, value in metadata.items() if key.endswith(INPUTS)}
    return EmbeddingSet(*_split(arrays, names, json.loads(metadata[DETAILS])))


def _arrays(embeddings: EmbeddingSet) -> dict[str, np.ndarray]:
    return {**embeddings.vectors, **{f"{name}{TIMES}": times for name, times in embeddings.times.items()}}


def _split(arrays: dict[str, np.ndarray], inputs: dict[str, list[str]], details: dict[str, str]) -> tuple:
    """Arguments of an :class:`EmbeddingSet`, from arrays by their names in a file."""
    times = {name.removesuffix(TIMES): arrays.pop(name) for name in list(arrays) if name.endswith(TIMES)}
    return arrays, inputs, details, times


def _save_json(path: Path, embeddings: EmbeddingSet) -> None:
    # Row by row: a long timeline as Python's lists would take ten times its memory.
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({DETAILS: dict(embeddings.details)})[:-1] + ', "embeddings": {')
        for number, (name, vectors) in enumerate(embeddings.vectors.items()):
            file.write(f'{", " * (number > 0)}{json.dumps(name)}: {{"inputs": ')
            file.write(json.dumps(list(embeddings.inputs[name])))
            _write_rows(file, "vectors", vectors)
            if name in embeddings.times:
                _write_rows(file, "times", embeddings.times[name])
            file.write("}")
        file.write("}}\n")


def _write_rows(file: IO[str], key: str, rows: np.ndarray) -> None:
    file.write(f', "{key}": [')
    for number, row in enumerate(rows):
        # float32 -> Python float -> shortest decimal -> float32 is exact.
        file.write(", " * (number > 0) + json.dumps(row.tolist()))
    file.write("]")


def _load_json(path: Path) -> EmbeddingSet:
    values = json.loads(path.read_text(encoding="utf-8"))
    rows = values["embeddings"]
    with np.errstate(over="ignore"):  # what is beyond single precision is refused as infinite
        vectors = {name: np.array(row["vectors"], dtype=np.float32) for name, row in rows.items()}
    times = {name: np.array(row["times"], dtype=np.float64) for name, row in rows.items() if "times" in row}
    return EmbeddingSet(vectors, {name: row["inputs"] for name, row in rows.items()}, values[DETAILS], times)


Saver = Callable[[Path, EmbeddingSet], None]
Loader = Callable[[Path], EmbeddingSet]
FORMATS: dict[str, tuple[Saver, Loader]] = {
    ".npz": (_save_npz, _load_npz),
    ".safetensors": (_save_safetensors, _load_safetensors),
    ".json": (_save_json, _load_json),
}


def _format(path: str | os.PathLike[str]) -> tuple[Saver, Loader]:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: wanted a file ending in {', '.join(FORMATS)}, got {suffix or 'no suffix'!r}")
    return FORMATS[suffix]
