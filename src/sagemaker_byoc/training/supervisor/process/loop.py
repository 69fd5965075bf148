"""The loop that runs the user's programs: output, signals, ends, descendants, other hosts.

It is one thread, which waits for whatever comes first.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from signal import Signals
from time import monotonic
from typing import TYPE_CHECKING

from sagemaker_byoc.training.supervisor.process.child import (
    Child,
    Descendants,
    Outcome,
    Program,
    Stream,
    adopt_orphans,
)
from sagemaker_byoc.training.supervisor.process.log import Writer

if TYPE_CHECKING:  # a plain program is not judged, and must not wait for these imports
    from sagemaker_byoc.training.supervisor.failure.first_cause import Oversight, Report

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that ask for an end. They are passed on once, and the grace period begins."""
PASSED = frozenset({signal.SIGUSR1, signal.SIGUSR2})
"""Signals to which the program gives a meaning. They are passed on each time."""
NEVER = float("inf")
# For what follows the programs' end. With the flush of the log (job_run.py) it takes no longer than
# TRAIN_STOP_RESERVE.
LEFTOVER_SECONDS = 3.0
KILL_SECONDS = 1.0
DRAIN_SECONDS = 1.0
POLL_SECONDS = 0.02
"""Interval of looking for leftovers: the end of one that is not our child sends no signal."""
END_SECONDS = 2.0
"""Time for the other ranks to end after one has failed: they can only wait for it."""


class SignalQueue:
    """Signals to the supervisor, as bytes in a pipe that the loop reads.

    The handlers do nothing: Python's C code writes each signal's number to the wakeup descriptor.
    Make it first of all: PID 1 ignores a signal without a handler.
    """

    def __init__(self) -> None:
        self.descriptor, wakeup = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(wakeup, False)
        self._seen: list[Signals] = []
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in STOP | PASSED | {signal.SIGCHLD}:
            signal.signal(number, lambda *_: None)

    def take(self) -> list[Signals]:
        """Return the signals that came since the last call, in their order."""
        seen, self._seen = self._seen, []
        return seen + self._read()

    def stop(self) -> Signals | None:
        """Return the first signal that asks for an end, and leave it to be taken."""
        self._seen += self._read()
        return next((number for number in self._seen if number in STOP), None)

    def _read(self) -> list[Signals]:
        try:
            return [Signals(number) for number in os.read(self.descriptor, 4096)]
        except BlockingIOError:
            return []


@dataclass(frozen=True, slots=True)
class Ending:
    """How the programs of this host ended."""

    outcomes: tuple[Outcome, ...]
    verdict: Report | None
    """The cause, on this host or another, if ranks were judged."""
    stop: Signals | None


