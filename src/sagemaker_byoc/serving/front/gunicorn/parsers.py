"""Parsing beyond gunicorn's: a faster parser in Python, WebSocket frames, and rules for a head.

Most header lines of most requests repeat those of the previous request. A line that gunicorn's own
rules have accepted once is accepted again; all else, and every rule about lines together (their
number, duplicates, framing), is left to gunicorn. This parser is not used if the parser in C is
installed; the rules for a head apply to both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.asgi import protocol, websocket
from gunicorn.asgi.parser import InvalidChunkSize, ParseError, PythonProtocol

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.front.http.requests import Head

LINES = 512
"""Lines remembered; when there are more, all are forgotten, which costs little."""
LINE = 256
"""Bytes of the longest line worth remembering."""
CHUNK = 2**63 - 1
"""Largest chunk in bytes, as in the parser in C."""
END = b"\r\n"

Header = tuple[bytes, bytes]


class FrontParser(PythonProtocol):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's parser with remembered header lines; one per connection."""

    __slots__ = ()

    _known: dict[bytes, Header] = {}  # noqa: RUF012 - of all connections of the process
    _buffer: bytearray
    _headers_list: list[Header]
    _header_count: Any
    _limit_request_fields: int
    _chunk_size: int

    def _parse_headers(self) -> bool:
        buffer = self._buffer
        end = buffer.find(END + END)
        if end < 0 or self._header_count or self._scan_from or buffer.startswith(END):
            return bool(super()._parse_headers())
        found = []
        for line in bytes(buffer[:end]).split(END):
            header = self._known.get(line) or self._learn(line)
            if header is None:
                return bool(super()._parse_headers())  # which says what is wrong with it
            found.append(header)
        if 0 < self._limit_request_fields < len(found):
            return bool(super()._parse_headers())
        del buffer[: end + 2 * len(END)]
        self._headers_list.extend(found)
        self._header_count = len(found)
        self._finalize_headers()
        return True

    def _parse_chunked_body(self) -> bool:
        has_more = bool(super()._parse_chunked_body())
        if self._chunk_size > CHUNK:
            raise InvalidChunkSize("chunk size too large")
        return has_more

    def _learn(self, line: bytes) -> Header | None:
        """Return the header, or None for a line that gunicorn may refuse."""
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        limit = self._limit_request_field_size
        if (
            not colon
            or (limit > 0 and len(line) + len(END) > limit)
            or not self._is_valid_token(name)
            or self._has_invalid_header_chars(value)
        ):
            return None
        header = (name.lower(), value)
        if len(line) <= LINE:
            if len(self._known) >= LINES:
                self._known.clear()
            self._known[line] = header
        return header


END_OF_HEAD = END + END
HEADS = 256
"""Heads remembered; when there are more, all are forgotten."""
HEAD = 2048
"""Bytes of the longest head worth remembering."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that passed every rule. The same bytes mean the same, on any connection: no peer is
    trusted more than another (`forwarded_allow_ips` is empty)."""

    request: Any
    """gunicorn's, which nothing changes."""
    head: Head
    length: int


known_heads: dict[bytes, KnownHead] = {}


def remember(data: bytes, request: Any, head: Head) -> None:
    """Remember the head that `data` begins with, which a parser and `check_head` have accepted."""
    end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
    if end > HEAD or head.length is None or head.expects:
        return
    if len(known_heads) >= HEADS:
        known_heads.clear()
    known_heads[data[:end]] = KnownHead(request, head, head.length)


WAITING = 2
"""Messages that wait before a conversation's own window; gunicorn lets 32 wait."""


class FrontWebSocket(websocket.WebSocketProtocol):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's WebSocket with a faster unmask.

    gunicorn unmasks byte by byte: a large message takes seconds, in which no other request, /ping
    included, would be answered.
    """

    def _unmask(self, payload: bytes, masking_key: bytes) -> bytes:
        size = len(payload)
        key = (masking_key * (size // 4 + 1))[:size]
        plain = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
        return plain.to_bytes(size, "little")


def install() -> None:
    """Replace gunicorn's classes, which it looks up by their names for each connection."""
    protocol.PythonProtocol = FrontParser
    websocket.WebSocketProtocol = FrontWebSocket
    websocket.RECEIVE_QUEUE_HIGH_WATER = WAITING


HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
ABSOLUTE = re.compile(rb"https?://([^/]*)(/.*)?", re.IGNORECASE)
SLASHES = re.compile(r"//+")
LENGTH_DIGITS = 18
"""Digits in a Content-Length: enough for any body and too few to overflow one of the parsers."""
TLS_HANDSHAKE = b"\x16"
ROUTES = frozenset(
    route.value
    for route in (
        *(http.PING, http.INVOCATIONS, http.METRICS),
        *(http.EXECUTION_PARAMETERS, http.CHAT),
    )
)
_PLAIN_ROUTES = frozenset(route.encode() for route in ROUTES)


class HeadError(ParseError):  # type: ignore[misc]  # gunicorn has no types
    """A request that is refused by its head alone; its connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_head(request: Any) -> bool:
    """Raise HeadError for a head that breaks a rule, and set the request's path.

    Return whether the body can be taken as it is: it has no Content-Encoding.
    """
    host: bytes | None = None
    is_plain = True
    for name, value in request.headers_bytes:
        rule = _RULES.get(name)
        if rule is not None:
            rule(request, value)
        elif name == b"host":
            host = value
        elif name == b"content-encoding":
            is_plain = False
    if host is None:
        if request.version >= (1, 1):  # RFC 9112, 3.2
            raise HeadError(400, "An HTTP/1.1 request must have a Host header")
    elif not _is_host(host):
        raise HeadError(400, "The Host header does not hold a host")
    if request.raw_path not in _PLAIN_ROUTES or request.method == "CONNECT":
        _set_path(request)
    return is_plain


@lru_cache(64)
def _is_host(text: bytes) -> bool:
    return HOST.fullmatch(text) is not None


def _check_length(_: Any, value: bytes) -> None:
    if len(value) > LENGTH_DIGITS:
        raise HeadError(400, "Invalid Content-Length value")


def _check_transfer_encoding(_: Any, value: bytes) -> None:
    """Raise HeadError(501) for an unknown coding (RFC 9112, 6.1); only chunked is known."""
    for coding in value.split(b","):
        if coding.strip().lower() not in {b"chunked", b"identity"}:
            raise HeadError(501, "The only supported transfer coding is chunked")


def _check_expectation(request: Any, value: bytes) -> None:
    """Raise HeadError for any expectation but 100-continue (RFC 9110, 10.1.1)."""
    if request.version >= (1, 1) and value.strip().lower() != b"100-continue":
        raise HeadError(417, "The only supported expectation is 100-continue")


_RULES = {
    b"content-length": _check_length,
    b"transfer-encoding": _check_transfer_encoding,
    b"expect": _check_expectation,
}


def _set_path(request: Any) -> None:
    """Reduce all forms of a target to a path (RFC 9112, 3.2)."""
    if request.method == "CONNECT":
        raise HeadError(501, "CONNECT is not implemented: this is not a proxy")
    raw = request.raw_path
    if not raw.startswith(b"/"):
        match = ABSOLUTE.fullmatch(raw)
        if match:
            if not match[1] or not _is_host(match[1]):
                raise HeadError(400, "The request's target does not name a host")
            raw = match[2] or b"/"
        elif raw == b"*" and request.method == "OPTIONS":
            raw = http.PING.value.encode()  # whose methods are all that this server has
        else:
            raise HeadError(400, "The request's target is neither a path nor an http URL")
        request.raw_path = raw
        request.path = unquote_to_bytes(raw).decode(errors="replace")
    if "//" in request.path:
        path = SLASHES.sub("/", request.path)
        if path in ROUTES:  # as nginx takes them; what else a user's application makes of them
            request.path, request.raw_path = path, path.encode()
