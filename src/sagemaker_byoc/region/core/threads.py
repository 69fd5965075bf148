"""Threads of a service: for blocking calls, and for bodies that come from the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

from sagemaker_byoc.region.wire.http import Body

LOG = logging.getLogger(__name__)

BATCH = 1 << 20
"""Bytes that a thread gets at once; as many again may wait meanwhile."""
_COUNT = 8
_TOGETHER = 8
"""Short calls that one thread makes one after the other: the last waits for the others' disk."""
P = ParamSpec("P")
T = TypeVar("T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes event loops: uvloop's if it is installed, else asyncio's (None)."""
    try:
        import uvloop  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return the outcome of `work`; a cancellation takes effect only after its end."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            LOG.debug("after a cancellation", exc_info=task.exception())
        raise


_Short: TypeAlias = tuple["asyncio.Future[Any]", Callable[[], Any]]


_Outcome: TypeAlias = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _call_all(batch: list[_Short]) -> list[_Outcome]:
    """Call all whose callers still wait."""
    return [(outcome, *_called(call)) for outcome, call in batch if not outcome.cancelled()]


def _called(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except StopIteration as error:  # a future can't hold it
        return None, RuntimeError(repr(error))
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        return None, error


def _deliver(outcomes: list[_Outcome]) -> None:
    for outcome, value, error in outcomes:
        if outcome.done():  # the client has left
            continue
        if error is None:
            outcome.set_result(value)
        else:
            outcome.set_exception(error)


def _pass_on(batch: list[_Short], done: asyncio.Future[list[_Outcome]]) -> None:
    if done.cancelled():  # the threads ended before they came to it
        for outcome, _ in batch:
            outcome.cancel()
    else:
        _deliver(done.result())


class Threads:
    def __init__(self, name: str, count: int = _COUNT) -> None:
        self.executor = ThreadPoolExecutor(count, thread_name_prefix=f"byoc-{name}")
        self._short: list[_Short] = []

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, lambda: function(*args, **kwargs))

    async def run_short(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do as `run` does, in one thread for up to eight calls of the same turn of the event loop.

        Waking a thread and being woken by it takes as long as the read of a small file.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._short.append((outcome, lambda: function(*args, **kwargs)))
        if len(self._short) == 1:
            loop.call_soon(self._start_short, loop)
        return await outcome

    def _start_short(self, loop: asyncio.AbstractEventLoop) -> None:
        calls, self._short = self._short, []
        for start in range(0, len(calls), _TOGETHER):
            batch = calls[start : start + _TOGETHER]
            try:
                done = loop.run_in_executor(self.executor, _call_all, batch)
            except RuntimeError as error:  # the threads have ended, or no more can be started
                _deliver([(outcome, None, error) for outcome, _ in batch])
            else:
                done.add_done_callback(partial(_pass_on, batch))

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do as `run` does, and wait even if the caller is cancelled.

        What a thread has begun continues, and its containers and folders are in use until its end.
        """
        return await to_the_end(self.run(function, *args, **kwargs))

    async def pump(self, body: Body, feed: Callable[[list[bytes]], None]) -> list[bytes]:
        """Give the body to `feed` in batches, in a thread. Return the rest that is shorter than a
        batch, for the thread that does the next step.

        At most two batches are in memory. Raise what `feed` raises, and ConnectionError, when
        `feed` is not running any more.
        """
        batch: list[bytes] = []
        size = 0
        feeding: asyncio.Future[None] | None = None
        try:
            async for chunk in body:
                batch.append(chunk)
                size += len(chunk)
                if size >= BATCH:
                    if feeding is not None:
                        await feeding
                    loop = asyncio.get_running_loop()
                    feeding = loop.run_in_executor(self.executor, feed, batch)
                    batch, size = [], 0
            if feeding is not None:
                await feeding
        except BaseException:
            if feeding is not None and not feeding.done():
                await asyncio.wait([feeding])
            raise
        return batch

    def abandon(self) -> None:
        """End the threads that have no work; what still runs, such as a silent engine, may."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)
