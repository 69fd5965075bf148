"""What travels into a container as a tar: a tree, and the folder of a program."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from sagemaker_byoc.contract.paths import DEFAULT_ROOT
from sagemaker_byoc.host import ignore
from sagemaker_byoc.region.engines.container import GivenUpError

CODE = "code"
"""Folder below /opt/ml that the program is copied to."""


def write_tree(stream: IO[bytes], sources: Mapping[str, Path], without: Sequence[str] = ()) -> None:
    """A tar of opt/ml on `stream`: folders relative to /opt/ml with what each holds.

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
    """Gets the bytes of a copy: how many there will be, those that are written, and the end."""

    def start(self, title: str) -> None: ...

    def expect(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...

    def finish(self) -> None: ...


class Counted:
    """A stream that says how many bytes were written to it, and ends if the copy is given up."""

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
    """A stream that says how many bytes were read of it."""

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
