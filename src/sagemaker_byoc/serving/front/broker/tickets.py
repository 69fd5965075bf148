"""What the broker keeps: slots, tickets, and how tickets end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.front.broker.batching import BatchLimit
from sagemaker_byoc.serving.front.broker.stream import Stream
from sagemaker_byoc.serving.link import Frame

KILL_AFTER = 2.0
"""Seconds from SIGABRT, on which a stuck worker prints its stacks, to SIGKILL."""


class Lane(Protocol):
    """The way to one model worker."""

    @property
    def slot(self) -> int: ...

    @property
    def pid(self) -> int: ...

    def send(self, tickets: Sequence[Ticket]) -> None:
        """Raise LinkError if they can't go as one packet, ClosedError if the worker is gone."""

    def talk(self, frame: Frame) -> None:
        """Part of a conversation; FullError where the worker has no room for it now."""

    def cancel(self, ident: int) -> None:
        """Ask the worker to stop streaming to a client that is gone."""

    def hold(self) -> None:
        """Hear nothing from the worker for now: a client takes its stream too slowly."""

    def resume(self) -> None: ...

    def abort(self) -> None:
        """Make the worker print its stacks and end."""

    def kill(self) -> None: ...


class SlotState(StrEnum):
    """What a model worker does, as far as the front knows."""

    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"
    LOST = "restarting"


class End(StrEnum):
    """How a ticket ended, or, for STREAM, how it goes on."""

    REPLIED = "replied"
    STREAM = "stream"
    EXPIRED = "expired"
    LOST = "lost"
    UNSENDABLE = "unsendable"
    ABANDONED = "abandoned"


@dataclass(slots=True)
class Outcome:
    """The end of a request; `meta` and `body` are the worker's where it replied."""

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
    """The only one that can serve it."""


@dataclass(slots=True)
class Slot:
    """What is known of one slot; `lane` is None while its worker is away."""

    limit: BatchLimit
    state: SlotState = SlotState.LOADING
    lane: Lane | None = None
    running: dict[int, Ticket] = field(default_factory=dict)
    taken: int = 0
    """Size of the batch that runs."""
    started: float = 0.0
    reason: str = ""
    was_loaded: bool = False
    aborted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What /ping tells; `status` is ready, loading, failed or restarting."""

    is_ready: bool
    status: str
    reason: str

    @classmethod
    def of_none_ready(cls, slots: Iterable[Slot]) -> Self:
        """The worst that can be said: a failure before a restart before loading."""
        found = {slot.state: slot.reason for slot in slots}
        for state in (SlotState.FAILED, SlotState.LOST):
            if state in found:
                return cls(is_ready=False, status=state.value, reason=found[state])
        return cls(is_ready=False, status="loading", reason="the model is being loaded")


def end_stuck(slot: Slot, now: float, grace: float) -> None:
    """End a worker that runs on long after the last of its deadlines; its stacks first."""
    lane = slot.lane
    latest = max((ticket.deadline for ticket in slot.running.values()), default=now)
    if lane is None or not slot.running or now < latest + grace:
        slot.aborted_at = None
    elif slot.aborted_at is None:
        slot.aborted_at = now
        lane.abort()
    elif now >= slot.aborted_at + KILL_AFTER:
        lane.kill()
