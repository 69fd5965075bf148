"""A running server to be asked over HTTP: as a process here, or as a container of the image."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.images.containers import ZOO, Container, wait_until
from tests.unit.serving.harness import Server

PORT = 8080
CODE = "/opt/ml/model/code"
Body = bytes | Iterable[bytes] | None


@dataclass
class Reply:
    """What a client saw."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Target(Protocol):
    """One server; files by name are those that the zoo's models wait for and make."""

    @property
    def address(self) -> tuple[str, int]: ...

    @property
    def log(self) -> str: ...

    def touch(self, name: str) -> None: ...

    def has(self, name: str) -> bool: ...

    def stop(self) -> int:
        """SIGTERM, as SageMaker sends it; the exit code."""


@dataclass
class ProcessTarget:
    """`serve` of this checkout."""

    server: Server

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.port

    @property
    def log(self) -> str:
        return str(self.server.log)

    def touch(self, name: str) -> None:
        self.server.let_go(name)

    def has(self, name: str) -> bool:
        return (self.server.root / name).exists()

    def stop(self) -> int:
        self.server.send_signal()
        return int(self.server.exit_code())


@dataclass
class ContainerTarget:
    """`docker run IMAGE serve`."""

    container: Container

    @property
    def address(self) -> tuple[str, int]:
        return self.container.address, PORT

    @property
    def log(self) -> str:
        return self.container.log

    def touch(self, name: str) -> None:
        self.container.execute("touch", f"/tmp/{name}")

    def has(self, name: str) -> bool:
        return self.container.has(f"/tmp/{name}")

    def stop(self) -> int:
        return self.container.stop(30)


@contextmanager
def started(
    kind: str, model: str, root: Path, *, image: str, run: str, **environ: str
) -> Iterator[Target]:
    """A server of kind `process` or `container` that serves one of the zoo's models."""
    if kind == "process":
        with Server(root, model, **environ) as server:
            yield ProcessTarget(server)
        return
    options = [f"--env={name}={value}" for name, value in {"ZOO": "/tmp", **environ}.items()]
    files: Mapping[str, bytes | Path] = {CODE: ZOO / "models" / model}
    container = Container.create(image, "serve", run=run, options=options, files=files)
    try:
        yield ContainerTarget(container.start())
        print(container.log)
    finally:
        container.remove()


def ask(
    target: Target,
    method: str,
    path: str,
    body: Body = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request on a connection of its own; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(*target.address, timeout=30)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    except ConnectionError:
        return Reply(0, http.client.HTTPMessage(), b"")
    finally:
        connection.close()


def wait_for_ping(target: Target, status: int) -> None:
    wait_until(lambda: ask(target, "GET", "/ping").status == status, f"/ping says {status}")
