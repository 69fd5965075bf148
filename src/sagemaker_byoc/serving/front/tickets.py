"""What the broker keeps: slots, tickets, and how tickets end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sagemaker_byoc.serving.link import Body


class Lane(Protocol):
    """The way to one model worker."""

    @property
    def slot(self) -> int: ...

    def send(self, ident: int, meta: Mapping[str, object], body: Body) -> None:
        """Raise LinkError if the worker can't be reached."""

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
    """How a ticket ended."""

    REPLIED = "replied"
    EXPIRED = "expired"
    LOST = "lost"
    UNSENDABLE = "unsendable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a request; `meta` and `body` are the worker's where it replied."""

    end: End
    meta: Mapping[str, object] = field(default_factory=dict)
    body: Body = field(default_factory=Body)
    reason: str = ""
    queued: float = 0.0
    ran: float = 0.0


@dataclass(slots=True, eq=False)
class Ticket:
    """One request, from its admission to its outcome."""

    id: int
    meta: Mapping[str, object]
    body: Body
    deadline: float
    done: Callable[[Outcome], None]
    submitted: float
    started: float | None = None
    is_over: bool = False


@dataclass(slots=True)
class Slot:
    """What is known of one slot; `lane` is None while its worker is away."""

    state: SlotState = SlotState.LOADING
    lane: Lane | None = None
    ticket: Ticket | None = None
    reason: str = ""
    was_loaded: bool = False
    aborted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What /ping tells; `status` is ready, loading, failed or restarting."""

    is_ready: bool
    status: str
    reason: str
