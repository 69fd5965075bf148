"""One event loop in its own thread, for the user's coroutines and ASGI applications.

It runs as long as the worker does, so that what a coroutine leaves behind (connections, tasks) is
still there for the next request.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator
from types import GeneratorType
from typing import Any

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.worker.code import guard


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the loop; its thread starts with the first use."""
    found = asyncio.new_event_loop()
    os.register_at_fork(after_in_child=functools.partial(_end_copy, found))
    threading.Thread(target=_run_forever, args=(found,), name="coroutines", daemon=True).start()
    return found


def _end_copy(own: asyncio.AbstractEventLoop) -> None:
    """End a copy of the loop's thread before it shares the selector, and before it handles what is
    ready, which may be to take the bytes that wake the parent's loop."""
    own.call_soon(guard.check)
    getattr(own, "_ready", deque[object]()).rotate(1)


def _run_forever(own: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(own)
    while not own.is_closed():
        try:
            own.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:  # of a task, which has ended with it
            log.say(f"raised by a task: {guard.failure_of(error).explained}")
        except OSError:  # of its selector
            guard.end_cut_off()


def run(awaitable: Awaitable[Any]) -> Any:
    """Run a coroutine and return its result; raise what it raises, SystemExit too."""
    guard.check()  # a copy of the process has no loop that runs
    found = asyncio.run_coroutine_threadsafe(guard.outcome_of(lambda: awaitable), loop())
    try:
        value, error = found.result()
    finally:
        found.cancel()  # a signal handler may have raised here; nobody waits any longer
    if error is not None:
        raise error
    return value


def iterate(items: AsyncIterator[Any]) -> Iterator[Any]:
    """Yield the items of an asynchronous generator."""
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
    """Return a handler's result, awaited if the handler is an `async def`."""
    kind = type(result)
    if hasattr(kind, "__await__") or kind is GeneratorType:
        return run(result) if inspect.isawaitable(result) else result
    return iterate(result) if isinstance(result, AsyncIterator) else result
