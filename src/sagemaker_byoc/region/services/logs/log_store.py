"""Log lines on disk: GROUP/STREAM.log, one line per event (format: log_files.py)."""

from __future__ import annotations

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
from sagemaker_byoc.region.services.logs import log_files
from sagemaker_byoc.region.services.logs.log_files import Event, Located

__all__ = ["Event", "LastingStream", "Located", "LogStore", "LogStream", "StreamFacts"]

LOG = logging.getLogger(__name__)

LONGEST_FILE_NAME = 240
"""Bytes of a quoted name; file systems allow 255."""


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
            self._append(b"".join(log_files.encode(event) for event in events))

    def put(self, events: Iterable[Event]) -> int:
        """Write events that have times and may have line feeds; return the size of the file."""
        with self._lock:
            self._append(b"".join(log_files.encode(event) for event in events))
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
        """Write a line; never raises. What comes after `close` is lost."""
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
        first = next(log_files.forward(path), None)
        last = next(log_files.backward(path), None)
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
        return log_files.forward(self._path(group, stream), start)

    def backward(self, group: str, stream: str, end: int | None = None) -> Iterator[Located]:
        return log_files.backward(self._path(group, stream), end)

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
