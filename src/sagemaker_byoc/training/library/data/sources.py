"""The bytes of a channel: the files of File and FastFile mode, the FIFOs of Pipe mode.

Pipe mode has one FIFO per epoch, `<channel>_0`, `<channel>_1`, …, each read once by one process
(developer guide, your-algorithms-training-algo-running-container). The FIFO of the next epoch may
not exist yet, and a plain open() of one blocks until its writer comes. So the FIFO is opened
without blocking and polled: signal handlers run, `stop` is asked, and silence has a limit.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import NoReturn, Protocol

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.folders import DESKTOP_FILES
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import MANIFEST_SUFFIX
from sagemaker_byoc.contract.training.cluster import natural_order

CHUNK = 256 << 10
"""Bytes of one read; FastFile turns reads into requests, and larger ones leave the CPU's cache."""

MOST_LOOKED_AT = 10_000
"""Files whose sizes are looked up, which takes a moment each on a mounted channel."""
MOST_NAMED = 8
DESCRIPTIONS = {
    "dataset_dict.json": {".arrow"},
    "dataset_info.json": {".arrow"},
    "state.json": {".arrow"},
    "index.json": {".mds", ".bin"},
}
"""Files that Hugging Face's `save_to_disk`, MosaicML's MDSWriter and LitData write beside data."""
FOLDER_MARKER = "_$folder$"
"""The end of the name of the empty object that Hadoop on EMR leaves for a folder."""
_said: set[Path] = set()

GZIP = b"\x1f\x8b\x08"


class DataError(ContractError):
    """Data that is missing, is not what it should be, or belongs to another process."""


def list_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the data files under `folder` whose names match, in natural order on all hosts.

    As Hadoop, Spark and Arrow read a folder: names that begin with `.` or `_` are not data, such as
    `_SUCCESS`, `._part-0` and all of `_temporary/`, unless the pattern begins so too; a folder
    `_key=value` is a partition. Nor are the manifest that SageMaker may leave beside the data,
    descriptions of the files beside them, what Windows and Hadoop leave, and folders behind a link.
    What is left out is logged once.
    """
    left_out: list[str] = []
    found = [path for path in _walk(folder, left_out, pattern) if path.match(pattern)]
    kinds = {suffix for path in found for suffix in path.suffixes}
    known = {name for name, described in DESCRIPTIONS.items() if described & kinds}
    known.add(folder.name + MANIFEST_SUFFIX)
    left_out += [path.name for path in found if path.name in known]
    _say_left_out(folder, left_out)
    return sorted(
        (path for path in found if path.name not in known),
        key=lambda path: _order(path.relative_to(folder)),
    )


def split_by_content(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Split into files with content and empty ones. Among very many files no empty ones are looked
    for: they leave no share without data."""
    if len(paths) > MOST_LOOKED_AT:
        return paths, []
    empty = {path for path in paths if path.stat().st_size == 0}
    if len(empty) == len(paths):
        return paths, []
    return [path for path in paths if path not in empty], [path for path in paths if path in empty]


def _say_left_out(folder: Path, names: list[str]) -> None:
    """Log it once per folder, in the first process of each host; not on stderr, whose last line is
    taken for the reason of a failure."""
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" and parent_process() is None
    if names and is_first and folder not in _said:
        _said.add(folder)
        shown = ", ".join(sorted(names)[:MOST_NAMED])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        with suppress(OSError, ValueError, AttributeError):  # no log, or a full disk
            sys.stdout.write(f"byoc data: {folder}: left out, as no data: {shown}{more}\n")
            sys.stdout.flush()


def _is_data(name: str, pattern: str = "") -> bool:
    if name in DESKTOP_FILES or name.endswith(FOLDER_MARKER):
        return False
    return not name.startswith((".", "_")) or (pattern[:1] in {".", "_"} and name[0] == pattern[0])


def _walk(folder: Path, left_out: list[str], pattern: str) -> Iterator[Path]:
    """Unlike `folders.files`, look into no folder that is not data, and name what is left out."""

    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            where=str(error.filename),
            what=f"can't be listed ({error.strerror})",
            hint="Check that the channel is mounted and readable",
        ) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        kept = [name for name in folders if _is_data(name) or (name[0] == "_" and "=" in name)]
        left_out += [f"{name}/" for name in folders if name not in kept]
        # os.walk does not follow links; SageMaker makes none.
        links = [name for name in kept if Path(parent, name).is_symlink()]
        left_out += [f"{name}/ (a link)" for name in links]
        left_out += [name for name in names if not _is_data(name, pattern)]
        folders[:] = kept
        yield from (Path(parent, name) for name in names if _is_data(name, pattern))


def _order(path: Path) -> tuple[object, ...]:
    """Order part-2 before part-10, and names like 1 and 01 by their text."""
    return (*(natural_order(part) for part in path.parts), str(path))


class Source(Protocol):
    """A stream of bytes: `read` returns at most `size`, and none only at the end."""

    def read(self, size: int, /) -> bytes: ...


