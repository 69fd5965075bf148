"""Small objects over bare sockets: requests are signed before the time runs, so that a benchmark
measures the server and not the client.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
import time
from datetime import UTC, datetime

from sagemaker_byoc.region.core.account import Keys
from sagemaker_byoc.region.wire.signatures import ALGORITHM, signing_key

REGION = "us-east-1"
SECONDS = 60


def signed(method: str, port: int, path: str, body: bytes, keys: Keys) -> bytes:
    """Return a request of Signature Version 4."""
    time_ = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "host": f"127.0.0.1:{port}",
        "x-amz-content-sha256": digest,
        "x-amz-date": time_,
    }
    names = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join([method, path, "", *lines, "", names, digest])
    scope = f"{time_[:8]}/{REGION}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{time_}\n{scope}\n{hashed}"
    key = signing_key(keys.secret_key, time_[:8], REGION, "s3")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{keys.access_key}/{scope}"
    headers["authorization"] = (
        f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    headers["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Connection:
    """One client. It connects again if the server closes, as moto's does after each answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> bytes:
        """Return the body of an answer, which must be 200."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        lower = head.lower()
        assert head.split(b" ", 2)[1] == b"200", data[:500]
        _, _, length = lower.partition(b"\r\ncontent-length:")
        assert length, head
        while len(body) < int(length.split(b"\r\n", 1)[0]):
            body += self._receive()
        if b"\r\nconnection: close" in lower:
            self.close()
        return body

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65536)
        assert data, "the server closed the connection"
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def run(port: int, requests: list[bytes], clients: int, body: bytes = b"") -> list[float]:
    """Send all requests from `clients` threads; return the seconds of each, and of all last."""
    seconds: list[float] = []
    failures: list[BaseException] = []

    def work(first: int) -> None:
        connection = Connection(port)
        try:
            for request in requests[first::clients]:
                begin = time.perf_counter()
                found = connection.ask(request)
                seconds.append(time.perf_counter() - begin)
                assert not body or found == body
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return [*seconds, whole]
