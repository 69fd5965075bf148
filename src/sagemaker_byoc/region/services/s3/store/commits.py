"""Group commit: one thread makes changes durable together, and then puts each in place.

All changes of names go through this thread, so that a condition sees every change before its own.
While the disk works on one group, the next one gathers.
"""

from __future__ import annotations

import asyncio
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
    outcome: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None = None
    """The loop of the outcome, which may change it alone."""
    result: Any = None
    error: BaseException | None = None
    change: Change[Any] | None = None
    record: Record | None = None
    place: tuple[int, int] | None = None


class Commits:
    """A thread that commits until `close`. Without a journal, changes are not made durable."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._held: _Waiting | None = None
        self._done: list[_Waiting] = []
        self._ended = False
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="byoc-commits", daemon=True)
        self._thread.start()

    async def commit(self, make: Callable[[], Change[T]]) -> T:
        """Commit what `make` returns, which is called in the thread of all changes."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._put(_Waiting(make, outcome, loop))
        return await outcome

    def submit(self, make: Callable[[], Change[T]]) -> Future[T]:
        """Do as `commit` does, from any thread."""
        outcome: Future[T] = Future()
        self._put(_Waiting(make, outcome))
        return outcome

    def run(self, change: Change[T]) -> T:
        """Commit a change; return or raise its outcome."""
        return self.submit(lambda: change).result()

    def _put(self, waiting: _Waiting) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the object store is closed")
            self._queue.put(waiting)

    def close(self) -> None:
        """Commit what was submitted, and end. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            group = self._gather()
            if group:
                self._commit(group)
            self._answer()
            if self._ended:
                return

    def _gather(self) -> list[_Waiting]:
        """Wait for changes; return prepared ones of different keys, or none at the end."""
        group: list[_Waiting] = []
        keys: set[tuple[str, str]] = set()
        while len(group) < MOST and (waiting := self._next(first=not group)) is not None:
            if waiting.change is None and not self._make(waiting):
                continue
            change = waiting.change
            assert change is not None
            key = (change.bucket, change.key)
            alone = not change.key
            if key in keys or (alone and group):
                self._held = waiting
                break
            if self._prepare(waiting, change):
                group.append(waiting)
                keys.add(key)
            if alone:
                break
        return group

    def _next(self, *, first: bool) -> _Waiting | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            waiting = self._queue.get_nowait()
        except queue.Empty:
            if not first:
                return None
            self._answer()
            waiting = self._wait()
        if waiting is None:
            self._ended = True
        return waiting

    def _wait(self) -> _Waiting | None:
        """Return the next change, or None at the end; checkpoint the journal meanwhile."""
        while self._journal is not None and not self._journal.is_empty:
            try:
                return self._queue.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with contextlib.suppress(OSError):  # the next group reports it
                    self._journal.rotate(wait=False)
        return self._queue.get()

    def _make(self, waiting: _Waiting) -> bool:
        if isinstance(waiting.outcome, Future):
            if not waiting.outcome.set_running_or_notify_cancel():
                return False
        elif waiting.outcome.cancelled():
            return False
        try:
            waiting.change = waiting.make()
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            self._fail(waiting, error)
            return False
        return True

    def _prepare(self, waiting: _Waiting, change: Change[Any]) -> bool:
        try:
            waiting.record = change.prepare()
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            self._fail(waiting, error)
            return False
        if waiting.record is None:
            self._apply(waiting, change)
        return waiting.record is not None

    def _commit(self, group: list[_Waiting]) -> None:
        if self._journal is not None:
            try:
                records = [each.record.encode() for each in group if each.record is not None]
                places = self._journal.append(records)
            except BaseException as error:  # noqa: BLE001 - raised to the callers
                for waiting in group:
                    self._fail(waiting, error)
                return
            for waiting, place in zip(group, places, strict=True):
                waiting.place = place
        for waiting in group:
            assert waiting.change is not None
            self._apply(waiting, waiting.change)

    def _apply(self, waiting: _Waiting, change: Change[Any]) -> None:
        try:
            waiting.result = change.apply()
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            if self._journal is not None and waiting.place is not None:
                with contextlib.suppress(OSError):
                    self._journal.withdraw(waiting.place)
            self._fail(waiting, error)
        else:
            self._done.append(waiting)

    def _fail(self, waiting: _Waiting, error: BaseException) -> None:
        if waiting.change is not None:
            with contextlib.suppress(OSError):
                waiting.change.undo()
        waiting.error = error
        self._done.append(waiting)

    def _answer(self) -> None:
        """Give their outcomes to the callers; a loop is woken once for all of its own."""
        done, self._done = self._done, []
        loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for waiting in done:
            if waiting.loop is None:
                _settle(waiting)
            else:
                loops.setdefault(waiting.loop, []).append(waiting)
        for loop, its in loops.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(_settle_all, its)


def _settle_all(done: list[_Waiting]) -> None:
    for waiting in done:
        if not waiting.outcome.done():  # its caller may be gone
            _settle(waiting)


def _settle(waiting: _Waiting) -> None:
    if waiting.error is None:
        waiting.outcome.set_result(waiting.result)
    else:
        waiting.outcome.set_exception(waiting.error)
