"""Calling a WSGI application with a request that has arrived whole. Standard library only."""

from __future__ import annotations

import io
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request without its body, as plain values that can travel to a worker."""

    method: str
    path: str
    query_string: str
    scheme: str
    http_version: str
    server: tuple[str, int] | None
    headers: Sequence[tuple[str, str]]

    @classmethod
    def of_scope(cls, scope: Mapping[str, Any]) -> Self:
        return cls(
            method=scope["method"],
            path=scope["path"],
            query_string=scope["query_string"].decode("latin-1"),
            scheme=scope["scheme"],
            http_version=scope["http_version"],
            server=scope["server"],
            headers=[(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]],
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def environ_of(request: Request, body: bytes) -> dict[str, Any]:
    """Return PEP 3333's dictionary."""
    name, port = request.server or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "QUERY_STRING": request.query_string,
        "SERVER_NAME": name,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for header, value in request.headers:
        key = header.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        elif key != "CONTENT_LENGTH":
            environ[f"HTTP_{key}"] = value
    return environ


@dataclass(slots=True)
class Reply:
    """An application's reply. Close `pieces` if they are not all read."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Generator[bytes]
    is_whole: bool
    """Whether the application has declared the length, or has returned all of the body."""


def begin(app: WSGIApplication, environ: dict[str, Any]) -> Reply:
    """Call the application until its status is known."""
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc: object = None, /) -> Any:
        started[:] = [int(status.split(" ", 1)[0]), headers]
        return written.append

    result: Any = app(environ, start_response)
    rest = iter(result)
    if not started:  # an application may be a generator, which begins here
        written += [piece for piece in [next(rest, b"")] if piece]
    if not started:
        raise RuntimeError("the application did not call start_response")
    status, headers = started[0], list(started[1])
    is_whole = isinstance(result, list | tuple) or "content-length" in {
        name.lower() for name, _ in headers
    }

    def pieces() -> Generator[bytes]:
        try:
            yield b""
            while written:
                yield _checked(written.pop(0))
            for piece in rest:
                yield from map(_checked, [*written, piece])
                written.clear()
            yield from map(_checked, written)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    found = pieces()
    next(found)  # so that its `close` calls the application's
    return Reply(status, headers, found, is_whole)


def _checked(piece: object) -> bytes:
    if not isinstance(piece, bytes):
        raise TypeError(f"a WSGI application returns bytes, not {type(piece).__name__}")
    return piece


def call(app: WSGIApplication, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Call the application; return status, headers without the length, and body."""
    reply = begin(app, environ)
    data = b"".join(reply.pieces)
    own = [(name, value) for name, value in reply.headers if name.lower() != "content-length"]
    return reply.status, own, data
