"""Damage: what becomes of a file on a bad disk, in a bad program, or in bad hands. All of it drawn from one generator.

Where a format guards itself (checksums, lengths, compression), half of the damage is done behind the guard, which is
then put right again: the decoder below would otherwise never see it.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import PurePath
from random import Random
from typing import Any

FRONT = 96  # bytes, where headers are: hit more often than the rest
MOST = 1 << 20  # bytes that a damaged file may grow to
ODD_INTS = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32_767,
    65_535,
    65_536,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
    10**9,
    2**63 - 1,
)
ODD_VALUES = (
    None, True, False, -1, 0, 1, 2, 1e308, 1e-308, float("nan"), float("inf"), -float("inf"), 10**9, 10**30,
    -(10**9), "", "x", "../../etc/passwd", "/dev/zero", "\0", "a\nb", "é\u2028", [], {}, [[]], {"": []}, "0", "NaN",
)  # fmt: skip
ODD_WORDS = (
    "", "nan", "inf", "-inf", "1e308", "1e400", "-1", "0", "-0", "1e9", "10000000000", "99999999999999999999", "0x10",
    "1_000", '"', "'", "=", "\0", "é", "\ufeff", ";", ",,,,", "\t", "NULL", "True", "[", "{}", "../x", "1,5", "--",
    "1e", "\u2028", "#",)  # fmt: skip
NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?")

Damage = Callable[[bytes, Random], bytes]


def mutated(content: bytes, name: str, others: Sequence[bytes], rng: Random) -> bytes:
    """A damaged copy; ``name`` tells the format, ``others`` are files of the kind to splice with."""
    behind = BEHIND_THE_GUARD.get(PurePath(name).suffix.lower())
    if behind is not None and rng.random() < 0.5:
        try:
            content = behind(content, rng)
        except (ValueError, KeyError, IndexError, OSError, EOFError, zlib.error, struct.error, zipfile.BadZipFile):
            pass  # a seed that is not of that format
        else:
            if rng.random() < 0.8:
                return content[:MOST]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.1 and others:
            content = _spliced(content, rng.choice(others), rng)
        else:
            content = rng.choice(RAW)(content, rng)
    return content[:MOST]


def _place(content: bytes, rng: Random) -> int:
    return rng.randrange(max(1, min(len(content), FRONT) if rng.random() < 0.5 else len(content)))


def _flips(content: bytes, rng: Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _run(content: bytes, rng: Random) -> bytes:
    at, length = _place(content, rng), rng.choice((1, 2, 4, 8, 64))
    run = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return content[:at] + run + content[at + length * rng.choice((0, 1)) :]


def _cut_out(content: bytes, rng: Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + rng.choice((1, 2, 4, 16, 256)) :]


def _truncated(content: bytes, rng: Random) -> bytes:
    return content[: _place(content, rng) + rng.randrange(2)]


def _twice(content: bytes, rng: Random) -> bytes:
    at = _place(content, rng)
    chunk = content[at : at + rng.choice((4, 16, 64, 512))]
    to = rng.choice((at, _place(content, rng)))
    return content[:to] + chunk * rng.choice((1, 1, 2, 50)) + content[to:]


def _length(content: bytes, rng: Random) -> bytes:
    """Another value in what may be a length, a count or an offset."""
    code = rng.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    width = struct.calcsize(code)
    if len(content) < width:
        return content
    at = min(_place(content, rng), len(content) - width)
    (value,) = struct.unpack_from(code, content, at)
    new = rng.choice((*ODD_INTS, len(content), value + 1, value - 1, value * 2, value // 2, -value, value ^ 2**31))
    return content[:at] + struct.pack(code, new % 256**width) + content[at + width :]


def _number(content: bytes, rng: Random) -> bytes:
    """Another number where one is written in digits."""
    found = list(NUMBER.finditer(content[: 1 << 14]))
    if not found:
        return _flips(content, rng)
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(ODD_WORDS).encode() + content[match.end() :]


def _spliced(content: bytes, other: bytes, rng: Random) -> bytes:
    return content[: _place(content, rng)] + other[_place(other, rng) :]


RAW: tuple[Damage, ...] = (_flips, _flips, _run, _cut_out, _truncated, _twice, _length, _length, _number)


# ---- behind the guard ----


def _text(content: bytes, rng: Random) -> bytes:
    """Cells and lines of a table or a recipe."""
    lines = content.decode("utf-8", "replace").splitlines(keepends=True) or [""]
    at, what = rng.randrange(len(lines)), rng.randrange(6)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(at, rng.choice(lines))
    elif what == 2:
        lines[at] = rng.choice(ODD_WORDS) + "\n"
    else:
        cells = re.split(r"([,;\t =\"]+)", lines[at])
        for _ in range(rng.choice((1, 1, 3))):
            cells[rng.randrange(len(cells))] = rng.choice((*ODD_WORDS, rng.choice(cells)))
        lines[at] = "".join(cells)
    return "".join(lines).encode("utf-8", "surrogatepass")


def _json(content: bytes, rng: Random) -> bytes:
    """One value of a tree replaced, dropped, renamed or put twice."""
    root = [json.loads(content)]
    holder: Any = root
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return json.dumps(rng.choice(ODD_VALUES)).encode()
        key = rng.choice(keys)
        if not isinstance(holder[key], dict | list) or not holder[key] or rng.random() < 0.2:
            break
        holder = holder[key]
    what = rng.randrange(6)
    if what == 0 and holder is not root:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice((*map(str, ODD_WORDS), str(key) + "x"))] = holder.pop(key)
    elif what == 2 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 3)))
    elif what == 3 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * rng.choice((-1, 2, 0.5, 1000, 10**8))
    else:
        holder[key] = rng.choice(ODD_VALUES)
    return json.dumps(root[0]).encode("utf-8", "surrogatepass")


def _gzip(content: bytes, rng: Random) -> bytes:
    return gzip.compress(rng.choice((_text, *RAW))(gzip.decompress(content), rng), 1)


def _npy(content: bytes, rng: Random) -> bytes:
    """The header, with its length put right."""
    (length,) = struct.unpack_from("<H", content, 8)
    header = rng.choice((_number, _number, _text, _flips, _cut_out))(content[10 : 10 + length], rng)[: 2**16 - 1]
    return content[:8] + struct.pack("<H", len(header)) + header + content[10 + length :]


def _zip(content: bytes, rng: Random) -> bytes:
    """One member, or its name; checksums are those of the damaged content."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(members))
    (name, data), what = members[at], rng.randrange(8)
    if what == 0:
        del members[at]
    elif what == 1:
        members[at] = (rng.choice(("", "x.npy", "../../x", "/x", name + "x", name.upper())), data)
    else:
        inner = _npy if data.startswith(b"\x93NUMPY") and rng.random() < 0.6 else rng.choice(RAW)
        members[at] = (name, inner(data, rng))
    made = io.BytesIO()
    with zipfile.ZipFile(
        made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()


def _safetensors(content: bytes, rng: Random) -> bytes:
    """The directory, with its length put right."""
    length = int.from_bytes(content[:8], "little")
    header = rng.choice((_json, _json, _json, _number, _flips))(content[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _png(content: bytes, rng: Random) -> bytes:
    """One chunk, with its checksum; pixels behind their compression."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    at, what = rng.randrange(len(chunks)), rng.randrange(8)
    kind, data = chunks[at]
    if what == 0:
        del chunks[at]
    elif what == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[at])
    elif what == 2:
        kinds = (
            b"tRNS",
            b"PLTE",
            b"iCCP",
            b"zTXt",
            b"iTXt",
            b"eXIf",
            b"gAMA",
            b"pHYs",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"sBIT",
        )
        chunks.insert(rng.randrange(len(chunks)), (rng.choice(kinds), rng.randbytes(rng.choice((0, 1, 4, 26, 300)))))
    elif kind == b"IDAT" and what < 6:
        chunks[at] = (kind, zlib.compress(rng.choice(RAW)(zlib.decompress(data), rng), 1))
    else:
        chunks[at] = (kind, rng.choice(RAW)(data, rng))
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + b"".join(parts)


def _ogg(content: bytes, rng: Random) -> bytes:
    """One page, with its checksum."""
    starts = [match.start() for match in re.finditer(b"OggS", content)]
    at = rng.randrange(len(starts))
    first, last = starts[at], [*starts, len(content)][at + 1]
    page = bytearray(rng.choice((_flips, _length, _run))(content[first:last], rng))
    if len(page) < 27:
        return content[:first] + bytes(page) + content[last:]
    page[22:26] = bytes(4)
    page[22:26] = _ogg_sum(bytes(page)).to_bytes(4, "little")
    return content[:first] + bytes(page) + content[last:]


@lru_cache(maxsize=1)
def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = ((value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return table


def _ogg_sum(page: bytes) -> int:
    table, total = _ogg_table(), 0
    for byte in page:
        total = ((total << 8) & 0xFFFFFFFF) ^ table[(total >> 24) ^ byte]
    return total


BEHIND_THE_GUARD: dict[str, Damage] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".toml"), _text), **dict.fromkeys((".npz", ".pth", ".bin", ".zip"), _zip),
    **dict.fromkeys((".ogg", ".opus"), _ogg), ".json": _json, ".gz": _gzip, ".npy": _npy, ".safetensors": _safetensors,
    ".png": _png,
}  # fmt: skip