@contextmanager
def open_file(path: Path) -> Iterator[Source]:
    """Open the content of a file, decompressed if it is gzipped."""
    try:
        # Unbuffered: records are cut from what one read brings, and a buffer would only copy it.
        file = open(path, "rb", buffering=0)  # noqa: SIM115  closed below, not here
    except OSError as error:
        raise DataError(
            where=str(path), what=f"can't be read ({error.strerror})", hint="Check the channel"
        ) from error
    with file:
        head = file.read(len(GZIP))
        file.seek(0)
        yield unzipped(file, head)


def unzipped(source: Source, head: bytes) -> Source:
    """Return `source` or, if `head` begins as gzip does, its decompressed content."""
    if not head.startswith(GZIP):
        return source
    return gzip.GzipFile(fileobj=source)  # type: ignore[call-overload, no-any-return]


SILENCE_SECONDS = 300.0
"""Seconds without a FIFO, or without a byte from it, after which the wait is an error."""

TICK = 0.25
"""Seconds between two calls of `stop`."""

ROOM = 1 << 20
"""Bytes of a pipe's buffer; the kernel's default limit for an unprivileged user."""

Stop = Callable[[], bool]


class PipeError(DataError):
    """A FIFO that does not appear, gives no byte, or has another reader."""


class StoppedError(Exception):
    """`stop` returned true; ChannelReader turns it into the end of the records."""


class Pipe:
    """The epochs of one Pipe channel, in order; `epoch` is the next one to be opened."""

    def __init__(
        self, tree: Tree, name: str, patience: float = SILENCE_SECONDS, epoch: int = 0
    ) -> None:
        self.epoch = epoch
        self._tree = tree
        self._name = name
        self._seconds = patience
        self._open: Fifo | None = None

    def open(self, stop: Stop | None = None) -> Fifo:
        """Open the next epoch's stream, and close the last one. It may be closed before its end."""
        if self._open is not None:
            self._open.close()
        limit = _SilenceLimit(self._seconds, stop)
        path = self._tree.pipe(self._name, self.epoch)
        self._open = Fifo(path, limit)
        self.epoch += 1
        return self._open


class _SilenceLimit:
    """The limit of a silence, during which signal handlers run and `stop` is asked."""

    def __init__(self, seconds: float, stop: Stop | None) -> None:
        self._seconds = seconds
        self._stop = stop

    def wait(self, happened: Callable[[float], bool], path: Path, what: str) -> None:
        """Call `happened` with the seconds that it may wait, until it returns true."""
        deadline = time.monotonic() + self._seconds
        while not happened(min(TICK, max(0.0, deadline - time.monotonic()))):
            if self._stop is not None and self._stop():
                raise StoppedError
            if time.monotonic() >= deadline:
                raise PipeError(
                    where=str(path),
                    what=f"{what} within {self._seconds:g} seconds",
                    hint="The FIFO of an epoch is read once: keep one channel() object for all "
                    f"epochs. {_neighbours(path)}",
                )


class Fifo:
    """One FIFO, opened without blocking; reads wait for bytes, and end when the writer closes."""

    def __init__(self, path: Path, limit: _SilenceLimit) -> None:
        self._path = path
        self._limit = limit
        self._head = b""
        self._fd = -1
        limit.wait(self._try_open, path, "did not appear")
        self._check_sole_reader()
        _enlarge(self._fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def __enter__(self) -> Fifo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int, /) -> bytes:
        """Return what has arrived, up to `size` bytes; wait while nothing has."""
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        while True:
            try:
                # os.read allocates all of `size` first.
                return os.read(self._fd, min(size, CHUNK))
            except BlockingIOError:
                self._limit.wait(self._has_bytes, self._path, "gave no byte")

    def peek(self, size: int) -> bytes:
        """Return the first `size` bytes, fewer only at the end, which the next read returns too.

        Call it before the first read: until its writer comes a FIFO looks as if it had been read to
        its end, and only poll tells the difference.
        """
        self._limit.wait(self._has_bytes, self._path, "gave no byte")
        head = b""
        while len(head) < size and (more := self.read(size - len(head))):
            head += more
        self._head = head
        return head

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _has_bytes(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def _try_open(self, seconds: float) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            time.sleep(min(seconds, 0.01))
            return False
        except OSError as error:
            raise PipeError(
                where=str(self._path),
                what=f"can't be opened ({error.strerror})",
                hint="Check the permissions of the data folder",
            ) from error
        return True

    def _check_sole_reader(self) -> None:
        """Lock the FIFO: two readers would each get torn pieces. The lock ends with the process."""
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            self.close()
            raise PipeError(
                where=str(self._path),
                what="is not a FIFO",
                hint="Declare the channel with TrainingInputMode File, or make a FIFO there",
            )
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise PipeError(
                where=str(self._path),
                what="is being read by another process or reader of this host",
                hint="Read a Pipe channel in one process only, and in none of its data workers",
            ) from error


def _enlarge(fd: int) -> None:
    """Enlarge the kernel's buffer beyond 64 KiB, so that the writer continues while we parse."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, ROOM)
    except OSError:
        return  # over this user's limit: reading is only slower


def _neighbours(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError as error:
        return f"{path.parent} can't be listed ({error.strerror})"
    return f"{path.parent} holds: {', '.join(names[:10]) or 'nothing'}"
