"""The connections to one container, kept alive between requests."""

from __future__ import annotations

import asyncio

from sagemaker_byoc.region.services.sagemaker_runtime.upstream.connection import Connection
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.errors import (
    BrokenError,
    BusyError,
    OverdueError,
    UnreachableError,
)
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.reply import Reply

CONNECTIONS = 512
"""One container's share; a real endpoint refuses long before."""
CONNECT_SECONDS = 2.0
"""The contract says 0.25 s; a laptop under load is given more, as it is no fault of the image."""


class Pool:
    """Requests to one address. Made and used on one event loop."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, limit: int = CONNECTIONS) -> None:
        self.port = port
        self._host = host
        self._limit = limit
        self._free: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._closed = False

    def __len__(self) -> int:
        """Connections that are open."""
        return len(self._open)

    async def request(
        self, head: bytes, body: bytes = b"", *, timeout: float, expects_body: bool = True
    ) -> Reply:
        """The answer, its head arrived; all of it is there in `timeout` seconds from now, or it
        fails. Sent a second time only where a kept connection turns out to have been closed
        before a byte came back, as a server may do at any time between two requests.
        Raises UpstreamError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        connection = self._kept()
        kept = connection is not None
        while True:
            if connection is None:
                connection = await self._connect(min(timeout, CONNECT_SECONDS))
            left = deadline - loop.time()
            if left <= 0:
                connection.close()
                raise OverdueError(f"no whole answer in {timeout:.0f} s")
            reply = connection.send(head, body, timeout=left, expects_body=expects_body)
            try:
                await reply.head()
            except BrokenError:
                if not kept or connection.touched:
                    raise
                connection, kept = None, False
            except asyncio.CancelledError:
                reply.close()
                raise
            else:
                return reply

    def close(self) -> None:
        """End all connections; requests under way fail, later ones are refused."""
        self._closed = True
        for connection in [*self._open]:
            connection.close()
        self._free.clear()

    def _kept(self) -> Connection | None:
        # The one used last is the one that the server is least likely to have given up.
        while self._free:
            connection = self._free.pop()
            if not connection.lost:
                return connection
        return None

    async def _connect(self, timeout: float) -> Connection:
        if self._closed:
            raise UnreachableError("the container is being stopped")
        if len(self._open) + self._opening >= self._limit:
            raise BusyError(f"{self._limit} requests are under way already")
        loop = asyncio.get_running_loop()
        self._opening += 1
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._on_free, self._on_lost), self._host, self.port
                )
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"no connection to port {self.port}: {error}") from error
        finally:
            self._opening -= 1
        if connection.lost:
            raise BrokenError("the connection ended before a request could be sent")
        self._open.add(connection)
        return connection

    def _on_free(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._free.append(connection)

    def _on_lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
