"""A tar archive as a stream of entries, with bounds: what is read may be hostile.

The standard library's reader takes an extended header of any size into memory (decision 0027).
Here no header may pass 1 MiB, no entry is ever written to a disk, and nothing is kept but what the
caller asks for.
Formats: ustar, GNU long names, pax (path, linkpath and size).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from sagemaker_byoc.images.model import HostileError

BLOCK = 512
CHUNK = 2**18
HEADER_LIMIT = 2**20
"""Bytes of one extended header."""
ENTRIES_LIMIT = 3_000_000
"""Entries of one archive; large images of machine learning hold some 200,000 files."""

_KINDS = {b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "link", b"5": "dir"}
_HINT = "Make the archive again with `docker save`, or don't trust where it came from"


class Source(Protocol):
    """Something to read from; an empty answer is the end."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class Skippable(Source, Protocol):
    """One that need not be read to be passed over."""

    def skip(self, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    """Without a leading ./ or /."""
    kind: str
    """file, dir, link, hardlink or other."""
    mode: int
    uid: int
    size: int
    link: str


class Body:
    """One entry's bytes; what is left of them is skipped before the next entry."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self.left = size

    def read(self, size: int = CHUNK, /) -> bytes:
        wanted = min(size, self.left)
        data = _exactly(self._source, wanted) if wanted > 0 else b""
        self.left -= len(data)
        return data

    def skip(self) -> None:
        if isinstance(self._source, Skippable):
            self._source.skip(self.left)
            self.left = 0
        while self.left:
            self.read(min(self.left, CHUNK))


def entries(source: Source) -> Iterator[tuple[Entry, Body]]:
    """Yield every entry in order. Raise HostileError if this is not an archive, or too large."""
    extra: dict[str, str] = {}
    count = 0
    while (header := _header(source)) is not None:
        count += 1
        if count > ENTRIES_LIMIT:
            raise HostileError(f"an archive of over {ENTRIES_LIMIT} entries", hint=_HINT)
        flag = header[156:157]
        size = _number(header[124:136])
        if flag in b"LKxg" and flag:
            extra |= _extended(flag, _whole(source, size))
            continue
        entry = _entry(header, flag, size, extra)
        extra = {}
        body = Body(source, entry.size)
        yield entry, body
        body.skip()
        _exactly(source, -entry.size % BLOCK)


def _header(source: Source) -> bytes | None:
    """Return the next header; None at the archive's end."""
    block = _exactly(source, BLOCK, may_end=True)
    if len(block) < BLOCK or not block.strip(b"\0"):
        return None
    said = _number(block[148:156])
    if said != sum(block) - sum(block[148:156]) + 8 * 32:
        raise HostileError("this is not a tar archive, or it is damaged", hint=_HINT)
    return block


def _entry(header: bytes, flag: bytes, size: int, extra: dict[str, str]) -> Entry:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    kind = _KINDS.get(flag, "other")
    plain = Entry(
        name=f"{prefix}/{name}" if prefix else name,
        kind=kind,
        mode=_number(header[100:108]) & 0o7777,
        uid=_number(header[108:116]),
        size=int(extra.get("size", size)) if kind == "file" else 0,
        link=extra.get("linkpath", _text(header[157:257])),
    )
    if plain.size < 0:
        raise HostileError("an archive with an entry of negative size", hint=_HINT)
    return replace(plain, name=_clean(extra.get("path", plain.name)))


def _extended(flag: bytes, data: bytes) -> dict[str, str]:
    if flag in b"LK":
        return {"path" if flag == b"L" else "linkpath": _text(data)}
    found: dict[str, str] = {}
    while data and flag == b"x":  # g: of all entries; docker's archives say nothing there
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise HostileError("an archive with a broken extended header", hint=_HINT)
        record, data = data[len(length) + 1 : int(length)], data[int(length) :]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        if key in {b"path", b"linkpath"} or (key == b"size" and value.isdigit()):
            found[key.decode()] = value.decode(errors="replace")
    return found


def _whole(source: Source, size: int) -> bytes:
    if not 0 <= size <= HEADER_LIMIT:
        raise HostileError(f"an archive with a header of {size} bytes", hint=_HINT)
    data = _exactly(source, size)
    _exactly(source, -size % BLOCK)
    return data


def _exactly(source: Source, size: int, *, may_end: bool = False) -> bytes:
    parts: list[bytes] = []
    left = size
    while left > 0:
        part = source.read(left)
        if not part:
            if may_end:
                break
            raise HostileError("the archive ends in the middle of an entry", hint=_HINT)
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _number(field: bytes) -> int:
    """Octal text, or base 256 where the first bit is set (GNU, for large sizes)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.replace(b"\0", b" ").strip()
    try:
        return int(text or b"0", 8)
    except ValueError as error:
        raise HostileError("an archive with a number that is none", hint=_HINT) from error


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def _clean(name: str) -> str:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return "/".join(parts)


class Inflated:
    """A gzip stream's content; plain bytes pass as they are. At most `limit` bytes come out."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._ready = io.BytesIO()
        first = source.read(CHUNK)
        self._gzip = zlib.decompressobj(31) if first[:2] == b"\x1f\x8b" else None
        self._pending = first

    def read(self, size: int, /) -> bytes:
        data = self._ready.read(size)
        while not data:
            produced = self._more()
            if produced is None:
                return b""
            self._limit -= len(produced)
            if self._limit < 0:
                raise HostileError("a layer that unpacks to more than any image holds", hint=_HINT)
            self._ready = io.BytesIO(produced)
            data = self._ready.read(size)
        return data

    def _more(self) -> bytes | None:
        """Return the next piece, maybe empty; None at the end."""
        data = self._pending or self._source.read(CHUNK)
        self._pending = b""
        if self._gzip is None:
            return data or None
        if self._gzip.eof:  # one more member, as concatenated gzip files have
            data = self._gzip.unused_data + data
            if not data.startswith(b"\x1f\x8b"):
                return None
            self._gzip = zlib.decompressobj(31)
        if not data:
            return None
        try:
            produced = self._gzip.decompress(data, 4 * CHUNK)
        except zlib.error as error:
            raise HostileError(f"a gzip layer that is damaged: {error}", hint=_HINT) from error
        self._pending = self._gzip.unconsumed_tail
        return produced
