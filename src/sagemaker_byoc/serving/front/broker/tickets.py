"""What the broker keeps of requests: tickets and their ends, streams, lanes to workers, hooks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import Frame

HIGH = 256 * 1024
"""Bytes that may wait for a slow client before the worker is paused."""


class StreamCutError(Exception):
    """The stream broke off: the reply must not look complete."""


class Stream:
    """A reply in pieces, filled by the broker and read by the task that answers the client; one
    event loop."""

    def __init__(self, hold: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False
        self._error: str | None = None
        self._hold = hold
        self._resume = resume
        self._is_held = False

    def put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH and not self._is_held:
            self._is_held = True
            self._hold()
        self._wake()

    def end(self, error: str | None = None) -> None:
        if not self._is_over:
            self._is_over, self._error = True, error
            self._wake()

    def release(self) -> None:
        """Let the worker continue, whether or not the client still reads."""
        if self._is_held:
            self._is_held = False
            self._resume()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces; raise StreamCutError if the stream broke off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._size <= HIGH // 2:
                    self.release()
                yield piece
            if self._is_over:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise StreamCutError(self._error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Lane(Protocol):
    """The connection to one model worker."""

    @property
    def slot(self) -> int: ...

    @property
    def pid(self) -> int: ...

    def send(self, tickets: Sequence[Ticket]) -> None:
        """Send tickets as one packet; raise LinkError if they do not fit into it, FullError if
        earlier ones leave no room, ClosedError if the worker is gone."""

    def take_back(self, most: int) -> list[int]:
        """Take back what the worker has not received, at most `most` packets; return the tickets'
        ids."""

    def begun(self) -> int:
        """Return the id of the request that the worker began last."""

    def talk(self, frame: Frame) -> None:
        """Send part of a conversation; raise FullError if the worker has no room for it now."""

    def cancel(self, ident: int) -> None:
        """Ask the worker to stop streaming to a client that is gone."""

    def hold(self) -> None:
        """Pause reading from the worker: a client takes its stream too slowly."""

    def resume(self) -> None: ...

    def abort(self) -> None:
        """Make the worker print its stacks and end."""

    def kill(self) -> None: ...


class End(StrEnum):
    """How a ticket ended or, for STREAM, how it continues."""

    REPLIED = "replied"
    STREAM = "stream"
    EXPIRED = "expired"
    LOST = "lost"
    UNSENDABLE = "unsendable"
    ABANDONED = "abandoned"


@dataclass(slots=True)
class Outcome:
    """The end of a request; `meta` and `body` come from the worker if it replied."""

    end: End
    meta: Mapping[str, Any] = field(default_factory=dict)
    body: Body = field(default_factory=Body)
    reason: str = ""
    queued: float = 0.0
    ran: float = 0.0
    stream: Stream | None = None


@dataclass(slots=True, eq=False)
class Ticket:
    """One request, from its admission to its outcome."""

    id: int
    meta: Mapping[str, Any]
    body: Body
    deadline: float
    done: Callable[[Ticket, Outcome], None]
    submitted: float
    started: float = 0.0
    is_over: bool = False
    stream: Stream | None = None
    slot: int | None = None
    """The only slot that can serve it; None for any."""


def setter_of(future: asyncio.Future[Outcome]) -> Callable[[Ticket, Outcome], None]:
    """Return a callback for a ticket's end that sets `future`."""

    def done(_: Ticket, outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    return done


class Hooks:
    """Callbacks of a broker about its workers; each has at most one listener and does nothing until
    set."""

    def __init__(self) -> None:
        self.later: Callable[[Callable[[], None]], object] = lambda call: call()
        """The event loop's call_soon: calls once what has arrived by now has been submitted."""
        self.delay: Callable[[float, Callable[[], None]], object] = _nobody
        """The event loop's call_later."""
        self.on_batch: Callable[[float], None] = _nobody
        """Called with the number of requests that were sent to a worker together."""
        self.on_ready: Callable[[], None] = _nobody
        self.on_failure: Callable[[str, int], None] = _nobody
        """Called with reason and status when a load fails."""
        self.on_lost: Callable[[Lane], None] = _nobody
        self.on_captured: Callable[[Mapping[str, Any], Body], None] = _nobody
        """Called with what redact_fn has left of an invocation."""
        self.on_talk: Callable[[Lane, Frame], None] = _nobody
        """Called with part of a conversation."""
        self.on_sessions: Callable[[int, list[tuple[str, float]]], None] = _nobody
        """Called with the sessions that a worker holds when it connects, and when they expire."""
        self.on_adapters: Callable[[int, Mapping[str, str]], None] = _nobody
        """Called with the adapters that it holds, and their folders."""


def _nobody(*_: object) -> None:
    return
