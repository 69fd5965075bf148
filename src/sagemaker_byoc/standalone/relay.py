"""A TCP relay: one port that stays, in front of a server that is replaced.

It does not look into what passes, so that streams and WebSockets work as without it. A connection
stays with the server it began with; that one closes it when it has drained.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self

_HOST = "127.0.0.1"
_CHUNK = 65_536
_START_SECONDS = 10.0


class Relay:
    """A context; `target` is the port of the server for new connections, 0 to refuse them."""

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
            # First those that are being accepted become connections.
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
    """Pass on what arrives, and then its end."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
