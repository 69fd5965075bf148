"""Files of lines: read in pieces, with a limit per line, and a count of what could not be used."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from sagemaker_byoc.contract.capture import hour_of
from sagemaker_byoc.contract.errors import ByocError

READ_BYTES = 1 << 20
LONGEST_LINE = 80 << 20
"""Bytes. A payload of 25 MB in and out, as base64, fits."""
_LONGEST_REASON = 200
"""Characters: some reasons quote what was read."""
MOST_UNREAD = 0.5
"""Share of lines, or of rows to be judged."""

Opener = Callable[[str], BinaryIO]


@dataclass(slots=True)
class Unread:
    """Lines that could not be used, counted by reason, with the first place of each."""

    lines: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    elsewhere: int = 0
    """How many of `reasons` are of other files than those of the data."""
    outside: int = 0
    """Lines of another time than the window's."""
    notices: Counter[str] = field(default_factory=Counter)
    """What was not read as written, counted by what was done instead."""

    def add(self, reason: str, place: str, detail: str = "") -> None:
        """`detail` differs from line to line: that of the first line of a reason is kept."""
        reason = reason[:_LONGEST_REASON]
        if len(self.reasons) >= 100 and reason not in self.reasons:
            reason = "other reasons"
        self.reasons[reason] += 1
        where = f"{place}: {detail[:_LONGEST_REASON]}" if detail else place
        self.first.setdefault(reason, where)

    def join(self, other: Unread) -> None:
        """Take over the reasons and notices of other files, such as those of labels."""
        self.lines += other.lines
        self.elsewhere += other.count
        self.reasons.update(other.reasons)
        self.notices.update(other.notices)
        self.first = {**other.first, **self.first}

    def notice(self, what: str, count: int = 1) -> None:
        if len(self.notices) < 100 or what in self.notices:
            self.notices[what] += count

    @property
    def count(self) -> int:
        return self.reasons.total()

    def refuse_most(self, good: int, what: str, hint: str) -> None:
        """Raise DataError if more than half of all could not be used: what is left would be taken
        for the whole."""
        bad = self.count - self.elsewhere
        if bad and bad > MOST_UNREAD * (bad + good):
            reason, times = self.reasons.most_common(1)[0]
            raise DataError(
                f"{bad:,} of {bad + good:,} {what}, {times:,} of them: {reason} "
                f"(first: {self.first[reason]})",
                hint=hint,
            )


@dataclass(frozen=True, slots=True)
class Window:
    """`start` to `end`, by the time of the inference; files of other hours are not opened."""

    start: datetime
    end: datetime

    def has_file(self, name: str) -> bool:
        hour = hour_of(name)
        return hour is None or (hour + timedelta(hours=1) > self.start and hour < self.end)

    def has(self, time: object) -> bool:
        """Whether a time is inside; one that can't be read counts as inside."""
        try:
            moment = datetime.fromisoformat(str(time))
        except ValueError:
            return True
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return self.start <= moment < self.end


def lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines without their ends; None for a line that is longer than any record."""
    rest, is_too_long = b"", False
    while chunk := stream.read(READ_BYTES):
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        if pieces and is_too_long:
            pieces, is_too_long = pieces[1:], False
        yield from pieces
        if len(rest) > LONGEST_LINE:
            if not is_too_long:
                yield None
            rest, is_too_long = b"", True
    if rest and not is_too_long:
        yield rest


def records(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield JSON objects with the numbers of their first lines: one per line, or printed over
    several as `json.dumps(…, indent=2)` does, alone or in a list. None as in `lines`.

    Such an object ends with a brace that is indented as its first one; what does not end within
    LONGEST_LINE bytes comes as it is.
    """
    parts: list[bytes] = []
    start = size = 0
    for number, line in enumerate(lines(stream), start=1):
        text = line.strip() if line is not None else b""
        if not parts and text == b"{":
            parts, start, size = [line or b""], number, 1
        elif not parts:
            if text not in (b"[", b"]"):
                yield number, line
        elif line is None or size > LONGEST_LINE:
            yield start, b" ".join(parts)
            parts = []
        else:
            parts.append(line)
            size += len(line)
            if text in (b"}", b"},") and _indent(line) == _indent(parts[0]):
                yield start, b" ".join(parts).rstrip().removesuffix(b",")
                parts = []
    if parts:
        yield start, b" ".join(parts)


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip())


# ── errors ──


class DataError(ByocError):
    """Data that cannot be monitored as it is."""


class EmptyError(ByocError):
    """A quiet hour: no file, no line, nothing in the window, no label yet."""

    exit_code = 4


# ── packed and encoded files ──


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
        """Return at least one byte, or b"" at the end."""
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
    """Tell UTF-16 without a mark: in mostly ASCII text every other byte is 0."""
    half = len(head) // 2
    if head[1::2].count(0) > 0.6 * half and head[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if head[::2].count(0) > 0.6 * half and head[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return ""
