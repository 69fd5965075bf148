"""Servers that never come to the end of their answer."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest

from sagemaker_byoc.region.core import bounded_http

SECONDS = 0.3
LONG = 60.0
"""For what must not end an exchange before its time, however busy the machine is."""
SERVED = 20.0
"""Seconds after which a server closes its connection: then the exchange was not ended in time."""
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
            until = time.monotonic() + SERVED
            peer, _ = listener.accept()
            peer.settimeout(5)  # for a client that has gone while its buffer was full
            with peer:
                peer.recv(1 << 16)
                try:
                    while not over.wait(pause) and time.monotonic() < until:
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
    ("piece", "pause"),
    [(b"H", 0.02), (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0)],
    ids=["slow", "continue"],
)
def test_an_answer_without_an_end(serve, piece, pause):
    connection = http.client.HTTPConnection("127.0.0.1", serve(piece, pause), timeout=LONG)

    def exchange():
        with bounded_http.bounded(connection, SECONDS):
            connection.request("GET", "/")
            connection.getresponse()

    with pytest.raises(bounded_http.TooSlowError, match=r"no whole answer within 0\.3 s"):
        exchange()
    assert connection.sock is None


def test_a_body_without_an_end(serve, monkeypatch):
    """A body without a length ends with its connection."""
    timers = []

    class Timer(threading.Timer):
        def start(self):
            timers.append(super().start)  # the time begins when the status is here

    monkeypatch.setattr(threading, "Timer", Timer)
    port = serve(b"HTTP/1.1 200 OK\r\n\r\n", 0.02)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    with bounded_http.bounded(connection, SECONDS):
        connection.request("GET", "/")
        response = connection.getresponse()
        (start,) = timers
        start()
        response.read()
    assert response.status == 200
    assert connection.sock is None


def test_the_status_is_enough(serve):
    port = serve(b"HTTP/1.1 204 No Content\r\n\r\n", 0.02)
    url = f"http://127.0.0.1:{port}"
    assert bounded_http.send("POST", url, b"{}", {}, seconds=LONG) == 204
    with pytest.raises(OSError, match="refused"):
        bounded_http.send("POST", "http://127.0.0.1:1", b"{}", {}, seconds=LONG)
