"""How a container reaches its region: a URL from its own network, and keys of its own."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.credentials import Credentials
from sagemaker_byoc.region.engines.container import Engine, Network
from sagemaker_byoc.region.environ import DATA_PATH_VARIABLE, URL_VARIABLE

LOG = logging.getLogger(__name__)

SESSION = "SageMaker"
"""The session's name under which SageMaker assumes an execution role."""
_LOOPBACK = "127.0.0.1"
_DESKTOP = "host.docker.internal"
"""How a container of Docker Desktop calls this machine, whose 127.0.0.1 answers there."""


class Listeners(Protocol):
    """The addresses of this machine, beside 127.0.0.1, at which the region answers."""

    def open(self, address: str) -> int:
        """Answer at `address`; return the port. Raise OSError if it is not this machine's."""

    def close(self, address: str) -> None:
        """Answer there no longer. Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerAccess:
    """What gives the containers of one network their way to the region. Blocks; for threads."""

    engine: Engine
    account: Account
    port: int
    """The port of 127.0.0.1."""
    credentials: Credentials
    is_open: bool = False
    """Whether the region takes any signature, and none."""
    listeners: Listeners | None = None
    """None for a region that has one address only."""
    data_path: str = ""
    """Of botocore, for containers that see this machine's files: it sends STS's own URL here."""
    hosts: set[str] = field(default_factory=set)
    """The names under which the region is asked; its admission reads them."""
    _ports: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The region's URL, for this machine's own clients."""
        return f"http://{_LOOPBACK}:{self.port}"

    def variables(self, network: Network | None = None, role: str = "") -> dict[str, str]:
        """Return the variables for a container in `network`, with keys of the role `role` (its
        ARN; the execution role without one). Nothing if the network has no way to the region.
        Raise MachineError if the engine can't say.
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
        """As `variables`, for a network that ends: so does the region's listening in it."""
        found = self.variables(network, role)
        try:
            yield found
        finally:
            if len(network.hosts) > 1 and URL_VARIABLE in found:
                self._leave(urlsplit(found[URL_VARIABLE]).hostname or "")

    def _place(self, address: str) -> str | None:
        """Return the HOST:PORT at which the region answers, listening there from now on."""
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
