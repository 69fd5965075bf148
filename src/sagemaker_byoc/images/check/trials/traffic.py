"""Requests to a container's server: single ones, and a few clients at once.

Each is bounded; a refusal is an answer like any other. The clients show whether /ping is answered
meanwhile, and whether SIGTERM loses what was asked before.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

from sagemaker_byoc.contract import http, lifecycle
from sagemaker_byoc.images.check.trials.container import Container, Deadline

HOST = "127.0.0.1"
_HEAD = 4096
_ERROR = 200
"""Characters of an error, which may hold what the server sent."""
_PIECE = 2**16
_LEAST = 0.01
"""Seconds; a timeout of 0 would stand for a socket that does not wait."""
ENOUGH = 10.0
"""Seconds for what is held to be completed and answered."""


class _Link(socket.socket):
    """A connection whose reads together, not each, end with the deadline."""

    deadline: Deadline

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        left = self.deadline.left
        if not left:
            raise TimeoutError("the reply does not end")
        self.settimeout(left)
        return super().recv_into(*arguments, **options)


def _connect(port: int, deadline: Deadline) -> _Link:
    plain = socket.create_connection((HOST, port), timeout=max(deadline.left, _LEAST))
    link = _Link(fileno=plain.detach())
    link.deadline = deadline
    link.settimeout(max(deadline.left, _LEAST))
    return link


@dataclass(frozen=True, slots=True)
class Reply:
    """`status` is 0 if there was none, and `error` says why."""

    status: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    """Its first 4 KiB."""
    error: str = ""

    @property
    def works(self) -> bool:
        return 200 <= self.status < 300


def send(  # noqa: PLR0913 - what a request consists of
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    chunked: bool = False,
    timeout: float = 10.0,
) -> Reply:
    """Send one request on its own connection, for at most `timeout` seconds in all."""
    begun = time.monotonic()
    connection = HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.sock = _connect(port, Deadline(timeout))
        content = _pieces(body) if chunked and body is not None else body
        sent = {"Connection": "close", **(headers or {})}
        with suppress(BrokenPipeError, ConnectionResetError):  # an answer may come before the end
            connection.request(method, path, body=content, headers=sent, encode_chunked=chunked)
        answer = connection.getresponse()
        head = answer.read(_HEAD)
        while answer.read(_PIECE):
            pass
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, time.monotonic() - begun, found, head)
    except (OSError, HTTPException) as error:
        text = " ".join(str(error).split())[:_ERROR] or type(error).__name__
        return Reply(0, time.monotonic() - begun, error=text)
    finally:
        connection.close()


def ping(port: int, timeout: float) -> Reply:
    return send(port, "GET", "/ping", timeout=timeout)


def _pieces(body: bytes) -> Iterator[bytes]:
    middle = max(1, len(body) // 2)
    yield from (part for part in (body[:middle], body[middle:]) if part)


def announce(  # noqa: PLR0913, PLR0917 - what a request consists of
    port: int, path: str, headers: Mapping[str, str], size: int, most: int, timeout: float = 20.0
) -> Reply:
    """Announce a POST of `size` bytes and send at most `most`; return what the server answers.

    Sending stops at the first answer. `error` is empty if the server answers nothing and waits.
    """
    begun = time.monotonic()
    deadline = Deadline(timeout)
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    try:
        with socket.create_connection((HOST, port), timeout=min(10.0, timeout)) as link:
            said = _said_to(link, head, most, deadline)
    except OSError as error:
        return Reply(0, time.monotonic() - begun, error=str(error))
    words = said.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return Reply(status, time.monotonic() - begun, body=said)


def _said_to(link: socket.socket, head: bytes, most: int, deadline: Deadline) -> bytes:
    """Return the start of the answer. Raise OSError if the connection ends without one."""
    try:
        link.sendall(head)
        left = most
        while left > 0 and deadline.left and not _has_answer(link, 0):
            link.sendall(b"0" * min(left, _PIECE))
            left -= _PIECE
        if not _has_answer(link, 3):
            return b""
        said = link.recv(_HEAD)
        return said or _closed()
    except OSError as error:
        with suppress(OSError):
            if said := link.recv(_HEAD):
                return said
        raise error from None


def _closed() -> bytes:
    raise ConnectionError("the connection was closed without an answer")


def _has_answer(link: socket.socket, seconds: float) -> bool:
    return bool(select.select([link], [], [], seconds)[0])


@contextmanager
def held(
    port: int, path: str, headers: Mapping[str, str], body: bytes, count: int
) -> Iterator[None]:
    """Hold `count` requests without their last byte while the block runs; complete them then."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in {"Connection": "close", **headers}.items()]
    start = ("\r\n".join(lines) + "\r\n\r\n").encode() + body[:-1]
    with ExitStack() as stack:
        links = []
        for _ in range(count):
            with suppress(OSError):
                link = socket.create_connection((HOST, port), timeout=2)
                links.append(stack.enter_context(link))
                link.sendall(start)
        yield
        _complete(links, body[-1:], Deadline(ENOUGH))


def _complete(links: Sequence[socket.socket], last: bytes, deadline: Deadline) -> None:
    for link in links:
        with suppress(OSError):
            link.sendall(last)
    for link in links:
        with suppress(OSError):
            while deadline.left:
                link.settimeout(max(deadline.left, _LEAST))
                if not link.recv(_PIECE):
                    break


def listening(tables: str) -> list[str]:
    """Return HOST:PORT of every listening socket in the text of /proc/net/tcp and tcp6."""
    found = set()
    for line in tables.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == "0A" and ":" in words[1]:
            address, _, port = words[1].rpartition(":")
            found.add(f"{_address(address)}:{int(port, 16)}")
    return sorted(found)


def _address(digits: str) -> str:
    """Return an address; the kernel writes each 32-bit word in the machine's order."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]"


# ── a few clients at once ──


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
                timeout=float(http.INVOCATION_TIMEOUT.value),
            )
            del self.under_way[client]
            self.results.append((begun, reply))

    def wait_for_an_old_request(self, age: float) -> None:
        """Return as soon as a request is under way for `age` seconds, if the server is that slow.

        A server that answers faster is never caught in the middle of a request.
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
        """End the load. Requests still under way get no result, and their threads end with them."""
        self.over.set()
        deadline = Deadline(_LAST)
        for thread in self.threads:
            thread.join(timeout=deadline.left)


def run(port: int, headers: Mapping[str, str], payload: bytes) -> Load:
    """Send /ping again and again while `CLIENTS` invoke."""
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
    """Send SIGTERM while `CLIENTS` invoke; what they asked `before` it should be answered.

    Without a payload there are no clients.
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
