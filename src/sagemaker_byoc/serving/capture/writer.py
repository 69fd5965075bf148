"""The thread that writes captured records: rotation, full disks, the end. Standard library only."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.contract.capture import Mode, hour_folder
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.capture.lines import Batch, Exchange, Maker, NotTextError, Traffic
from sagemaker_byoc.serving.capture.options import CaptureSettings
from sagemaker_byoc.serving.capture.record_files import OpenFile, recover

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
    """Other orders to the thread."""

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
        except Exception as error:  # noqa: BLE001 - a defect of ours; the next records may do
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
