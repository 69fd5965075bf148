"""Two-way streams: a real server, a raw WebSocket client."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.unit.serving.harness import ONE_WORKER, Server, is_alive, wait_until
from tests.unit.serving.http import websocket
from tests.unit.serving.http.websocket import BINARY, PING, PONG, TEXT, RefusedError

pytestmark = pytest.mark.slow  # real processes


class Client(websocket.Client):
    """A client that counts the conversations it has begun."""

    begun = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        Client.begun += 1


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("talking"), "talking") as found:
        yield found.wait_ready()


@pytest.fixture
def server(talking):
    """The shared server; each test begins without conversations and without the model's signs."""
    before, ended = Client.begun, talking.log.count(": ended after ")
    yield talking
    wait_until(lambda: talking.log.count(": ended after ") - ended == Client.begun - before)
    for sign in ("over", "sent", "predicting", "go"):
        (talking.root / sign).unlink(missing_ok=True)


@pytest.fixture
def alone(tmp_path):
    """A server whose processes the test ends."""
    with Server(tmp_path, "talking", **ONE_WORKER) as found:
        yield found.wait_ready()


def is_over(server):
    return (server.root / "over").exists()


def sent(server):
    """How many messages of a flood the handler has got rid of."""
    return (server.root / "sent").stat().st_size


def test_talk(server):
    """Text as text, bytes as bytes, in order; the client ends it and so does the handler."""
    with Client(server.port) as client:
        assert client.ask("hello") == "HELLO"
        assert client.ask(b"\x00abc") == b"\x00ABC"
        for number in range(50):
            client.say(str(number))
        assert [client.message() for _ in range(50)] == [str(number) for number in range(50)]
        client.leave()
        assert client.closed()[0] == 1000
        wait_until(lambda: is_over(server))
    wait_until(lambda: '"event":"conversation","close_code":1000,"messages_in":52' in server.log)


def test_handler_ends(server):
    """Its return is an ordinary close."""
    with Client(server.port) as client:
        client.say("enough")
        assert client.closed() == (1000, "")


@pytest.mark.parametrize("size", [0, 1024, 1025, 70_000, 3_000_000])
def test_sizes(server, size):
    """Messages of any size up to the limit arrive whole, both ways."""
    with Client(server.port) as client:
        assert client.ask(b"a" * size) == b"A" * size


def test_fragments_and_pings(server):
    """A message in fragments is one message; a ping between them is answered."""
    with Client(server.port) as client:
        client.frame(TEXT, b"ab", fin=False)
        client.frame(PING, b"alive?")
        client.frame(0, b"cd")
        assert client.receive() == (PONG, b"alive?")
        assert client.message() == "ABCD"


def test_too_large(server):
    """Beyond 16 MiB: 1009, before it is read."""
    with Client(server.port) as client:
        client.socket.sendall(b"\x82\xff" + (2**40).to_bytes(8, "big"))
        assert client.closed()[0] == 1009
    wait_until(lambda: is_over(server))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),  # no UTF-8
    ],
)
def test_broken_frames(server, data, code):
    """A client that breaks the protocol gets a close code, and its handler ends."""
    with Client(server.port) as client:
        client.socket.sendall(data)
        assert client.closed()[0] == code
    wait_until(lambda: is_over(server))
    assert server.ping().status == 200


def test_error(server):
    """The caller gets type and text, the log the traceback, the next one a working handler."""
    with Client(server.port) as client:
        client.say("fail")
        assert client.closed() == (1011, "ValueError: as asked")
    assert "Traceback" in server.log
    with Client(server.port) as client:
        assert client.ask("a") == "A"


def test_worker_dies(alone):
    """Those in it get the reason; the server continues."""
    with Client(alone.port) as first, Client(alone.port) as second:
        pid = int(second.ask("pid"))
        first.say("die")
        assert first.closed() == (1011, "The model's process ended")
        assert second.closed()[0] == 1011
    wait_until(lambda: not is_alive(pid))

    def works():
        with Client(alone.port) as client:
            client.say("pid")
            opcode, data = client.receive()
            return opcode == TEXT and int(data) != pid

    wait_until(works)


def test_client_vanishes(server):
    """The handler's next item ends it; its `finally` runs."""
    with Client(server.port) as client:
        client.say("flood")
        client.message()
    wait_until(lambda: is_over(server))
    assert sent(server) < 90_000


