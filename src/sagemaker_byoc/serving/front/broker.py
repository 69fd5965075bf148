"""One object that knows every model worker, every request and every deadline. No web framework.

Whoever carries HTTP (Flask today) asks `admit`, then `submit`s with a callback. Each ticket ends
exactly once: with a reply of the model, at its deadline, or with the loss of its worker.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from sagemaker_byoc.serving.errors import Unavailable
from sagemaker_byoc.serving.front.tickets import (
    End,
    Health,
    Lane,
    Outcome,
    Slot,
    SlotState,
    Ticket,
)
from sagemaker_byoc.serving.link import Body, ClosedError, LinkError

Finished: TypeAlias = "list[tuple[Ticket, Outcome]]"

KILL_AFTER = 2.0
"""Seconds from SIGABRT, on which a stuck worker prints its stacks, to SIGKILL."""


class Permit:
    """The right to occupy a request thread; released once, however often it is asked."""

    def __init__(self, broker: Broker) -> None:
        self._broker: Broker | None = broker

    def release(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.leave()


class Broker:
    """Slots, the queue in front of them, and the clock."""

    def __init__(
        self,
        *,
        slots: int,
        queue: int,
        stuck_grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity = slots + queue
        self._stuck_grace = stuck_grace
        self._clock = clock
        self._lock = threading.Lock()
        self._slots = {index: Slot() for index in range(slots)}
        self._queue: deque[Ticket] = deque()
        self._admitted = 0
        self._last_id = 0

    # ── what the HTTP side asks ──

    def admit(self) -> Permit:
        """Refuse at once what could only wait in vain; before the body is read."""
        with self._lock:
            if not any(slot.was_loaded for slot in self._slots.values()):
                raise Unavailable(f"No model is ready: {self._health().reason}")
            if self._admitted >= self.capacity:
                raise Unavailable(f"{self._admitted} requests are under way or wait already")
            self._admitted += 1
        return Permit(self)

    def leave(self) -> None:
        with self._lock:
            self._admitted -= 1

    def submit(
        self,
        meta: Mapping[str, object],
        body: Body,
        deadline: float,
        done: Callable[[Outcome], None],
    ) -> None:
        """To an idle worker at once, else into the queue. `done` may run on any thread."""
        with self._lock:
            self._last_id += 1
            ticket = Ticket(self._last_id, meta, body, deadline, done, self._clock())
            self._queue.append(ticket)
            finished = self._dispatch()
        _tell(finished)

    def health(self) -> Health:
        with self._lock:
            return self._health()

    # ── what the workers' side reports ──

    def join(self, lane: Lane) -> None:
        """A worker has connected; a lane that its slot had before is dead."""
        with self._lock:
            previous = self._slots.get(lane.slot)
            if previous is None:
                raise LinkError(f"no slot {lane.slot}")
        if previous.lane is not None:
            self.lose(previous.lane)
        with self._lock:
            slot = self._slots[lane.slot]
            slot.lane, slot.state, slot.aborted_at = lane, SlotState.LOADING, None

    def ready(self, lane: Lane) -> None:
        """The worker has loaded and warmed its model, or come back with one."""
        with self._lock:
            slot = self._slot_of(lane)
            if slot is None:
                return
            slot.state, slot.was_loaded, slot.reason = SlotState.IDLE, True, ""
            finished = self._dispatch()
        _tell(finished)

    def fail(self, lane: Lane, reason: str) -> None:
        with self._lock:
            slot = self._slot_of(lane)
            if slot is not None:
                slot.state, slot.reason = SlotState.FAILED, reason

    def answer(self, lane: Lane, ident: int, meta: Mapping[str, object], body: Body) -> None:
        """A reply; one to a request that has ended already only frees its worker."""
        with self._lock:
            slot = self._slot_of(lane)
            if slot is None or slot.ticket is None or slot.ticket.id != ident:
                return
            ticket, slot.ticket, slot.state = slot.ticket, None, SlotState.IDLE
            finished = self._end(ticket, End.REPLIED, meta=meta, body=body)
            finished += self._dispatch()
        _tell(finished)

    def lose(self, lane: Lane) -> None:
        """The worker is gone; only the request that it ran ends with it."""
        with self._lock:
            slot = self._slot_of(lane)
            if slot is None:
                return
            finished = self._lose(slot)
            finished += self._dispatch()
        _tell(finished)

    # ── the clock ──

    def tick(self) -> None:
        """End what is past its deadline; end workers that run on long after it."""
        with self._lock:
            now = self._clock()
            running = [slot.ticket for slot in self._slots.values() if slot.ticket is not None]
            finished: Finished = []
            for ticket in (*self._queue, *running):
                if ticket.deadline <= now:
                    finished += self._end(ticket, End.EXPIRED)
            if finished:
                self._queue = deque(ticket for ticket in self._queue if not ticket.is_over)
            for slot in self._slots.values():
                self._end_stuck(slot, now)
        _tell(finished)

    def run_clock(self, interval: float = 0.1) -> None:
        """Tick for ever; for a thread of its own."""
        while True:
            time.sleep(interval)
            self.tick()

    # ── under the lock ──

    def _slot_of(self, lane: Lane) -> Slot | None:
        slot = self._slots.get(lane.slot)
        return slot if slot is not None and slot.lane is lane else None

    def _dispatch(self) -> Finished:
        """Hand waiting requests to idle workers; return those that could not be handed over."""
        finished: Finished = []
        idle = deque(slot for slot in self._slots.values() if slot.state is SlotState.IDLE)
        while self._queue and idle:
            slot, ticket = idle[0], self._queue[0]
            assert slot.lane is not None
            try:
                slot.lane.send(ticket.id, ticket.meta, ticket.body)
            except ClosedError:
                self._lose(slot)  # the ticket stays first in the queue: no worker has seen it
                idle.popleft()
                continue
            except LinkError as error:
                self._queue.popleft()
                finished += self._end(ticket, End.UNSENDABLE, reason=str(error))
                continue
            self._queue.popleft()
            idle.popleft()
            ticket.started = self._clock()
            slot.ticket, slot.state = ticket, SlotState.BUSY
        return finished

    def _lose(self, slot: Slot) -> Finished:
        ticket, slot.ticket, slot.lane = slot.ticket, None, None
        if slot.state is not SlotState.FAILED:
            slot.state = SlotState.LOST
            slot.reason = "a model worker ended and is being restarted"
        return [] if ticket is None else self._end(ticket, End.LOST)

    def _end(
        self,
        ticket: Ticket,
        end: End,
        *,
        meta: Mapping[str, object] | None = None,
        body: Body | None = None,
        reason: str = "",
    ) -> Finished:
        """The ticket with its outcome, the first time; nothing after that."""
        if ticket.is_over:
            return []
        ticket.is_over = True
        now = self._clock()
        started = ticket.started or now
        times = (started - ticket.submitted, now - started)
        return [(ticket, Outcome(end, meta or {}, body or Body(), reason, *times))]

    def _end_stuck(self, slot: Slot, now: float) -> None:
        ticket, lane = slot.ticket, slot.lane
        if ticket is None or lane is None or now < ticket.deadline + self._stuck_grace:
            slot.aborted_at = None
            return
        if slot.aborted_at is None:
            slot.aborted_at = now
            lane.abort()
        elif now >= slot.aborted_at + KILL_AFTER:
            lane.kill()

    def _health(self) -> Health:
        slots = self._slots.values()
        if any(slot.state in {SlotState.IDLE, SlotState.BUSY} for slot in slots):
            return Health(is_ready=True, status="ready", reason="")
        for state in (SlotState.FAILED, SlotState.LOST):
            for slot in slots:
                if slot.state is state:
                    return Health(is_ready=False, status=state.value, reason=slot.reason)
        return Health(is_ready=False, status="loading", reason="the model is being loaded")


def _tell(finished: Finished) -> None:
    """Outside the lock, since a callback may do anything."""
    for ticket, outcome in finished:
        ticket.done(outcome)
