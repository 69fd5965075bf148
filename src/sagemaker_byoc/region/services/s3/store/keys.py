"""Keys as paths (`train/a.csv` is the file `a.csv` in the folder `train`), and their order.

What a file system can't store is written with a percent sign. It can't be confused with a key's
own percent sign, which is written `%25`:

    %2E       `.` if the segment is `.` or `..`
    %_        the empty segment, of `a//b` and `a/`
    X%-       a folder with the rest of a segment that starts with X and is too long
    X%        the object X, if a folder X (of keys X/…) existed before
    X%2F      the folder X, if an object X existed before

A walk yields the keys of a bucket in the order of their bytes, one folder at a time. The names of
a folder are sorted with a slash after those of its folders, because their keys sort there: `a-b`
comes before `a/b`. So a walk holds the names of one folder per level, starts anywhere, and skips
the keys of a common prefix without looking at them.
"""

from __future__ import annotations

import os
import re
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from urllib.parse import unquote_to_bytes

LONGEST = 200
"""Bytes of an encoded segment in one name: 255, less what is appended to it."""
EMPTY = "%_"
CONTINUED = "%-"
OBJECT_ASIDE = "%"
FOLDER_ASIDE = "%2F"

_ESCAPED = re.compile(r"[%\x00-\x1f\x7f\\]")
_ESCAPED_CASE = re.compile(r"[%\x00-\x1f\x7f\\A-Z\u0080-\U0010ffff]")
"""For file systems that treat `A` as `a`, or the two forms of `é` as one."""
_TOKEN = re.compile(r"%[0-9A-F]{2}|[^%]")
_PLAIN = re.compile(r"[ !-$&-\[\]-~]*")

_DOTS = {".": "%2E", "..": "%2E%2E"}


def encode(key: str, *, fold: bool = False) -> list[str]:
    """Return folder names, and the file's name last. `fold`: the file system ignores case."""
    if not fold and len(key) <= LONGEST and key.isascii() and _PLAIN.fullmatch(key):
        parts = key.split("/")
        if "." not in parts and ".." not in parts and "" not in parts:
            return parts
    return [part for segment in key.split("/") for part in _segment(segment, fold=fold)]


def decode(name: str) -> bytes:
    """Return the segment, or the start of a continued one, of a name without marks."""
    if name == EMPTY:
        return b""
    if "%" not in name:
        return name.encode("utf-8", "surrogateescape")
    return unquote_to_bytes(name.encode("utf-8", "surrogateescape"))


def join(parts: list[str]) -> str:
    """Return the key that `encode` made these parts of."""
    key = b""
    for part in parts[:-1]:
        continued = part.endswith(CONTINUED)
        key += decode(part.removesuffix(CONTINUED)) + (b"" if continued else b"/")
    return (key + decode(parts[-1])).decode("utf-8", "surrogateescape")


def _segment(segment: str, *, fold: bool) -> list[str]:
    if segment == "":
        return [EMPTY]
    if segment in _DOTS:
        return [_DOTS[segment]]
    pattern = _ESCAPED_CASE if fold else _ESCAPED
    name = pattern.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), segment)
    if len(name.encode()) <= LONGEST:
        return [name]
    parts, part, size = [], "", 0
    for token in _TOKEN.findall(name):
        length = len(token.encode())
        if size + length > LONGEST:
            parts.append(part + CONTINUED)
            part, size = "", 0
        part += token
        size += length
    return [*parts, _DOTS.get(part, part)]


Name = tuple[bytes, str]
"""A segment of keys, with a slash if it is a folder's, and its path in its folder."""

_TRUSTED_AGE_NS = 50_000_000
"""A folder that changed within this time may change again and keep its time stamp (4 ms ticks)."""
_name_segment = itemgetter(0)


