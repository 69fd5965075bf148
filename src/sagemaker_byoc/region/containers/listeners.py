"""Where the processes of a container listen, read from /proc: why nobody answers on its port.

Source of the format: proc(5), /proc/net/tcp; state 0A is LISTEN.
"""

from __future__ import annotations

import http.client
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from sagemaker_byoc.contract.hosting import http as hosting
from sagemaker_byoc.region.engines.container import Reach

LOG = logging.getLogger(__name__)

_LISTEN = "0A"
_PROC = Path("/proc")
_TOLD = 5
"""Ports that are named and tried, at most."""
_PROBE_SECONDS = 0.5
_ENDED = (FileNotFoundError, ProcessLookupError)
"""What /proc raises for a process that ended since it was listed."""


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    port: int
    address: str

    @property
    def is_local(self) -> bool:
        """Reached from within the container only."""
        kind = IPv6Address if ":" in self.address else IPv4Address
        return kind(self.address).is_loopback


def find(reach: Reach) -> list[Listener]:
    """All of them, sorted. Raises OSError if this machine does not let us see them."""
    sockets: dict[str, Listener] = {}
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # without IPv6, or ended meanwhile
            lines = (_PROC / str(reach.pid) / "net" / table).read_text().splitlines()[1:]
            sockets |= dict(_parse(lines))
    if not reach.has_own_network:
        mine = set(_inodes(reach.pid))
        sockets = {inode: listener for inode, listener in sockets.items() if inode in mine}
    return sorted(set(sockets.values()))


def misplaced(reach: Reach, port: int) -> str | None:
    """What is certainly wrong with where it listens, if anything: an interface that cannot be
    reached, or a serving server on another port. `port` is the one that its image should use.
    """
    found = _seen(reach)
    if found is None:
        return None
    right = [listener for listener in found if listener.port == port]
    if reach.has_own_network and right and all(listener.is_local for listener in right):
        return (
            f"it listens on {right[0].address}:{port} inside the container, "
            f"and SageMaker needs 0.0.0.0:{port}"
        )
    if right or not reach.address:
        return None
    for listener in found[:_TOLD]:
        if _answers_ping(reach.address, listener.port):
            return f"it answers /ping on port {listener.port}, and SageMaker asks on port {port}"
    return None


def describe(reach: Reach, port: int) -> str:
    """Where it listens, for a message about time that ran out; empty where `port` is among it."""
    found = _seen(reach)
    if found is None or any(listener.port == port for listener in found):
        return ""
    if not found:
        return f"nothing in it listens on port {port}"
    places = ", ".join(f"{listener.address}:{listener.port}" for listener in found[:_TOLD])
    return f"nothing in it listens on port {port}, only on {places}"


def _seen(reach: Reach) -> list[Listener] | None:
    """None if we can't look, which says nothing about where it listens."""
    try:
        return find(reach)
    except OSError as error:
        LOG.debug("where process %d listens can't be seen: %s", reach.pid, error)
        return None


def _parse(lines: Iterable[str]) -> Iterator[tuple[str, Listener]]:
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, _, port = fields[1].partition(":")
            yield fields[9], Listener(int(port, 16), _address(bytes.fromhex(address)))


def _address(data: bytes) -> str:
    """The kernel prints 32-bit words in the machine's order, which is little-endian here."""
    words = b"".join(data[start : start + 4][::-1] for start in range(0, len(data), 4))
    return str(IPv4Address(words) if len(words) == 4 else IPv6Address(words))


def _inodes(pid: int) -> Iterator[str]:
    """Of the sockets that the process and its descendants hold."""
    for each in _family(pid):
        with suppress(*_ENDED):
            for descriptor in (_PROC / str(each) / "fd").iterdir():
                name = _target(descriptor)
                if name.startswith("socket:["):
                    yield name[len("socket:[") : -1]


def _target(descriptor: Path) -> str:
    """Empty for one that was closed since it was listed."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in (_PROC / str(pid) / "task").glob("*/children"):
        with suppress(*_ENDED):
            for child in children.read_text().split():
                yield from _family(int(child))


def _answers_ping(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", hosting.PING.value)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
