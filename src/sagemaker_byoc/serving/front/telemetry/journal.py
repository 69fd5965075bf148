"""The request log: one JSON line a request, written by a thread so that a slow reader of the log
can't hold up the event loop. Lines wait for a moment and go out together.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Mapping

import orjson

from sagemaker_byoc.serving import log

DELAY = 0.05
"""Seconds that a line may wait; what is lost if this process is killed."""
MOST = 8 * 2**20
"""Bytes that may wait for a reader of the log; what comes then is counted and dropped."""


class Journal:
    """Written by the event loop, emptied by one thread."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._passed = 0
        self._written = 0  # by the thread alone
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def record(self, event: Mapping[str, object]) -> None:
        if not self._lines:
            self._loop.call_later(DELAY, self._pass_on)
        self._lines.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Everything is written, or the reader has been given a second."""
        self._pass_on()
        self._queue.put(None)
        self._thread.join(1.0)

    def _pass_on(self) -> None:
        lines, self._lines = self._lines, []
        data = b"".join(lines)
        if self._passed - self._written + len(data) > MOST:
            self._dropped += len(lines)
            return
        if self._dropped:
            note = {"event": "log_lines_dropped", "count": self._dropped}
            data = orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE) + data
            self._dropped = 0
        self._passed += len(data)
        self._queue.put(data)

    def _write(self) -> None:
        while (data := self._queue.get()) is not None:
            log.write(log.STDOUT, data)
            self._written += len(data)
