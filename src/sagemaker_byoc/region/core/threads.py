"""Threads of a service: for blocking calls, and for bodies that come from the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from sagemaker_byoc.region.wire.http import Body

LOG = logging.getLogger(__name__)

BATCH = 1 << 20
"""Bytes that a thread gets at once; as many again may wait meanwhile."""
_COUNT = 8
P = ParamSpec("P")
T = TypeVar("T")


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


class Threads:
    def __init__(self, name: str, count: int = _COUNT) -> None:
        self.executor = ThreadPoolExecutor(count, thread_name_prefix=f"byoc-{name}")

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, lambda: function(*args, **kwargs))

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
