"""Log lines on disk: GROUP/STREAM.log, one line per event, which its byte offset names."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from sagemaker_byoc.contract import folders

LOG = logging.getLogger(__name__)

LONGEST_FILE_NAME = 240
"""Bytes of a quoted name; file systems allow 255."""
_BLOCK = 1 << 16
"""Bytes that are read at once from the end of a file."""


@dataclass(frozen=True, slots=True)
class Event:
    milliseconds: int
    """Time since 1970. A line of a container has the time at which it was read, in rising order."""
    text: str


@dataclass(frozen=True, slots=True)
class Located:
    """An event and its bytes: `start` up to `end`, where the next begins."""

    start: int
    end: int
    event: Event


def encode(event: Event) -> bytes:
    """Return `MS TEXT`, or `MS<tab>JSON` for a text of several lines, with a line feed."""
    if "\n" in event.text:
        return f"{event.milliseconds}\t{json.dumps(event.text)}\n".encode()
    return f"{event.milliseconds} {event.text}\n".encode(errors="replace")


def decode(line: bytes) -> Event:
    """Return the event of a line without its line feed.

    Raise ValueError for what `encode` does not write.
    """
    text = line.decode(errors="replace")
    digits = len(text) - len(text.lstrip("0123456789"))
    time, separator, rest = text[:digits], text[digits : digits + 1], text[digits + 1 :]
    if not time or separator not in {" ", "\t"}:
        raise ValueError(f"{text[:40]!r} is not an event")
    return Event(int(time), json.loads(rest) if separator == "\t" else rest)


def forward(path: Path, start: int = 0) -> Iterator[Located]:
    """Yield the events from `start` on, without a last line that is still being written.

    Raise ValueError if no event begins at `start`.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        _check_boundary(file, start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            end = start + len(line)
            yield Located(start, end, decode(line[:-1]))
            start = end


def backward(path: Path, end: int | None = None) -> Iterator[Located]:
    """Yield the newest event first, from the one that ends at `end`, or from the last whole one.

    Raise ValueError if no event ends at `end`.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        end = position = _end_of_lines(file) if end is None else end
        _check_boundary(file, end)
        pending = b""
        while position > 0:
            size = min(_BLOCK, position)
            position -= size
            file.seek(position)
            lines = (file.read(size) + pending).split(b"\n")[:-1]
            # The first may have begun in the block before.
            pending = lines.pop(0) + b"\n" if position > 0 else b""
            for line in reversed(lines):
                start = end - len(line) - 1
                yield Located(start, end, decode(line))
                end = start


def _check_boundary(file: BinaryIO, offset: int) -> None:
    """Raise ValueError if no event begins at `offset`; leave the file there."""
    if offset > 0:
        file.seek(offset - 1)
        if file.read(1) != b"\n":
            raise ValueError(f"no event begins at byte {offset}")


def _end_of_lines(file: BinaryIO) -> int:
    """Return the offset after the last line feed."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        found = file.read(size).rfind(b"\n")
        if found >= 0:
            return position + found + 1
    return 0


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """The answer of DescribeLogStreams; times in milliseconds since 1970, None without events."""

    name: str
    created: int
    first: int | None
    last: int | None
    size: int


class LogStream:
    """One stream, open for writing; lines from any thread stay whole.

    `write` and `put` raise OSError, writing nothing, if the disk is full.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()
        self._last = 0

    def write(self, text: str) -> None:
        """Write an event of now; a line feed within it starts another."""
        with self._lock:
            self._last = max(self._last, time.time_ns() // 1_000_000)
            events = (Event(self._last, line) for line in text.split("\n"))
            self._append(b"".join(encode(event) for event in events))

    def put(self, events: Iterable[Event]) -> int:
        """Write events that have times and may have line feeds; return the size of the file."""
        with self._lock:
            self._append(b"".join(encode(event) for event in events))
            return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            # A disk that becomes full writes the beginning, and no error is raised.
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            end = self._file.tell()
            if written and os.fstat(self._file.fileno()).st_size == end:  # nobody wrote after us
                self._file.truncate(end - written)
            raise


class LastingStream:
    """A stream that never fails: lines that can't be written are counted.

    The first line opens it.
    """

    def __init__(self, logs: LogStore, group: str, stream: str) -> None:
        self.lost = 0
        """Lines lost since the last one that was written."""
        self._logs = logs
        self._place = group, stream
        self._stream: LogStream | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write a line; never raise. Lines after `close` are lost."""
        with self._lock:
            try:
                self._write(text)
            except (OSError, ValueError) as error:
                if not self.lost:
                    LOG.warning("the log %s/%s can't be written: %s", *self._place, error)
                self.lost += 1

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._stream is not None:
                self._stream.close()

    def _write(self, text: str) -> None:
        if self._is_closed:
            raise ValueError("it is closed")
        if self._stream is None:
            self._stream = self._logs.open(*self._place)
        if self.lost:
            self._stream.write(f"byoc: {self.lost} lines before this one could not be written")
            self.lost = 0
        self._stream.write(text)


class LogStore:
    """Groups and streams in `root`; names are quoted, so that each is one folder or file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, group: str, stream: str) -> LogStream:
        return LogStream(self._path(group, stream))

    def create_group(self, group: str) -> bool:
        """Return False if it exists."""
        try:
            self._folder(group).mkdir(parents=True)
        except FileExistsError:
            return False
        return True

    def create_stream(self, group: str, stream: str) -> bool:
        """Return False if it exists."""
        try:
            self._path(group, stream).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def delete_group(self, group: str) -> None:
        folders.remove(self._folder(group))

    def delete_stream(self, group: str, stream: str) -> None:
        self._path(group, stream).unlink(missing_ok=True)

    def has_group(self, group: str) -> bool:
        return self._folder(group).is_dir()

    def has_stream(self, group: str, stream: str) -> bool:
        return self._path(group, stream).is_file()

    def groups(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(unquote(folder.name) for folder in self._root.iterdir() if folder.is_dir())

    def created(self, group: str) -> int:
        """Return milliseconds since 1970; 0 if there is no such group."""
        try:
            return self._folder(group).stat().st_ctime_ns // 1_000_000
        except FileNotFoundError:
            return 0

    def size(self, group: str) -> int:
        """Return the bytes of all its streams."""
        return sum(file.stat().st_size for file in self._folder(group).glob("*.log"))

    def streams(self, group: str, prefix: str = "") -> list[str]:
        folder = self._folder(group)
        if not folder.is_dir():
            return []
        names = (unquote(file.name.removesuffix(".log")) for file in folder.glob("*.log"))
        return sorted(name for name in names if name.startswith(prefix))

    def facts(self, group: str, stream: str) -> StreamFacts:
        path = self._path(group, stream)
        first, last = (next(read(path), None) for read in (forward, backward))
        try:
            status = path.stat()
        except FileNotFoundError:
            return StreamFacts(stream, 0, None, None, 0)
        changed = status.st_ctime_ns // 1_000_000
        return StreamFacts(
            name=stream,
            created=changed if first is None else first.event.milliseconds,
            first=None if first is None else first.event.milliseconds,
            last=None if last is None else last.event.milliseconds,
            size=status.st_size,
        )

    def events(self, group: str, stream: str) -> Iterator[Event]:
        """Yield events in the order of writing, without a last line that is still being written."""
        return (located.event for located in self.forward(group, stream))

    def forward(self, group: str, stream: str, start: int = 0) -> Iterator[Located]:
        return forward(self._path(group, stream), start)

    def backward(self, group: str, stream: str, end: int | None = None) -> Iterator[Located]:
        return backward(self._path(group, stream), end)

    def _folder(self, group: str) -> Path:
        return self._root / _file_name(group)

    def _path(self, group: str, stream: str) -> Path:
        return self._folder(group) / f"{_file_name(stream)}.log"


def _file_name(name: str) -> str:
    """Return the quoted name without a leading dot: `..` would be the parent folder."""
    quoted = quote(name, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def fits(name: str) -> bool:
    """Return whether `name` is short enough for a file's name."""
    return len(_file_name(name)) <= LONGEST_FILE_NAME
