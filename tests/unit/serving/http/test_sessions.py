"""Stateful sessions over HTTP, with two real workers."""

from __future__ import annotations

import json
import os
import signal

import pytest
from tests.unit.serving.harness import Server, is_alive, wait_until

from sagemaker_byoc.contract import http

pytestmark = pytest.mark.slow  # real processes
NEW = http.NEW_SESSION.value


class Stateful(Server):
    def __init__(self, root, **environ):
        base = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", "SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true"}
        super().__init__(root, "sessions", **{**base, **environ})
        self.opened = []

    def say(self, text, session=None, content_type="text/plain"):
        extra = {http.SESSION_ID.value: session} if session else {}
        reply = self.invoke(text.encode(), content_type, **extra)
        self.opened += reply.headers.get_all(http.NEW_SESSION_ID.value, [])
        return reply

    def open(self):
        reply = self.say("hello", NEW)
        return reply.headers[http.NEW_SESSION_ID.value].partition(";")[0], int(
            reply.text.split()[0]
        )


@pytest.fixture(scope="module")
def stateful(tmp_path_factory):
    with Stateful(tmp_path_factory.mktemp("stateful")) as found:
        yield found


@pytest.fixture
def server(stateful):
    """The shared server; each test begins with both workers and without sessions."""
    yield stateful.wait_both()
    stateful.wait_both()
    while stateful.opened:
        name = stateful.opened.pop().partition(";")[0]
        assert stateful.say("close", name).status in {200, 400, 410}  # it may have ended


def test_state_and_close(server):
    """What a session said is there at its next request, and only for it."""
    one, first = server.open()
    two, second = server.open()
    assert first != second  # spread over the workers
    for text in ("a", "b"):
        server.say(text, one)
    server.say("z", two)
    assert server.say("c", one).text == f"{first} hello a b c"
    reply = server.say("close", two)
    assert reply.headers[http.CLOSED_SESSION_ID.value] == two
    assert server.say("x", two).status == 400
    assert server.say("x").text.endswith("none")
    assert server.say("x", "unknown").status == 400


def test_request_types(server):
    """Bodies of AWS's own containers open and close without the handlers."""
    opened = server.say('{"requestType": "NEW_SESSION"}', NEW, "application/json")
    name = json.loads(opened.body)["sessionId"]
    assert opened.headers[http.NEW_SESSION_ID.value].startswith(f"{name}; Expires=")
    assert server.say("a", name).text.endswith(" a")
    closed = server.say('{"requestType": "CLOSE"}', name, "application/json")
    assert (closed.status, closed.headers[http.CLOSED_SESSION_ID.value]) == (200, name)
    assert server.say("a", name).status == 400


@pytest.mark.parametrize("padding", [0, 70_000])
def test_opened_by_the_body_alone(server, padding):
    """As clients of AWS's own containers do that leave the header out; a large body is none."""
    text = '{"requestType": "NEW_SESSION"}' + " " * padding
    opened = server.say(text, None, "application/json")
    is_open = http.NEW_SESSION_ID.value in opened.headers
    assert is_open == (padding == 0)
    if is_open:
        assert server.say("a", json.loads(opened.body)["sessionId"]).text.endswith(" a")
    refused = server.say('{"requestType": "CLOSE"}', None, "application/json")
    assert (refused.status, http.SESSION_ID.value in refused.text) == (400, True)


def test_failed_open(server):
    """No id for a session whose first request failed."""
    reply = server.say("fail", NEW)
    assert (reply.status, reply.headers[http.NEW_SESSION_ID.value]) == (500, None)


def test_worker_dies(server):
    """Its sessions get an honest error, those of the other worker continue."""
    names = dict(reversed(server.open()) for _ in range(2))
    (first, one), (second, two) = names.items()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    reply = server.say("x", one)
    assert reply.status in {400, 410}, reply.text
    assert server.say("x", two).text == f"{second} hello x"
    server.wait_both()
    assert server.say("x", one).status in {400, 410}


def test_front_dies(server):
    """Workers hold the state; a new HTTP process learns who holds what."""
    name, pid = server.open()
    _, (http_process,) = server.front()
    os.kill(http_process, signal.SIGKILL)
    wait_until(lambda: not is_alive(http_process))
    server.wait_ready()
    reply = wait_until(lambda: (found := server.say("x", name)).status == 200 and found)
    assert reply.text == f"{pid} hello x"


def test_expires(tmp_path):
    """At the announced time the session is gone."""
    with Stateful(tmp_path, SAGEMAKER_SESSIONS_EXPIRATION="0.5") as server:
        server.wait_ready()
        name, _ = server.open()
        wait_until(lambda: server.say("x", name).status == 400)


def test_bound(tmp_path):
    """No more sessions than may be open."""
    with Stateful(tmp_path, BYOC_SESSIONS="1") as server:
        server.wait_ready()
        server.open()
        reply = server.say("hello", NEW)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")


def test_off(tmp_path):
    """Without the variable the headers are the handlers' business, as any others."""
    with Stateful(tmp_path, SAGEMAKER_ENABLE_STATEFUL_SESSIONS="") as server:
        server.wait_ready()
        reply = server.say("hello", NEW)
        assert (reply.status, reply.headers[http.NEW_SESSION_ID.value]) == (200, None)
        assert reply.text.endswith(" none")
