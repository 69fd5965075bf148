"""A real docker-registry on loopback, and a way to it that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.images.containers import wait_until

_CHUNK = 2**16


@dataclass
class RealRegistry:
    host: str
    folder: Path

    @property
    def blobs(self) -> set[str]:
        """Digests of all that arrived whole."""
        found = self.folder.glob("docker/registry/v2/blobs/sha256/*/*/data")
        return {f"sha256:{path.parent.name}" for path in found}


@contextmanager
def docker_registry(folder: Path) -> Iterator[RealRegistry]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    folder.mkdir(parents=True)
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: '{host}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder}'}}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(host) or process.poll() is not None, "docker-registry")
        assert process.poll() is None, (folder / "log").read_text()
        yield RealRegistry(host, folder)
    finally:
        process.kill()
        process.wait(10)


def _answers(host: str) -> bool:
    name, _, port = host.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((name, int(port)), 1):
        return True
    return False


@dataclass
class Way:
    """Passes connections on to `target`. Of uploads after the first `whole` it passes on `tail`
    bytes and then nothing (`stall`), or hangs up, `cuts` times at most."""

    target: str
    whole: int = 10**9
    tail: int = 2**20
    stall: bool = False
    cuts: int = 10**9
    held: threading.Event = field(default_factory=threading.Event)
    """An upload is stuck in the middle."""
    host: str = ""
    _uploads: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: list[socket.socket] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[Way]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.host = f"127.0.0.1:{listener.getsockname()[1]}"
            thread = threading.Thread(target=self._accept, args=[listener])
            thread.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                self.hang_up()
                thread.join(10)

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            name, _, port = self.target.partition(":")
            server = socket.create_connection((name, int(port)), 10)
            with self._lock:
                self._open += [client, server]
            threading.Thread(target=self._forward, args=[client, server], daemon=True).start()
            threading.Thread(target=self._back, args=[server, client], daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        left: int | None = None
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                if left is None or data.startswith(b"PATCH "):
                    left = self._allowance(data)
                if len(data) > left:
                    self.held.set()
                    if self.stall:
                        return
                    break
                left -= len(data)
                server.sendall(data)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def _allowance(self, head: bytes) -> int:
        """Bytes that this connection may send until its next upload."""
        if not head.startswith(b"PATCH ") or b"/blobs/uploads/" not in head[:200]:
            return 10**15
        with self._lock:
            self._uploads += 1
            if self._uploads <= self.whole or self.cuts <= 0:
                return 10**15
            self.cuts -= 1
            return self.tail
