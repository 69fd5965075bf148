"""Requests to a container's server, each bounded; a refusal is an answer like any other."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.images.check.trials.trial import Deadline

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
    """`status` is 0 where there was none, and `error` says why."""

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
    patience: float = 10.0,
) -> Reply:
    """One request on a connection of its own; all of it takes at most `patience` seconds."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(HOST, port, timeout=patience)
    try:
        connection.sock = _connect(port, Deadline(patience))
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
    except (OSError, http.client.HTTPException) as error:
        text = " ".join(str(error).split())[:_ERROR] or type(error).__name__
        return Reply(0, time.monotonic() - begun, error=text)
    finally:
        connection.close()


def ping(port: int, patience: float) -> Reply:
    return send(port, "GET", "/ping", patience=patience)


def _pieces(body: bytes) -> Iterator[bytes]:
    middle = max(1, len(body) // 2)
    yield from (part for part in (body[:middle], body[middle:]) if part)


def announce(  # noqa: PLR0913, PLR0917 - what a request consists of
    port: int, path: str, headers: Mapping[str, str], size: int, most: int, patience: float = 20.0
) -> Reply:
    """A POST of `size` bytes of which at most `most` are sent: what does the server say to that?

    Sending stops as soon as it says something. `error` is empty where it said nothing and waits.
    """
    begun = time.monotonic()
    deadline = Deadline(patience)
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    try:
        with socket.create_connection((HOST, port), timeout=min(10.0, patience)) as link:
            said = _said_to(link, head, most, deadline)
    except OSError as error:
        return Reply(0, time.monotonic() - begun, error=str(error))
    words = said.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return Reply(status, time.monotonic() - begun, body=said)


def _said_to(link: socket.socket, head: bytes, most: int, deadline: Deadline) -> bytes:
    """The first words of the answer. Raise OSError if the connection ends without any."""
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
    """`count` requests that lack their last byte while the block runs, and are then completed."""
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
    """HOST:PORT of every listening socket in the text of /proc/net/tcp and tcp6."""
    found = set()
    for line in tables.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == "0A" and ":" in words[1]:
            address, _, port = words[1].rpartition(":")
            found.add(f"{_address(address)}:{int(port, 16)}")
    return sorted(found)


def _address(digits: str) -> str:
    """The kernel writes each 32-bit word of an address in the machine's order."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]"
