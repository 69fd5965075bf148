"""A slot: the process of one model worker, its environment, its restarts and its channel.

Over the channel, a socket pair with one JSON object per packet, a worker reports that it has loaded
the model. Standard library only; never waits.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sagemaker_byoc.contract.machine import CUDA_DEVICES
from sagemaker_byoc.contract.paths import home_variables
from sagemaker_byoc.serving.settings import OMP_THREADS, Settings
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
LOADED = "loaded"
"""Sent by a worker once its model is loaded and warmed."""
THREADS = (OMP_THREADS, "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Message: TypeAlias = "Mapping[str, Any]"
PACKET = 64 * 1024


class Channel:
    """One end of the channel; it never waits. What the peer has no room for stays here until
    `flush`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)  # noqa: FBT003 - positional only
        self._unsent: deque[bytes] = deque()
        self.is_closed = False
        """Whether the other end is closed; what it sent before has been received."""

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
        while not self.is_closed:
            try:
                data = self._socket.recv(PACKET)
            except ConnectionResetError:
                continue  # it was killed with messages unread; what it sent can still be read
            except OSError:
                break
            if data:
                found.append(json.loads(data))
            else:
                self.is_closed = True
        return found

    def close(self) -> None:
        self.is_closed = True
        self._socket.close()


@dataclass(slots=True, eq=False)
class Slot:
    """One slot. `model` and `url` are set on a multi-model endpoint."""

    index: int
    model: str = ""
    url: str = ""
    restarts: Restarts = field(default_factory=Restarts)
    pid: int | None = None
    channel: Channel | None = None
    was_loaded: bool = False
    start_at: float | None = None
    kill_at: float | None = None
    """When to kill the process; set once it was asked to end."""

    def start(
        self, settings: Settings, link: socket.socket, *, of: int = 0, is_loader: bool = False
    ) -> None:
        """Start a process that loads the model: a worker, one `of` so many, or a loader, which
        decides how it continues."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        name = link.getsockname()
        assert isinstance(name, bytes)
        own = replace(settings, model_name=self.model, model_url=self.url)
        place = {"slot": self.index, "of": of, "is_loader": is_loader}
        with theirs:
            self.pid = processes.spawn(
                WORKER,
                [own.to_json(), json.dumps(place), name[1:].decode(), str(theirs.fileno())],
                worker_environ(settings, self.index),
                options=["-P", "-u"],  # PYTHONPATH counts: it may be the user's
                inherit=[theirs.fileno()],
            )
        self.close()
        self.channel, self.start_at = Channel(ours), None

    def read_report(self) -> None:
        """Read whether the worker has loaded. A slot that has loaded once can load: later failures
        are retried."""
        if self.channel is not None:
            self.was_loaded |= any(each["what"] == LOADED for each in self.channel.receive())
            self.close()

    def close(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()


def worker_environ(settings: Settings, slot: int) -> dict[str, str]:
    environ = {**os.environ, **home_variables(os.environ)}
    for name in THREADS:
        environ.setdefault(name, str(settings.threads))
    # The default lets a thread that waits for the others spin, on the very CPU that the front or
    # the others need: docs/decisions/0002.
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch asks for huge pages for tensors from 2 MB on (c10/core/impl/alloc_cpu.cpp): weights are
    # read in each request, and pages of 4 KiB miss the TLB (docs/decisions/0032).
    environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    gpu = settings.gpu_of(slot)
    if gpu is not None:
        environ[CUDA_DEVICES] = gpu
    return environ
