"""Take what `docker cp` sends of a container's folder into a folder of the host.

The container wrote the stream's names and links, so nothing is written through a link: each name
is made, or replaced, in a folder that was seen to be one. Only this process writes the target.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from sagemaker_byoc.contract import folders

_CHUNK = 1 << 20
_NEW = ".byoc-new"
"""Name beside a file, under which its successor is written."""
_LATEST = 1 << 33
"""Seconds since 1970; later times do not fit into every file system."""
_TICK_NS = 1000
"""Added to the time of a file that changed without another time, so that it is seen to change."""


class Receiver:
    """Makes `target` hold what a container's folder holds, whose path there is `shown`."""

    def __init__(self, target: Path, shown: str, on_left: folders.OnLeft) -> None:
        self._target = target
        self._shown = shown
        self._on_left = on_left
        self._taken: set[tuple[str, ...]] = set()
        self._bytes = 0
        target.mkdir(parents=True, exist_ok=True)

    def receive(self, stream: IO[bytes]) -> None:
        """Raises OSError, TarError for what ends too early; what came before stays in `target`."""
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
        """Remove what did not come; to be called once all has come."""
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
        """The path of `parts`, below folders that are folders and no links."""
        path = self._target
        for place in range(1, len(parts)):
            path = path / parts[place - 1]
            _make_folder(path)
            self._taken.add(parts[:place])
        return path / parts[-1]

    def _link(self, name: str, path: Path) -> None:
        """A hard link to a file that came before, in this very stream."""
        parts = PurePosixPath(name).parts
        if parts not in self._taken or not _is_file(source := self._target.joinpath(*parts)):
            raise folders.LeftOutError("it is a hard link to what did not come with it")
        new = _clear(path.with_name(_NEW))
        os.link(source, new, follow_symlinks=False)
        _replace(new, path)


def _write(data: IO[bytes], path: Path, member: tarfile.TarInfo) -> None:
    """A file that came before and is still the same stays as it is, with its time."""
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
    """How many bytes both begin with, and what was read of `data` beyond."""
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
    """Remove what has this name, whatever it is; return the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path
