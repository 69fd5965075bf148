"""The slots of model workers: the state of each, how much it may be sent, the health of all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Self

from sagemaker_byoc.serving.front.broker.tickets import Lane, Ticket

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


class SlotState(StrEnum):
    """The state of a model worker, as far as the front knows."""

    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"
    LOST = "restarting"


ABLE = frozenset({SlotState.IDLE, SlotState.BUSY})
"""States of a worker that can take a request."""
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
"""Weight of the latest request in the mean and the median time of requests."""


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
    median: float = 0.0
    """Seconds that half of them did not exceed. Unlike the mean, it does not grow if now and then a
    request waits some milliseconds for a CPU."""
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
        work = (len(self.running) + more) * self.median
        return 0 < self.median < TINY and max(work, now - self.started) < BRIEF

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
        step = WEIGHT * self.median
        self.median += (step if seconds > self.median else -step) if self.median else seconds

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


KILL_AFTER = 2.0
"""Seconds from SIGABRT, on which a stuck worker prints its stacks, to SIGKILL."""


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
