"""A few clients at once: is /ping answered meanwhile, does SIGTERM lose what was asked before?"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract import http, lifecycle
from sagemaker_byoc.images.trials.container import Container
from sagemaker_byoc.images.trials.http import Reply, ping, send
from sagemaker_byoc.images.trials.trial import Deadline

CLIENTS = 4
_SECONDS = 2.0
_BEFORE_STOP = 0.5
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
STOP_BOUND = _BEFORE_STOP + lifecycle.SERVE_STOP_GRACE.value + _LAST


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


@dataclass(slots=True)
class _Clients:
    port: int
    headers: Mapping[str, str]
    payload: bytes
    over: threading.Event = field(default_factory=threading.Event)
    results: list[tuple[float, Reply]] = field(default_factory=list)
    """Moment of sending, and the reply."""
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        for _ in range(_REQUESTS):
            if self.over.is_set():
                return
            begun = time.monotonic()
            reply = send(
                self.port,
                "POST",
                http.INVOCATIONS.value,
                body=self.payload,
                headers=self.headers,
                patience=float(http.INVOCATION_TIMEOUT.value),
            )
            self.results.append((begun, reply))

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
    is_dropped = server.catches_term() is False
    asked = server.signal("TERM")
    clients.over.set()
    code = server.wait(_DROPPED if is_dropped else float(lifecycle.SERVE_STOP_GRACE.value))
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
    )