def test_slow_client(server):
    """A client that takes nothing stops the handler, and nobody else."""
    with Client(server.port) as slow, Client(server.port) as quick:
        slow.say("flood")
        slow.message()
        looks = []

        def stopped():
            assert quick.ask("hello") == "HELLO"
            looks.append(sent(server))
            return looks[-20:].count(looks[-1]) == 20

        wait_until(stopped)
        assert server.invoke(b"x", "application/octet-stream").text == "x"
        assert sent(server) < 1000


def test_beside_requests(server):
    """A request that runs for long does not hold up a conversation, nor the reverse."""
    with ThreadPoolExecutor(1) as pool, Client(server.port) as client:
        running = pool.submit(server.invoke, b"wait", "application/octet-stream")
        wait_until((server.root / "predicting").exists)
        assert client.ask("hello") == "HELLO"
        assert server.ping().status == 200
        server.let_go("go")
        assert running.result().status == 200


def test_poll(server):
    """A handler may speak while the client is silent."""
    with Client(server.port) as client:
        client.say("poll")
        assert [client.message() for _ in range(3)] == ["nothing yet"] * 3
        client.say("ends the polling")
        client.say("hello")
        heard = client.message()
        while heard == "nothing yet":
            heard = client.message()
        assert heard == "HELLO"


def test_too_many(tmp_path):
    """Beyond the limit: 1013, try again later; one that leaves makes room."""
    with Server(tmp_path, "talking", BYOC_CONVERSATIONS="1", **ONE_WORKER) as server:
        server.wait_ready()
        with Client(server.port) as first:
            first.ask("hello")
            with Client(server.port) as second:
                assert second.closed()[0] == 1013
            first.leave()
            first.closed()

        def has_room():
            with Client(server.port) as third:
                third.say("hello")
                return third.receive()[0] == TEXT

        wait_until(has_room)


def test_time_is_over(tmp_path):
    """One that lasts too long is closed."""
    with Server(tmp_path, "talking", BYOC_CONVERSATION_TIMEOUT="0.3") as server:
        server.wait_ready()
        with Client(server.port) as client:
            client.ask("hello")
            assert client.closed()[0] == 1001
        wait_until(lambda: is_over(server))


def test_hangs(tmp_path):
    """A handler that never ends after its client has left is ended with its process."""
    with Server(tmp_path, "talking", BYOC_STUCK_GRACE="0.3") as server:
        server.wait_ready()
        with Client(server.port) as client:
            pid = int(client.ask("pid"))
            client.say("hang")
            wait_until((server.root / "hanging").exists)
        wait_until(lambda: not is_alive(pid))
        assert "its handler does not end" in server.log
        assert "in bidirectional_fn" in server.log  # its stacks
        wait_until(lambda: server.invoke(b"x", "application/octet-stream").status == 200)


def test_drain(alone):
    """SIGTERM: no more input, the handler says its last word, 1001; the server ends with 0."""
    with Client(alone.port) as client:
        client.ask("hello")
        alone.send_signal()
        assert client.message() == "bye"
        assert client.closed()[0] == 1001
        assert alone.exit_code() == 0


def test_front_dies(alone):
    """The handler learns that its client is lost."""
    with Client(alone.port) as client:
        pid = int(client.ask("pid"))
        _, (http_process,) = alone.front()
        os.kill(http_process, signal.SIGKILL)
        assert client.socket.recv(1) == b""
    wait_until(lambda: is_over(alone))
    alone.wait_ready()
    with Client(alone.port) as client:
        assert int(client.ask("pid")) == pid


@pytest.mark.parametrize("path", ["/invocations", "/other"])
def test_other_paths(server, path):
    """Only the platform's path."""
    with pytest.raises(RefusedError, match="403"):
        Client(server.port, path)


def test_no_handler(tmp_path):
    """Without the function the opening is refused."""
    with Server(tmp_path, "echo") as server:
        server.wait_ready()
        with pytest.raises(RefusedError, match="403"):
            Client(server.port)


def test_many_at_once(server):
    """As many as may be, each with its own words."""
    clients = [Client(server.port) for _ in range(8)]
    try:
        for round_ in range(20):
            for number, client in enumerate(clients):
                client.frame(BINARY, f"a{number}-{round_}".encode() * 300)
        for round_ in range(20):
            for number, client in enumerate(clients):
                assert client.message() == f"A{number}-{round_}".encode() * 300
    finally:
        for client in clients:
            client.__exit__()
