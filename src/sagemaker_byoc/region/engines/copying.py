"""Copies into a container and out of it, as tar streams.

In: a tree, and the folder of a program. Out: what `docker cp` sends of a container's folder. The
container wrote the names and links of that stream, so nothing is written through a link: each name
is made, or replaced, in a folder that was seen to be one. Only this process writes the target.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.paths import DEFAULT_ROOT
from sagemaker_byoc.host import ignore
from sagemaker_byoc.region.engines.container import GivenUpError

CODE = "code"
"""Folder below /opt/ml that the program is copied to."""
_CHUNK = 1 << 20
_NEW = ".byoc-new"
"""Name beside a file, under which its successor is written."""
_LATEST = 1 << 33
"""Seconds since 1970; later times do not fit into every file system."""
_TICK_NS = 1000
"""Added to the time of a file that changed without another time, so that it is seen to change."""


def write_tree(stream: IO[bytes], sources: Mapping[str, Path], without: Sequence[str] = ()) -> None:
    """Write a tar of opt/ml to `stream`: folders relative to /opt/ml with what each holds.

    The folders `without` are left out, and so is what programs carry around by accident.
    """
    top = DEFAULT_ROOT.relative_to("/")
    left_out = frozenset(str(top / relative) for relative in without)

    def of_program(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        is_litter = ignore.litter().matches(entry.name.removeprefix(f"{top / CODE}/"))
        return None if is_litter else _as_root(entry)

    def of_tree(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.name in left_out else _as_root(entry)

    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for relative, source in sources.items():
            kind = of_program if relative == CODE else of_tree
            tar.add(source, arcname=str(top / relative), filter=kind)


def program_folder(program: Path) -> Path:
    """Return `program`. Raise RequestError if it is larger than a program is."""
    total = 0
    for size in _sizes(program, ignore.litter()):
        total += size
        ignore.require_small(program, total)
    return program


class Copying(Protocol):
    """The progress of a copy: its size, the bytes that are written, and its end."""

    def start(self, title: str) -> None: ...

    def expect(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...

    def finish(self) -> None: ...


@contextmanager
def counted(
    copying: Copying | None, title: str, size: Callable[[], int]
) -> Iterator[Callable[[int], None] | None]:
    """Yield what receives the bytes of one copy; None if nobody wants to know."""
    if copying is None:
        yield None
        return
    copying.start(title)
    copying.expect(size())
    try:
        yield copying.advance
    finally:
        copying.finish()


class Counted:
    """A stream that reports how many bytes were written to it, and ends if the copy is given up."""

    def __init__(
        self, stream: IO[bytes], copying: Copying | None, given_up: Callable[[], bool]
    ) -> None:
        self._stream = stream
        self._copying = copying
        self._given_up = given_up

    def write(self, data: bytes) -> int:
        """Raise GivenUpError."""
        if self._given_up():
            raise GivenUpError
        if self._copying is not None:
            self._copying.advance(len(data))
        return self._stream.write(data)


class CountedRead:
    """A stream that reports how many bytes were read from it."""

    def __init__(self, stream: IO[bytes], copying: Copying) -> None:
        self._stream = stream
        self._copying = copying

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._copying.advance(len(data))
        return data


def size_of(folder: Path, ignored: ignore.Ignore | None = None) -> int:
    """Return the bytes of the files below a folder, links not followed."""
    return sum(_sizes(folder, ignored or ignore.Ignore(())))


def _sizes(folder: Path, ignored: ignore.Ignore) -> Iterator[int]:
    for _, path in ignore.walk(folder, ignored):
        with suppress(OSError):  # removed meanwhile
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                yield status.st_size


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    if entry.isreg():
        # Objects of a store are read-only; the container's copies of them are its own.
        entry.mode |= 0o600
    return entry


class Receiver:
    """Make `target` a copy of a container's folder, whose path there is `shown`."""

    def __init__(self, target: Path, shown: str, on_left: folders.OnLeft) -> None:
        self._target = target
        self._shown = shown
        self._on_left = on_left
        self._taken: set[tuple[str, ...]] = set()
        self._bytes = 0
        target.mkdir(parents=True, exist_ok=True)

    def receive(self, stream: IO[bytes]) -> None:
        """Raise OSError, or TarError if the stream ends early, keeping what came before."""
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                try:
                    self._take(tar, member)
                except folders.LeftOutError as error:
                    self._on_left(folders.left_out(PurePosixPath(self._shown, member.name), error))

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = tuple(part for part in PurePosixPath(member.name).parts if part != "/")
        if not parts:
            return
        if len(parts) > folders.DEEPEST + 1:
            return  # below one that was left out, and named
        self._check(parts, member)
        path = self._place(parts)
        if member.isdir():
            _make_folder(path)
        elif member.issym():
            new = _clear(path.with_name(_NEW))
            new.symlink_to(member.linkname)
            _replace(new, path)
        elif member.islnk():
            self._link(member.linkname, path)
        elif member.isreg():
            data = tar.extractfile(member)
            assert data is not None
            _write(data, path, member)
        else:
            raise folders.LeftOutError("it is a FIFO" if member.isfifo() else "it is a device")
        self._taken.add(parts)

    def prune(self) -> None:
        """Remove what did not come; to be called once all has come.

        Folders are removed while the tree is walked, so `folders.files` doesn't do.
        """
        for place, names, files in os.walk(self._target):
            below = Path(place).relative_to(self._target).parts
            for name in [*names, *files]:
                if (*below, name) not in self._taken:
                    _clear(Path(place, name))
            names[:] = [name for name in names if (*below, name) in self._taken]

    def _check(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        self._bytes += member.size
        if ".." in parts or _NEW in parts:
            raise folders.LeftOutError("its name can't be taken")
        if len(parts) > folders.DEEPEST:
            raise folders.LeftOutError(f"it is more than {folders.DEEPEST} folders deep")
        if len(self._taken) >= folders.MOST_ENTRIES:
            raise OSError(f"{self._shown} holds more than {folders.MOST_ENTRIES} files")
        if self._bytes > folders.LARGEST:
            raise OSError(f"{self._shown} holds more than {folders.LARGEST} bytes")

    def _place(self, parts: tuple[str, ...]) -> Path:
        """Return the path of `parts`, below folders that are not links."""
        path = self._target
        for place in range(1, len(parts)):
            path = path / parts[place - 1]
            _make_folder(path)
            self._taken.add(parts[:place])
        return path / parts[-1]

    def _link(self, name: str, path: Path) -> None:
        """Make a hard link to a file that came before in the same stream."""
        parts = PurePosixPath(name).parts
        if parts not in self._taken or not _is_file(source := self._target.joinpath(*parts)):
            raise folders.LeftOutError("it is a hard link to what did not come with it")
        new = _clear(path.with_name(_NEW))
        os.link(source, new, follow_symlinks=False)
        _replace(new, path)


def _write(data: IO[bytes], path: Path, member: tarfile.TarInfo) -> None:
    """Write the file; one that came before and is still the same stays as it is, with its time."""
    mtime = min(max(0, int(member.mtime)), _LATEST) * 1_000_000_000
    new = _clear(path.with_name(_NEW))
    same = 0
    if _is_file(path) and _looks_the_same(path, member):
        same, rest = _common(data, path)
        if same == member.size:
            return
        mtime = path.stat().st_mtime_ns + _TICK_NS
    else:
        rest = b""
    with open(new, "xb") as file:
        if same:
            with open(path, "rb") as old:
                _copy(old, file, same)
        file.write(rest)
        shutil.copyfileobj(data, file, _CHUNK)
    new.chmod(0o600 | (member.mode & 0o755))
    os.utime(new, ns=(mtime, mtime))
    _replace(new, path)


def _looks_the_same(path: Path, member: tarfile.TarInfo) -> bool:
    status = path.lstat()
    return status.st_size == member.size and int(status.st_mtime) == int(member.mtime)


def _common(data: IO[bytes], path: Path) -> tuple[int, bytes]:
    """Return how many bytes both begin with, and what was read of `data` beyond them."""
    same = 0
    with open(path, "rb") as old:
        while chunk := data.read(_CHUNK):
            if chunk != old.read(len(chunk)):
                return same, chunk
            same += len(chunk)
    return same, b""


def _copy(source: IO[bytes], target: IO[bytes], count: int) -> None:
    while count > 0:
        chunk = source.read(min(count, _CHUNK))
        if not chunk:
            raise OSError("a file became shorter while it was copied")
        target.write(chunk)
        count -= len(chunk)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _make_folder(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        return
    _clear(path)
    path.mkdir()


def _replace(new: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        _clear(path)
    new.replace(path)


def _clear(path: Path) -> Path:
    """Remove the file, link or folder of this name; return the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path