class Supervisor:
    """Runs programs until they and all their descendants have ended.

    `oversight` judges the ends of ranks; without it no end affects another program.
    """

    def __init__(
        self,
        *,
        signals: SignalQueue,
        writer: Writer,
        grace: float,
        oversight: Oversight | None = None,
    ) -> None:
        self._signals = signals
        self._writer = writer
        self._grace = grace
        self._oversight = oversight
        self._link = link = oversight.link if oversight else None
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.descriptor, selectors.EVENT_READ, self._on_signals)
        if link:
            link.register(self._selector)
        self._descendants = Descendants()
        self._children: list[Child] = []
        self._sent: list[Signals] = []
        self._deadline = NEVER
        self._is_killed = False
        self._is_overrun = False
        self._has_continued = False
        self._last_output = monotonic()

    @property
    def stop(self) -> Signals | None:
        """The signal that asked for the end, if one did."""
        return self._sent[0] if self._sent else None

    def wait_for(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Serve signals and messages until `condition`; return False on a stop or the deadline."""
        while not condition():
            if self._sent or monotonic() >= deadline:
                return False
            self._turn(min(deadline, self._link.due if self._link else NEVER))
            self._consult_link(monotonic())
        return True

    def run(self, programs: Sequence[Program]) -> Ending:
        """Start `programs`; return when they and all their descendants have ended."""
        try:
            for program in programs:
                self._start(program)
            adopt_orphans()  # only now, so that it does not delay the programs
            self._wait()
            self._end_leftovers()
        except BaseException:
            self._descendants.signal_all(signal.SIGKILL)
            raise
        self._drain()
        return Ending(
            outcomes=tuple(self._outcome(child) for child in self._children),
            verdict=self._link.verdict if self._link else None,
            stop=self.stop,
        )

    def _start(self, program: Program) -> None:
        child = Child(program)
        self._children.append(child)
        self._descendants.groups.append(child.pid)
        for stream in child.streams.values():
            on_output = partial(self._on_output, stream)
            self._selector.register(stream.reader, selectors.EVENT_READ, on_output)

    def _wait(self) -> None:
        """Wait until the programs have ended and, without a stop, the link has settled."""
        self._last_output = monotonic()
        while not self._is_finished():
            deadline = NEVER if self._is_over() else self._deadline
            self._turn(min(deadline, self._link.due if self._link else NEVER))
            now = monotonic()
            if now >= deadline:
                self._on_deadline(now)
            self._consult_link(now)
        if self._link:
            self._link.leave(self.stop)

    def _is_over(self) -> bool:
        return all(child.status is not None for child in self._children)

    def _is_finished(self) -> bool:
        settled = self._link is None or self._link.is_settled or bool(self._sent)
        return settled and self._is_over()

    def _on_deadline(self, now: float) -> None:
        if self._is_killed:  # the child hangs in the kernel, and the failure file can't wait
            for child in self._children:
                child.status = signal.SIGKILL if child.status is None else child.status
            return
        self._is_killed = True
        self._deadline = now + KILL_SECONDS
        if self._sent:
            self._is_overrun = True
            seconds = f"{self._grace:g} s after the signal"
            self._writer.say(f"the program has not ended {seconds}: killed")
        self._descendants.signal_all(signal.SIGKILL)

    def _consult_link(self, now: float) -> None:
        if self._oversight is None or self._link is None or now < self._link.due:
            return
        from sagemaker_byoc.training.supervisor.failure.first_cause import Order, State  # noqa: PLC0415 - see above

        state = State(is_over=False, quiet=0.0, stalled=None)  # before the start
        if self._children:
            stalled = self._oversight.stalled(now)
            state = State(self._is_over(), now - self._last_output, stalled)
        order = self._link.advance(now, state)
        if order is Order.STOP:
            self._stop(signal.SIGTERM)
        elif order and not self._sent:
            self._end(signal.SIGABRT if order is Order.ABORT else signal.SIGTERM, now)

    def _end(self, number: Signals, now: float) -> None:
        """End the ranks because one, here or elsewhere, has failed."""
        self._deadline = min(self._deadline, now + END_SECONDS)
        for child in self._children:
            if child.status is None:
                child.is_ending = True
                child.signal(number)

    def _end_leftovers(self) -> None:
        """Ask the processes that the programs left to end, then kill them."""
        if not self._descendants.remain():
            return
        has_grace = self._is_cut_short()
        kill_at = self._ask_leftovers(has_grace=has_grace)
        while self._descendants.remain() and (now := monotonic()) < kill_at + KILL_SECONDS:
            if has_grace:
                kill_at = min(kill_at, self._deadline)  # a second Ctrl-C
                self._is_overrun = now >= kill_at
            if now >= kill_at:
                self._descendants.signal_all(signal.SIGKILL)
            self._turn(now + POLL_SECONDS)
            self._reap()

    def _ask_leftovers(self, *, has_grace: bool) -> float:
        """Signal the leftovers that were not signaled yet; return the time to kill them."""
        if has_grace:
            self._descendants.signal_strays(signal.SIGTERM)
            return self._deadline
        self._descendants.signal_all(signal.SIGTERM)
        limit = END_SECONDS if self._is_failing() else LEFTOVER_SECONDS
        return monotonic() + min(limit, self._grace)

    def _is_cut_short(self) -> bool:
        """Return whether the signal itself ended a program, such as a shell, without a handler.

        What it started, such as torchrun or python, may have a handler that still saves its work.
        SIGINT does not count: Python ends by it after its handlers, and a shell waits for what it
        started.
        """
        ends = {os.waitstatus_to_exitcode(child.status or 0) for child in self._children}
        return any(-number in ends for number in self._sent if number != signal.SIGINT)

    def _is_failing(self) -> bool:
        return self._link is not None and self._link.verdict is not None

    def _drain(self) -> None:
        """Read what the pipes hold, for a limited time: another process may keep one open."""
        deadline = monotonic() + DRAIN_SECONDS
        while self._open_streams() and monotonic() < deadline:
            self._turn(deadline)
        for stream in self._open_streams():
            self._close(stream)

    def _open_streams(self) -> list[Stream]:
        return [s for child in self._children for s in child.streams.values() if s.is_open]

    def _turn(self, until: float) -> None:
        """Serve what is ready; if nothing is, wait for it until the time `until`."""
        timeout = None if until == NEVER else max(0.0, until - monotonic())
        for key, _ in self._selector.select(timeout):
            key.data()

    def _on_output(self, stream: Stream) -> None:
        if not self._writer.wait_for_room(POLL_SECONDS):
            return  # the pipe fills up meanwhile, and the next turn comes back here
        size = stream.read(self._writer) if stream.is_open else -1
        if size > 0:
            self._last_output = monotonic()
        elif size == 0:
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        self._selector.unregister(stream.reader)
        stream.close(self._writer)

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in PASSED:
                for child in self._children:
                    child.signal(number)
            elif number in STOP:
                self._stop(number)

    def _reap(self) -> None:
        now = monotonic()
        for pid, status in self._descendants.reap():
            for child in self._children:
                if child.pid == pid:
                    child.status = status
                    self._judge(child, now)
        if self._descendants.continued and not self._has_continued:
            self._has_continued = True
            pid = self._descendants.continued
            self._writer.say(f"warning: process {pid} had stopped itself (SIGSTOP); continued")

    def _judge(self, child: Child, now: float) -> None:
        """Report the end of a rank that may be the cause of other ends."""
        if self._oversight is None or self._sent:
            return
        self._oversight.link.due = 0.0  # it may wait for the last rank's end
        if child.status == 0 or self._is_killed:
            return
        for stream in child.streams.values():
            while stream.is_open and stream.read(self._writer) > 0:
                pass  # what the child wrote before its end is already in the pipe
        report = self._oversight.examine(self._outcome(child), now, child.is_ending)
        if report:
            self._oversight.link.report(report)

    def _outcome(self, child: Child) -> Outcome:
        return child.outcome(self.stop, is_overrun=self._is_overrun)

    def _stop(self, number: Signals) -> None:
        now = monotonic()
        if number in self._sent:
            # A second Ctrl-C: the user does not want to wait.
            if number == signal.SIGINT and self._children:
                self._deadline = now
            return
        if not self._sent and self._children:
            self._deadline = now + self._grace
            self._writer.say(f"{number.name}: passed on; the program has {self._grace:g} s to end")
        self._sent.append(number)
        for child in self._children:
            child.signal(number)
