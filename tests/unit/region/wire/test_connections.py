"""Requests that are answered without uvicorn, and connections that are handed to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager, suppress

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.region.wire.requests import until

from sagemaker_byoc.region.wire import connections
from sagemaker_byoc.region.wire.http import BufferedBody, Response
from sagemaker_byoc.region.wire.server import Application, listen, make_server

SECONDS = 20
LIMIT = 10**8


class Handler:
    """Echo a request's body; `own` notes for each request whether a Connection has read it."""

    def __init__(self):
        self.own = []
        self.requests = []
        self.waiting = threading.Event()
        self.left = threading.Event()
        self.response = None

    async def __call__(self, request):
        self.requests.append(request)
        self.own.append(isinstance(request.body, BufferedBody))
        body = await request.body.read(LIMIT)
        if body == b"wait":
            self.waiting.set()
            try:
                await asyncio.sleep(SECONDS)
            except asyncio.CancelledError:
                self.left.set()
                raise
        if body == b"boom":
            raise ZeroDivisionError("a secret")
        return self.response or Response(headers={"X-Answer": "é"}, body=b"<%s>" % body)


@contextmanager
def running(handler, loop_factory=uvloop.new_event_loop):
    server, listener = make_server(Application(handler)), listen(0)

    def run():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1], server
    finally:
        server.should_exit = True
        thread.join(timeout=SECONDS)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module", params=[uvloop.new_event_loop, asyncio.new_event_loop])
def served(request):
    handler = Handler()
    with running(handler, request.param) as (port, _):
        yield port, handler


@pytest.fixture
def handler(served):
    served[1].__init__()
    return served[1]


@pytest.fixture
def raw(served, handler):
    with socket.create_connection(("127.0.0.1", served[0]), timeout=SECONDS) as connection:
        yield connection


