"""How a container reaches its region: the URL in its network, and credentials."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from sagemaker_byoc.region.clients import DATA_PATH_VARIABLE, URL_VARIABLE
from sagemaker_byoc.region.core.account import Account, Credentials
from sagemaker_byoc.region.engines.container import Engine, Network

LOG = logging.getLogger(__name__)

SESSION = "SageMaker"
"""The session's name under which SageMaker assumes an execution role."""
_LOOPBACK = "127.0.0.1"
_DESKTOP = "host.docker.internal"
"""How a container of Docker Desktop calls this machine, whose 127.0.0.1 answers there."""


class Listeners(Protocol):
    """The addresses of this machine, besides 127.0.0.1, on which the region listens."""

    def open(self, address: str) -> int:
        """Listen on `address` and return the port. Raise OSError if this machine lacks it."""

    def close(self, address: str) -> None:
        """Stop listening on `address`. Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerAccess:
    """The way of containers to the region. Its methods block: call them from threads."""

    engine: Engine
    account: Account
    port: int
    """The port of 127.0.0.1."""
    credentials: Credentials
    is_open: bool = False
    """Whether the region accepts any signature, and unsigned requests."""
    listeners: Listeners | None = None
    """None for a region that has one address only."""
    data_path: str = ""
    """Botocore's data path that redirects STS to the region, for containers that see this machine's
    files."""
    hosts: set[str] = field(default_factory=set)
    """Host names by which containers address the region; admission reads them."""
    _ports: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The region's URL, for this machine's own clients."""
        return f"http://{_LOOPBACK}:{self.port}"

    def variables(self, network: Network | None = None, role: str = "") -> dict[str, str]:
        """Return the variables for a container in `network`; none if it can't reach the region.

        The keys are those of `role`, an ARN; without one, of the execution role.
        Raise MachineError if the engine can't tell its gateway.
        """
        address = self.engine.gateway(network)
        place = None if address is None else self._place(address)
        if place is None:
            return {}
        arn = self.account.session_arn(role or self.account.role, SESSION)
        found = {
            URL_VARIABLE: f"http://{place}",
            **self.credentials.issue(arn).environ,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.engine.shares_files and self.data_path:
            found[DATA_PATH_VARIABLE] = self.data_path
        return found

    @contextmanager
    def opened(self, network: Network, role: str) -> Iterator[dict[str, str]]:
        """Yield `variables`, and stop listening in the network at the end."""
        found = self.variables(network, role)
        try:
            yield found
        finally:
            if len(network.hosts) > 1 and URL_VARIABLE in found:
                self._leave(urlsplit(found[URL_VARIABLE]).hostname or "")

    def _place(self, address: str) -> str | None:
        """Listen on `address` from now on and return the HOST:PORT of the region there."""
        if address == _LOOPBACK:
            return f"{address}:{self.port}"
        with self._lock:
            if address not in self._ports:
                try:
                    self._ports[address] = self._listen(address)
                except OSError as error:
                    if sys.platform == "linux":
                        LOG.warning("containers can't reach the region at %s: %s", address, error)
                        return None
                    address = _DESKTOP
                    self._ports[address] = self.port
                self.hosts.add(address)
            return f"{address}:{self._ports[address]}"

    def _listen(self, address: str) -> int:
        if self.listeners is None:
            raise OSError("this region has one address only")
        return self.listeners.open(address)

    def _leave(self, address: str) -> None:
        with self._lock:
            if self.listeners is not None and self._ports.pop(address, None) is not None:
                self.hosts.discard(address)
                self.listeners.close(address)
