"""Walk a user's own folder, or a tree that a container wrote, which may hold anything.

In such a tree names are resolved inside the tree, from one open folder to the next: no link leads
outside, and a file that is replaced between the look and the open is not read. Only regular files
are read; a device, a FIFO or a socket is reported and left out, and so is what is too deep, too
large or too much.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

from sagemaker_byoc.contract.paths import DEFAULT_ROOT

MOST_ENTRIES = 1_000_000
"""Files, folders and links of one walk."""
DEEPEST = 100
"""Folders within folders."""
LARGEST = 1 << 40
"""Bytes of one file, and of all files of one walk."""
_MOST_LINKS = 40
"""Links in the resolution of one path; Linux allows as many."""
_SHOWN = 300
"""Characters of a name in a message."""
_NAMED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENXIO})
"""Errors that concern one file; others, as those of a broken disk, end the walk."""

DESKTOP_FILES = frozenset({"Thumbs.db", "desktop.ini"})
"""Files of Windows that are neither data nor a part of a model."""

LEFT_OUT = "left out: "
"""Start of each sentence about an entry that is left out."""

OnLeft = Callable[[str], None]
"""Called with one sentence for each entry that is left out."""


class LeftOutError(Exception):
    """An entry of a tree is left out; the text follows "because"."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry below the walked folder; `file` is open until the walk continues."""

    relative: str
    status: os.stat_result
    file: int | None = None
    """Descriptor of a regular file, for reading."""
    link: str | None = None
    """Target of a link, relative to the link's own folder."""


def readable(text: str) -> str:
    """Return a name for one line of a log: shortened, without control characters."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def left_out(path: str | PurePosixPath, why: object) -> str:
    """Return the sentence for an entry of a container's /opt/ml, or for another absolute path."""
    return f"{LEFT_OUT}{readable(str(DEFAULT_ROOT / path))} because {why}"


def files(
    folder: Path, order: Callable[[str], Any] | None = None, on_left: OnLeft | None = None
) -> Iterator[Path]:
    """Yield the files of a user's own folder, then those of the folders in it, each sorted.

    `order` is the key of the sort, of a file's name. A link to a file counts as one; links to
    folders are not followed. Of what is neither a file nor a folder, and of a folder that can't be
    listed, `on_left` gets a sentence.
    """
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                listed = sorted(entries, key=attrgetter("name"))
        except OSError as error:
            if on_left is not None:
                on_left(f"{readable(place)} can't be listed ({error.strerror})")
            continue
        names, below = [], []
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path):  # noqa: PTH113
                names.append(entry.name)
            elif on_left is not None and not os.path.isdir(entry.path):  # noqa: PTH112
                on_left(f"{readable(entry.path)} is not a file")
        yield from (Path(place, name) for name in sorted(names, key=order))
        waiting += reversed(below)


def remove(folder: Path) -> None:
    """Remove a tree as far as possible; what stays is logged, not raised."""

    def report(_: object, path: str, failure: tuple[object, BaseException, object]) -> None:
        if not isinstance(failure[1], FileNotFoundError):
            import logging  # noqa: PLC0415 - each start of a training would pay for it

            logging.getLogger(__name__).warning("%s can't be removed: %s", path, failure[1])

    if not folder.is_symlink():
        shutil.rmtree(folder, onerror=report)


def read(root: Path, relative: str, limit: int) -> bytes | None:
    """Return the first `limit` bytes of a file in the tree at `root`; None if there is none.

    Raise LeftOutError if it is not a regular file, or a link that leads outside.
    """
    with _Jail(root) as jail:
        try:
            found = jail.open(PurePosixPath(relative).parts)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(found.descriptor).st_mode):
            os.close(found.descriptor)
            raise LeftOutError("it is not a file")
        with open(found.descriptor, "rb") as file:
            return file.read(limit)


