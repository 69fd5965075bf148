"""SIGTERM under load: whose requests are lost, and what the verdict is."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sagemaker_byoc.images.check.check import SERVING
from sagemaker_byoc.images.check.findings import apply
from sagemaker_byoc.images.check.trials import traffic
from sagemaker_byoc.images.check.trials.serving import ServingTrial
from sagemaker_byoc.images.check.trials.traffic import Stop


class Killed:
    """A container whose two workers take 0.2 s for a request each, and die on SIGTERM."""

    def __init__(self) -> None:
        self.workers = threading.Semaphore(2)
        self.is_dead = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        with self.workers:
            if self.is_dead.wait(0.2):
                handler.close_connection = True
                return
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def catches_term(self) -> bool:
        return True

    def signal(self, name, wait):
        assert name == "TERM"
        wait()
        moment = time.monotonic()
        self.is_dead.set()
        return moment

    def wait(self, seconds):
        return 0


@contextmanager
def serving(killed):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            killed.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_what_is_killed_in_the_middle_is_seen():
    """The signal comes when a request is under way for longer than it takes to get there."""
    killed = Killed()
    with serving(killed) as port:
        stop = traffic.stop(killed, port, {"Content-Type": "text/csv"}, b"1\n", 0.25)
    assert stop.lost > 0
    assert stop.exit_code == 0


def test_nobody_waits_for_requests_that_are_not_made(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    stop = traffic.stop(Killed(), 1, {}, None, 0.25)
    assert (stop.lost, stop.answered) == (0, 0)


@pytest.mark.parametrize(
    ("stop", "found"),
    [
        (Stop(0, 1.0, lost=0, answered=9), []),
        (Stop(143, 1.0, lost=0, answered=9), []),
        (Stop(1, 1.0, lost=0, answered=9), ["SRV017"]),
        (Stop(0, 1.0, lost=2, answered=9), ["SRV016"]),
        (Stop(None, 30.0, lost=2, answered=9), ["SRV015"]),
        (Stop(None, 2.0, lost=0, answered=9, catches=False), ["SRV015"]),
        # Ended by a signal that should have been dropped: Stop.is_heeded says when.
        (Stop(143, 0.1, lost=4, answered=9, catches=False), ["SRV015"]),
        (Stop(0, 1.0, lost=0, answered=9, catches=True), []),
    ],
)
def test_the_verdict(stop, found):
    seen = ServingTrial(healthy_after=1.0, with_model=True, stop=stop)
    findings = apply(SERVING, seen, {})
    assert [one.id for one in findings if one.id in {"SRV015", "SRV016", "SRV017"}] == found
