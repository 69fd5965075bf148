"""A serving container from its start until it is healthy: its log, /ping, and why it fails.

Where its processes listen is read from /proc (source of the format: proc(5), /proc/net/tcp; state
0A is LISTEN).
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.region.core import bounded_http
from sagemaker_byoc.region.engines.container import Container, Reach, Reachable

LOG_SECONDS = 10.0
"""A log ends with its container; this bounds the wait for it."""
_LAST_LINES = 20
_POLL = 0.1
_LOOK = 1.0
"""Seconds between two questions that an engine is slow to answer."""
_SURE = 3
"""Checks in a row that must agree before a container is called misplaced: some servers listen
elsewhere for a moment while they start."""
LOG = logging.getLogger(__name__)
_LISTEN = "0A"
_PROC = Path("/proc")
_TOLD = 5
"""Ports that a message names, and that are tried, at most."""
_PROBE_SECONDS = 0.5
_ENDED = (FileNotFoundError, ProcessLookupError)
"""What /proc raises for a process that ended since it was listed."""


class EndpointError(ByocError):
    """The container ended, or did not become healthy in time; `what` says which, with its log."""

    def __init__(self, what: str, *, hint: str, last_lines: Sequence[str] | None = None) -> None:
        """`last_lines` of the log are added to `what`; `event` stays without them."""
        self.event = what
        self.last_lines = [*(last_lines or ())]
        if last_lines is not None:
            told = "".join(f"\n  {line}" for line in last_lines) or " (it is empty)"
            what = f"{what}; its log ends:{told}"
        super().__init__(what, hint=hint)


def stopped() -> EndpointError:
    return EndpointError("it was stopped before it was healthy", hint="Start it again")


class ContainerLog(threading.Thread):
    """The reader of a container's log: it passes lines on, and keeps the last ones."""

    def __init__(
        self,
        container: Container,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._container = container
        self._on_line = on_line
        self._on_end = on_end
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def run(self) -> None:
        try:
            for line in self._container.lines():
                self._last.append(line)
                self._on_line(line)
        except (ByocError, OSError, ValueError) as error:
            self._on_line(f"byoc: the log was lost: {error}")
        finally:
            if self._on_end is not None:
                self._on_end()

    def last_lines(self) -> list[str]:
        """Return the last lines, including the final one if the container has ended."""
        if self._container.exit_code() is not None:
            self.join(LOG_SECONDS)
        return [*self._last]


class Watch:
    """Check, at intervals, whether a container has ended or listens on the wrong port."""

    def __init__(self, container: Container, port: int, log: ContainerLog) -> None:
        self._container = container
        self._port = port
        self._log = log
        self._next_exit = 0.0
        self._next_look = time.monotonic() + _LOOK
        self._faults = 0

    def exit_code(self) -> int | None:
        """Return the exit code; None while it runs. While its log is open it is asked rarely."""
        now = time.monotonic()
        if self._log.is_alive() and now < self._next_exit:
            return None
        self._next_exit = now + _LOOK
        return self._container.exit_code()

    def misplaced(self) -> str | None:
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + _LOOK
        reach = self._reach()
        fault = None if reach is None else misplaced_listener(reach, self._wanted(reach))
        self._faults = 0 if fault is None else self._faults + 1
        return fault if self._faults >= _SURE else None

    def listening(self) -> str:
        reach = self._reach()
        return "" if reach is None else describe_listeners(reach, self._wanted(reach))

    def _reach(self) -> Reach | None:
        return self._container.reach() if isinstance(self._container, Reachable) else None

    def _wanted(self, reach: Reach) -> int:
        return hosting.PORT.value if reach.has_own_network else self._port


def wait_until_healthy(
    container: Container,
    port: int,
    timeout: float,
    log: ContainerLog,
    given_up: threading.Event | None = None,
) -> None:
    """Ping as SageMaker does until the answer is 200.

    Raise EndpointError as soon as that has become impossible, or once `given_up` is set.
    """
    deadline = time.monotonic() + timeout
    answer = "no answer"
    watch = Watch(container, port, log)
    given_up = given_up or threading.Event()
    while time.monotonic() < deadline:
        code = watch.exit_code()
        if code is not None:
            raise EndpointError(
                f"the serving container ended with exit code {code}",
                hint="Correct the program or the model, then serve again",
                last_lines=log.last_lines(),
            )
        status, answer = ping(port)
        if status == http.client.OK:
            return
        fault = watch.misplaced() if status == 0 else None
        if fault is not None:
            raise EndpointError(
                f"the serving container runs, but {fault}",
                hint="Serve on the address 0.0.0.0 and the port of SAGEMAKER_BIND_TO_PORT, or 8080",
                last_lines=log.last_lines(),
            )
        if given_up.wait(_POLL):
            raise stopped()
    told = "; ".join(filter(None, [answer, watch.listening()]))
    raise EndpointError(
        f"/ping was not 200 within {timeout:.0f} s ({told})",
        hint="Load the model faster, or give more time with --startup-timeout",
        last_lines=log.last_lines(),
    )


def ping(port: int) -> tuple[int, str]:
    """Return status and text of one GET /ping; status 0 if no answer comes within 2 s."""
    seconds = hosting.PING_TIMEOUT.value
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        with bounded_http.bounded(connection, seconds):
            connection.request("GET", hosting.PING.value)
            response = connection.getresponse()
            text = response.read(500).decode(errors="replace")
            return response.status, f"{response.status} {text}"
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    port: int
    address: str

    @property
    def is_local(self) -> bool:
        """Whether it is reached from within the container only."""
        kind = IPv6Address if ":" in self.address else IPv4Address
        return kind(self.address).is_loopback


def find_listeners(reach: Reach) -> list[Listener]:
    """Return all listening sockets, sorted. Raise OSError if this machine does not show them."""
    sockets: dict[str, Listener] = {}
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # without IPv6, or ended meanwhile
            lines = (_PROC / str(reach.pid) / "net" / table).read_text().splitlines()[1:]
            sockets |= dict(_parse(lines))
    if not reach.has_own_network:
        mine = set(_inodes(reach.pid))
        sockets = {inode: listener for inode, listener in sockets.items() if inode in mine}
    return sorted(set(sockets.values()))


def misplaced_listener(reach: Reach, port: int) -> str | None:
    """Return what is certainly wrong with where it listens; None if nothing is.

    That is an interface that can't be reached, or a server that answers on another port than
    `port`, which its image should use.
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


def describe_listeners(reach: Reach, port: int) -> str:
    """Return where it listens, for a timeout's message; empty if it listens on `port`."""
    found = _seen(reach)
    if found is None or any(listener.port == port for listener in found):
        return ""
    if not found:
        return f"nothing in it listens on port {port}"
    places = ", ".join(f"{listener.address}:{listener.port}" for listener in found[:_TOLD])
    return f"nothing in it listens on port {port}, only on {places}"


def _seen(reach: Reach) -> list[Listener] | None:
    """Return the listening sockets; None if they can't be read."""
    try:
        return find_listeners(reach)
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
    """Parse an address, which the kernel prints as little-endian 32-bit words."""
    words = b"".join(data[start : start + 4][::-1] for start in range(0, len(data), 4))
    return str(IPv4Address(words) if len(words) == 4 else IPv6Address(words))


def _inodes(pid: int) -> Iterator[str]:
    """Yield the inodes of the sockets that the process and its descendants hold."""
    for each in _process_tree(pid):
        with suppress(*_ENDED):
            for descriptor in (_PROC / str(each) / "fd").iterdir():
                name = _target(descriptor)
                if name.startswith("socket:["):
                    yield name[len("socket:[") : -1]


def _target(descriptor: Path) -> str:
    """Return where the descriptor points; empty if it has been closed."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


def _process_tree(pid: int) -> Iterator[int]:
    yield pid
    for children in (_PROC / str(pid) / "task").glob("*/children"):
        with suppress(*_ENDED):
            for child in children.read_text().split():
                yield from _process_tree(int(child))


def _answers_ping(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=_PROBE_SECONDS)
    try:
        with bounded_http.bounded(connection, _PROBE_SECONDS):
            connection.request("GET", hosting.PING.value)
            return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
