"""Which waiting request is sent to which worker, and what is taken back from a busy one.

A worker that takes one request at a time has its next ones at hand (docs/decisions/0033); one that
takes batches gets the next batch when it is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from sagemaker_byoc.serving.front.broker.slots import BRIEF, Slot, SlotState
from sagemaker_byoc.serving.front.broker.tickets import End, Hooks, Ticket
from sagemaker_byoc.serving.front.broker.waiting import Waiting
from sagemaker_byoc.serving.link import ClosedError, FullError, LinkError


class Ends(Protocol):
    """What sending may bring to its end; the broker does it."""

    def end(self, ticket: Ticket, end: End, *, reason: str = "") -> None:
        """Record the end of a ticket."""

    def lose_slot(self, slot: Slot) -> None:
        """Remove a worker that is gone."""

    def call_back(self) -> None:
        """Deliver the ends that were recorded."""


class Dispatch:
    """Moves requests between the queue and the workers of `slots`, which the broker also holds."""

    def __init__(
        self,
        slots: Mapping[int, Slot],
        waiting: Waiting,
        ends: Ends,
        hooks: Hooks,
        clock: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._waiting = waiting
        self._ends = ends
        self._hooks = hooks
        self._clock = clock
        self._is_due = False
        """Whether waiting requests are handed over as soon as all that arrived are there."""
        self._is_looking = False

    def arrived(self) -> None:
        """Send a request that has just been queued, now or with those that arrive with it."""
        if self._is_due:
            return
        if self.has_idle and self._brief() is None:
            self._hand_over()
        else:
            self._is_due = True
            self._hooks.later(self._hand_over)

    def _hand_over(self) -> None:
        self._is_due = False
        self.send()
        self._ends.call_back()

    @property
    def has_idle(self) -> bool:
        return any(slot.state is SlotState.IDLE for slot in self._slots.values())

    def _brief(self) -> Slot | None:
        """Return a busy slot whose worker is about to be done."""
        more, now = len(self._waiting), self._clock()
        return next((slot for slot in self._slots.values() if slot.is_brief(more, now)), None)

    def send(self) -> None:
        """Send waiting requests in equal shares, first to the worker with the fewest at hand; all
        to one that is about to be done rather than to an idle one."""
        share = 0
        while self._waiting:
            able = [
                slot
                for slot in self._slots.values()
                if slot.has_room and self._waiting.has_for(slot.index)
            ]
            brief = self._brief()
            if brief is not None and self.has_idle:
                able = [s for s in able if s is brief or self._waiting.has_own(s.index)]
                self._look_again_soon()
            if not able:
                return
            slot = min(able, key=_at_hand)
            share = share or -(-len(self._waiting) // len(able))
            batch = self._waiting.take(slot.index, min(share, slot.most), self._clock())
            if batch:
                self._hand(slot, batch)

    def _look_again_soon(self) -> None:
        """Look again whether the worker that was about to be done is."""
        if not self._is_looking:
            self._is_looking = True
            self._hooks.delay(2 * BRIEF, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        if self.has_idle:
            self.share()
        self._hand_over()
        if self.has_idle and any(slot.has_next for slot in self._slots.values()):
            self._look_again_soon()

    def _hand(self, slot: Slot, batch: list[Ticket]) -> None:
        assert slot.lane is not None
        try:
            slot.lane.send(batch)
        except ClosedError as error:
            self._waiting.put_back(batch)  # no worker has seen them
            if slot.running and isinstance(error, FullError):
                slot.is_full = True
            else:
                self._ends.lose_slot(slot)
            return
        except LinkError as error:
            if len(batch) == 1:
                self._ends.end(batch[0], End.UNSENDABLE, reason=str(error))
                return
            self._waiting.put_back(batch[1:])
            self._hand(slot, batch[:1])
            return
        if not slot.running:
            slot.started, slot.taken = self._clock(), len(batch)
            slot.state = SlotState.BUSY
        for ticket in batch:
            slot.running[ticket.id] = ticket
        self._hooks.on_batch(len(batch))

    def share(self) -> None:
        """Take back what the busiest worker has not received, for those that are idle; if that is
        nothing, what the next one has not."""
        now = self._clock()
        for slot in sorted(self._slots.values(), key=_at_hand, reverse=True):
            if slot.has_next and not slot.is_brief(0, now):
                self.take_back(slot)
            if self._waiting:
                break
        self.send()

    def take_back(self, slot: Slot) -> None:
        """Queue again, first of all, what was sent to a worker that has not received it."""
        if slot.lane is not None and slot.has_next:
            self.queue_again(slot, slot.lane.take_back(len(slot.running)))

    def queue_again(self, slot: Slot, idents: Iterable[int]) -> None:
        """Queue again, first of all, what a worker will not begin."""
        found = [slot.running.pop(ident, None) for ident in idents]
        self._waiting.put_back([ticket for ticket in found if ticket is not None])
        if not slot.running and slot.state is SlotState.BUSY:
            slot.state = SlotState.IDLE


def _at_hand(slot: Slot) -> int:
    return len(slot.running)
