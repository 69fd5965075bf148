"""A container's streamed answer as an event stream, to its end or to what broke it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Self

from sagemaker_byoc.region.services.sagemaker_runtime import eventstream
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.errors import (
    OverdueError,
    UpstreamError,
)
from sagemaker_byoc.region.services.sagemaker_runtime.upstream.reply import Reply

FAULT = "ModelStreamError"


class EventStream:
    """Frames. `on_end` is called once, also where the caller goes away before the first frame."""

    def __init__(self, reply: Reply, on_end: Callable[[], None]) -> None:
        self._reply = reply
        self._chunks: AsyncIterator[bytes] = aiter(reply)
        self._on_end: Callable[[], None] | None = on_end
        self._failed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise StopAsyncIteration
        try:
            return eventstream.part(await anext(self._chunks))
        except StopAsyncIteration:
            self._end()
            raise
        except OverdueError as error:
            return self._fail("ModelInvocationTimeExceeded", error)
        except UpstreamError as error:
            return self._fail("StreamBroken", error)

    async def aclose(self) -> None:
        self._reply.close()
        self._end()

    def __del__(self) -> None:
        # A server that was cancelled before it asked for the first frame closes nothing.
        self._end()

    def _fail(self, code: str, error: UpstreamError) -> bytes:
        self._failed = True
        self._end()
        text = f"The stream of the model's answer has broken: {error}"
        return eventstream.exception(FAULT, text, code)

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
