"""The region's port over real sockets: bodies both ways, clients that leave, failures."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.unit.region.wire.requests import until

from sagemaker_byoc.region.wire.http import FileStream, Response
from sagemaker_byoc.region.wire.operations import EntityTooLargeError
from sagemaker_byoc.region.wire.server import Application, listen, make_server

SECONDS = 20


class Handler:
    """One route a test; `left` is set when a handler was cancelled, `closed` when a stream was."""

    def __init__(self, file):
        self.file = file
        self.threads = ThreadPoolExecutor(1)
        self.left = threading.Event()
        self.closed = threading.Event()
        self.waiting = threading.Event()

    async def __call__(self, request):
        return await getattr(self, request.path.strip("/"))(request)

    async def echo(self, request):
        return Response(body=await request.body.read(100_000_000))

    async def small(self, request):
        try:
            return Response(body=await request.body.read(10))
        except EntityTooLargeError as error:
            return Response(status=error.status, body=error.code.encode())

    async def part(self, request):
        return self._part(10, 3_000_000)

    async def tiny(self, request):
        return self._part(0, 5)

    async def shrunk(self, request):
        return self._part(0, 10_000_000)

    def _part(self, start, length):
        file = os.open(self.file, os.O_RDONLY)
        stream = FileStream(file, start, length, self.threads)
        return Response(headers={"Content-Length": str(length)}, body=stream)

    async def stream(self, request):
        return Response(body=self._chunks(3))

    async def endless(self, request):
        return Response(body=self._chunks(10_000_000))

    async def _chunks(self, count):
        try:
            for number in range(count):
                yield b"chunk %d\n" % number
                await asyncio.sleep(0)
        finally:
            self.closed.set()

    async def broken(self, request):
        async def chunks():
            yield b"a"
            raise ValueError("broken")

        return Response(body=chunks())

    async def wait(self, request):
        self.waiting.set()
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            self.left.set()
            raise
        return Response()

    async def upload(self, request):
        self.waiting.set()
        try:
            async for _ in request.body:
                pass
        except ConnectionError:
            self.left.set()
            raise
        return Response()

    async def refuse(self, request):
        return Response(status=403, body=b"no")

    async def boom(self, request):
        raise ZeroDivisionError("a secret")

    async def headers(self, request):
        body = f"{request.headers['x-a']} {request.target} {request.query_string}".encode()
        return Response(headers={"X-Answer": "é"}, body=body)

    async def nothing(self, request):
        return Response(status=204)


class Served:
    """A server for all tests of this module; each has its own handler."""

    def __init__(self, port):
        self.port = port
        self.handler = None

    async def __call__(self, request):
        return await self.handler(request)


@contextmanager
def running(server):
    """The port of a server in a thread."""
    listener = listen(0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=SECONDS)
    assert not thread.is_alive()
    listener.close()


@pytest.fixture(scope="module")
def served():
    served = Served(None)
    with running(make_server(Application(served))) as served.port:
        yield served


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("served") / "file"
    file.write_bytes(os.urandom(4_000_000))
    return file


@pytest.fixture
def handler(file):
    handler = Handler(file)
    yield handler
    handler.threads.shutdown()


@pytest.fixture
def port(served, handler):
    served.handler = handler
    return served.port


@pytest.fixture
def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(method, path, body=None, headers=None):
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()

    yield ask
    connection.close()


@pytest.fixture
def raw(port):
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        yield connection


def test_a_body_goes_there_and_back(ask):
    """Larger than any buffer on the way."""
    data = os.urandom(5_000_000)
    assert ask("POST", "/echo", data)[2] == data


def test_a_chunked_body_is_read(ask):
    assert ask("POST", "/echo", iter([b"ab", b"cd"]))[2] == b"abcd"


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"x" * 11, iter([b"x" * 6, b"x" * 6])])
def test_a_body_over_the_limit_is_refused(ask, body):
    """Whether its length was announced or not."""
    assert ask("POST", "/small", body)[::2] == (413, b"RequestEntityTooLarge")


def test_a_part_of_a_file_is_sent_with_its_length(ask, handler):
    status, headers, body = ask("GET", "/part")
    assert body == handler.file.read_bytes()[10:3_000_010]
    assert (status, headers["content-length"]) == (200, "3000000")
    assert ask("GET", "/tiny")[2] == handler.file.read_bytes()[:5]


def test_head_has_the_length_and_no_body(ask):
    status, headers, body = ask("HEAD", "/part")
    assert (status, headers["content-length"], body) == (200, "3000000", b"")
    assert ask("GET", "/stream")[0] == 200


def test_a_stream_is_chunked(ask):
    _, headers, body = ask("GET", "/stream")
    assert body == b"chunk 0\nchunk 1\nchunk 2\n"
    assert headers["transfer-encoding"] == "chunked"


def test_no_content_has_no_length(ask):
    status, headers, _ = ask("DELETE", "/nothing")
    assert status == 204
    assert "content-length" not in headers


def test_headers_that_came_twice_are_joined_and_the_path_is_as_sent(port, raw):
    raw.sendall(b"GET /head%65rs?a=%20b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    answer = until(raw, b"%20b")
    assert answer.endswith(b"1,2 /head%65rs a=%20b")
    assert "x-answer: é".encode("latin-1") in answer


def test_a_body_is_asked_for_only_when_it_is_wanted(raw):
    raw.sendall(
        b"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    assert until(raw, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    raw.sendall(b"abc")
    assert until(raw, b"abc").startswith(b"HTTP/1.1 200 ")


def test_a_refusal_before_the_body_ends_the_connection(raw):
    """The client may send the body or not: what follows on the connection has no meaning."""
    raw.sendall(
        b"PUT /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    answer = until(raw, b"\r\n\r\nno")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"connection: close" in answer
    assert raw.recv(10) == b""


def test_a_handler_ends_when_its_client_leaves(handler, raw):
    raw.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    assert handler.waiting.wait(SECONDS)
    raw.close()
    assert handler.left.wait(SECONDS)


def test_a_body_that_ends_early_is_a_connection_error(handler, raw):
    raw.sendall(b"PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    assert handler.waiting.wait(SECONDS)
    raw.close()
    assert handler.left.wait(SECONDS)


def test_a_stream_is_closed_when_its_client_leaves(handler, raw):
    raw.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    until(raw, b"chunk 1")
    raw.close()
    assert handler.closed.wait(SECONDS)


def test_a_failure_is_500_and_its_cause_stays_here(ask, caplog):
    status, _, body = ask("GET", "/boom")
    assert status == 500
    assert b"secret" not in body
    assert "a secret" in caplog.text
    assert ask("GET", "/stream")[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/broken", "/shrunk"])
def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(ask, path, caplog):
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask("GET", path)
    assert caplog.records


def test_two_requests_on_one_connection(ask):
    assert ask("POST", "/echo", b"1")[2] == b"1"
    assert ask("POST", "/echo", b"22")[2] == b"22"


@pytest.mark.slow
def test_who_still_waits_when_the_server_is_ending_is_told(handler, monkeypatch):
    monkeypatch.setattr("sagemaker_byoc.region.wire.server.CLOSING_SECONDS", 1)
    server = make_server(Application(handler))
    with (
        running(server) as port,
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection,
    ):
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert handler.waiting.wait(SECONDS)
        server.should_exit = True
        assert until(connection, b"ending").startswith(b"HTTP/1.1 503 ")
