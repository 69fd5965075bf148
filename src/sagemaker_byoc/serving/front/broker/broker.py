"""The broker: one object that knows every model worker, every request and every deadline.

The HTTP side calls `admit`, then `submit` with a callback. Each ticket ends exactly once: with the
model's reply, at its deadline, or with the loss of its worker or its client. One event loop owns
the broker: it has no locks, never waits and imports no web framework.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import Unavailable, UnknownModel
from sagemaker_byoc.serving.front.broker.admission import Admission, Permit
from sagemaker_byoc.serving.front.broker.dispatch import Dispatch
from sagemaker_byoc.serving.front.broker.slots import (
    ABLE,
    BatchLimit,
    Health,
    Slot,
    SlotState,
    end_stuck,
)
from sagemaker_byoc.serving.front.broker.tickets import (
    End,
    Hooks,
    Lane,
    Outcome,
    Stream,
    Ticket,
)
from sagemaker_byoc.serving.front.broker.waiting import Waiting
from sagemaker_byoc.serving.link import LinkError


class Broker(Hooks):
    """The slots, the queue in front of them, and the clock."""

    def __init__(
        self,
        *,
        slots: int,
        admission: Admission,
        stuck_grace: float,
        target: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.admission = admission
        self.model = ""
        """The model's name on a multi-model endpoint."""
        self.has_app = False
        self.app_routes: frozenset[str] = frozenset()
        """Routes of the server that the user's application answers: /invocations, or none."""
        self.has_chat = False
        self.has_adapters = False
        self.has_redact = False
        """Whether the workers decide what may be captured."""
        self.conversations = False
        """Whether the handler file has a bidirectional_fn."""
        self.restarts = 0
        self.restart_grace = 0.0
        """Seconds for which a loaded model counts as ready while it has no worker."""
        self.waiting = Waiting(lambda ticket: self.end(ticket, End.EXPIRED))
        self._stuck_grace = stuck_grace
        self._unready_since = 0.0
        self._clock = clock
        self._slots = {index: Slot(index, BatchLimit(target)) for index in range(slots)}
        self._dispatch = Dispatch(self._slots, self.waiting, self, self, clock)
        self._finished: list[tuple[Ticket, Outcome]] = []
        self._is_ready = False
        self._is_shut = False
        self._last_id = 0

    # ── what the HTTP side asks ──

    def admit(self) -> Permit:
        """Admit a request whose body is whole, or refuse at once what could only time out."""
        self._check_loaded()
        return self.admission.admit()

    def arrive(self) -> Permit:
        """Let the body of a request arrive, or refuse the request before its body is read."""
        self._check_loaded()
        return self.admission.arrive()

    def enter(self, permit: Permit) -> None:
        """Queue a request whose body has become whole; its model may have been unloaded
        meanwhile."""
        self._check_loaded()
        permit.enter()

    def _check_loaded(self) -> None:
        if self._is_shut:
            raise UnknownModel(f"Model {self.model[:100]!r} has been unloaded")
        if not self._is_ready and not any(slot.was_loaded for slot in self._slots.values()):
            raise Unavailable(f"No model is ready: {self.health().reason}")

    def submit(
        self,
        meta: Mapping[str, Any],
        body: Body,
        deadline: float,
        done: Callable[[Ticket, Outcome], None],
        slot: int | None = None,
    ) -> Ticket:
        """Send the request to an idle worker, or queue it. If `slot` is given, only its worker can
        serve it."""
        self._last_id += 1
        ticket = Ticket(self._last_id, meta, body, deadline, done, self._clock(), slot=slot)
        self.waiting.add(ticket)
        self._dispatch.arrived()
        return ticket

    def instruct(
        self, slot: int, meta: Mapping[str, Any], done: Callable[[Ticket, Outcome], None]
    ) -> None:
        """Send a worker an instruction ahead of all requests that it has not begun."""
        if slot in self._slots:
            self._dispatch.take_back(self._slots[slot])
        self._last_id += 1
        ticket = Ticket(self._last_id, meta, Body(), meta["deadline"], done, 0.0, slot=slot)
        self.waiting.add(ticket)
        self._dispatch.send()
        self.call_back()

    def abandon(self, ticket: Ticket) -> None:
        """End a ticket whose client has left: it never reaches a worker, or its worker stops
        streaming."""
        slot = next((slot for slot in self._slots.values() if ticket.id in slot.running), None)
        if slot is not None and ticket.stream is not None:
            ticket.deadline = self._clock()  # a generator that does not stop is stuck
            self._stop_stream(slot, ticket)
        self.end(ticket, End.ABANDONED)
        if slot is not None and ticket not in slot.begun():
            self._dispatch.take_back(slot)
            self._dispatch.send()
        self.call_back()

    def health(self) -> Health:
        if self._is_ready:
            return Health(is_ready=True, status="ready", reason="")
        health = Health.of_none_ready(self._slots.values())
        was_loaded = any(slot.was_loaded for slot in self._slots.values())
        if was_loaded and self._clock() - self._unready_since < self.restart_grace:
            # What comes now waits for the restart, and most of it is answered in time.
            return Health(is_ready=True, status=health.status, reason=health.reason)
        return health

    def lanes(self) -> list[Lane]:
        return [slot.lane for slot in self._slots.values() if slot.lane is not None]

    def queued(self) -> int:
        """Return how many requests no worker has begun, those at hand of one included."""
        at_hand = sum(len(slot.running) - 1 for slot in self._slots.values() if slot.has_next)
        return len(self.waiting) + at_hand

    def present(self) -> list[int]:
        """Return the slots whose worker can take a request, now or after its current one."""
        return [index for index, slot in self._slots.items() if slot.state in ABLE]

    def away(self) -> set[int]:
        """Return the slots whose worker has ended or has not come back yet."""
        return set(self._slots).difference(self.present())

    @property
    def awaits_worker(self) -> bool:
        """Return whether a worker may come that knows sessions which no other does; one that has
        failed to load its model knows none."""
        return any(
            slot.state in {SlotState.LOADING, SlotState.LOST} for slot in self._slots.values()
        )

    @property
    def size(self) -> int:
        """Return how many workers there are, or may be as long as none has said."""
        return len(self._slots)

    # ── what the workers' side reports ──

    def resize(self, count: int) -> None:
        """Drop the slots that get no worker, as a worker that knows their number says."""
        dropped = [index for index in self._slots if index >= count]
        for index in dropped:
            del self._slots[index]
        self.admission.shrink(len(dropped))

    def join(self, lane: Lane) -> None:
        """Register a worker that has connected; an earlier lane of its slot is dead."""
        slot = self._slots.get(lane.slot)
        if slot is None:
            raise LinkError(f"no slot {lane.slot}")
        if slot.lane is not None:
            self.lose(slot.lane)
        self.restarts += slot.was_loaded
        slot.lane, slot.aborted_at = lane, None
        self._set(slot, SlotState.LOADING)

    def ready(self, lane: Lane, *, batch: int = 1, has_app: bool = False) -> None:
        """Mark the worker as ready: it has loaded and warmed its model, or reconnected with one."""
        slot = self._slot_of(lane)
        if slot is None:
            return
        slot.was_loaded, slot.reason = True, ""
        slot.limit.open(batch)
        self.has_app = has_app
        self._set(slot, SlotState.IDLE)
        self.on_ready()
        self._dispatch.send()
        self._dispatch.share()
        self.call_back()

    def fail(self, lane: Lane, reason: str, status: int = 500) -> None:
        """Mark the model as failed; `status` tells whether memory was lacking."""
        slot = self._slot_of(lane)
        if slot is not None:
            slot.reason = reason
            self._set(slot, SlotState.FAILED)
            self.on_failure(reason, status)

    def part(self, lane: Lane, ident: int, meta: Mapping[str, Any], body: Body) -> None:
        """Pass on a piece of a streamed reply; the first one, with its metadata, opens the
        stream."""
        slot = self._slot_of(lane)
        ticket = slot.running.get(ident) if slot is not None else None
        if slot is None or ticket is None or ticket.is_over:
            lane.cancel(ident)
            return
        if ticket.stream is None:
            ticket.stream = Stream(lane.hold, lane.resume)
            now = self._clock()
            ticket.started = slot.started
            times = (ticket.started - ticket.submitted, now - ticket.started)
            ticket.deadline = max(ticket.deadline, float(ticket.meta.get("stream_deadline", 0.0)))
            outcome = Outcome(End.STREAM, meta, Body(), "", *times, stream=ticket.stream)
            ticket.stream.put(body.data)
            ticket.done(ticket, outcome)
        else:
            ticket.stream.put(body.data)

    def answer(self, lane: Lane, replies: Iterable[tuple[int, Mapping[str, Any], Body]]) -> None:
        """Deliver replies; a reply to a request that has already ended only frees its worker."""
        slot = self._slot_of(lane)
        if slot is None:
            return
        began = slot.started
        for ident, meta, body in replies:
            ticket = slot.running.pop(ident, None)
            if ticket is not None:
                ticket.started = began
                self.end(ticket, End.REPLIED, meta, body)
                if slot.limit.is_single:
                    times = meta.get("times")  # a stream and a failure have none
                    took = sum(times.values()) if times else self._clock() - began
                    slot.took(took)
                    began = min(began + took, self._clock())
        if slot.state is SlotState.BUSY:
            self._go_on(slot)  # before the callbacks: the worker must not wait for them
        self.call_back()

    def _go_on(self, slot: Slot) -> None:
        """Give a worker that has replied what waits; if nothing does, what others have not
        begun."""
        now = self._clock()
        slot.is_full = False
        if not slot.running:
            slot.limit.took(slot.taken, now - slot.started)
            self._set(slot, SlotState.IDLE)
        elif slot.limit.is_single:
            slot.started = now
        if self.waiting:
            self._dispatch.send()
        if not slot.running:
            self._dispatch.share()

    def returned(self, lane: Lane, idents: Iterable[int]) -> None:
        """Queue again, first of all, what a worker has received and will not begin."""
        slot = self._slot_of(lane)
        if slot is not None:
            self._dispatch.queue_again(slot, idents)
            self._dispatch.send()
            self.call_back()

    def lose(self, lane: Lane) -> None:
        """Remove a worker that is gone; only the requests that it has begun end with it."""
        slot = self._slot_of(lane)
        if slot is not None:
            self.lose_slot(slot)
            self._dispatch.send()
            self.call_back()

    def shut(self) -> None:
        """End all waiting requests: the model has been unloaded."""
        self._is_shut = True
        for slot in self._slots.values():
            if slot.lane is not None:
                self.lose_slot(slot)
        for ticket in self.waiting.leave_all():
            self.end(ticket, End.LOST)
        self.call_back()

    # ── the clock ──

    def tick(self) -> None:
        """End requests past their deadline, and workers that run long after theirs."""
        now = self._clock()
        self.waiting.sweep(now)
        for slot in self._slots.values():
            begun = list(slot.begun())
            for ticket in slot.running.values():
                if ticket.deadline <= now and not ticket.is_over:
                    ticket.started = slot.started if ticket in begun else 0.0
                    self._stop_stream(slot, ticket)
                    self.end(ticket, End.EXPIRED)
            if any(ticket.is_over for ticket in slot.running.values() if ticket not in begun):
                self._dispatch.take_back(slot)
            end_stuck(slot, now, self._stuck_grace)
        if self._dispatch.has_idle:
            self._dispatch.share()
        self._dispatch.send()
        self.call_back()

    # ── inside ──

    def _slot_of(self, lane: Lane) -> Slot | None:
        slot = self._slots.get(lane.slot)
        return slot if slot is not None and slot.lane is lane else None

    def _set(self, slot: Slot, state: SlotState) -> None:
        before, slot.state = slot.state, state
        if before in ABLE and state in ABLE:
            return
        was_ready = self._is_ready
        self._is_ready = any(entry.state in ABLE for entry in self._slots.values())
        if was_ready and not self._is_ready:
            self._unready_since = self._clock()

    def _stop_stream(self, slot: Slot, ticket: Ticket) -> None:
        """Release a worker whose stream has no receiver: it is not stuck because its client is."""
        if slot.lane is not None and ticket.stream is not None and not ticket.is_over:
            ticket.stream.release()
            slot.lane.cancel(ticket.id)

    def lose_slot(self, slot: Slot) -> None:
        """Remove a worker: what it has begun ends, and what only it could serve."""
        assert slot.lane is not None
        self.on_lost(slot.lane)
        last = slot.lane.begun()
        sent = list(slot.running)
        begun = sent.index(last) + 1 if last in slot.running else 0
        self._dispatch.queue_again(slot, sent[begun:])
        slot.lane, slot.is_full = None, False
        if slot.state is not SlotState.FAILED:
            slot.reason = "a model worker ended and is being restarted"
            self._set(slot, SlotState.LOST)
        running, slot.running = slot.running, {}
        for ticket in running.values():
            ticket.started = slot.started
        for ticket in (*running.values(), *self.waiting.leave(slot.index)):
            self.end(ticket, End.LOST)

    def end(
        self,
        ticket: Ticket,
        end: End,
        meta: Mapping[str, Any] | None = None,
        body: Body | None = None,
        reason: str = "",
    ) -> None:
        """Record how the ticket ends, the first time only."""
        if ticket.is_over:
            return
        ticket.is_over = True
        meta = meta or {}
        if ticket.stream is not None:
            is_whole = end is End.REPLIED and "error" not in meta
            ticket.stream.end(None if is_whole else str(meta.get("error", end.value)))
            return
        now = self._clock()
        started = ticket.started or now
        times = (started - ticket.submitted, now - started)
        self._finished.append((ticket, Outcome(end, meta, body or Body(), reason, *times)))

    def call_back(self) -> None:
        """Call the callbacks of tickets that have ended. Done last, since a callback may do
        anything, even submit the next request."""
        while self._finished:
            finished, self._finished = self._finished, []
            for ticket, outcome in finished:
                ticket.done(ticket, outcome)
