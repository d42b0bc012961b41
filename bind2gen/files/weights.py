"""Files of tensors: found in a file, a folder or a hub repository, opened lazily, refused with the reason.

Nothing is read but the directory of a file until a tensor is asked for, and a tensor that is asked for is a view of
the mapped file: loading one tower of six touches only that tower's pages.
"""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from .hub import CONFIG_FILE, is_hub_id, saved_file
from .parsed import SAFETENSORS_LENGTH_BYTES, parse_json

SAFETENSORS_MAX_HEADER = 100_000_000  # bytes, the format's own limit
SHARED = 4  # times as large as the file all tensors may be: some lie in it once and have several names
LONGEST_NAME = 255  # bytes
ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"  # torch.save before version 1.6
TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
INDEX_NAMES = tuple(f"{name}.index.json" for name in TRANSFORMERS)
DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # of its own networks
FILE_NAMES = (*TRANSFORMERS, "imagebind_huge.pth")

Find = Callable[[str], Path | None]  # a file name to where it lies, None where there is none


class Weights(Mapping[str, torch.Tensor]):
    """Tensors by key over one or several files; each file is opened when a tensor of it is first wanted."""

    def __init__(self, where: str, files: dict[str, str], find: Find) -> None:
        """``files`` says in which file each key lies; ``where`` names the whole in messages."""
        self.where = where
        self._files, self._find = files, find
        self._open: dict[str, Mapping[str, torch.Tensor]] = {}

    def __getitem__(self, key: str) -> torch.Tensor:
        name = self._files[key]
        if name not in self._open:
            path = self._find(name)
            if path is None:
                raise CheckpointError(f"{self.where}: the index names {name}, which is missing")
            self._open[name] = open_tensors(path)
        if key not in self._open[name]:
            raise CheckpointError(f"{self.where}: the index says that {name} holds {key!r}; it does not")
        return self._open[name][key]

    def __contains__(self, key: object) -> bool:  # Mapping's own would read the tensor
        return key in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class _Safetensors(Mapping[str, torch.Tensor]):
    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._keys = set(self._file.keys())

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._file.get_tensor(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def open_weights(source: str | os.PathLike[str]) -> Weights:
    """Open a file, a folder (sharded or not) or, where no such path exists, a hub id ``owner/name``.

    Raises:
        CheckpointError: nothing there, or not a weight file, with the reason.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(str(path), lambda name: path / name if (path / name).is_file() else None)
    if path.exists():
        return Weights(str(path), dict.fromkeys(open_tensors(path), path.name), lambda name: path)
    if isinstance(source, str) and is_hub_id(source):
        return _open_folder(source, lambda name: _download(source, name))
    raise CheckpointError(f"{path}: no such file or folder; wanted imagebind_huge.pth, a folder or a hub id owner/name")


def weights_beside(
    source: str | os.PathLike[str], files: Sequence[str] = TRANSFORMERS, *, variant: str | None = None, **options: Any
) -> Weights | None:
    """The weights that a library's ``from_pretrained`` would read of a folder or hub id; None where it finds none.

    Args:
        files: as the library names them; default is transformers.
        variant: such as "fp16", which stands in the names.
        options: of :func:`bind2gen.files.hub.saved_file`.

    Raises:
        CheckpointError: what is there is damaged.
    """
    dot = f".{variant}" if variant else ""
    names = tuple(dot.join(os.path.splitext(name)) for name in files)
    indices = tuple(f"{name}.index{dot}.json" for name in files)
    where, on_hub = Path(source, options.get("subfolder") or ""), is_hub_id(str(source))
    folder = _cached_folder(source, (*names, *indices), options) if on_hub else where
    if folder is None or not any((folder / name).is_file() for name in (*names, *indices)):
        return None

    def find(name: str) -> Path | None:
        if (folder / name).is_file():
            return folder / name
        return saved_file(source, name, **options) if on_hub and name not in (*names, *indices) else None  # a shard

    return _open_folder(str(where), find, indices, names)


def _cached_folder(source: str | os.PathLike[str], names: Sequence[str], options: Mapping[str, Any]) -> Path | None:
    """Where a hub repository's config.json lies, and beside it the first of ``names`` that there is."""
    config = saved_file(source, CONFIG_FILE, **options)
    if config is None:  # out of reach: every other file would have to be waited for as long
        return None
    if options.get("force_download") or not any((config.parent / name).is_file() for name in names):
        next((name for name in names if saved_file(source, name, **options)), None)
    return config.parent


def _download(repository: str, name: str) -> Path | None:
    """One file of a hub repository, from the cache where it is there already; None where the hub has no such file."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    cached = {other: try_to_load_from_cache(repository, other) for other in (name, *INDEX_NAMES, *FILE_NAMES)}
    if isinstance(cached[name], str):
        return Path(cached[name])
    if cached[name] is not None:  # the hub said on an earlier occasion that it has none
        return None
    try:
        return Path(hf_hub_download(repository, name))
    except LocalEntryNotFoundError as error:  # a kind of the next one: out of reach, and not in the cache
        if any(isinstance(path, str) for path in cached.values()):
            return None
        raise CheckpointError(
            f"{repository}: no such folder here, nor in the Hugging Face cache, and the hub cannot be reached; "
            "connect to it, or give the path of the weights"
        ) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{repository}: could not download {name} from the Hugging Face hub: {reason}") from error


def _open_folder(
    where: str, find: Find, indices: tuple[str, ...] = INDEX_NAMES, names: tuple[str, ...] = FILE_NAMES
) -> Weights:
    for name in indices:
        if index := find(name):
            try:
                files = parse_json(index.read_text(encoding="utf-8"))["weight_map"]
            except (ValueError, KeyError, TypeError, OSError) as error:
                reason = f"{type(error).__name__}: {error}"  # its repr would quote the whole file
                raise CheckpointError(f"{where}: {name} is not an index of weight files: {reason}") from error
            if not isinstance(files, dict) or not all(isinstance(f, str) for f in files.values()):
                raise CheckpointError(f"{where}: {name} is not an index of weight files: its weight_map names none")
            if unsafe := sorted({f for f in files.values() if Path(f).name != f or len(f.encode()) > LONGEST_NAME}):
                what = "points outside its folder, or to a name longer than disks take"
                raise CheckpointError(f"{where}: {name} {what}: {unsafe[0][:80]!r}")
            return Weights(where, files, find)
    for name in names:
        if path := find(name):
            return Weights(where, dict.fromkeys(open_tensors(path), name), lambda _, path=path: path)
    raise CheckpointError(f"{where}: no weight file there; wanted one of {', '.join(names + indices)}")


def open_tensors(path: Path) -> Mapping[str, torch.Tensor]:
    """Map one .pth, .bin or .safetensors file; what it is is told from its content, not its name.

    Raises:
        CheckpointError: empty, truncated, a web page, a git-lfs pointer, or not a flat state dict.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if reason := _not_weights(head):
        raise CheckpointError(f"{path}: {reason}")
    # Of a header in JSON the length, which comes first, may begin as a pickle does; a pickle has its own mark there.
    pickled = head.startswith((ZIP_MAGIC, PICKLE_MAGIC)) and head[SAFETENSORS_LENGTH_BYTES:][:1] != b"{"
    return _open_torch(path) if pickled else _open_safetensors(path, head)


def _not_weights(head: bytes) -> str | None:
    """Why a file that starts so is no weight file; None if it may be one."""
    text = head.lstrip().lower()
    if not head:
        return "the file is empty; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "this is a git-lfs pointer, not the weights; run `git lfs pull` where it came from"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page, not weights: the download gave an error page; download it again"
    if head.startswith((ZIP_MAGIC, PICKLE_MAGIC)) or head[SAFETENSORS_LENGTH_BYTES:].startswith(b"{"):
        return None
    return "not a weight file; wanted a PyTorch (.pth, .bin) or safetensors file"


def _open_torch(path: Path) -> Mapping[str, torch.Tensor]:
    content = load_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path}: wanted a flat state dict of tensors, got {_described(content)}")
    return content


