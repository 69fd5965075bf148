"""Calling a WSGI application with a request that is here already. Standard library only."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What HTTP says beside the body; plain values, so that it can travel to a worker."""

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
    """PEP 3333's dictionary."""
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


def call(app: WSGIApplication, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers without the length, body."""
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc: object = None, /) -> Any:
        started[:] = [int(status.split(" ", 1)[0]), headers]
        return written.append

    result: Iterable[bytes] = app(environ, start_response)
    try:
        written.extend(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    status, headers = started
    own = [(name, value) for name, value in headers if name.lower() != "content-length"]
    return status, own, b"".join(written)
