"""Long polls: which client asks, and Describe answers that are held until they have news for it."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")
"""An id of the client's connection; empty if the request did not come over the wire."""

WAITS: ContextVar[bool] = ContextVar("WAITS", default=False)
"""Whether a waiter of botocore asks: it ignores everything before the end, and sleeps 30 to 120 s
between two requests. So it is answered when the end has come."""

SDK: ContextVar[bool] = ContextVar("SDK", default=False)
"""Whether a SageMaker SDK (2 or 3) asks: it sleeps 5 or 30 s between two requests."""

FOLLOWS: ContextVar[bool] = ContextVar("FOLLOWS", default=False)
"""Whether the client shows each change when it happens, as `byoc launch --wait` does."""

FOLLOWER = "lib/sagemaker-byoc"
"""The word in the user agent of a client that follows."""

WAITER_SECONDS = 50.0
"""A waiter's request may be held; botocore gives an answer 60."""

FIRST_LOOKS = ((4.0, 12.0), (29.0, 36.0))
"""Seconds between a change that an SDK asked for and the first look of its wait. SDK 2, and the
ModelBuilder of SDK 3, sleep 5 s (jobs), 10 or 30 s (endpoints) before it. Any other look is not
that of a wait, and is answered at once."""

REMEMBERED = 4096
"""Looks that are remembered, of all clients; a client gets an early answer for a forgotten one."""

MOST_HELD = 512
"""Answers that are held at the same time; further ones are given at once."""

_WAITER = re.compile(r"(?:^|\s)m/(?:[^\s,]+,)*B(?:,|\s|$)")
_SDKS = ("lib/AWS-SageMaker-Python-SDK#", "lib/AWS-SageMakerCore#")
"""What SDK 2 and the resource classes of SDK 3 append to the agent (their user_agent.py)."""


def is_waiter(user_agent: str) -> bool:
    """Return whether botocore lists B (WAITER) among its features, `m/Z,b,B` (useragent.py)."""
    return _WAITER.search(user_agent) is not None


def is_sdk(user_agent: str) -> bool:
    """Return whether a SageMaker SDK asks."""
    return any(word in user_agent for word in _SDKS)


Document: TypeAlias = dict[str, Any]
Look: TypeAlias = tuple[str, ...]
Read: TypeAlias = Callable[[], Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a client that waits for one kind of resource sees of it.

    Times are in seconds. Clients wait 60 s for an answer, some 30.
    """

    look: Callable[[Document], Look]
    """Return the part of a document whose change is news."""
    has_ended: Callable[[Document], bool]
    """Return whether the document will not change any more by itself."""
    hold: float
    """Longest time that an answer without news is held; some clients do other things between two
    polls."""
    settle: float = 0.0
    """Longest time that news are held because the end may follow soon; not for a client that
    follows."""
    sdk_first: float
    """Longest time that the first look of an SDK's wait is held until the end: see FIRST_LOOKS."""
    sdk_hold: float
    """Longest time that a later look of an SDK is held without news. While it is held, SDK 2 and 3
    show no lines of the job's log."""


class Holds:
    """What the watches of a region share: a bound for held answers, and their release."""

    def __init__(self) -> None:
        self.count = 0
        self.is_released = False
        self._watches: list[Watch] = []

    def watch(self, subject: Subject) -> Watch:
        """Make the watch of one kind of resource."""
        watch = Watch(subject, self)
        self._watches.append(watch)
        return watch

    def release(self) -> None:
        """Give all held answers as they are, and hold no more: the region is ending."""
        self.is_released = True
        for watch in self._watches:
            watch.wake_all()


class Watch:
    """Hold the answers for one kind of resource.

    Only `announce` and `expect` may be called from any thread.
    """

    def __init__(self, subject: Subject, holds: Holds) -> None:
        self.subject = subject
        self._holds = holds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looks: OrderedDict[tuple[str, str], Look] = OrderedDict()
        self._asked: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def announce(self, name: str) -> None:
        """Wake the requests that wait for a change of `name`."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._wake, name)

    def expect(self, name: str) -> None:
        """Note that the client of this request asked for a change of `name`: it may wait for it."""
        client = CLIENT.get()
        if self._loop is not None and client and SDK.get():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._expect, client, name)

    async def see(self, name: str, read: Read) -> Document:
        """Return the document: at once on a client's first look, later when it has changed.

        A waiter of botocore, and the wait of an SDK for a change that it asked for, are answered
        when no change will follow. A client without a name is never held. `read` may raise; so
        does this.
        """
        client, document = CLIENT.get(), read()
        if WAITS.get():
            document = await self._hold(name, document, read, WAITER_SECONDS)
        elif client and (former := self._looks.get((client, name))) is not None:
            seconds = self.subject.sdk_hold if SDK.get() else self.subject.hold
            document = await self._hold(name, document, read, seconds, former)
            if not FOLLOWS.get():
                document = await self._hold(name, document, read, self.subject.settle)
        elif client and SDK.get() and self._is_wait(client, name):
            document = await self._hold(name, document, read, self.subject.sdk_first)
        if client:
            _remember(self._looks, (client, name), self.subject.look(document))
        return document

    async def _hold(
        self, name: str, document: Document, read: Read, seconds: float, former: Look | None = None
    ) -> Document:
        """Return the document once it has ended or, given the `former` look, has changed.

        Return it as it is after `seconds`, or if too many answers are held.
        """
        subject, loop, holds = self.subject, self._loop, self._holds
        assert loop is not None
        if holds.count >= MOST_HELD:
            return document
        deadline = loop.time() + seconds
        holds.count += 1
        try:
            while not subject.has_ended(document) and former in (None, subject.look(document)):
                left = deadline - loop.time()
                if left <= 0 or holds.is_released:
                    break
                await self._change(name, left)
                document = read()
        finally:
            holds.count -= 1
        return document

    async def _change(self, name: str, seconds: float) -> None:
        """Wait until `name` is announced, at most `seconds`."""
        assert self._loop is not None
        change: asyncio.Future[None] = self._loop.create_future()
        self._waiting[name].add(change)
        try:
            with suppress(TimeoutError):
                # Not wait_for, which loses a cancellation that comes together with the change.
                async with asyncio.timeout(seconds):
                    await change
        finally:
            self._waiting[name].discard(change)
            if not self._waiting[name]:
                del self._waiting[name]

    def _wake(self, name: str) -> None:
        for change in self._waiting.get(name, ()):
            if not change.done():
                change.set_result(None)

    def wake_all(self) -> None:
        for name in self._waiting:
            self._wake(name)

    def _expect(self, client: str, name: str) -> None:
        assert self._loop is not None
        self._looks.pop((client, name), None)
        _remember(self._asked, (client, name), self._loop.time())

    def _is_wait(self, client: str, name: str) -> bool:
        asked = self._asked.get((client, name))
        if asked is None or self._loop is None:
            return False
        passed = self._loop.time() - asked
        return any(earliest <= passed <= latest for earliest, latest in FIRST_LOOKS)


def _remember(places: OrderedDict[K, V], key: K, value: V) -> None:
    places[key] = value
    places.move_to_end(key)
    if len(places) > REMEMBERED:
        places.popitem(last=False)