class Folders:
    """A cache of sorted names in folders, valid until a folder changes; thread-safe."""

    def __init__(self, most_names: int = 100_000) -> None:
        self._most = most_names
        self._count = 0
        self._lock = threading.Lock()
        self._read: OrderedDict[str, tuple[int, list[Name]]] = OrderedDict()

    def names(self, folder: str) -> list[Name]:
        """Return the names, [] if the folder does not exist."""
        try:
            changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - no object for a string
        except (FileNotFoundError, NotADirectoryError):
            return []
        with self._lock:
            known = self._read.get(folder)
            if known is not None and known[0] == changed:
                self._read.move_to_end(folder)
                return known[1]
        settled = time.time_ns() - changed > _TRUSTED_AGE_NS
        names, whole = _scan(folder)
        if settled and whole:
            self._remember(folder, changed, names)
        return names

    def _remember(self, folder: str, changed: int, names: list[Name]) -> None:
        with self._lock:
            _, before = self._read.pop(folder, (0, []))
            self._read[folder] = (changed, names)
            self._count += len(names) - len(before)
            while self._count > self._most and len(self._read) > 1:
                _, (_, dropped) = self._read.popitem(last=False)
                self._count -= len(dropped)


def _scan(folder: str) -> tuple[list[Name], bool]:
    """Return sorted names, and whether all are of this folder, none of a continued name."""
    names: list[Name] = []
    whole = True
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name.endswith(CONTINUED):
                        whole = False
                        start = decode(name[: -len(CONTINUED)])
                        inner, _ = _scan(entry.path)
                        names += ((start + rest, f"{name}/{path}") for rest, path in inner)
                    else:
                        names.append((_decode(name, FOLDER_ASIDE) + b"/", name))
                elif entry.is_file(follow_symlinks=False):
                    names.append((_decode(name, OBJECT_ASIDE), name))
    except (FileNotFoundError, NotADirectoryError):  # pruned in between
        return [], False
    names.sort(key=_name_segment)
    return names, whole


def _decode(name: str, aside: str) -> bytes:
    return decode(name.removesuffix(aside) if name not in {EMPTY, aside} else name)


@dataclass(slots=True)
class _Level:
    prefix: bytes
    folder: str
    names: list[Name]
    next: int = 0


class Walk(Iterator[tuple[bytes, str]]):
    """Iterate over keys after `after` that start with `prefix`, with the paths of their files."""

    def __init__(
        self, folders: Folders, root: str, prefix: bytes = b"", after: bytes = b""
    ) -> None:
        self._folders = folders
        self._prefix = prefix
        self._after = after
        self._skipped: bytes | None = None
        self._levels: list[_Level] = []
        self._descend(b"", root)

    def skip(self, prefix: bytes) -> None:
        """Continue after all keys that start with `prefix`."""
        self._skipped = prefix
        while self._levels and self._levels[-1].prefix.startswith(prefix):
            self._levels.pop()

    def __next__(self) -> tuple[bytes, str]:
        while self._levels:
            level = self._levels[-1]
            if level.next == len(level.names):
                self._levels.pop()
                continue
            segment, path = level.names[level.next]
            level.next += 1
            key = level.prefix + segment
            if not key.startswith(self._prefix) and key > self._prefix:
                self._levels.pop()
            elif self._skipped is not None and key.startswith(self._skipped):
                continue
            elif segment.endswith(b"/"):
                if self._may_hold(key):
                    self._descend(key, f"{level.folder}/{path}")
            elif key > self._after and key.startswith(self._prefix):
                return key, f"{level.folder}/{path}"
        raise StopIteration

    def _may_hold(self, folder: bytes) -> bool:
        wanted = folder.startswith(self._prefix) or self._prefix.startswith(folder)
        return wanted and (folder > self._after or self._after.startswith(folder))

    def _descend(self, prefix: bytes, folder: str) -> None:
        level = _Level(prefix, folder, self._folders.names(folder))
        first = max(self._after, self._prefix)
        if first.startswith(prefix):
            rest = first[len(prefix) :]
            level.next = bisect_left(level.names, rest, key=_name_segment)
            if level.next and rest.startswith(level.names[level.next - 1][0]):
                level.next -= 1  # the folder of the first key
        self._levels.append(level)
