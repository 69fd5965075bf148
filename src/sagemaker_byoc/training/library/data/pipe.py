"""Pipe mode: one FIFO per epoch, `<channel>_0`, `<channel>_1`, …, each read once by one process.

Source: developer guide, your-algorithms-training-algo-running-container. The FIFO of the next epoch
may not exist yet, and a plain open() of one blocks until its writer comes. So the FIFO is opened
without blocking and polled: signal handlers run, `stop` is asked, and silence has an end.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.library.data.files import CHUNK, DataError

SILENCE_SECONDS = 300.0
"""Seconds without a FIFO, or without a byte from it, after which a job is broken and not slow."""

TICK = 0.25
"""Seconds between two questions whether to stop."""

ROOM = 1 << 20
"""Bytes; the most that the kernel grants to an unprivileged user by default."""

Stop = Callable[[], bool]


class PipeError(DataError):
    """A FIFO that does not appear, gives no byte, or has another reader."""


class StoppedError(Exception):
    """`stop` returned true; the readers above turn it into the end of the records."""


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
        """The next epoch's stream. Closing it early is allowed, and done here for the last one."""
        if self._open is not None:
            self._open.close()
        limit = _SilenceLimit(self._seconds, stop)
        path = self._tree.pipe(self._name, self.epoch)
        self._open = Fifo(path, limit)
        self.epoch += 1
        return self._open


class _SilenceLimit:
    """The longest silence; while it lasts, signal handlers run and `stop` is asked."""

    def __init__(self, seconds: float, stop: Stop | None) -> None:
        self._seconds = seconds
        self._stop = stop

    def wait(self, happened: Callable[[float], bool], path: Path, what: str) -> None:
        """Call `happened` with a number of seconds to wait at most, until it is true."""
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
        """As much as is there, up to `size` bytes; waits while there is nothing."""
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        while True:
            try:
                # Memory for all of `size` would be taken first, and most of it given back.
                return os.read(self._fd, min(size, CHUNK))
            except BlockingIOError:
                self._limit.wait(self._has_bytes, self._path, "gave no byte")

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, fewer at the end only; for the next read they are still there.

        To be called before the first read: until its writer comes a FIFO looks as if it had been
        read to its end, and only poll knows better.
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
        """Two readers of a FIFO would each get torn pieces; the lock ends with the process."""
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
        return  # over this user's limit: slower, and otherwise the same


def _neighbours(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError as error:
        return f"{path.parent} can't be listed ({error.strerror})"
    return f"{path.parent} holds: {', '.join(names[:10]) or 'nothing'}"
