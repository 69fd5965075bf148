"""One event loop on a thread of its own, for coroutines and ASGI applications of the user's.

It runs as long as the worker does, so that what a coroutine leaves behind (connections, tasks) is
still there for the next request.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from sagemaker_byoc.serving import log


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """The loop; its thread starts with the first use."""
    found = asyncio.new_event_loop()
    threading.Thread(target=_run_forever, args=(found,), name="coroutines", daemon=True).start()
    return found


def _run_forever(own: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(own)
    while True:
        try:
            own.run_forever()
        except BaseException as error:  # noqa: BLE001 - a task that calls sys.exit ends the loop
            log.say("".join(traceback.format_exception(error)))


def run(awaitable: Awaitable[Any]) -> Any:
    """Wait for the result; raise what it raises, SystemExit too."""
    value, error = asyncio.run_coroutine_threadsafe(_outcome(awaitable), loop()).result()
    if error is not None:
        raise error
    return value


async def _outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - it is raised again on the caller's thread
        return None, error


def iterate(items: AsyncIterator[Any]) -> Iterator[Any]:
    """The items of an asynchronous generator, as a generator."""
    try:
        while True:
            try:
                yield run(items.__anext__())
            except StopAsyncIteration:
                return
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            run(close())


def settled(result: object) -> object:
    """What a handler returned, once it is there: it may have been written with `async def`."""
    if inspect.isawaitable(result):
        return run(result)
    return iterate(result) if isinstance(result, AsyncIterator) else result
