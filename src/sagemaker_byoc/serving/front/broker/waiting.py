"""The queue of requests: those that any worker can serve, and those of a session, which only the
slot that holds it can serve."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from sagemaker_byoc.serving.bodies import BUNDLE
from sagemaker_byoc.serving.front.broker.tickets import Ticket

BATCH_BYTES = BUNDLE
"""Bytes of bodies that are sent to a worker together, unless a single one has more."""


class Waiting:
    """Waiting tickets in the order of arrival. `expire` is called for those found past their
    deadline."""

    def __init__(self, expire: Callable[[Ticket], None]) -> None:
        self._expire = expire
        self._any: deque[Ticket] = deque()
        self._own: dict[int, deque[Ticket]] = {}
        """Tickets of sessions, by slot."""

    def __len__(self) -> int:
        return len(self._any) + sum(map(len, self._own.values()))

    def __bool__(self) -> bool:
        return bool(self._any or self._own)

    def add(self, ticket: Ticket) -> None:
        queue = self._queue_of(ticket)
        if ticket.submitted:
            queue.append(ticket)
        else:  # an instruction: ahead of all requests, after earlier instructions
            position = sum(1 for other in queue if not other.submitted)
            queue.insert(position, ticket)

    def put_back(self, batch: Iterable[Ticket]) -> None:
        for ticket in reversed(list(batch)):
            self._queue_of(ticket).appendleft(ticket)

    def _queue_of(self, ticket: Ticket) -> deque[Ticket]:
        slot = ticket.slot
        return self._any if slot is None else self._own.setdefault(slot, deque())

    def take(self, slot: int, most: int, now: float) -> list[Ticket]:
        """Return what to send to `slot` next, up to the limits, without tickets that have ended.

        Requests of a session are sent one at a time, if they came first or nothing else waits.
        """
        own = self._own.get(slot) if self._own else None
        if own and (not self._any or own[0].submitted <= self._any[0].submitted):
            batch = self._from(own, 1, now)
            if not own:
                del self._own[slot]
            return batch
        return self._from(self._any, most, now)

    def _from(self, queue: deque[Ticket], most: int, now: float) -> list[Ticket]:
        batch: list[Ticket] = []
        size = 0
        while queue and len(batch) < most:
            ticket = queue[0]
            if batch and size + ticket.body.size > BATCH_BYTES:
                break
            queue.popleft()
            if ticket.deadline <= now:
                self._expire(ticket)
            if not ticket.is_over:
                batch.append(ticket)
                size += ticket.body.size
        return batch

    def has_for(self, slot: int) -> bool:
        return bool(self._any) or slot in self._own

    def has_own(self, slot: int) -> bool:
        """Return whether a request waits that only this slot can serve."""
        return slot in self._own

    def leave(self, slot: int) -> list[Ticket]:
        """Remove and return the tickets that wait for a process that is gone."""
        return list(self._own.pop(slot, ()))

    def leave_all(self) -> list[Ticket]:
        found = [*self._any, *(ticket for queue in self._own.values() for ticket in queue)]
        self._any.clear()
        self._own.clear()
        return found

    def sweep(self, now: float) -> None:
        """Expire tickets past their deadline and drop those that have ended."""
        for queue in (self._any, *self._own.values()):
            for ticket in queue:
                if ticket.deadline <= now:
                    self._expire(ticket)
        self._any = deque(ticket for ticket in self._any if not ticket.is_over)
        for slot, queue in list(self._own.items()):
            self._own[slot] = deque(ticket for ticket in queue if not ticket.is_over)
            if not self._own[slot]:
                del self._own[slot]
