"""A few clients at once: is /ping answered meanwhile, does SIGTERM lose what was asked before?"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract import http, lifecycle
from sagemaker_byoc.images.check.trials.container import Container
from sagemaker_byoc.images.check.trials.http import Reply, ping, send
from sagemaker_byoc.images.check.trials.trial import Deadline

CLIENTS = 4
_SECONDS = 2.0
_BEFORE_STOP, _MOST_BEFORE_STOP = 0.5, 3.0
"""Seconds of load before SIGTERM: the least, and the most until a request is under way for long."""
_LOOK = 0.002
_MARGIN, _LONGEST_MARGIN = 0.05, 0.25
"""Seconds before SIGTERM by which the server has a request; what it has not taken yet is lost with
any server."""
_DROPPED = 2.0
"""Seconds to wait for a process that has no handler for SIGTERM, and so is not reached by it."""
_REQUESTS = 2000
"""Most of one client."""
_LAST = 10.0
"""Seconds for requests that are under way when the load ends."""
LOAD_BOUND = _SECONDS + 2 * http.PING_TIMEOUT.value + _LAST
STOP_BOUND = _MOST_BEFORE_STOP + lifecycle.SERVE_STOP_GRACE.value + _LAST


@dataclass(frozen=True, slots=True)
class Load:
    worst_ping: float
    """Seconds."""
    failed_pings: int
    requests: int


@dataclass(frozen=True, slots=True)
class Stop:
    """`lost` counts requests that were sent before SIGTERM and got no reply."""

    exit_code: int | None
    seconds: float
    lost: int
    answered: int
    catches: bool | None = None
    """Whether process 1 has a handler for SIGTERM; None if that is unknown."""

    @property
    def is_heeded(self) -> bool:
        """Whether the server ended because of SIGTERM, as it meant to.

        Without a handler the kernel drops the signal for process 1, except while its main thread
        blocks signals, as pthread_create does for a moment.
        """
        return self.exit_code is not None and self.catches is not False


@dataclass(slots=True)
class _Clients:
    port: int
    headers: Mapping[str, str]
    payload: bytes
    over: threading.Event = field(default_factory=threading.Event)
    results: list[tuple[float, Reply]] = field(default_factory=list)
    """Moment of sending, and the reply."""
    under_way: dict[int, float] = field(default_factory=dict)
    """For each client the moment of sending, while it waits for a reply."""
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.threads = [
            threading.Thread(target=self._work, args=(client,), daemon=True)
            for client in range(CLIENTS)
        ]
        for thread in self.threads:
            thread.start()

    def _work(self, client: int) -> None:
        for _ in range(_REQUESTS):
            if self.over.is_set():
                return
            begun = self.under_way[client] = time.monotonic()
            reply = send(
                self.port,
                "POST",
                http.INVOCATIONS.value,
                body=self.payload,
                headers=self.headers,
                patience=float(http.INVOCATION_TIMEOUT.value),
            )
            del self.under_way[client]
            self.results.append((begun, reply))

    def wait_for_an_old_request(self, age: float) -> None:
        """Return as soon as a request is under way for `age` seconds, if the server is that slow.

        Of a server that answers faster none is caught in the middle, however long one looks.
        """
        deadline = Deadline(_MOST_BEFORE_STOP - _BEFORE_STOP)
        while self.threads and deadline.left:
            now = time.monotonic()
            # It has just become so old: the longer it is still worked on, the surer the verdict.
            if any(age <= now - begun < 2 * age for begun in [*self.under_way.values()]):
                return
            replies = [reply for _, reply in [*self.results]]
            if replies and all(reply.seconds < age for reply in replies):
                return
            time.sleep(_LOOK)

    def end(self) -> None:
        """What is still under way after this has no result; its threads end with their requests."""
        self.over.set()
        deadline = Deadline(_LAST)
        for thread in self.threads:
            thread.join(timeout=deadline.left)


def run(port: int, headers: Mapping[str, str], payload: bytes) -> Load:
    """/ping again and again while `CLIENTS` invoke."""
    clients = _Clients(port, headers, payload)
    clients.start()
    pings: list[Reply] = []
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        pings.append(ping(port, 2 * http.PING_TIMEOUT.value))
        time.sleep(_MARGIN)
    clients.end()
    return Load(
        worst_ping=max(reply.seconds for reply in pings),
        failed_pings=sum(not reply.works for reply in pings),
        requests=len(clients.results),
    )


def margin(load: Load | None) -> float:
    """Return how long a request is under way to the server, on a machine as busy as this one."""
    return min(_LONGEST_MARGIN, max(_MARGIN, load.worst_ping if load is not None else 0.0))


def stop(
    server: Container, port: int, headers: Mapping[str, str], payload: bytes | None, before: float
) -> Stop:
    """SIGTERM while `CLIENTS` invoke; what they asked `before` it should still be answered.

    Nobody invokes without a payload.
    """
    clients = _Clients(port, headers, payload or b"")
    if payload is not None:
        clients.start()
        time.sleep(_BEFORE_STOP)
    catches = server.catches_term()
    asked = server.signal("TERM", lambda: clients.wait_for_an_old_request(before))
    clients.over.set()
    grace = _DROPPED if catches is False else float(lifecycle.SERVE_STOP_GRACE.value)
    code = server.wait(grace)
    seconds = time.monotonic() - asked
    if code is None:
        server.signal("KILL")
    clients.end()
    replies = [reply for begun, reply in [*clients.results] if begun < asked - before]
    return Stop(
        exit_code=code,
        seconds=seconds,
        lost=sum(reply.status == 0 for reply in replies),
        answered=sum(reply.status != 0 for reply in replies),
        catches=catches,
    )
