"""The loop that runs the user's program: its output, its signals, its end and its descendants.

One thread, which waits for whatever comes first. Needs a SignalQueue, and a Writer for the output.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from time import monotonic

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.offspring import Offspring, adopt_orphans
from sagemaker_byoc.training.supervisor.relay import LINE_LIMIT, Lines, Tail
from sagemaker_byoc.training.supervisor.signals import PASSED, STOP, SignalQueue
from sagemaker_byoc.training.supervisor.writer import ERR, OUT, Writer

# After the program's end. With the flush of the log (entry.py) they fit into TRAIN_STOP_RESERVE.
LEFTOVER_SECONDS = 3.0
KILL_SECONDS = 1.0
DRAIN_SECONDS = 1.0
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""And so by its children, if they were not reset."""
POLL_SECONDS = 0.02
"""How often leftovers are looked for; the end of one that is not our child sends no signal."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the program ended."""

    returncode: int
    """Negative for a signal."""
    stop: Signals | None
    """The signal that asked for the end, if one did."""
    is_overrun: bool
    """It was killed because it outlived the grace period."""
    out: str
    err: str
    """The ends of its two streams."""


class Supervisor:
    def __init__(self, *, signals: SignalQueue, writer: Writer, grace: float) -> None:
        self._signals = signals
        self._writer = writer
        self._grace = grace
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.descriptor, selectors.EVENT_READ, self._on_signals)
        self._tails = {OUT: Tail(), ERR: Tail()}
        self._sent: list[Signals] = []
        self._deadline: float | None = None
        self._is_overrun = False

    def run(
        self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]
    ) -> Outcome:
        """Start `command` in `folder`; stay until it and all its descendants have ended."""
        self._offspring = Offspring(self._start(command, folder, environment))
        adopt_orphans()  # only now: the program need not wait for it
        try:
            status = self._wait()
            self._end_leftovers()
        except BaseException:
            self._offspring.signal_all(signal.SIGKILL)
            raise
        self._drain()
        return Outcome(
            returncode=os.waitstatus_to_exitcode(status),
            stop=self._sent[0] if self._sent else None,
            is_overrun=self._is_overrun,
            out=self._tails[OUT].text(),
            err=self._tails[ERR].text(),
        )

    def _start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
        ends = {}
        for stream in (OUT, ERR):
            reader, ends[stream] = os.pipe()
            os.set_blocking(reader, False)
            on_output = partial(self._on_output, reader, stream, Lines())
            self._selector.register(reader, selectors.EVENT_READ, on_output)
        # posix_spawn takes no working folder, so ours becomes the program's. The import of
        # subprocess alone would keep the program waiting for 4 ms.
        os.chdir(folder)
        try:
            return os.posix_spawn(
                command[0],
                tuple(command),
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, ends[OUT], OUT),
                    (os.POSIX_SPAWN_DUP2, ends[ERR], ERR),
                ],
                setsid=True,
                setsigdef=IGNORED_BY_PYTHON,
            )
        except OSError as error:
            raise ContractError(
                where=command[0],
                what=f"can't be started ({error.strerror})",
                cure="Check the file's permissions and, for a script, its first line (#!)",
            ) from error
        finally:
            for end in ends.values():
                os.close(end)

    def _wait(self) -> int:
        """Until the program has ended; its wait status."""
        while self._offspring.status is None:
            self._turn(self._deadline)
            if self._deadline is not None and monotonic() >= self._deadline:
                if self._is_overrun:
                    return signal.SIGKILL  # stuck inside the kernel; the failure file can't wait
                self._overrun()
        return self._offspring.status

    def _overrun(self) -> None:
        self._is_overrun = True
        self._deadline = monotonic() + KILL_SECONDS
        self._writer.say(f"the program has not ended {self._grace:g} s after the signal: killed")
        self._offspring.signal_all(signal.SIGKILL)

    def _end_leftovers(self) -> None:
        """Ask what the program left running to end, then make it end."""
        if not self._offspring.remain():
            return
        self._offspring.signal_all(signal.SIGTERM)
        kill_at = monotonic() + min(LEFTOVER_SECONDS, self._grace)
        while self._offspring.remain() and (now := monotonic()) < kill_at + KILL_SECONDS:
            if now >= kill_at:
                self._offspring.signal_all(signal.SIGKILL)
            self._turn(now + POLL_SECONDS)
            self._offspring.reap()

    def _drain(self) -> None:
        """Read what is still in the pipes; whoever holds one open from afar can't keep us."""
        deadline = monotonic() + DRAIN_SECONDS
        while len(self._selector.get_map()) > 1 and monotonic() < deadline:
            self._turn(deadline)
        for key in list(self._selector.get_map().values()):
            if key.fd != self._signals.descriptor:
                self._finish(key.fd, *key.data.args[1:])

    def _turn(self, until: float | None) -> None:
        """Serve what is ready, or wait for it until then."""
        timeout = None if until is None else max(0.0, until - monotonic())
        for key, _ in self._selector.select(timeout):
            key.data()

    def _on_output(self, reader: int, stream: int, lines: Lines) -> None:
        if not self._writer.wait_for_room(POLL_SECONDS):
            return  # the pipe fills up meanwhile, and the next turn comes back here
        try:
            data = os.read(reader, LINE_LIMIT)
        except BlockingIOError:
            return
        if data:
            self._pass_on(stream, lines.feed(data))
        else:
            self._finish(reader, stream, lines)

    def _finish(self, reader: int, stream: int, lines: Lines) -> None:
        self._pass_on(stream, lines.end())
        self._selector.unregister(reader)
        os.close(reader)

    def _pass_on(self, stream: int, whole: bytes) -> None:
        if whole:
            self._tails[stream].add(whole)
            self._writer.put(stream, whole)

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._offspring.reap()
            elif number in PASSED:
                self._offspring.signal_group(number)
            elif number in STOP:
                self._stop(number)

    def _stop(self, number: Signals) -> None:
        now = monotonic()
        if number in self._sent:
            # Who presses Ctrl-C a second time does not want to wait.
            if number == signal.SIGINT and self._deadline is not None:
                self._deadline = now
            return
        if not self._sent:
            self._deadline = now + self._grace
            self._writer.say(f"{number.name}: passed on; the program has {self._grace:g} s to end")
        self._sent.append(number)
        self._offspring.signal_group(number)
