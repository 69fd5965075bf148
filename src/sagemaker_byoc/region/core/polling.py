"""Long polls: which client asks, and Describe answers that are held until they have news for it."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")
"""An id of the client's connection; empty if the request did not come over the wire."""

WAITS: ContextVar[bool] = ContextVar("WAITS", default=False)
"""Whether a waiter of botocore asks: it ignores everything before the end, and sleeps 30 to 120 s
between two requests. So it is answered when the end has come."""

SDK: ContextVar[bool] = ContextVar("SDK", default=False)
"""Whether the client of a SageMaker SDK (2 or 3) asks."""

FOLLOWS: ContextVar[bool] = ContextVar("FOLLOWS", default=False)
"""Whether the client shows each change when it happens, as `byoc launch --wait` does."""

FOLLOWER = "lib/sagemaker-byoc"
"""The word in the user agent of a client that follows."""

WAITER_SECONDS = 50.0
"""A waiter's request may be held; botocore gives an answer 60."""

_WAITER = re.compile(r"(?:^|\s)m/(?:[^\s,]+,)*B(?:,|\s|$)")


def is_waiter(user_agent: str) -> bool:
    """Return whether botocore lists B (WAITER) among its features, `m/Z,b,B` (useragent.py)."""
    return _WAITER.search(user_agent) is not None


def is_sdk(user_agent: str) -> bool:
    """Return whether a SageMaker SDK asks: both append this to the agent (their user_agent.py)."""
    return "lib/AWS-SageMaker-Python-SDK#" in user_agent


REMEMBERED = 4096
"""Looks that are remembered, of all clients; a client gets an early answer for a forgotten one."""

Document: TypeAlias = dict[str, Any]
Look: TypeAlias = tuple[str, ...]
Read: TypeAlias = Callable[[], Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a client that waits for one kind of resource sees of it."""

    look: Callable[[Document], Look]
    """Return the part of a document whose change is news."""
    has_ended: Callable[[Document], bool]
    """Return whether the document will not change any more by itself."""
    hold: float
    """Longest time in seconds that an answer without news is held. Clients wait 60 s for an answer,
    some 30, and some do other things between two polls."""
    settle: float = 0.0
    """Longest time in seconds that news are held because the end may follow soon; not for a client
    that follows."""


class Watch:
    """Hold the answers for one kind of resource. Only `announce` may be called from any thread."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looks: OrderedDict[tuple[str, str], Look] = OrderedDict()
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def announce(self, name: str) -> None:
        """Wake the requests that wait for a change of `name`."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._wake, name)

    async def see(self, name: str, read: Read, *, waits: bool = False) -> Document:
        """Return the document: at once on a client's first look, later when it has changed.

        A waiter of botocore, and a client that `waits` as one does, is answered when no change
        will follow. A client without a name is never held. `read` may raise; so does this.
        """
        client, document = CLIENT.get(), read()
        if WAITS.get() or waits:
            document = await self._end(name, document, read, WAITER_SECONDS)
        elif client and (former := self._looks.get((client, name))) is not None:
            if former == self.subject.look(document):
                document = await self._next(name, document, read, self.subject.hold)
            if not FOLLOWS.get():
                document = await self._end(name, document, read, self.subject.settle)
        if client:
            self._remember(client, name, document)
        return document

    def _remember(self, client: str, name: str, document: Document) -> None:
        self._looks[client, name] = self.subject.look(document)
        self._looks.move_to_end((client, name))
        if len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)

    async def _end(self, name: str, document: Document, read: Read, seconds: float) -> Document:
        """Return the document once it has ended, or as it is after `seconds`."""
        assert self._loop is not None
        deadline = self._loop.time() + seconds
        while not self.subject.has_ended(document):
            left = deadline - self._loop.time()
            if left <= 0:
                break
            document = await self._next(name, document, read, left)
        return document

    async def _next(self, name: str, document: Document, read: Read, seconds: float) -> Document:
        """Return the document once it looks different or has ended, or after `seconds`."""
        assert self._loop is not None
        before = self.subject.look(document)
        deadline = self._loop.time() + seconds
        while not self.subject.has_ended(document) and self.subject.look(document) == before:
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
