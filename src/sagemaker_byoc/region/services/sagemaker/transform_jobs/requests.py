"""Requests of a job to the containers of an instance: heads, retries, messages of failures.

Source of the messages: logs of failed jobs that users have published (sagemaker-python-sdk#1882,
#1951, amazon-sagemaker-examples#2855). SageMaker does not document which requests it retries. Here
a client error is final, because the same request would get it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.containers.http_reply import (
    BodyError,
    OverdueError,
    OversizeError,
    Reply,
    UpstreamError,
)

T = TypeVar("T")

ANSWER_LIMIT = 100 << 20
"""Most bytes of an answer; it is held in memory until those before it are stored."""
_MESSAGE_LIMIT = 2048
"""Bytes of a container's error that are kept."""
_DELAYS = (0.1, 0.5, 2.0)
"""Seconds before each retry."""
_AGAIN = frozenset({408, 429})
"""Client errors after which the same request may succeed."""
_BINARY = "application/octet-stream"


class Side(StrEnum):
    """The first word of a FailureReason."""

    CLIENT = "ClientError"
    ALGORITHM = "AlgorithmError"
    INTERNAL = "InternalServerError"


class TransformError(Exception):
    """The reason why one object has no output; `lines` are those of the job's data log."""

    def __init__(self, side: Side, *lines: str, is_final: bool = True) -> None:
        self.side = side
        self.lines = lines
        self.is_final = is_final
        """Whether the same request would fail again."""
        super().__init__(" ".join(line for line in lines if line))


class Target(Protocol):
    """An instance, whose containers are replaced when they end."""

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The containers in their order."""
        ...

    def suspect(self) -> None:
        """Have the instance checked: a request has failed."""
        ...

    async def until_healthy(self) -> bool:
        """Wait until requests may be sent; return False if the instance is given up."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    target: Target
    content_type: str | None
    accept: str | None
    seconds: float
    """Time for one invocation, and for a replaced instance to become healthy."""
    retries: int

    async def ask(self, body: bytes) -> bytes:
        """Return the answer to a body. Raise TransformError after the last attempt."""
        return await self.attempt(lambda: self._once(body))

    async def attempt(self, once: Callable[[], Awaitable[T]]) -> T:
        """Return the outcome of the first attempt without a TransformError, or raise the last."""
        for number in range(self.retries + 1):
            try:
                async with asyncio.timeout(self.seconds):
                    is_healthy = await self.target.until_healthy()
            except TimeoutError:
                is_healthy = False
            if not is_healthy:
                raise _no_answer("the instance has no healthy container")
            try:
                return await once()
            except TransformError as error:
                if error.is_final:
                    raise
                self.target.suspect()  # its next request waits until /ping is answered
                if number == self.retries:
                    raise
            await asyncio.sleep(_DELAYS[min(number, len(_DELAYS) - 1)])
        raise AssertionError("no attempt")

    async def stream(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the answer to a body of any length, which is sent once, in chunks.

        Raise TransformError, or what `body` raises.
        """
        found, content_type = body, self.content_type
        try:
            for pool in self.target.pools.values():
                head = self._head(content_type, "transfer-encoding: chunked")
                found = await pool.stream(head, found, timeout=self.seconds)
                await _check(found)
                content_type = found.header(b"content-type") or _BINARY
            async for chunk in found:
                yield chunk
        except BodyError as error:
            if isinstance(error.error, UpstreamError):  # the answer of the container before
                raise self._failure(error.error) from error
            raise error.error from error
        except UpstreamError as error:
            raise self._failure(error) from error

    async def _once(self, body: bytes) -> bytes:
        content_type = self.content_type
        try:
            for pool in self.target.pools.values():
                head = self._head(content_type, f"content-length: {len(body)}")
                reply = await pool.request(head, body, timeout=self.seconds)
                await _check(reply)
                body = await reply.read(ANSWER_LIMIT)
                content_type = reply.header(b"content-type") or _BINARY
        except UpstreamError as error:
            raise self._failure(error) from error
        return body

    def _head(self, content_type: str | None, length: str) -> bytes:
        lines = ["POST /invocations HTTP/1.1", "host: model", length]
        if content_type is not None:
            lines.append(f"content-type: {content_type}")
        if self.accept is not None:
            lines.append(f"accept: {self.accept}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _failure(self, error: UpstreamError) -> TransformError:
        if isinstance(error, OversizeError):
            return TransformError(
                Side.ALGORITHM, f"The model's answer is too long: over {ANSWER_LIMIT >> 20} MB"
            )
        if isinstance(error, OverdueError):
            return TransformError(
                Side.ALGORITHM,
                "Model server did not respond to /invocations request within "
                f"{self.seconds:.0f} seconds",
                is_final=False,
            )
        return _no_answer(str(error))


def _no_answer(why: str) -> TransformError:
    return TransformError(
        Side.ALGORITHM, f"Unable to get response from algorithm: {why}", is_final=False
    )


async def _check(reply: Reply) -> None:
    """Raise TransformError for an answer that is an error, UpstreamError if it has no end."""
    if 200 <= reply.status < 300:
        return
    text = (await _start(reply)).decode("utf-8", "replace")
    if reply.status < 500:
        raise TransformError(
            Side.CLIENT,
            f"ClientError: {reply.status}",
            "",
            "Message:",
            *text.splitlines(),
            is_final=reply.status not in _AGAIN,
        )
    raise TransformError(
        Side.ALGORITHM,
        f"Bad HTTP status received from algorithm: {reply.status}",
        *text.splitlines(),
        is_final=False,
    )


async def _start(reply: Reply) -> bytes:
    """Return the first bytes of an error's body."""
    data = b""
    async for chunk in reply:
        data += chunk
        if len(data) >= _MESSAGE_LIMIT:
            reply.close()
            break
    return data[:_MESSAGE_LIMIT]
