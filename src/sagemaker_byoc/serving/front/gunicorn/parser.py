"""gunicorn's parser in Python, quicker for header lines that it has seen before.

Most lines of most requests are those of the request before. A line that gunicorn's own rules have
let through once is taken as it was; all else, and every rule about lines together (their number,
duplicates, framing), is left to gunicorn. It is not used where the parser in C is installed.
"""

from __future__ import annotations

from typing import Any

from gunicorn.asgi import protocol
from gunicorn.asgi.parser import InvalidChunkSize, PythonProtocol

LINES = 512
"""Lines that are remembered; beyond it all are forgotten, which costs little."""
LINE = 256
"""Bytes of a line that is worth it."""
CHUNK = 2**63 - 1
"""Bytes of a chunk, as in the parser in C."""
END = b"\r\n"

Header = tuple[bytes, bytes]


class FrontParser(PythonProtocol):  # type: ignore[misc]  # gunicorn has no types
    """One a connection."""

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
        """None for a line that gunicorn may refuse."""
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


def install_parser() -> None:
    """gunicorn looks the class up by its name for each connection."""
    protocol.PythonProtocol = FrontParser