def invocation(body=b"x", *headers, path="/endpoints/e-1/invocations", version="1.1"):
    lines = [f"POST {path} HTTP/{version}", "Host: a", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


SIGNED = "Authorization: AWS4-HMAC-SHA256 Credential=K/20260101/r/s3/aws4_request, Signature=x"


def s3(method="PUT", target="/bucket/key", body=b"", *headers):
    lines = [f"{method} {target} HTTP/1.1", "Host: a", SIGNED, *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def test_an_invocation_is_answered_in_one_piece(raw, handler):
    raw.sendall(invocation(b"abc", "X-Two: 1", "x-two: 2"))
    head, _, body = raw.recv(65536).partition(b"\r\n\r\n")
    assert body == b"<abc>"
    lines = head.decode("latin-1").lower().split("\r\n")
    assert lines[0] == "http/1.1 200 ok"
    assert {"x-answer: é", "content-length: 5", "x-content-type-options: nosniff"} <= {*lines}
    assert any(line.startswith("date: ") for line in lines)
    assert handler.own == [True]
    request = handler.requests[0]
    assert (request.method, request.target, request.query_string) == (
        "POST", "/endpoints/e-1/invocations", "",
    )  # fmt: skip
    assert request.headers["x-two"] == "1,2"
    assert request.headers["content-length"] == "3"


def test_requests_follow_each_other_in_any_pieces(raw, handler):
    for body in (b"1", b"22"):
        data = invocation(body)
        for start in range(0, len(data), 40):
            raw.sendall(data[start : start + 40])
        until(raw, b"<%s>" % body)
    assert len({request.id for request in handler.requests}) == 2


OTHERS = {
    "another path": invocation(path="/bucket/key"),
    "a stream": invocation(path="/endpoints/e/invocations-response-stream"),
    "a query": invocation(path="/endpoints/e/invocations?a=b"),
    "an escape": invocation(path="/endpoints/%65/invocations"),
    "another method": invocation().replace(b"POST", b"PUT"),
    "a chunked body": b"POST /endpoints/e/invocations HTTP/1.1\r\nHost: a\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.0": invocation(version="1.0"),
    "the last request": invocation(b"x", "Connection: close"),
    "a question first": invocation(b"x", "Expect: 100-continue"),
    "a large body": invocation(b"x" * connections.LARGEST),
    "a large object": s3("PUT", "/b/k", b"x" * (connections.LARGEST + 1)),
    "an unknown expectation": s3("PUT", "/b/k", b"x", "Expect: tea"),
    "an unsigned object": s3("PUT", "/b/k", b"x").replace(b"/s3/", b"/sts/"),
    "another service": s3("POST", "/", b"x", "X-Amz-Target: SageMaker.ListModels"),
    "a whole URL": s3("PUT", "http://a/b/k", b"x"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_the_rest_is_for_uvicorn(raw, handler, kind):
    raw.sendall(invocation(b"first"))
    until(raw, b"<first>")
    raw.sendall(OTHERS[kind])
    until(raw, b"x>")
    assert handler.own[0]
    assert not handler.own[-1]
    assert len(handler.own) == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_a_small_request_to_s3_is_answered_here(raw, handler, method):
    for turn in range(2):
        raw.sendall(s3(method, "/bucket/a%20b/c?uploads&prefix=a%2Fb", b"%d" % turn))
        until(raw, b"<%d>" % turn)
        request = handler.requests[turn]
        assert (request.method, request.target) == (method, "/bucket/a%20b/c")
        assert request.query_string == "uploads&prefix=a%2Fb"
    assert handler.own == [True, True]


def test_a_client_that_asks_before_it_sends_is_told_to_continue(raw, handler):
    for _ in range(2):
        head, _, body = s3("PUT", "/b/k", b"xy", "Expect: 100-continue").partition(b"\r\n\r\n")
        raw.sendall(head + b"\r\n\r\n")
        assert until(raw, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body[:1])
        raw.sendall(body[1:])
        assert until(raw, b"<xy>").startswith(b"HTTP/1.1 200 OK\r\n")
    assert handler.own == [True, True]


def test_an_object_in_chunks(raw, handler):
    """Its length is announced, and small; else it is for uvicorn."""
    for length, own in (("2", True), (str(connections.LARGEST), False)):
        lines = ["Transfer-Encoding: chunked", f"X-Amz-Decoded-Content-Length: {length}"]
        raw.sendall(s3("PUT", "/b/k", b"", *lines) + b"1\r\nx\r\n")
        raw.sendall(b"1\r\ny\r\n0\r\n\r\n")
        until(raw, b"<xy>")
        assert handler.own[-1] is own


def test_answers_without_a_body(raw, handler):
    """The length of a HEAD is that of the GET; 204 and 304 have none."""
    handler.response = Response(headers={"Content-Length": "7"}, body=b"")
    raw.sendall(s3("HEAD"))
    assert b"\r\nContent-Length: 7\r\n" in until(raw, b"\r\n\r\n")
    handler.response = Response(status=404, body=b"<Error/>")
    raw.sendall(s3("HEAD"))
    assert until(raw, b"\r\n\r\n").lower().count(b"content-length: 8\r\n") == 1
    for status in (204, 304):
        handler.response = Response(status=status)
        raw.sendall(s3("DELETE"))
        assert b"content-length" not in until(raw, b"\r\n\r\n").lower()
    handler.response = None
    raw.sendall(s3("PUT", "/b/k", b"end"))
    until(raw, b"<end>")
    assert handler.own == [True] * 5


class Stream:
    def __init__(self, pieces, fails=False):
        self.pieces, self.fails, self.closed = iter(pieces), fails, threading.Event()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        for piece in self.pieces:
            return piece
        if self.fails:
            raise OSError("a secret")
        raise StopAsyncIteration

    async def aclose(self):
        self.closed.set()


def test_streams_with_a_length_and_without(raw, handler):
    stream = Stream([b"ab", b"", b"c"])
    handler.response = Response(headers={"Content-Length": "3"}, body=stream)
    raw.sendall(s3("GET"))
    found = until(raw, b"abc")
    assert b"chunked" not in found
    assert stream.closed.wait(SECONDS)
    handler.response = Response(body=Stream([b"ab", b"", b"c"]))
    raw.sendall(s3("GET"))
    found = until(raw, b"0\r\n\r\n").lower()
    assert b"transfer-encoding: chunked\r\n" in found
    assert found.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert b"content-length" not in found


def test_a_stream_that_fails_ends_the_connection(raw, handler, caplog):
    """The client must not take the part for the whole."""
    stream = Stream([b"ab"], fails=True)
    handler.response = Response(headers={"Content-Length": "3"}, body=stream)
    raw.sendall(s3("GET"))
    found = b""
    with suppress(ConnectionResetError):
        while more := raw.recv(65536):
            found += more
    assert b"secret" not in found
    assert "a secret" in caplog.text
    assert stream.closed.is_set()


def test_a_stream_waits_for_its_reader_and_ends_when_it_leaves(raw, handler):
    taken = []

    def pieces():
        for number in range(1000):
            taken.append(number)
            yield bytes(1 << 20)

    stream = Stream(pieces())
    handler.response = Response(headers={"Content-Length": str(1000 << 20)}, body=stream)
    raw.sendall(s3("GET"))
    got = 0
    while got < 20 << 20:
        got += len(raw.recv(1 << 20))
    assert len(taken) < 200
    raw.close()
    assert stream.closed.wait(SECONDS)
    assert len(taken) < 200


def test_two_requests_at_once(raw, handler):
    """Both are for uvicorn, which answers in turn."""
    raw.sendall(invocation(b"1") + invocation(b"2"))
    found = until(raw, b"<2>")
    assert found.index(b"<1>") < found.index(b"<2>")
    assert handler.own == [False, False]


def test_a_request_before_the_answer_to_the_last(raw, handler):
    """It waits for its turn, and a client that sends without end is not read without end."""
    raw.sendall(invocation(b"wait"))
    assert handler.waiting.wait(SECONDS)
    raw.settimeout(0.2)
    with pytest.raises(TimeoutError):
        raw.sendall(b"x" * 50 * 10**6)
    assert handler.own == [True]


def test_a_handler_ends_when_its_client_leaves(raw, handler):
    raw.sendall(invocation(b"wait"))
    assert handler.waiting.wait(SECONDS)
    raw.close()
    assert handler.left.wait(SECONDS)


def test_a_failure_is_500_and_its_cause_stays_here(raw, caplog):
    raw.sendall(invocation(b"boom"))
    answer = until(raw, connections.FAILURE)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert "a secret" in caplog.text


def test_a_header_cannot_begin_another(raw, handler, caplog):
    handler.response = Response(headers={"X": "a\r\nSet-Cookie: b"}, body=b"")
    raw.sendall(invocation())
    assert b"Cookie" not in until(raw, connections.FAILURE)


def test_an_answer_may_end_the_connection(raw, handler):
    handler.response = Response(headers={"Connection": "close"}, body=b"last")
    raw.sendall(invocation())
    until(raw, b"last")
    assert raw.recv(1) == b""


@given(data=st.binary(max_size=60), cut=st.integers(0, 80))
@settings(max_examples=40, deadline=None)
def test_what_is_not_http_is_refused(served, data, cut):
    """In the path, in the headers, or in the place of the next request."""
    port, handler = served
    handler.__init__()
    text = invocation(b"")
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(text[:cut] + b"\x00" + data + text[cut:])
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while more := connection.recv(65536):
            found += more
    assert not any(b"\x00" in value.encode("latin-1") for r in handler.requests
                   for value in [r.target, *r.headers, *r.headers.values()])  # fmt: skip
    assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 200 ")) or not found


def test_an_idle_connection_is_closed(monkeypatch):
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.05)
    with (
        running(Handler()) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as raw,
    ):
        raw.sendall(invocation())
        until(raw, b"<x>")
        assert raw.recv(1) == b""


@pytest.mark.slow
def test_the_end_of_the_server(monkeypatch):
    """Idle connections are closed at once; a request that still waits is told."""
    monkeypatch.setattr("sagemaker_byoc.region.wire.server.CLOSING_SECONDS", 1)
    handler = Handler()
    with (
        running(handler) as (port, server),
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as idle,
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as waiting,
    ):
        idle.sendall(invocation())
        until(idle, b"<x>")
        waiting.sendall(invocation(b"wait"))
        assert handler.waiting.wait(SECONDS)
        server.should_exit = True
        assert idle.recv(1) == b""
        assert until(waiting, b"ending").startswith(b"HTTP/1.1 503 ")
