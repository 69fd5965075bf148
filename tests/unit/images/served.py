"""A registry on loopback for tests: it keeps what it is sent, counts, and fails when told to."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from urllib.parse import parse_qs, urlsplit

from sagemaker_byoc.images import model

Fault = Callable[["Handler"], bool]
"""Whether it answered, or broke off, in the registry's place."""


@dataclass
class Served:
    """`blobs` by repository and digest; `log` of methods and paths, without queries."""

    host: str = ""
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Blobs that are not complete yet, by the upload's name."""
    log: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, method: str) -> list[str]:
        return [line for line in self.log if line.startswith(f"{method} ")]

    def put(self, repository: str, tag: str, data: bytes, kind: str = model.DOCKER_MANIFEST):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for name in (tag, digest):
            self.manifests[repository, name] = (data, kind)
        return digest

    def manifest(self, repository: str, tag: str) -> dict:
        return json.loads(self.manifests[repository, tag][0])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def do(self):
        served = self.served
        self.url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(self.url.query).items()}
        with served.lock:
            served.log.append(f"{self.command} {self.url.path}")
            served.headers.append(dict(self.headers))
        for fault in list(served.faults):
            if fault(self):
                return None
        self.body = self.content()
        if self.url.path == "/v2/":
            return self.answer(200)
        _, _, rest = self.url.path.partition("/v2/")
        for kind in ("/blobs/uploads/", "/blobs/", "/manifests/"):
            repository, found, name = rest.partition(kind)
            if found:
                getattr(self, kind.strip("/").replace("/", "_"))(repository, name)
                return None
        return self.answer(404)

    def content(self):
        """All of a request's content, which may come in chunks of unknown number."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do  # noqa: N815 # the standard library's names

    def blobs(self, repository, digest):
        data = self.served.blobs.get((repository, digest))
        self.answer(404) if data is None else self.answer(200, data)

    def blobs_uploads(self, repository, name):
        if self.command == "POST":
            mounted = self.query.get("mount"), self.query.get("from")
            if all(mounted) and (mounted[1], mounted[0]) in self.served.blobs:
                self.served.blobs[repository, mounted[0]] = self.served.blobs[mounted[::-1]]
                return self.answer(201)
            name = uuid.uuid4().hex
            return self.answer(202, Location=f"/v2/{repository}/blobs/uploads/{name}?state=x")
        if self.command == "PATCH":
            data = self.served.uploads[name] = self.served.uploads.get(name, b"") + self.body
            return self.answer(202, Location=self.path, Range=f"0-{len(data) - 1}")
        digest = self.query["digest"]
        self.body = self.served.uploads.pop(name, b"") + self.body
        if digest != f"sha256:{hashlib.sha256(self.body).hexdigest()}":
            return self.refuse(400, "DIGEST_INVALID")
        self.served.blobs[repository, digest] = self.body
        return self.answer(201)

    def manifests(self, repository, name):
        if self.command == "PUT":
            kind = self.headers["Content-Type"]
            digest = self.served.put(repository, name, self.body, kind)
            return self.answer(201, Docker_Content_Digest=digest)
        found = self.served.manifests.get((repository, name))
        return self.answer(404) if found is None else self.answer(200, found[0], found[1])

    def refuse(self, status, code, message="no", **headers):
        errors = {"errors": [{"code": code, "message": message}]}
        self.answer(status, json.dumps(errors).encode(), **headers)

    def answer(self, status, data=b"", kind="application/octet-stream", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def hang_up(self, after=0):
        """In the middle of a content."""
        self.rfile.read(min(after, int(self.headers.get("Content-Length") or 0)))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


@contextmanager
def registry() -> Iterator[Served]:
    served = Served()
    with serving(type("Bound", (Handler,), {"served": served})) as served.host:
        yield served


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], context: SSLContext | None = None
) -> Iterator[str]:
    """The address of a server on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.block_on_close = False
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
