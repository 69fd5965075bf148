"""Log lines on disk: GROUP/STREAM.log, one line an event, "MILLISECONDS TEXT"."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote


@dataclass(frozen=True, slots=True)
class Event:
    milliseconds: int
    """Since 1970, when it was written; never less than that of the event before."""
    text: str


class LogStream:
    """One stream, open for writing; lines from any thread stay whole."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()
        self._last = 0

    def write(self, text: str) -> None:
        """One event; a line feed within it starts another."""
        with self._lock:
            self._last = max(self._last, time.time_ns() // 1_000_000)
            lines = text.split("\n")
            self._file.write("".join(f"{self._last} {line}\n" for line in lines).encode())

    def close(self) -> None:
        self._file.close()


class LogStore:
    """Groups and streams below `root`; names are quoted, so that each is one folder or file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, group: str, stream: str) -> LogStream:
        return LogStream(self._path(group, stream))

    def groups(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(unquote(folder.name) for folder in self._root.iterdir() if folder.is_dir())

    def streams(self, group: str, prefix: str = "") -> list[str]:
        folder = self._root / quote(group, safe="")
        if not folder.is_dir():
            return []
        names = (unquote(file.name.removesuffix(".log")) for file in folder.glob("*.log"))
        return sorted(name for name in names if name.startswith(prefix))

    def events(self, group: str, stream: str) -> Iterator[Event]:
        """In order; a last line that is still being written is left out."""
        try:
            file = open(self._path(group, stream), "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with file:
            for line in file:
                if line.endswith(b"\n"):
                    time_text, _, text = line[:-1].decode(errors="replace").partition(" ")
                    yield Event(int(time_text), text)

    def _path(self, group: str, stream: str) -> Path:
        return self._root / quote(group, safe="") / f"{quote(stream, safe='')}.log"
