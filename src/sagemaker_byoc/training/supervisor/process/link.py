"""What the loop and whoever judges a failure tell each other; no more than words."""

from __future__ import annotations

import selectors
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from signal import Signals

from sagemaker_byoc.training.supervisor.process.child import Outcome

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Report:
    """One end that was no success."""

    host: str
    rank: int | None
    code: int
    """The exit code that it deserves."""
    text: str
    """For the failure file; without secrets."""
    is_secondary: bool
    """It looks like the consequence of another failure."""
    time: float
    """On this host's monotonic clock, wherever it happened."""


@dataclass(frozen=True, slots=True)
class State:
    """How this host is."""

    is_over: bool
    """All its ranks have ended."""
    quiet: float
    """Seconds since any of its ranks wrote a line."""
    stalled: float | None
    """Seconds since the slowest rank's last step; None where no rank tells its steps."""


class Order(Enum):
    END = auto()
    """End the ranks within seconds: another one has failed."""
    ABORT = auto()
    """Have the ranks show where they are, and end them: nothing moves any more."""
    STOP = auto()
    """As if SIGTERM had come: it has come to another host."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the hosts of one job have agreed on."""

    run_id: str
    say: Callable[[str], None]
    lost_seconds: float
    """A host that was silent for this long has vanished."""
    hang_seconds: float = NEVER


class Link(ABC):
    """Knows the other ranks and hosts, and decides what the cause of a failure was."""

    due: float = 0.0
    """When it wants its next `advance`."""
    verdict: Report | None = None
    """The cause, once it is known."""
    is_settled: bool = False
    """Nothing more is to be expected from the other hosts."""

    @abstractmethod
    def register(self, selector: selectors.BaseSelector) -> None:
        """Have the loop call back when a message comes."""

    @abstractmethod
    def report(self, report: Report) -> None:
        """A rank of this host has failed."""

    @abstractmethod
    def advance(self, now: float, state: State) -> Order | None:
        """Do what is due."""

    @abstractmethod
    def leave(self, stop: Signals | None) -> None:
        """This host goes; `stop` if it was told to."""


@dataclass(frozen=True, slots=True)
class Oversight:
    """Who judges, and what it is told."""

    link: Link
    examine: Callable[[Outcome, float, bool], Report | None]
    """The report on a rank that failed, and when. None where it has nothing of its own to say,
    because it was told to end (the last argument)."""
    stalled: Callable[[float], float | None]
    """Seconds since the slowest rank's last step."""
