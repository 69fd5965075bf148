"""Files as UTF-8 text, whatever they are packed or encoded in: found out from their first bytes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from sagemaker_byoc.monitor.inputs.streams import READ_BYTES, Opener, Unread

PARQUET = b"PAR1"
_HEAD = 4096
_PACKED: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda source: gzip.GzipFile(fileobj=source)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (PARQUET, "a Parquet file among others"),
    (b"PK\x03\x04", "a ZIP archive, or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "an array of numpy"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "an image"),
    (b"\x1f\x8b", "gzip within gzip"),
)
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)


def text(opener: Opener, name: str, unread: Unread) -> BinaryIO:
    """Open a file for `streams.lines`. What is not text is counted in `unread`, and reads as empty;
    what is cut off is read up to there."""
    return _Text(opener(name), name, unread)


def is_parquet(opener: Opener, name: str) -> bool:
    with opener(name) as stream:
        return stream.read(len(PARQUET)) == PARQUET


class _Rejoined:
    """A stream of which some bytes have been read already."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            found: bytes = self._rest.read(size)
            return found
        size = len(self._head) if size < 0 else size
        some, self._head = self._head[:size], self._head[size:]
        return some


class _Text(io.RawIOBase, BinaryIO):
    def __init__(self, stream: BinaryIO, name: str, unread: Unread) -> None:
        self._stream = stream
        self._name = name
        self._unread = unread
        self._source: Any = stream
        self._decoder: codecs.IncrementalDecoder | None = None
        self._has_old_ends = False
        head = self._look()
        for mark, unpack in _PACKED:
            if head.startswith(mark):
                self._source = unpack(self._source)
                head = self._look()
                break
        self._decode(head)

    def _look(self) -> bytes:
        """Return the first bytes, and put them back."""
        head = self._raw(_HEAD)
        self._source = _Rejoined(head, self._source)
        return head

    def _raw(self, size: int) -> bytes:
        try:
            found: bytes = self._source.read(size)
        except _DAMAGE as error:
            self._unread.add("a file that is cut off or damaged", self._name, str(error)[:80])
            self._source = io.BytesIO()
            return b""
        return found

    def _decode(self, head: bytes) -> None:
        other = next((what for mark, what in _OTHERS if head.startswith(mark)), None)
        mark, encoding = next((each for each in _MARKS if head.startswith(each[0])), (b"", ""))
        if not encoding and other is None and _is_odd(head):
            encoding = _unmarked(head)
            other = None if encoding else "binary"
        if other is not None:
            self._unread.add(f"not text, but {other}", self._name)
            self._source = io.BytesIO()
        elif encoding == "utf-8":
            self._source.read(len(mark))
        elif encoding:
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._has_old_ends = b"\r" in head[:-2] and b"\n" not in head

    def read(self, size: int = -1) -> bytes:
        """At least one byte, or b"" at the end."""
        while True:
            data = self._raw(size if size >= 0 else READ_BYTES)
            found = data
            if self._decoder is not None:
                found = self._decoder.decode(data, final=not data).encode()
            if found or not data:
                return found.replace(b"\r", b"\n") if self._has_old_ends else found

    def close(self) -> None:
        self._stream.close()
        super().close()


def _is_odd(head: bytes) -> bool:
    """Whether this is not text of 8 bits: it holds NUL, or control characters and no UTF-8."""
    if b"\0" in head:
        return True
    if not _CONTROL.search(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return True
    return False


_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1a]")


def _unmarked(head: bytes) -> str:
    """UTF-16 without a mark: in mostly ASCII text every other byte is 0."""
    half = len(head) // 2
    if head[1::2].count(0) > 0.6 * half and head[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if head[::2].count(0) > 0.6 * half and head[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return ""