def load_pickle(path: Path) -> Any:
    """What ``torch.save`` wrote, mapped and not yet read; no code in it is run, and it takes no more room than it is.

    Raises:
        CheckpointError: truncated, damaged, packed, or it holds Python objects that are not known to be harmless.
    """
    try:
        size, is_zip = path.stat().st_size, zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: damaged or not written by torch.save: {error}") from None
    with path.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC and not is_zip:  # the directory of a zip file stands at its end
            raise CheckpointError(f"{path}: truncated after {size:,} bytes; download it again")
    try:
        if is_zip:
            _refuse_packed(path, size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torch")  # of pickles of another protocol
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: it holds Python objects besides tensors, which could run code") from error
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001  (the unpickler raises whatever damaged bytes lead to)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: damaged or not written by torch.save: {reason}") from error
    if (needed := sum(map(_bytes_of, _tensors_in(content)))) > SHARED * size:
        raise CheckpointError(f"{path}: damaged: {size:,} bytes say that they are tensors of {needed:,}")
    return content


def _refuse_packed(path: Path, size: int) -> None:
    """torch.save packs nothing; what is packed may be a thousand times as large as it seems."""
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > size:
            raise CheckpointError(
                f"{path}: not written by torch.save: what is in it is packed, or lies over each other"
            )


def _tensors_in(content: Any) -> Iterator[torch.Tensor]:
    """Of dicts in dicts, as far as trees of weights go."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict) and id(value) not in seen:  # a pickle may put one into itself
            seen.add(id(value))
            waiting += value.values()


def _bytes_of(tensor: torch.Tensor) -> int:
    """That a copy of it takes; a tensor may show one number any number of times."""
    return tensor.numel() * tensor.element_size()


def _described(content: object) -> str:
    if not isinstance(content, dict):
        return type(content).__name__
    return "a dict of " + ", ".join(f"{key}: {type(value).__name__}" for key, value in list(content.items())[:3])


def _open_safetensors(path: Path, head: bytes) -> Mapping[str, torch.Tensor]:
    length = int.from_bytes(head[:SAFETENSORS_LENGTH_BYTES], "little")
    size = path.stat().st_size
    if length > SAFETENSORS_MAX_HEADER:
        raise CheckpointError(f"{path}: not a weight file; wanted a PyTorch (.pth, .bin) or safetensors file")
    try:
        return _Safetensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or damaged at {size:,} bytes: {error}; download it again") from error
