"""Servers that never come to the end of their answer."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest

from sagemaker_byoc.region.core import bounded_http

SECONDS = 0.3
BOUND = 30.0


@pytest.fixture
def serve():
    """Starts a server that sends `piece` again and again, with a pause; returns its port."""
    over = threading.Event()
    threads, listeners = [], []

    def start(piece, pause):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer():
            peer, _ = listener.accept()
            peer.settimeout(1)  # for a client that has gone while its buffer was full
            with peer:
                peer.recv(1 << 16)
                try:
                    while not over.wait(pause):
                        peer.sendall(piece)
                except OSError:
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        threads.append(thread)
        return listener.getsockname()[1]

    yield start
    over.set()
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("piece", "pause", "seconds", "ends_well"),
    [
        (b"H", 0.02, SECONDS, False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0, SECONDS, False),
        (b"HTTP/1.1 200 OK\r\n\r\n", 0.02, 2.0, True),  # its status must come in time
    ],
    ids=["slow", "continue", "body"],
)
def test_an_answer_without_an_end(serve, piece, pause, seconds, ends_well):
    port = serve(piece, pause)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
    began = time.monotonic()
    read = []

    def exchange():
        with bounded_http.bounded(connection, seconds):
            connection.request("GET", "/")
            response = connection.getresponse()
            read.append(response.status)
            response.read()

    if ends_well:  # a body without a length ends with its connection
        exchange()
    else:
        with pytest.raises(bounded_http.TooSlowError, match=r"no whole answer within 0\.3 s"):
            exchange()
    assert read == [200] * ends_well
    assert time.monotonic() - began < BOUND
    assert connection.sock is None


def test_the_status_is_enough(serve):
    port = serve(b"HTTP/1.1 204 No Content\r\n\r\n", 0.02)
    url = f"http://127.0.0.1:{port}"
    assert bounded_http.send("POST", url, b"{}", {}, seconds=BOUND) == 204
    with pytest.raises(OSError, match="refused"):
        bounded_http.send("POST", "http://127.0.0.1:1", b"{}", {}, seconds=SECONDS)
