"""Requests as bytes and what becomes of them: the same for both of gunicorn's parsers.

For a server of the echo model whose limit is 1 MiB.
"""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from dataclasses import dataclass

HOST = "Host: a\r\n"
TEXT = "Content-Type: text/plain\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
SMALL = b"small"
CHUNKS = b"5\r\nsmall\r\n0\r\n\r\n"
LIMIT = 2**20


def get(target="/ping", method="GET", *, extra="", host=HOST, version="1.1"):
    return f"{method} {target} HTTP/{version}\r\n{host}{extra}\r\n".encode("latin-1")


def post(body=SMALL, extra="", *, target="/invocations", host=HOST, version="1.1", length=True):  # noqa: PLR0913
    announced = f"Content-Length: {len(body)}\r\n" if length else ""
    head = f"POST {target} HTTP/{version}\r\n{host}{TEXT}{extra}{announced}\r\n"
    return head.encode("latin-1") + body


def chunked(body=CHUNKS, extra=CHUNKED, **options):
    return post(body, extra, length=False, **options)


def coded(body, coding, **options):
    return post(body, f"Content-Encoding: {coding}\r\n", **options)


def raw_deflate(data):
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def bomb(mebibytes):
    """Return a gzip member of so many MiB of zeros, its checksum left out: no reader gets there."""
    deflate = zlib.compressobj(wbits=-15)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * mebibytes + deflate.flush()


