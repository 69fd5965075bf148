"""HTTP requests whose whole exchange is bounded in time, however slowly the other side answers.

The timeout of a socket starts again with each byte: a server that sends one now and then, or
`100 Continue` again and again, would hold its caller forever.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class TooSlowError(OSError):
    """The other side did not answer in time."""


@contextmanager
def bounded(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Connect, let the block send its request and read the answer in `seconds`, and close.

    Connecting may take the timeout of the connection. Raise OSError or http.client.HTTPException.
    """
    is_late = threading.Event()
    try:
        connection.connect()
        peer: socket.socket = connection.sock

        def end() -> None:
            is_late.set()
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
    except (OSError, http.client.HTTPException) as error:
        if is_late.is_set():
            raise TooSlowError(f"no whole answer within {seconds:g} s") from error
        raise
    finally:
        connection.close()


def send(method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> int:
    """Return the status that the server of a URL answers. No redirect and no proxy is followed.

    Raise what `bounded` raises, and ValueError for what can't be sent.
    """
    parts = urlsplit(url)
    is_tls = parts.scheme.lower() == "https"
    kind = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    with bounded(connection, seconds):
        connection.request(method, path, body, headers)
        return connection.getresponse().status
