"""Describe as a long poll: an answer is held back while it would say nothing new to its client."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress

from sagemaker_byoc.local.caller import WAITER_SECONDS, WAITS
from sagemaker_byoc.local.jobs.record import Document, Status

HOLD = 5.0
"""Seconds at most. Clients give an answer 60, and some do other things between two polls."""
SETTLE = 2.0
"""Seconds at most that news of a running job are held, since the job may end meanwhile: SDK 3
sleeps 5 s after each answer that says that a job runs, however short that job is."""
REMEMBERED = 4096
"""Looks, of all clients together; a forgotten one costs its client an early answer."""

Look = tuple[str, str, str]


def look_at(document: Document) -> Look:
    """What a client that waits is waiting for a change of."""
    last = document["SecondaryStatusTransitions"][-1]
    return (document["TrainingJobStatus"], last["Status"], last["StatusMessage"])


class Watch:
    """All but `announce` on the event loop's thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looks: OrderedDict[tuple[str, str], Look] = OrderedDict()
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def announce(self, name: str) -> None:
        """From any thread: the job called `name` has changed."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._wake, name)

    async def see(self, client: str, name: str, read: Callable[[], Document]) -> Document:
        """The document: at once where `client` asks for the first time, else when it has changed.

        A client without a name gets it at once. `read` may raise; so does this.
        """
        document = read()
        if WAITS.get():  # a waiter of botocore sleeps two minutes if the job has not ended
            document = await self._end(name, document, read, WAITER_SECONDS)
        elif client and (former := self._looks.get((client, name))) is not None:
            if former == look_at(document):
                document = await self._next(name, document, read, HOLD)
            document = await self._end(name, document, read, SETTLE)
        if client:
            self._looks[client, name] = look_at(document)
            self._looks.move_to_end((client, name))
            if len(self._looks) > REMEMBERED:
                self._looks.popitem(last=False)
        return document

    async def _end(
        self, name: str, document: Document, read: Callable[[], Document], seconds: float
    ) -> Document:
        """Of a job that has ended, or as it is by then."""
        assert self._loop is not None
        deadline = self._loop.time() + seconds
        while not Status(document["TrainingJobStatus"]).has_ended:
            left = deadline - self._loop.time()
            if left <= 0:
                break
            document = await self._next(name, document, read, left)
        return document

    async def _next(
        self, name: str, document: Document, read: Callable[[], Document], seconds: float
    ) -> Document:
        assert self._loop is not None
        before = look_at(document)
        deadline = self._loop.time() + seconds
        while not Status(document["TrainingJobStatus"]).has_ended and look_at(document) == before:
            change: asyncio.Future[None] = self._loop.create_future()
            self._waiting[name].add(change)
            try:
                await asyncio.wait_for(change, deadline - self._loop.time())
            except TimeoutError:
                return read()
            finally:
                self._waiting[name].discard(change)
                if not self._waiting[name]:
                    del self._waiting[name]
            document = read()
        return document

    def _wake(self, name: str) -> None:
        for change in self._waiting.get(name, ()):
            if not change.done():
                change.set_result(None)