class Wire:
    """A connection, and the replies that come out of it."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=20)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def reply(self, *, is_head=False, begun=b""):
        """Status, headers in lower case, body; None at the end of the connection."""
        line = begun + self.file.readline()
        if not line:
            return None
        headers = {}
        while (header := self.file.readline().strip()) != b"":
            name, _, value = header.decode().partition(": ")
            headers[name.lower()] = value
        body = b"" if is_head else self.file.read(int(headers.get("content-length", 0)))
        return int(line.split()[1]), headers, body


@dataclass(frozen=True)
class Case:
    """One request; `stays` says whether the connection can be used after it."""

    name: str
    data: bytes
    status: int
    body: bytes | None = None
    stays: bool = True
    headers: tuple = ()

    def check(self, address):
        with Wire(address) as wire:
            wire.send(self.data)
            is_head = self.data.startswith(b"HEAD")
            status, headers, body = wire.reply(is_head=is_head)
            assert status == self.status, body
            assert self.body is None or body == self.body
            for name, value in self.headers:
                assert headers[name] == value
            if status >= 400 and not is_head:
                assert json.loads(body)["error"]["message"]
            if self.stays:  # and nothing of the request was left behind
                wire.send(get())
                assert wire.reply()[::2] == (200, b"")
            else:
                assert wire.reply() is None


def ok(name, data, body=SMALL, **options):
    return Case(name, data, 200, body, **options)


def refused(name, data, status=400, **options):
    return Case(name, data, status, stays=False, **options)


TARGETS = [
    ok("ping", get(), b""),
    ok("two slashes", get("//ping"), b""),
    ok("three slashes", post(target="///invocations")),
    ok("encoded slash", get("/%2Fping"), b""),
    ok("percent", get("/%70ing"), b""),
    ok("percent, model", post(target="/%69nvocations")),
    ok("query", post(target="/invocations?a=b%20c&d")),
    ok("URL", get("http://a/ping"), b""),
    ok("URL, port, query", post(target="HTTP://a:80/invocations?x=1")),
    ok("https URL", get("https://a/ping"), b""),
    Case("URL without path", get("http://a"), 404),
    refused("URL with user", get("http://u@a/ping")),
    refused("URL without host", get("http:///ping")),
    refused("other scheme", get("ftp://a/ping")),
    refused("no slash", get("ping")),
    refused("star", get("*")),
    ok("OPTIONS star", get("*", "OPTIONS"), b""),
    refused("CONNECT", get("a:80", "CONNECT"), 501),
    Case("slash behind", get("/ping/"), 404),
    Case("dots", get("/x/../ping"), 404),
    Case("encoded NUL", get("/ping%00"), 404),
    refused("NUL", get("/pi\0ng")),
    refused("empty", get("")),
    refused("too long", get("/" + "a" * 5000), 414),
]
METHODS = [
    ok("HEAD ping", get(method="HEAD"), b""),
    ok("POST ping", post(b"", target="/ping"), b""),
    ok("ping with a body", get(extra="Content-Length: 5\r\n") + SMALL, b""),
    ok("OPTIONS", get(method="OPTIONS"), b""),
    Case("PUT", get(method="PUT"), 405),
    Case("TRACE", get(method="TRACE"), 405),
    Case("unknown", get(method="FOOBAR"), 405),
    Case("GET model", get("/invocations"), 405),
    Case("HEAD model", get("/invocations", "HEAD"), 405),
    refused("lower case", get(method="get")),
]
HEADS = [
    refused("no Host", get(host="")),
    refused("no Host, model", post(host="")),
    refused("two Hosts", get(host=HOST + HOST)),
    refused("Host with blank", get(host="Host: a b\r\n")),
    refused("Host with path", get(host="Host: a/b\r\n")),
    refused("Host with user", get(host="Host: u@a\r\n")),
    ok("empty Host", get(host="Host:\r\n"), b""),
    ok("IPv6", get(host="Host: [::1]:8080\r\n"), b""),
    ok("1.0 without Host", get(host="", version="1.0"), b"", stays=False),
    ok("1.0", post(version="1.0"), stays=False),
    ok("1.0 kept", post(extra="Connection: keep-alive\r\n", version="1.0")),
    refused("1.2", get(version="1.2")),
    refused("0.9", b"GET /ping\r\n\r\n"),
    refused("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("TLS", bytes.fromhex("16030100c8010000c40303") + b"a" * 190),
    ok("CRLF before", b"\r\n" + get(), b""),
    refused("blank before", b" " + get()),
    refused("bare LF", b"GET /ping HTTP/1.1\nHost: a\n\n"),
    refused("LF in header", get(extra="X: a\nY: b\r\n")),
    refused("CR in header", get(extra="X: a\rb\r\n")),
    refused("NUL in header", get(extra="X: a\0b\r\n")),
    ok("high bytes in header", get(extra="X: \xe4\r\n"), b""),
    refused("high bytes in name", get(extra="X\xe4: a\r\n")),
    refused("folded", get(extra="X: a\r\n b\r\n")),
    refused("blank before colon", get(extra="X : a\r\n")),
    refused("no colon", get(extra="foo\r\n")),
    refused("long line", get(extra=f"X: {'b' * 9000}\r\n"), 431),
    refused("many lines", get(extra="X: b\r\n" * 101), 431),
    refused("two types", post(extra=TEXT)),
    ok("close", post(extra="Connection: close\r\n"), stays=False),
    ok("unknown upgrade", get(extra="Connection: upgrade\r\nUpgrade: foo\r\n"), b""),
    ok("expectation with the body", post(extra="Expect: 100-Continue\r\n")),
    refused("other expectation", post(extra="Expect: more\r\n"), 417),
    ok("1.0 has none", post(extra="Expect: more\r\n", version="1.0"), stays=False),
]
LENGTHS = [
    *(
        refused(f"length {text[:30]}", post(extra=f"Content-Length: {text}\r\n", length=False))
        for text in ("-5", "+5", "0x5", "5.0", "0_5", "5 5", "5, 5", "", "\xb2", "9" * 19)
    ),
    refused("many digits", post(extra=f"Content-Length: {'9' * 5000}\r\n", length=False)),
    refused("many zeros", post(extra=f"Content-Length: {'0' * 5000}5\r\n", length=False)),
    refused("length twice", post(extra="Content-Length: 5\r\n")),
    refused("two lengths", post(extra="Content-Length: 6\r\n")),
    ok("leading zero", post(extra="Content-Length: 05\r\n", length=False)),
    ok("no length", post(b"", length=False), b""),
    Case("too large", post(bytes(LIMIT + 1)), 413),
]
CODINGS_OF_TRANSFER = [
    ok("chunked", chunked()),
    ok("capitals", chunked(extra="Transfer-Encoding: CHUNKED\r\n")),
    refused("chunked and length", post(CHUNKS, CHUNKED)),
    refused("chunked twice", chunked(extra="Transfer-Encoding: chunked, chunked\r\n")),
    refused("chunked in two lines", chunked(extra=CHUNKED * 2)),
    refused("chunked not last", chunked(extra="Transfer-Encoding: chunked, gzip\r\n")),
    refused("chunked in 1.0", chunked(version="1.0")),
    refused("gzip only", chunked(extra="Transfer-Encoding: gzip\r\n")),
    refused("identity", post(extra="Transfer-Encoding: identity\r\n")),
    refused("vertical tab", chunked(extra="Transfer-Encoding: \x0bchunked\r\n")),
    refused("gzip", chunked(extra="Transfer-Encoding: gzip, chunked\r\n"), 501),
    refused("unknown", chunked(extra="Transfer-Encoding: foo, chunked\r\n"), 501),
    refused("nearly chunked", chunked(extra="Transfer-Encoding: xchunked\r\n"), 501),
    refused("parameter", chunked(extra="Transfer-Encoding: chunked;q=1\r\n"), 501),
    refused("empty coding", post(extra="Transfer-Encoding:\r\n"), 501),
    ok("trailer", chunked(b"5\r\nsmall\r\n0\r\nX: y\r\n\r\n")),
    refused("trailer with length", chunked(b"5\r\nsmall\r\n0\r\nContent-Length: 3\r\n\r\n")),
    ok("extension", chunked(b"5;a=b\r\nsmall\r\n0\r\n\r\n")),
    ok("zeros before", chunked(b"00005\r\nsmall\r\n0\r\n\r\n")),
    refused("0x", chunked(b"0x5\r\nsmall\r\n0\r\n\r\n")),
    refused("sign", chunked(b"+5\r\nsmall\r\n0\r\n\r\n")),
    refused("underscore", chunked(b"0_5\r\nsmall\r\n0\r\n\r\n")),
    refused("huge", chunked(b"f" * 17 + b"\r\nsmall")),
    refused("LF", chunked(b"5\nsmall\n0\n\n")),
    refused("LF in extension", chunked(b"5;a\nb\r\nsmall\r\n0\r\n\r\n")),
    refused("no end of chunk", chunked(b"5\r\nsmallXX0\r\n\r\n")),
    refused("no size", chunked(b"\r\nsmall\r\n0\r\n\r\n")),
]
MANY = bytes(range(256)) * 1000
ACCEPT = (("accept-encoding", "gzip, deflate, identity"),)
CODINGS_OF_CONTENT = [
    ok("identity", coded(SMALL, "identity")),
    ok("gzip", coded(gzip.compress(SMALL), "gzip")),
    ok("x-gzip", coded(gzip.compress(SMALL), "X-GZip")),
    ok("large gzip", coded(gzip.compress(MANY), "gzip"), MANY),
    ok("deflate", coded(zlib.compress(SMALL), "deflate")),
    ok("deflate without header", coded(raw_deflate(SMALL), "deflate")),
    ok("two", coded(gzip.compress(zlib.compress(SMALL)), "deflate, gzip")),
    ok(
        "two lines",
        post(
            gzip.compress(zlib.compress(SMALL)),
            "Content-Encoding: deflate\r\nContent-Encoding: gzip\r\n",
        ),
    ),
    ok("members", coded(gzip.compress(b"sm") + gzip.compress(b"all"), "gzip")),
    ok("padding", coded(gzip.compress(SMALL) + bytes(9), "gzip")),
    ok("nothing", coded(b"", "gzip"), b""),
    ok(
        "chunked gzip",
        chunked(
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(SMALL)), gzip.compress(SMALL)),
            CHUNKED + "Content-Encoding: gzip\r\n",
        ),
    ),
    Case("not gzip", coded(SMALL, "gzip"), 400),
    Case("cut gzip", coded(gzip.compress(MANY)[:-9], "gzip"), 400),
    Case("wrong checksum", coded(gzip.compress(SMALL)[:-8] + bytes(8), "gzip"), 400),
    Case("junk behind", coded(gzip.compress(SMALL) + b"junk", "gzip"), 400),
    Case("empty members", coded(gzip.compress(b"") * 10_001, "gzip"), 400),
    Case("bomb", coded(bomb(300), "gzip"), 413),
    Case("bomb in a bomb", coded(gzip.compress(bomb(1024)), "gzip, gzip"), 413),
    Case("br", coded(SMALL, "br"), 415, headers=ACCEPT),
    Case("gzip, br", coded(SMALL, "gzip, br"), 415, headers=ACCEPT),
    Case("four", coded(SMALL, "gzip, gzip, gzip, gzip"), 415, headers=ACCEPT),
]
CASES = {
    f"{group}: {case.name}": case
    for group, cases in {
        "target": TARGETS,
        "method": METHODS,
        "head": HEADS,
        "length": LENGTHS,
        "transfer": CODINGS_OF_TRANSFER,
        "content": CODINGS_OF_CONTENT,
    }.items()
    for case in cases
}
LARGE = bytes(range(256)) * 1200
ONE_SIDED = {
    "ping": ([get()], [b""]),
    "small": ([post()], [SMALL]),
    "chunked": ([chunked()], [SMALL]),
    "large": ([post(LARGE)], [LARGE]),
    "1.0": ([post(version="1.0")], [SMALL]),
    "pipelined": (
        [post(), get(), chunked(), post()],
        [SMALL, b"", SMALL, SMALL],
    ),
    "then half of one": ([post(), post()[:-2]], [SMALL]),
    "then half of a head": ([post(), get()[:-2]], [SMALL]),
    "half of one": ([post(LARGE)[:-1]], []),
}


def check_one_sided(address, name):
    """A client that closes its sending side with the last byte reads every answer, then the end."""
    requests, bodies = ONE_SIDED[name]
    with Wire(address) as wire:
        wire.send(b"".join(requests))
        wire.socket.shutdown(socket.SHUT_WR)
        for body in bodies:
            reply = wire.reply()
            while reply[0] == 100:
                reply = wire.reply()
            assert reply[::2] == (200, body)
        assert wire.reply() is None
