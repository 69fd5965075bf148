"""The processes of model workers: a slot's process, environment and restarts, and the processes of
a multi-model endpoint, one per model, started and ended as the front asks.

The front sends its requests over a socket pair, one JSON object per packet; the supervisor answers
with what became of each process. Standard library only; one thread, never waits.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sagemaker_byoc.contract.machine import CUDA_DEVICES
from sagemaker_byoc.contract.paths import home_variables
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
WINDOW = 60.0
DEATHS_IN_WINDOW = 5


class Restarts:
    """The deaths of one slot's workers, and when to start the next one. Pure, with time passed
    in."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS_IN_WINDOW)
        self._delay = 0.0

    def died(self, now: float) -> float | None:
        """Return the seconds to wait before the next start; None after too many deaths.

        The delay doubles from death to death and starts again after a minute without one.
        """
        if self._deaths and now - self._deaths[-1] > WINDOW:
            self._delay = 0.0
        self._deaths.append(now)
        if len(self._deaths) == DEATHS_IN_WINDOW and now - self._deaths[0] <= WINDOW:
            return None
        self._delay = min(LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
        return self._delay


WORKER = "sagemaker_byoc.serving.worker"
LOADED = b"loaded\n"
"""Written by a worker on its report pipe once its model is loaded and warmed."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(slots=True, eq=False)
class Slot:
    """One slot. `report` is the supervisor's end of its pipe; `model` and `url` are set on a
    multi-model endpoint."""

    index: int
    model: str = ""
    url: str = ""
    restarts: Restarts = field(default_factory=Restarts)
    pid: int | None = None
    report: int | None = None
    was_loaded: bool = False
    start_at: float | None = None
    kill_at: float | None = None
    """When to kill the process; set once it was asked to end."""

    def start(self, settings: Settings, link: socket.socket) -> None:
        report, theirs = os.pipe()
        os.set_blocking(report, False)
        name = link.getsockname()
        assert isinstance(name, bytes)
        own = replace(settings, model_name=self.model, model_url=self.url)
        try:
            self.pid = processes.spawn(
                WORKER,
                [own.to_json(), str(self.index), name[1:].decode(), str(theirs)],
                worker_environ(settings, self.index),
                options=["-P", "-u"],  # PYTHONPATH counts: it may be the user's
                inherit=[theirs],
            )
        finally:
            os.close(theirs)
        self.report, self.start_at = report, None

    def read_report(self) -> None:
        """Read whether the worker has loaded. A slot that has loaded once can load: later failures
        are retried."""
        if self.report is None:
            return
        with suppress(BlockingIOError):  # something that the worker started keeps the pipe open
            self.was_loaded |= os.read(self.report, len(LOADED)) == LOADED
        self.close()

    def close(self) -> None:
        report, self.report = self.report, None
        if report is not None:
            os.close(report)


def worker_environ(settings: Settings, slot: int) -> dict[str, str]:
    environ = {**os.environ, **home_variables(os.environ)}
    for name in THREADS:
        environ.setdefault(name, str(settings.threads_per_slot))
    # The default lets a thread that waits for the others spin, on the very CPU that the front or
    # the others need: docs/decisions/0002.
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gpu = settings.gpu_of(slot)
    if gpu is not None:
        environ[CUDA_DEVICES] = gpu
    return environ


# ── a multi-model endpoint ──

Message: TypeAlias = "Mapping[str, Any]"

START, STOP, LIST = "start", "stop", "list"
"""Messages from the front; the first two with a model's `name`, START with its `url` too."""
KNOWN, LISTED, ENDED = "known", "listed", "ended"
"""Messages from the supervisor: in answer to LIST, one KNOWN per model and then LISTED. ENDED when
a model's process is gone with all that it started, and no other will follow."""
PACKET = 64 * 1024


class Channel:
    """One end of the channel; it never waits. What the peer has no room for stays here until
    `flush`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)  # noqa: FBT003 - positional only
        self._unsent: deque[bytes] = deque()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_behind(self) -> bool:
        return bool(self._unsent)

    def send(self, what: str, **details: object) -> None:
        self._unsent.append(json.dumps({"what": what, **details}).encode())
        self.flush()

    def flush(self) -> None:
        with suppress(OSError):  # no room, or nobody there for now
            while self._unsent:
                self._socket.send(self._unsent[0], socket.MSG_NOSIGNAL)
                self._unsent.popleft()

    def receive(self) -> list[Message]:
        """Return the messages that have arrived."""
        found: list[Message] = []
        with suppress(OSError):
            while data := self._socket.recv(PACKET):
                found.append(json.loads(data))
        return found


RETRY = 0.1
"""Seconds until a message that did not fit is sent again."""


class ModelProcesses:
    """The processes of models by name; `start` starts the worker of a slot."""

    def __init__(
        self, channel: socket.socket, *, start: Callable[[Slot], None], kill_after: float
    ) -> None:
        self.channel = Channel(channel)
        self.slots: dict[str, Slot] = {}
        self._ending: dict[str, tuple[int, str, int]] = {}
        """Models whose process was reaped while processes that it started may remain."""
        self._start = start
        self._kill_after = kill_after

    def handle_messages(self) -> None:
        for message in self.channel.receive():
            self._handle(message)
        self.channel.flush()

    def _handle(self, message: Message) -> None:
        what, name = message["what"], message.get("name", "")
        if what == LIST:
            for slot in self.slots.values():
                self.channel.send(KNOWN, name=slot.model, url=slot.url)
            self.channel.send(LISTED)
        elif what == START and name not in self.slots:
            slot = Slot(self._free_index(), model=name, url=message["url"])
            self.slots[name] = slot
            self._start(slot)
        elif what == STOP:
            self._stop(name)

    def _free_index(self) -> int:
        """Return the lowest free index, so that models spread over the GPUs."""
        taken = {slot.index for slot in self.slots.values()}
        return next(index for index in range(len(taken) + 1) if index not in taken)

    def _stop(self, name: str) -> None:
        slot = self.slots.get(name)
        if slot is None:
            self.channel.send(ENDED, name=name, how="does not run", code=0)
        elif slot.kill_at is None:
            slot.kill_at = time.monotonic() + self._kill_after
            slot.start_at = None
            if slot.pid is not None:
                processes.send(slot.pid, signal.SIGTERM)
            elif name not in self._ending:
                self._forget(slot, "waited for its next start", 0)

    def on_end(self, slot: Slot, returncode: int) -> None:
        """Handle the end of a model's own process, which was reaped."""
        assert slot.pid is not None
        slot.read_report()
        pid, slot.pid = slot.pid, None
        how = processes.describe(returncode)
        if slot.was_loaded and slot.kill_at is None:
            delay = slot.restarts.died(time.monotonic())
            if delay is not None:
                log.say(f"model {slot.model}: its worker {how}; a new one starts in {delay:g} s")
                slot.start_at = time.monotonic() + delay
                return
            how += ", again and again"
        self._ending[slot.model] = (pid, how, returncode)

    def step(self) -> float | None:
        """Do what is due; return the seconds until the next call, None if nothing is pending."""
        now = time.monotonic()
        for slot in self.slots.values():
            if slot.kill_at is not None and slot.pid is not None and now >= slot.kill_at:
                processes.kill_session(slot.pid)
                slot.kill_at = now + self._kill_after
        for name, (pid, how, code) in list(self._ending.items()):
            if processes.is_session_gone(pid):
                del self._ending[name]
                self._forget(self.slots[name], how, code)
        self.channel.flush()
        if self._ending or self.channel.is_behind:
            return RETRY
        kills = [slot.kill_at for slot in self.slots.values() if slot.kill_at is not None]
        return max(0.0, min(kills) - now) if kills else None

    def _forget(self, slot: Slot, how: str, code: int) -> None:
        del self.slots[slot.model]
        slot.close()
        log.say(f"model {slot.model}: its worker {how}; it is unloaded")
        self.channel.send(ENDED, name=slot.model, how=how, code=code)
