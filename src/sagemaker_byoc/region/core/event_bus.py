"""Events of a region: its state changes, and what clients put with PutEvents.

Every event is a line of STATE/events/events.jsonl, in AWS's envelope, and is given to each
listener in the order in which the events were published.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from sagemaker_byoc.region.core.account import Account

LOG = logging.getLogger(__name__)

EVENTS_FILE = "events/events.jsonl"
"""Below the state folder; the file before it ends in .1."""
DEFAULT_BUS = "default"
FILE_BYTES = 16 << 20
"""Size at which a new file is begun. Two are kept."""
MOST_QUEUED = 10_000
"""Events that may wait for the file and the listeners; further ones are dropped and counted."""
MOST_BYTES = 64 << 20
"""Bytes of those that wait, by `Event.size`."""
_BATCH = 256
"""Events that are written at once."""
_CLOSING_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    detail_type: str
    """AWS's words, such as `SageMaker Training Job State Change`."""
    source: str = "aws.sagemaker"
    detail: Mapping[str, Any]
    """JSON. The publisher must not change it afterwards."""
    resources: tuple[str, ...] = ()
    """ARNs."""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    bus: str = DEFAULT_BUS
    """Name of the event bus whose rules see it; not part of the envelope."""
    size: int = 0
    """Bytes that a client sent for it; 0 for the region's events, which are small and few."""

    def document(self, account: Account) -> dict[str, Any]:
        """Return the envelope that AWS sends to the targets of rules."""
        return {
            "version": "0",
            "id": self.id,
            "detail-type": self.detail_type,
            "source": self.source,
            "account": account.id,
            "time": self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": account.region,
            "resources": list(self.resources),
            "detail": self.detail,
        }


Listener: TypeAlias = Callable[[Event], None]


class EventBus:
    """Give each published event to the file and to the listeners, in a thread of its own."""

    def __init__(self, state: Path, account: Account) -> None:
        self._account = account
        self._file = LineFile(state / EVENTS_FILE)
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="byoc-events", daemon=True)
        self.dropped = 0
        """Events that were published while too many others waited."""
        self._bytes = 0

    def publish(self, event: Event) -> bool:
        """Queue an event and return at once; return False if it is dropped.

        Never raise; callable from any thread.
        """
        with self._lock:
            if self._queue.qsize() < MOST_QUEUED and self._bytes + event.size <= MOST_BYTES:
                self._bytes += event.size
                self._queue.put(event)
                return True
            self.dropped += 1
            is_first = self.dropped == 1
        if is_first:
            LOG.error(
                "%d events wait for their listeners: new ones are dropped", self._queue.qsize()
            )
        return False

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every later event, in the bus's thread; return what removes it.

        A listener returns at once, because the next event waits for it. What it raises is logged.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def remove() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return remove

    def start(self) -> None:
        """Begin to deliver; events that were published before come first."""
        self._thread.start()

    def close(self) -> None:
        """Deliver what is queued, for at most 5 s. Idempotent; later events stay undelivered."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(_CLOSING_SECONDS)
        if self._thread.is_alive() or self.dropped:
            left = self._queue.qsize() if self._thread.is_alive() else 0
            LOG.error("%d events were not delivered, %d were dropped", left, self.dropped)

    def _run(self) -> None:
        while True:
            batch, has_ended = self._next_batch()
            self._file.append(b"".join(map(self._line, batch)))
            for event in batch:
                self._tell(event)
            with self._lock:
                self._bytes -= sum(event.size for event in batch)
            if has_ended:
                self._file.close()
                return

    def _next_batch(self) -> tuple[list[Event], bool]:
        """Wait for an event; return what is queued, and whether `close` was called after it."""
        batch: list[Event] = []
        event = self._queue.get()
        while event is not None:
            batch.append(event)
            if len(batch) == _BATCH:
                return batch, False
            try:
                event = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _line(self, event: Event) -> bytes:
        try:
            return json.dumps(event.document(self._account), default=str).encode() + b"\n"
        except (TypeError, ValueError, RecursionError):
            LOG.exception("the event %s of %s is not JSON", event.id, event.source)
            return b""

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                LOG.exception("a listener failed at %s %s", event.detail_type, event.id)


class LineFile:
    """A file of lines, for one thread: whole lines only, and a new file when it is large.

    While it can't be written the lines are lost, which the log says once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0
        self._is_broken = False

    def append(self, lines: bytes) -> None:
        if not lines:
            return
        try:
            self._write(lines)
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                LOG.warning("%s can't be written: events are lost there: %s", self._path, error)
            self._is_broken = True
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, lines: bytes) -> None:
        if self._size + len(lines) > FILE_BYTES and self._size:
            self.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        descriptor = self._open() if self._descriptor is None else self._descriptor
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, self._size)  # no half of a line
            raise
        self._size += len(lines)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._descriptor, self._size = descriptor, os.fstat(descriptor).st_size
        if self._size and os.pread(descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(descriptor, b"\n")  # a machine that stopped left half a line
        return descriptor
