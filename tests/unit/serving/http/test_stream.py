"""Replies that come in pieces, as a client of the running server sees them."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal

import pytest
from tests.unit.serving.harness import ONE_WORKER, Server, wait_until

pytestmark = pytest.mark.slow  # real processes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environ = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "20", **ONE_WORKER}
    with Server(tmp_path_factory.mktemp("streaming"), "streaming", **environ) as running:
        yield running.wait_ready()


@contextlib.contextmanager
def opened(server, command, **headers):
    """The response, with its body still to come."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        headers = {"Content-Type": "text/x-command", **headers}
        connection.request("POST", "/invocations", command.encode(), headers)
        yield connection.getresponse()


def invoke(server, command, **headers):
    return server.invoke(command.encode(), "text/x-command", **headers)


def test_text(server):
    """Strings are sent as they are, chunk by chunk."""
    with opened(server, "words to be sent") as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.read() == b"tobesent"


def test_json_lines(server):
    """Other values are a line of JSON each."""
    reply = invoke(server, "numbers 3")
    assert reply.headers["Content-Type"] == "application/jsonlines"
    assert [json.loads(line) for line in reply.text.splitlines()] == [{"n": n} for n in range(3)]


def test_events(server):
    """Who asks for an event stream gets one."""
    reply = invoke(server, "words a b", Accept="text/event-stream")
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.text == "data: a\n\ndata: b\n\n"


def test_large_pieces(server):
    """An item may be larger than a packet of the link."""
    reply = invoke(server, "large 3000000")
    assert (len(reply.body), reply.body[-3:]) == (3_000_003, b"end")


def test_nothing(server):
    """A stream without items is an empty reply."""
    assert (invoke(server, "nothing").status, invoke(server, "nothing").body) == (200, b"")


def test_first_item_arrives_at_once(server):
    """It does not wait for the second."""
    with opened(server, "slow go") as response:
        assert response.read1(100) == b"first"
        assert server.ping().status == 200
        server.let_go("go")
        assert response.read() == b"second"


def test_early_error(server):
    """Until the first item the status is open: an error is an ordinary error."""
    reply = invoke(server, "fails_at_once on purpose")
    assert reply.status == 500
    assert json.loads(reply.body)["error"]["message"] == "ValueError: on purpose"


def test_late_error(server):
    """After it, the missing end tells the caller; the log has the cause."""
    with opened(server, "fails_late later") as response, pytest.raises(http.client.IncompleteRead):
        response.read()
    wait_until(lambda: "ValueError: later" in server.log)


def test_late_error_in_events(server):
    """Events can say it before the cut."""
    accept = {"Accept": "text/event-stream"}
    with opened(server, "fails_late again", **accept) as response:
        with pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
        assert b"event: error\n" in caught.value.partial


def test_client_goes(server):
    """A generator that nobody listens to is closed, and its worker serves the next."""
    with opened(server, "endless closed") as response:
        response.read1(100)
    wait_until((server.root / "closed").exists)
    assert invoke(server, "words a").body == b"a"


def test_slow_client_bounds_memory(server):
    """Who does not read holds up the worker and not more than a little memory."""
    _, (front,) = server.front()

    def resident():
        with open(f"/proc/{front}/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    with opened(server, "endless unread") as response:
        response.read1(100)
        counted = [server.request("GET", "/metrics").status for _ in range(50)]
        assert set(counted) == {200}
        assert resident() - before < 40 * 2**20
    wait_until((server.root / "unread").exists)


def test_worker_dies(server):
    """The cut shows it, and a new worker comes."""
    with opened(server, "dies_late") as response, pytest.raises(http.client.IncompleteRead):
        response.read()
    assert wait_until(lambda: invoke(server, "words back").body == b"back")


def test_drain_waits_for_streams(tmp_path):
    """SIGTERM lets an open stream come to its end."""
    with Server(tmp_path, "streaming") as server:
        server.wait_ready()
        with opened(server, "slow now") as response:
            assert response.read1(100) == b"first"
            server.send_signal(signal.SIGTERM)
            wait_until(lambda: server.ping().status == 0)
            server.let_go("now")
            assert response.read() == b"second"
        assert server.exit_code() == 0


def test_deadline_of_a_stream(tmp_path):
    """It has more time than a whole reply, but not unlimited time."""
    environ = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "0.3", "BYOC_STREAM_TIMEOUT": "1"}
    with Server(tmp_path, "streaming", **environ) as server:
        server.wait_ready()
        with (
            opened(server, "endless stopped") as response,
            pytest.raises(http.client.IncompleteRead),
        ):
            response.read()
        wait_until((tmp_path / "stopped").exists)
