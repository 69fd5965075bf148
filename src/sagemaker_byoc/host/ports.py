"""TCP ports of this machine for containers that are about to start."""

from __future__ import annotations

import random
import socket
import threading

from sagemaker_byoc.contract.errors import MachineError

FIRST, LAST = 20_000, 32_000
"""Below the range that kernels use for outgoing connections, so that no connection takes a port
between its choice and the container's start."""


class Ports:
    """Hands out ports that nothing listens on and that are not handed out already."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        # Two regions on one machine start to look at different places.
        self._next = random.randrange(FIRST, LAST)  # noqa: S311 - no secret

    def take(self) -> int:
        with self._lock:
            for _ in range(LAST - FIRST):
                port = self._next
                self._next = port + 1 if port + 1 < LAST else FIRST
                if port not in self._taken and is_free(port):
                    self._taken.add(port)
                    return port
        raise MachineError(
            f"no TCP port from {FIRST} to {LAST} is free",
            hint="End programs that listen there, such as endpoints",
        )

    def give_back(self, port: int) -> None:
        with self._lock:
            self._taken.discard(port)


def free_port() -> int:
    return Ports().take()


def is_free(port: int) -> bool:
    """Return whether nothing listens on `port` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
