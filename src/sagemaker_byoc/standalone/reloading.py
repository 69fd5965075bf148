"""An endpoint that follows its files: each change starts a container beside the one that serves.

The new container receives the requests once it is healthy, and the old one finishes its own. A
container that does not become healthy is removed, and the old one continues to serve. While both
run, both models are in memory.

Changes are found by polling, which works on any file system. A TCP relay keeps the port while the
server behind it is replaced. It does not parse the traffic, so that streams and WebSockets work as
without it. A connection stays with its first server, which closes it when it has drained.
"""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.host import ignore
from sagemaker_byoc.host.ports import free_port
from sagemaker_byoc.region.engines.container import Engine, GivenUpError
from sagemaker_byoc.standalone.endpoint import (
    Endpoint,
    EndpointRequest,
    open_endpoint,
    require_free,
)

LOOK = 0.3
"""Seconds between two scans of the files."""
_SHOWN = 3
MOST = 20_000
"""Files that are watched, at most; a larger folder is watched in part."""
_OWN_WRITES = (".swp", "~")
"""Endings of files that an editor writes by itself."""
Snapshot = dict[str, tuple[int, int, int]]
_HOST = "127.0.0.1"
_CHUNK = 65_536
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Functions that receive events, from the thread that calls `follow`."""

    line: Callable[[str], None]
    """Each line of a container's log, from other threads."""
    say: Callable[[str], None]
    failed: Callable[[Exception], None]
    """A container that did not become healthy, or ended."""
    healthy: Callable[[str], None]
    """The URL, each time another container serves there."""


@dataclass(slots=True)
class Reloading:
    """`request.port` is the relay's; each container has another port."""

    request: EndpointRequest
    engine: Engine
    listeners: Listeners
    given_up: threading.Event
    hurried: threading.Event
    """Set to kill containers instead of stopping them."""
    _current: tuple[Endpoint, ExitStack] | None = None
    _number: int = 0
    _leaving: list[threading.Thread] = field(default_factory=list)

    def follow(self) -> None:
        """Serve until `given_up` is set. Raise ByocError if the port is taken."""
        require_free(self.request.port)
        watched = [self.request.model]
        watched += [] if self.request.program is None else [self.request.program]
        changes = Changes(watched)
        with Relay(self.request.port) as relay:
            try:
                self._start(relay)
                while not self.given_up.wait(LOOK):
                    if changed := changes.settled():
                        self._report_changes(changed)
                        self._start(relay)
                    self._check_current(relay)
            finally:
                self._leave()
                for thread in self._leaving:
                    thread.join()

    def _start(self, relay: Relay) -> None:
        stack, port = ExitStack(), free_port()
        self._number += 1
        request = replace(
            self.request,
            name=f"{self.request.name}-{self._number}",
            work=self.request.work.with_name(f"{self.request.work.name}-{self._number}"),
            port=port,
        )
        try:
            endpoint = stack.enter_context(
                open_endpoint(request, self.engine, self.listeners.line, self.given_up)
            )
        except GivenUpError:
            return
        except (ByocError, OSError) as error:
            if not self.given_up.is_set():
                self.listeners.failed(error)
                serving = "the previous one still serves" if self._current else "nothing serves"
                self.listeners.say(f"{serving}; waiting for a change")
            return
        relay.target = port
        self._leave()
        self._current = (endpoint, stack)
        self.listeners.healthy(f"http://127.0.0.1:{self.request.port}")

    def _check_current(self, relay: Relay) -> None:
        if self._current is None:
            return
        endpoint, stack = self._current
        code = endpoint.exit_code()
        if code is not None:
            relay.target = 0
            self._current = None
            stack.close()
            self.listeners.say(f"the container ended with exit code {code}; waiting for a change")

    def _leave(self) -> None:
        """Stop the current container in a thread: its requests may take half a minute."""
        if self._current is None:
            return
        endpoint, stack = self._current
        self._current = None

        def end() -> None:
            with stack:
                endpoint.stop(self.hurried)

        thread = threading.Thread(target=end)
        thread.start()
        self._leaving = [other for other in self._leaving if other.is_alive()] + [thread]

    def _report_changes(self, changed: list[str]) -> None:
        names = [_short(Path(name), self.request.program) for name in changed[:_SHOWN]]
        more = len(changed) - len(names)
        self.listeners.say(
            f"changed: {', '.join(names)}{f' and {more} more' if more else ''}; starting again"
        )


def _short(path: Path, folder: Path | None) -> str:
    return str(path.relative_to(folder)) if folder and path.is_relative_to(folder) else path.name


class Changes:
    """Reports changes once they have settled: two scans in a row find the same files."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._places = [*places]
        self._reported = self._last = self._look()

    def settled(self) -> list[str]:
        """Return the names of files that were changed, added or removed since the last report."""
        before, self._last = self._last, self._look()
        if self._last != before or self._last == self._reported:
            return []
        differing = self._last.items() ^ self._reported.items()
        self._reported = self._last
        return sorted({name for name, _ in differing})

    def _look(self) -> Snapshot:
        found: Snapshot = {}
        for path in self._watched():
            with suppress(OSError):  # removed meanwhile
                status = path.stat()
                if not stat.S_ISDIR(status.st_mode):
                    found[str(path)] = (status.st_mtime_ns, status.st_size, status.st_ino)
            if len(found) == MOST:
                break
        return found

    def _watched(self) -> Iterator[Path]:
        for place in self._places:
            if place.is_dir():
                below = ignore.walk(place, ignore.litter())
                yield from (path for name, path in below if not name.endswith(_OWN_WRITES))
            else:
                yield place


class Relay:
    """A context manager. `target` is the port for new connections, 0 to refuse them."""

    def __init__(self, port: int) -> None:
        self.target = 0
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._connections: set[asyncio.Task[None]] = set()
        """The event loop itself keeps only weak references to tasks."""

    def __enter__(self) -> Self:
        """Raise OSError if the port is taken."""
        self._thread.start()
        self._started.wait(_START_SECONDS)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # it could not start
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, _HOST, self._port, limit=_CHUNK)
        self._started.set()
        try:
            await self._ended.wait()
        finally:
            server.close()
            # Let sockets that are being accepted become connections.
            await asyncio.sleep(0)
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await asyncio.sleep(0)  # transports close in the loop's next turn

    def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, client))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(
        self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        server: asyncio.StreamWriter | None = None
        try:
            with suppress(OSError):
                server_reader, server = await asyncio.open_connection(
                    _HOST, self.target, limit=_CHUNK
                )
                sending = asyncio.create_task(_pump(client_reader, server))
                try:
                    await _pump(server_reader, client)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        finally:
            for writer in filter(None, (client, server)):
                writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy what arrives, and then its end."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
