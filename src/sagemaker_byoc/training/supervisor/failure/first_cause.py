"""Which of several failures was the cause: the earliest that is not the echo of another.

Also the interface between the loop that runs the ranks and the link that judges their ends.
"""

from __future__ import annotations

import re
import selectors
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from signal import Signals

from sagemaker_byoc.training.supervisor.process.child import Outcome

NEVER = float("inf")
ECHO_SECONDS = 1.0
"""Seconds that an apparent echo waits for its cause."""
COLLECT_SECONDS = 0.5
"""Seconds after that in which an earlier cause may still arrive."""
HANG_CODE = 134
"""128 + SIGABRT."""

ECHO = re.compile(
    r"connection (?:was )?(?:closed|reset|refused|aborted)|broken ?pipe|socket closed"
    r"|remote (?:process|peer)|remote error|ncclRemoteError|ncclSystemError|ncclUnhandled"
    r"|unhandled system error|closed by (?:remote )?peer|peer closed|recvvalue|recvbytes"
    r"|failed to (?:recv|send)|DistNetworkError|DistStoreError|connectFullMesh"
    r"|gloo.{0,120}(?:timed out|timeout|transport)|collective operation timeout"
    r"|watchdog.{0,120}timeout|heartbeat monitor|waiting for clients|store.{0,40}timeout"
    r"|BrokenBarrierError|EADDRNOTAVAIL",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Report:
    """The failed end of one rank or host."""

    host: str
    rank: int | None
    code: int
    """The exit code for the failure."""
    text: str
    """The text for the failure file, without secrets."""
    is_secondary: bool
    """The failure looks like the consequence of another one."""
    time: float
    """The time on this host's monotonic clock, even for another host's failure."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of this host."""

    is_over: bool
    """All its ranks have ended."""
    quiet: float
    """Seconds since any of its ranks wrote a line."""
    stalled: float | None
    """Seconds since the slowest rank's last step; None if no rank reports its steps."""


class Order(Enum):
    END = auto()
    """End the ranks within seconds: another one has failed."""
    ABORT = auto()
    """Make the ranks print their stacks and end, because they make no progress."""
    STOP = auto()
    """Stop as after SIGTERM, which another host has received."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the hosts of one job have agreed on."""

    run_id: str
    say: Callable[[str], None]
    lost_seconds: float
    """Silence after which a host counts as lost."""
    hang_seconds: float = NEVER


class Link(ABC):
    """Connects to the other ranks and hosts, and decides which failure was the cause."""

    due: float = 0.0
    """Time of the next `advance`."""
    verdict: Report | None = None
    """The cause, once it is known."""
    is_settled: bool = False
    """No more messages are expected from the other hosts."""

    @abstractmethod
    def register(self, selector: selectors.BaseSelector) -> None:
        """Register with the loop, which calls back when a message comes."""

    @abstractmethod
    def report(self, report: Report) -> None:
        """Take the report that a rank of this host has failed."""

    @abstractmethod
    def advance(self, now: float, state: State) -> Order | None:
        """Do what is due."""

    @abstractmethod
    def leave(self, stop: Signals | None) -> None:
        """Leave the job; `stop` is the signal that asked for it, if one did."""


@dataclass(frozen=True, slots=True)
class Oversight:
    """The link that judges, and the sources of its facts."""

    link: Link
    examine: Callable[[Outcome, float, bool], Report | None]
    """Return the report on an outcome at a time; None for a rank that only ended because it was
    stopped (the last argument)."""
    stalled: Callable[[float], float | None]
    """Seconds since the slowest rank's last step."""


def is_echo(cause: str) -> bool:
    """Return whether the text describes the end of another process rather than its own error."""
    return ECHO.search(cause) is not None


class FirstCause:
    """The earliest cause among reports; an echo waits some time for its cause."""

    def __init__(self) -> None:
        self.best: Report | None = None
        self._end_at = NEVER
        self._verdict_at = NEVER

    def add(self, report: Report, now: float) -> None:
        if self.best is None or _weight(report) < _weight(self.best):
            self.best = report
        end_at = now + ECHO_SECONDS if report.is_secondary else now
        self._end_at = min(self._end_at, end_at)
        self._verdict_at = min(self._verdict_at, end_at + COLLECT_SECONDS)

    @property
    def due(self) -> float:
        """Time at which to look again."""
        return min(self._end_at, self._verdict_at)

    def is_time_to_end_others(self, now: float) -> bool:
        """Return True once, when it is time to end the other ranks."""
        if now < self._end_at:
            return False
        self._end_at = NEVER
        return True

    def verdict(self, now: float, *, is_complete: bool) -> Report | None:
        """Return the cause as soon as no earlier one can come."""
        if self.best is None or (now < self._verdict_at and not is_complete):
            return None
        self._verdict_at = NEVER
        return self.best


def _weight(report: Report) -> tuple[bool, float]:
    return report.is_secondary, report.time


def hang_report(host: str, seconds: float, now: float) -> Report:
    return Report(
        host=host,
        rank=None,
        code=HANG_CODE,
        text=f"hang: no progress for {seconds:g} s\n[{host} exit {HANG_CODE}]",
        is_secondary=False,
        time=now,
    )


class Alone(Link):
    """The link of a job on one host, which judges its own ranks."""

    def __init__(self, host: str, *, hang_seconds: float = NEVER) -> None:
        self._host = host
        self._hang_seconds = hang_seconds
        self._first_cause = FirstCause()
        self._poll = NEVER if hang_seconds == NEVER else min(1.0, hang_seconds / 4)
        self.due = NEVER if self._poll == NEVER else 0.0
        self.is_settled = True

    def register(self, selector: selectors.BaseSelector) -> None:
        pass

    def report(self, report: Report) -> None:
        self._first_cause.add(report, report.time)
        self.is_settled = False
        self.due = 0.0

    def advance(self, now: float, state: State) -> Order | None:
        hangs = self._first_cause.best is None and not state.is_over and self._hangs(state)
        if hangs:
            self._first_cause.add(hang_report(self._host, self._hang_seconds, now), now)
            self.is_settled = False
        order = Order.END if self._first_cause.is_time_to_end_others(now) else None
        self.verdict = self.verdict or self._first_cause.verdict(now, is_complete=state.is_over)
        self.is_settled = self._first_cause.best is None or self.verdict is not None
        self.due = min(self._first_cause.due, now + self._poll)
        return Order.ABORT if hangs else order

    def leave(self, stop: Signals | None) -> None:
        pass

    def _hangs(self, state: State) -> bool:
        idle = state.quiet if state.stalled is None else state.stalled
        return idle >= self._hang_seconds
