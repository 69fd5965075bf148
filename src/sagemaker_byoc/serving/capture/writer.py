"""The thread that writes captured records, and the files that it writes.

    FOLDER/.writing/2022.02.14.17.25-06-123-UUID.jsonl.open     being written, locked by its writer
    FOLDER/2022/02/14/17/25-06-123-UUID.jsonl                   complete

Files hold whole lines only, and only complete files get their final name. A writer that was killed
leaves its open file without the lock: the next one cuts half a line off its end and completes it.
Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.contract.capture import Mode, file_name, hour_folder
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.capture.lines import Batch, Exchange, Maker, NotTextError, Traffic
from sagemaker_byoc.serving.capture.options import CaptureSettings

LOOK = 1.0
"""Seconds between two checks of the disk and the clock."""
RETRY = 1.0
RETRY_MOST = 60.0
"""Seconds until a failed disk is tried again; doubled each time it fails again."""
REST = 5e-5
"""Seconds that a waiting thread needs to wake up and take the interpreter."""
SPARE = 1.0
"""Percent above the limit at which a pause ends, so that it does not begin again at once."""
_BOTH = frozenset(Mode)


class Order(Enum):
    """Orders to the thread, other than to write records."""

    ROTATE = "rotate"
    END = "end"


Item: TypeAlias = "Sequence[Traffic] | Order"


class Writer:
    """Write records in a thread. `put` and `rotate` may be called from any thread; only the writer
    changes the counters, any thread may read them."""

    def __init__(
        self,
        settings: CaptureSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        disk: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self.written = 0
        self.lost = 0
        """Records that could not be written."""
        self.taken = 0
        """Bytes of records received, written or lost."""
        self.pause = ""
        """Why nothing is written at the moment; empty if records are written."""
        self._settings = settings
        self._folder = Path(settings.folder)
        self._clock = clock
        self._disk = disk
        self._maker = Maker(settings)
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._file: OpenFile | None = None
        self._begun = self._looked = 0.0
        self._retry = RETRY
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, records: Sequence[Traffic]) -> None:
        self._queue.put(records)

    def rotate(self) -> None:
        """Complete the open file."""
        self._queue.put(Order.ROTATE)

    def close(self, timeout: float) -> bool:
        """Write and complete everything; return whether that took less than `timeout` seconds."""
        self._queue.put(Order.END)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # ── the thread ──

    def _run(self) -> None:
        self._recover()
        while True:
            try:
                item = self._queue.get(timeout=LOOK)
            except queue.Empty:
                self._look()
                continue
            if item is Order.END:
                self._finish()
                return
            if item is Order.ROTATE:
                self._finish()
            else:
                self._take_all(item)
            if self._clock() >= self._looked + LOOK:
                self._look()

    def _take_all(self, records: Sequence[Traffic]) -> None:
        """Write records with a pause after each portion, and after each piece of a large record.

        The event loop may be waiting for the interpreter, and does not get it from a thread that
        releases it for an instant.
        """
        if self._looked == 0.0:
            self._look()
        done = 0
        before = self.taken
        try:
            for batch in self._maker.batches(records):
                self._take(batch)
                done += batch.count
                time.sleep(REST)
        except Exception as error:  # noqa: BLE001 - a defect of ours; others may succeed
            log.say(f"capture: a record failed: {log.place_of(error)}")
            self.lost += len(records) - done
            self.taken = before + sum(record.size for record in records)

    def _take(self, batch: Batch) -> None:
        if not self.pause:
            try:
                self._append(batch)
                self._retry = RETRY
            except OSError as error:
                self._fail(error)
        if self.pause:
            self.lost += batch.count
        else:
            self.written += batch.count
        self.taken += batch.size

    def _append(self, batch: Batch) -> None:
        if self._file is not None and self._file.hour != hour_folder(batch.time):
            self._finish()
        if self._file is None:
            self._file = OpenFile(self._folder, batch.time)
            self._begun = self._clock()
        if batch.exchange is None:
            self._file.append((batch.lines,))
        else:
            _append_exchange(self._file, batch.exchange)
        if self._file.size >= self._settings.size:
            self._finish()

    def _look(self) -> None:
        """Rotate the file if it is due, then check the disk."""
        now = self._looked = self._clock()
        if self._file is not None and (
            now >= self._begun + self._settings.seconds
            or self._file.hour != hour_folder(datetime.now(UTC))
        ):
            self._finish()
        if self.pause and now < self._retry_at:
            return
        try:
            state = self._disk(self._settings.folder)
        except OSError as error:
            self._fail(error)
            return
        free = 100 * state.f_bavail / max(1, state.f_blocks)
        limit = self._settings.free_percent
        if free < limit + (SPARE if self.pause else 0):
            self._finish()
            self._stop(f"{free:.1f} % of the disk of {self._folder} is free, less than {limit:g}")
        elif self.pause:
            self.pause = ""
            log.say(f"capture: resumed; {free:.1f} % of the disk is free")
            self._recover()

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.finish()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Pause after a failed write; the file is kept and completed later."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.finish()
        self._retry_at = self._clock() + self._retry
        self._retry = min(2 * self._retry, RETRY_MOST)
        self._stop(f"{self._folder} can't be written ({error.strerror})")

    def _stop(self, reason: str) -> None:
        if not self.pause:
            log.say(f"capture: paused: {reason}; requests are still answered")
        self.pause = reason

    def _recover(self) -> None:
        try:
            found = recover(self._folder)
        except OSError as error:
            self._fail(error)
            return
        if found.files or found.cut:
            log.say(
                f"capture: completed {found.files} file(s) that had been left open; cut "
                f"{found.cut} bytes of half a line"
            )


def _rested(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        time.sleep(REST)


def _append_exchange(file: OpenFile, exchange: Exchange) -> None:
    """Append one exchange; write a body as base64 if it turns out not to be text."""
    text = _BOTH
    while True:
        try:
            file.append(_rested(exchange.pieces(text)))
        except NotTextError as error:
            text -= {error.mode}
        else:
            return


# ── the files ──

OPEN_FOLDER = ".writing"
OPEN = ".open"
_TAIL = 1 << 20
"""Bytes read at once in the search for the end of the last line."""


class OpenFile:
    """The file being written, used by one thread. `size` counts whole lines; the file has nothing
    after them."""

    def __init__(self, folder: Path, time: datetime) -> None:
        """Open the file; raise OSError if it cannot be written."""
        self.hour = hour_folder(time)
        name = f"{self.hour.replace('/', '.')}.{file_name(time, str(uuid.uuid4()))}{OPEN}"
        self._folder = folder
        self._path = folder / OPEN_FOLDER / name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        self.size = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks
            self._path.unlink()
            self.abandon()
            raise

    def append(self, pieces: Iterable[bytes]) -> None:
        """Append pieces that together are whole lines. If they cannot be written or made, restore
        the file and raise the error."""
        size = self.size
        try:
            for piece in pieces:
                size += self._write(piece)
        except BaseException:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size = size

    def _write(self, data: bytes) -> int:
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, memoryview(data)[written:])
        return written

    def finish(self) -> None:
        """Complete the file; raise OSError and leave it to `recover` if that fails."""
        try:
            _complete(self._folder, self._path, self._descriptor, self.size)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave the file as a killed writer would. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(slots=True)
class Recovered:
    """Files that former writers left open."""

    files: int = 0
    cut: int = 0
    """Bytes of incomplete lines that were cut off."""


def recover(folder: Path) -> Recovered:
    """Complete the open files that no process has locked; raise OSError."""
    found = Recovered()
    for path in sorted((folder / OPEN_FOLDER).glob(f"*{OPEN}")):
        with suppress(FileNotFoundError):  # another process recovers too
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                with suppress(BlockingIOError):  # its writer still runs
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    before = os.fstat(descriptor).st_size
                    size = _whole_lines(descriptor, before)
                    _complete(folder, path, descriptor, size)
                    found.files += size > 0
                    found.cut += before - size
            finally:
                os.close(descriptor)
    return found


def _whole_lines(descriptor: int, size: int) -> int:
    """Return where the last whole line ends."""
    end = size
    while end > 0:
        start = max(0, end - _TAIL)
        position = os.pread(descriptor, end - start, start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0


def _complete(folder: Path, path: Path, descriptor: int, size: int) -> None:
    """Move the file to its final name, or remove it if it has no line."""
    if size == 0:
        path.unlink()
        return
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)
    *hour, name = path.name.removesuffix(OPEN).split(".", 4)
    target = folder.joinpath(*hour, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