def walk(root: Path, folder: str, on_left: OnLeft, *, keep_links: bool = False) -> Iterator[Entry]:
    """Yield what is in `folder` of the tree at `root`, sorted; folders come before their contents.

    A link to a file, or to a folder, yields what it leads to. With `keep_links` it is yielded as
    a link if it leads to something in `folder`. Every other link is left out.
    """
    if not os.path.lexists(root):
        return
    with _Jail(root) as jail:
        try:
            top = jail.open(PurePosixPath(folder).parts)
        except FileNotFoundError:
            return
        except LeftOutError as error:
            on_left(left_out(folder, error))
            return
        try:
            if stat.S_ISDIR(os.fstat(top.descriptor).st_mode):
                walker = _Walker(jail, folder, top.place, on_left, keep_links=keep_links)
                yield from walker.below(top, (), ())
            else:
                on_left(left_out(folder, "it is not a folder"))
        finally:
            os.close(top.descriptor)


@dataclass(frozen=True, slots=True)
class _Opened:
    descriptor: int
    place: tuple[str, ...]
    """Its path in the tree after all links were resolved."""


class _Jail:
    """The tree at `root`, which a container sees as /opt/ml, held open."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shown = (DEFAULT_ROOT.parts, root.parts)
        self.descriptor = -1

    def __enter__(self) -> _Jail:
        self.descriptor = os.open(
            self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def open(self, path: tuple[str, ...]) -> _Opened:
        """Open a path from the root. Raise LeftOutError or FileNotFoundError."""
        steps = _Steps(self.descriptor, path)
        try:
            while steps.pending:
                self._step(steps)
            return steps.take()
        except OSError as error:
            if error.errno in _NAMED:
                raise LeftOutError(error.strerror) from error
            raise
        finally:
            steps.close()

    def _step(self, steps: _Steps) -> None:
        name = steps.pending.popleft()
        if name == ".":
            return
        if name == "..":
            steps.up()
            return
        status = os.stat(name, dir_fd=steps.current, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            steps.down(name, open_entry(name, steps.current, status))
            return
        steps.links += 1
        if steps.links > _MOST_LINKS:
            raise LeftOutError("it is a link that leads through too many links")
        try:
            target = PurePosixPath(os.readlink(name, dir_fd=steps.current)).parts
        except OSError as error:
            raise LeftOutError("it changed while it was read") from error
        if target and target[0] == "/":
            target = self._from_root(target)
            steps.to_root()
        steps.pending.extendleft(reversed(target))

    def _from_root(self, target: tuple[str, ...]) -> tuple[str, ...]:
        for shown in self._shown:
            if target[: len(shown)] == shown:
                return target[len(shown) :]
        raise _outside(target)


@dataclass(slots=True)
class _Steps:
    """The resolution of one path: the folders that are open, and the names that remain."""

    root: int
    path: tuple[str, ...]
    pending: deque[str] = field(init=False)
    links: int = 0
    _open: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pending = deque(self.path)

    @property
    def current(self) -> int:
        return self._open[-1][1] if self._open else self.root

    def down(self, name: str, descriptor: int) -> None:
        self._open.append((name, descriptor))

    def up(self) -> None:
        if not self._open:
            raise _outside(("..",))
        os.close(self._open.pop()[1])

    def to_root(self) -> None:
        while self._open:
            self.up()

    def take(self) -> _Opened:
        place = tuple(name for name, _ in self._open)
        descriptor = self._open.pop()[1] if self._open else os.dup(self.root)
        return _Opened(descriptor, place)

    def close(self) -> None:
        self.to_root()


@dataclass(slots=True)
class _Walker:
    jail: _Jail
    folder: str
    place: tuple[str, ...]
    on_left: OnLeft
    keep_links: bool
    _entries: int = 0
    _bytes: int = 0
    _full: bool = False

    def below(
        self, opened: _Opened, path: tuple[str, ...], above: tuple[tuple[int, int], ...]
    ) -> Iterator[Entry]:
        """Yield what is below a folder at `path`; `above` identifies the folders it is in."""
        here = os.fstat(opened.descriptor)
        above = (*above, (here.st_dev, here.st_ino))
        for name in sorted(os.listdir(opened.descriptor)):  # noqa: PTH208 - of a descriptor
            if self._full:
                return
            with suppress(FileNotFoundError):  # removed since it was listed
                status = os.stat(name, dir_fd=opened.descriptor, follow_symlinks=False)
                yield from self._entry(opened, (*path, name), status, above)

    def _entry(
        self,
        opened: _Opened,
        path: tuple[str, ...],
        status: os.stat_result,
        above: tuple[tuple[int, int], ...],
    ) -> Iterator[Entry]:
        try:
            self._count(path)
            if not stat.S_ISLNK(status.st_mode):
                file = open_entry(path[-1], opened.descriptor, status)
                found = _Opened(file, (*opened.place, path[-1]))
            else:
                found = self._follow(opened, path[-1])
                if self.keep_links:
                    os.close(found.descriptor)
                    yield Entry("/".join(path), status, link=self._inside(found.place, path))
                    return
        except LeftOutError as error:
            self._leave(path, error)
            return
        try:
            yield from self._opened(found, path, above)
        finally:
            os.close(found.descriptor)

    def _opened(
        self, found: _Opened, path: tuple[str, ...], above: tuple[tuple[int, int], ...]
    ) -> Iterator[Entry]:
        status = os.fstat(found.descriptor)
        relative = "/".join(path)
        if stat.S_ISREG(status.st_mode):
            if self._bytes + status.st_size > LARGEST:
                self._leave(path, f"it is too large: {status.st_size} bytes")
                return
            self._bytes += status.st_size
            yield Entry(relative, status, found.descriptor)
        elif (status.st_dev, status.st_ino) in above:
            self._leave(path, "it is a link to a folder that it is in")
        elif len(path) >= DEEPEST:
            self._leave(path, f"it is more than {DEEPEST} folders deep")
        else:
            yield Entry(relative, status)
            yield from self.below(found, path, above)

    def _follow(self, opened: _Opened, name: str) -> _Opened:
        try:
            return self.jail.open((*opened.place, name))
        except FileNotFoundError as error:
            raise LeftOutError("it is a link to what is not there") from error

    def _inside(self, place: tuple[str, ...], path: tuple[str, ...]) -> str:
        """Return the target of a kept link, relative to the link's folder."""
        if place[: len(self.place)] != self.place:
            raise LeftOutError(
                f"it is a link to {readable(str(DEFAULT_ROOT.joinpath(*place)))}, outside of "
                f"{DEFAULT_ROOT / self.folder}; copy the file instead"
            )
        target = "/".join(place[len(self.place) :]) or "."
        return os.path.relpath(target, "/".join(path[:-1]) or ".")

    def _count(self, path: tuple[str, ...]) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            self._full = True
            raise LeftOutError(f"it and what follows are more than {MOST_ENTRIES} files")
        try:
            path[-1].encode()
        except UnicodeEncodeError as error:
            raise LeftOutError("its name is not UTF-8") from error

    def _leave(self, path: tuple[str, ...], why: LeftOutError | str) -> None:
        self.on_left(left_out(PurePosixPath(self.folder, *path), why))


def open_entry(name: str, folder: int, status: os.stat_result) -> int:
    """Open a regular file or a folder, as which `name` was seen; raise LeftOutError for others."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    if stat.S_ISDIR(status.st_mode):
        flags |= os.O_DIRECTORY
    elif not stat.S_ISREG(status.st_mode):
        raise LeftOutError(f"it is {_kind(status.st_mode)}")
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in _NAMED:
            raise LeftOutError(error.strerror) from error
        raise
    opened = os.fstat(descriptor)
    # The number of a removed file may be another's by now, of another kind.
    kind = stat.S_IFMT(opened.st_mode) == stat.S_IFMT(status.st_mode)
    if not kind or not os.path.samestat(opened, status):
        os.close(descriptor)
        raise LeftOutError("it was replaced while it was opened")
    return descriptor


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def _outside(target: tuple[str, ...]) -> LeftOutError:
    shown = "" if target == ("..",) else f" to {readable(str(PurePosixPath(*target)))},"
    return LeftOutError(f"it is a link{shown} outside of {DEFAULT_ROOT}")
