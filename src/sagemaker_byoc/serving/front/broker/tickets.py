"""What the broker keeps: slots with their batch limits, tickets and their ends, streams, hooks."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol, Self

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import Frame

SHRINK = 0.9


class BatchLimit:
    """The batch limit of one slot. With a target it follows the time that batches take.

    Additive growth, multiplicative shrinking (Clipper, NSDI 2017): one more after a full batch
    within the target, a tenth less after any that took longer.
    """

    def __init__(self, target: float | None = None) -> None:
        self._target = target
        self._most = 1
        self._current = 1.0

    @property
    def now(self) -> int:
        return int(self._current)

    @property
    def is_single(self) -> bool:
        """Return whether the handlers take one request at a time."""
        return self._most == 1

    def open(self, most: int) -> None:
        """Set the most requests that the handlers take; with a target, start at one."""
        self._most = most
        self._current = 1.0 if self._target is not None else float(most)

    def took(self, count: int, seconds: float) -> None:
        if self._target is None:
            return
        if seconds > self._target:
            self._current = max(1.0, self._current * SHRINK)
        elif count >= self.now:
            self._current = min(float(self._most), self._current + 1.0)


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


KILL_AFTER = 2.0
"""Seconds from SIGABRT, on which a stuck worker prints its stacks, to SIGKILL."""


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


class SlotState(StrEnum):
    """The state of a model worker, as far as the front knows."""

    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"
    LOST = "restarting"


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


DEPTH = 16
"""Requests at hand of a worker that takes one at a time."""
AT_HAND = 0.02
"""Seconds of work that a worker may have at hand: what waits behind a request that takes long is
given back, but not at once. One request beside the running one is always allowed."""
TINY = 0.00015
BRIEF = 0.002
"""Seconds of a request, and of all that waits, up to which an idle worker is left asleep while one
is busy: two processes that take turns on the CPUs need more time than one that continues."""
WEIGHT = 1 / 16
"""Weight of the latest request in the mean time of requests."""


@dataclass(slots=True)
class Slot:
    """The state of one slot; `lane` is None while its worker is away."""

    index: int
    limit: BatchLimit
    state: SlotState = SlotState.LOADING
    lane: Lane | None = None
    running: dict[int, Ticket] = field(default_factory=dict)
    """What was sent to the worker, in this order, and has no reply yet."""
    taken: int = 0
    """Size of the running batch."""
    started: float = 0.0
    """When the running batch, or the running request, began."""
    mean: float = 0.0
    """Seconds that its latest requests took on average."""
    is_full: bool = False
    """The worker's socket has no room until its next reply."""
    reason: str = ""
    was_loaded: bool = False
    aborted_at: float | None = None

    @property
    def has_room(self) -> bool:
        """Return whether the worker may be sent more: a batch if it is idle, single requests also
        in advance, so that it never waits for the front, but not one by one."""
        if self.state is SlotState.BUSY:
            few = max(1, self.depth // 4)
            return self.limit.is_single and not self.is_full and len(self.running) <= few
        return self.state is SlotState.IDLE

    def is_brief(self, more: int, now: float) -> bool:
        """Return whether the worker will be done with `more` requests, too, before another one is
        worth waking."""
        if self.state is not SlotState.BUSY or not self.limit.is_single:
            return False
        work = (len(self.running) + more) * self.mean
        return 0 < self.mean < TINY and max(work, now - self.started) < BRIEF

    @property
    def depth(self) -> int:
        """Return how many requests the worker may have, the running one included."""
        return max(2, min(DEPTH, int(AT_HAND / self.mean))) if self.mean else 2

    @property
    def most(self) -> int:
        """Return how many requests may be sent together: a batch, or half of what may be at hand,
        so that the next packet is there when one has been answered."""
        if not self.limit.is_single:
            return self.limit.now
        return max(1, min(self.depth // 2, self.depth - len(self.running)))

    def took(self, seconds: float) -> None:
        """Note how long a request took; a worker that says nonsense is not believed."""
        if not 0 <= seconds < math.inf:
            return
        self.mean += WEIGHT * (seconds - self.mean) if self.mean else seconds

    @property
    def has_next(self) -> bool:
        """Return whether the worker has requests at hand beside the one that it runs."""
        return self.limit.is_single and len(self.running) > 1

    def begun(self) -> Iterable[Ticket]:
        """Return what the worker is running: a batch, or the first of single requests."""
        found = self.running.values()
        return islice(found, 1) if self.limit.is_single else found


@dataclass(frozen=True, slots=True)
class Health:
    """The health that /ping reports; `status` is ready, loading, failed or restarting."""

    is_ready: bool
    status: str
    reason: str

    @classmethod
    def of_none_ready(cls, slots: Iterable[Slot]) -> Self:
        """Return the worst state: failed before restarting before loading."""
        found = {slot.state: slot.reason for slot in slots}
        for state in (SlotState.FAILED, SlotState.LOST):
            if state in found:
                return cls(is_ready=False, status=state.value, reason=found[state])
        return cls(is_ready=False, status="loading", reason="the model is being loaded")


def end_stuck(slot: Slot, now: float, grace: float) -> None:
    """End a worker that runs long after the deadline of what it has begun; it prints its stacks
    first."""
    lane = slot.lane
    latest = max((ticket.deadline for ticket in slot.begun()), default=now)
    if lane is None or not slot.running or now < latest + grace:
        slot.aborted_at = None
    elif slot.aborted_at is None:
        slot.aborted_at = now
        lane.abort()
    elif now >= slot.aborted_at + KILL_AFTER:
        lane.kill()


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
