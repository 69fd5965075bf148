"""A few clients at once: is /ping answered meanwhile, does SIGTERM lose what was asked before?"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract import http, lifecycle
from sagemaker_byoc.images.trials.container import Container
from sagemaker_byoc.images.trials.http import Reply, ping, send

CLIENTS = 4
_SECONDS = 2.0
_BEFORE_STOP = 0.5
_MARGIN = 0.05
"""Seconds before SIGTERM by which a request counts as sent before it."""
_REQUESTS = 2000
"""Most of one client."""


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
        self.over.set()
        for thread in self.threads:
            thread.join(timeout=http.INVOCATION_TIMEOUT.value + 5)


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


def stop(server: Container, port: int, headers: Mapping[str, str], payload: bytes) -> Stop:
    """SIGTERM while `CLIENTS` invoke; what they asked before it should still be answered."""
    clients = _Clients(port, headers, payload)
    clients.start()
    time.sleep(_BEFORE_STOP)
    asked = time.monotonic()
    server.signal("TERM")
    clients.over.set()
    code = server.wait(float(lifecycle.SERVE_STOP_GRACE.value))
    seconds = time.monotonic() - asked
    if code is None:
        server.signal("KILL")
    clients.end()
    before = [reply for begun, reply in clients.results if begun < asked - _MARGIN]
    return Stop(
        exit_code=code,
        seconds=seconds,
        lost=sum(reply.status == 0 for reply in before),
        answered=sum(reply.status != 0 for reply in before),
    )
