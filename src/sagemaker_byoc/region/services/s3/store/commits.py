"""Group commit: one thread makes changes durable together, and then puts each in place.

All changes of names go through this thread, so that a condition sees every change before its own.
While the disk works on one group, the next one gathers.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sagemaker_byoc.region.services.s3.store.journal import Journal, Record

MOST = 64
"""Changes in one group."""
_IDLE_SECONDS = 5.0
"""Then the journal is checkpointed, so that a later crash leaves nothing to repeat."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Change(Protocol[T_co]):
    """A change of one key; of the whole bucket if the key is empty."""

    bucket: str
    key: str

    def prepare(self) -> Record | None:
        """Check conditions, and write files that nothing refers to yet.

        Return what makes the change durable, or None if there is nothing to change.
        """

    def apply(self) -> T_co:
        """Put the files in place; return the outcome."""

    def undo(self) -> None:
        """Remove what `prepare` wrote."""


@dataclass(slots=True)
class _Waiting:
    make: Callable[[], Change[Any]]
    outcome: Future[Any]
    change: Change[Any] | None = None
    record: Record | None = None
    place: tuple[int, int] | None = None


class Commits:
    """A thread that commits until `close`. Without a journal, changes are not made durable."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._held: _Waiting | None = None
        self._ended = False
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="byoc-commits", daemon=True)
        self._thread.start()

    def submit(self, make: Callable[[], Change[T]]) -> Future[T]:
        """Commit what `make` returns, which is called in the thread of all changes."""
        outcome: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the object store is closed")
            self._queue.put(_Waiting(make, outcome))
        return outcome

    def run(self, change: Change[T]) -> T:
        """Commit a change; return or raise its outcome."""
        return self.submit(lambda: change).result()

    def close(self) -> None:
        """Commit what was submitted, and end. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._ended:
            group = self._gather()
            if group:
                self._commit(group)
            elif self._journal is not None and not self._ended:
                with contextlib.suppress(OSError):  # the next group reports it
                    self._journal.rotate(wait=False)

    def _gather(self) -> list[_Waiting]:
        """Return prepared changes of different keys; none after a while without any."""
        group: list[_Waiting] = []
        keys: set[tuple[str, str]] = set()
        while len(group) < MOST and (waiting := self._next(first=not group)) is not None:
            if waiting.change is None and not self._make(waiting):
                continue
            change = waiting.change
            assert change is not None
            alone = not change.key
            if (change.bucket, change.key) in keys or (alone and group):
                self._held = waiting
                break
            if self._prepare(waiting, change):
                group.append(waiting)
                keys.add((change.bucket, change.key))
            if alone:
                break
        return group

    def _next(self, *, first: bool) -> _Waiting | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        idle = self._journal is None or self._journal.is_empty
        try:
            waiting = self._queue.get(first, None if idle else _IDLE_SECONDS)
        except queue.Empty:
            return None
        if waiting is None:
            self._ended = True
        return waiting

    @staticmethod
    def _make(waiting: _Waiting) -> bool:
        if not waiting.outcome.set_running_or_notify_cancel():
            return False
        try:
            waiting.change = waiting.make()
        except BaseException as error:  # noqa: BLE001 - raised by the caller's future
            waiting.outcome.set_exception(error)
            return False
        return True

    @staticmethod
    def _prepare(waiting: _Waiting, change: Change[Any]) -> bool:
        try:
            waiting.record = change.prepare()
        except BaseException as error:  # noqa: BLE001 - raised by the caller's future
            _fail(waiting, error)
            return False
        if waiting.record is None:
            _finish(waiting, change)
        return waiting.record is not None

    def _commit(self, group: list[_Waiting]) -> None:
        if self._journal is not None:
            records = [waiting.record.encode() for waiting in group if waiting.record is not None]
            try:
                places = self._journal.append(records)
            except BaseException as error:  # noqa: BLE001 - raised by the callers' futures
                for waiting in group:
                    _fail(waiting, error)
                return
            for waiting, place in zip(group, places, strict=True):
                waiting.place = place
        for waiting in group:
            assert waiting.change is not None
            _finish(waiting, waiting.change, self._withdraw)

    def _withdraw(self, place: tuple[int, int] | None) -> None:
        if self._journal is not None and place is not None:
            self._journal.withdraw(place)


def _finish(
    waiting: _Waiting,
    change: Change[Any],
    withdraw: Callable[[tuple[int, int] | None], None] = lambda _: None,
) -> None:
    try:
        outcome = change.apply()
    except BaseException as error:  # noqa: BLE001 - raised by the caller's future
        with contextlib.suppress(OSError):
            withdraw(waiting.place)
        _fail(waiting, error)
    else:
        waiting.outcome.set_result(outcome)


def _fail(waiting: _Waiting, error: BaseException) -> None:
    if waiting.change is not None:
        with contextlib.suppress(OSError):
            waiting.change.undo()
    waiting.outcome.set_exception(error)
