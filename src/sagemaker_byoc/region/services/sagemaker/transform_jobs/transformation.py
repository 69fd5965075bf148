"""Transformation of objects: read them, send them in batches, store the answers in order.

An instance gets at most `Effective.concurrent` requests at a time, for one object or for several.
The output of an object appears when it is complete. If an object fails, it has no output, and the
job transforms the others.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, TypeAlias

from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.writers import Writer
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import DownloadError, Item
from sagemaker_byoc.region.services.sagemaker.transform_jobs import splitting
from sagemaker_byoc.region.services.sagemaker.transform_jobs.data_processing import (
    AnswerError,
    Processing,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.requests import (
    Sender,
    Side,
    TransformError,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.splitting import (
    Batch,
    Lines,
    RecordError,
    Split,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    MOST_MEGABYTES,
    Strategy,
    TransformPlan,
)
from sagemaker_byoc.region.wire.operations import AwsError

_TOGETHER = 256 << 10
"""Least bytes that a thread reads or writes at a time: switching threads takes as long."""
_MOST_TOGETHER = 64
"""Most batches that are read at a time."""
_AHEAD = 2
"""Batches of an instance that are sent or wait for an earlier answer, per concurrent request."""
_MOST_WAITING = 100 << 20
"""Bytes of waiting answers above which an object sends nothing until its oldest is written."""
_MOST_KEPT = 512
"""Most answers that are written at a time."""
LISTED = 10
"""Failures that are kept for the job's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The limits of a job, after its container was asked for its own."""

    concurrent: int
    megabytes: int
    """0 sends an object as one request, in chunks."""
    strategy: Strategy

    @property
    def bytes(self) -> int:
        """The largest body that is held in memory."""
        return (self.megabytes or MOST_MEGABYTES // self.concurrent) * splitting.MEGABYTE


@dataclass(slots=True)
class ObjectResults:
    """The objects that are stored, and those that failed."""

    stored: list[Item] = field(default_factory=list)
    failed: int = 0
    first: list[tuple[Item, TransformError]] = field(default_factory=list)
    """The first failures, at most LISTED."""

    def fail(self, item: Item, error: TransformError) -> None:
        self.failed += 1
        if len(self.first) < LISTED:
            self.first.append((item, error))

    @property
    def reason(self) -> str:
        """Return the FailureReason: SageMaker's sentence, then the first failed objects."""
        side = self.first[0][1].side
        found = [f"{item.bucket}/{item.key}: {error}" for item, error in self.first]
        more = self.failed - len(found)
        if more:
            found.append(f"and {more} more object(s)")
        return "\n".join([f"{side.value}: See job logs for more information", *found])


Records: TypeAlias = Collection[bytes]
"""The records that an answer is for, if the job processes them."""
OnFailure: TypeAlias = Callable[[Item, TransformError], None]


@dataclass(slots=True, kw_only=True)
class Transformation:
    """The work of one instance; `on_failure` is called once for each object that fails."""

    plan: TransformPlan
    processing: Processing | None
    limits: Effective
    sender: Sender
    store: ObjectStore
    threads: Threads
    results: ObjectResults
    on_failure: OnFailure
    _slots: asyncio.Semaphore = field(init=False)
    _objects: int = field(init=False, default=0)
    """Number of objects under way."""
    _waiting: int = field(init=False, default=0)
    """Bytes of the answers that wait for an earlier one."""

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.limits.concurrent)

    @property
    def _is_stream(self) -> bool:
        is_whole = self.plan.split is Split.NONE or self.limits.strategy is Strategy.MULTI
        return self.limits.megabytes == 0 and is_whole and self.processing is None

    async def run(self, items: Sequence[Item]) -> None:
        """Transform the objects in order. A cancellation leaves no unfinished output."""
        waiting = iter(items)
        self._objects = min(self.limits.concurrent, len(items))
        async with asyncio.TaskGroup() as group:
            for _ in range(self._objects):
                group.create_task(self._take(waiting))

    async def _take(self, items: Iterator[Item]) -> None:
        for item in items:
            try:
                await self._transform(item)
            except TransformError as error:
                self.results.fail(item, error)
                await self.threads.run(self.on_failure, item, error)
            else:
                self.results.stored.append(item)
        self._objects -= 1

    async def _transform(self, item: Item) -> None:
        """Raise TransformError."""
        try:
            if self._is_stream:
                await self.sender.attempt(lambda: self._stream(item))
            else:
                await self._send_batches(item)
        except (RecordError, DownloadError) as error:
            raise TransformError(Side.CLIENT, str(error)) from error
        except AnswerError as error:
            raise TransformError(Side.ALGORITHM, str(error)) from error
        except AwsError as error:  # the object or the bucket does not exist any more
            raise TransformError(Side.CLIENT, error.message) from error
        except OSError as error:
            raise TransformError(Side.INTERNAL, str(error)) from error

    # ── batches ──

    async def _send_batches(self, item: Item) -> None:
        finish = self.threads.finish
        transfer = await finish(_Transfer.open, self, item)
        # Without the bodies, which end with their requests.
        pending: deque[tuple[Records, asyncio.Task[bytes]]] = deque()
        try:
            while found := await finish(transfer.read):
                for batch in found:
                    while pending and (pending[0][1].done() or self._is_full_with(len(pending))):
                        await self._keep(transfer, *pending.popleft())
                    await self._slots.acquire()
                    pending.append((batch.records, self._start(batch)))
            while pending:
                await self._keep(transfer, *pending.popleft())
            await finish(transfer.commit)
        finally:
            for _, task in pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)
            self._waiting -= sum(_size(task) for _, task in pending)
            await finish(transfer.close)

    def _is_full_with(self, pending: int) -> bool:
        """Return whether an object with so many `pending` requests must wait for its oldest."""
        share = _AHEAD * self.limits.concurrent // self._objects
        return pending >= share or self._waiting >= _MOST_WAITING

    async def _keep(self, transfer: _Transfer, of: Records, answer: asyncio.Task[bytes]) -> None:
        try:
            is_full = transfer.is_full_with(of, await answer)
        finally:
            self._waiting -= _size(answer)
        if is_full:
            await self.threads.finish(transfer.flush)

    def _start(self, batch: Batch) -> asyncio.Task[bytes]:
        task = asyncio.create_task(self.sender.ask(batch.body))
        # Not in the task itself: if it is cancelled before its first step, its code does not run.
        task.add_done_callback(self._on_answer)
        return task

    def _on_answer(self, answer: asyncio.Task[bytes]) -> None:
        self._slots.release()
        self._waiting += _size(answer)

    # ── a stream ──

    async def _stream(self, item: Item) -> None:
        """Send the whole object as one request, in chunks, and store the answer as it arrives."""
        finish = self.threads.finish
        async with self._slots:
            transfer = await finish(_Transfer.open, self, item)
            try:
                if first := await finish(transfer.read_chunk):
                    body = self._chunks(first, transfer)
                    async for chunk in self.sender.stream(body):
                        if transfer.is_full_with((), chunk, is_part=True):
                            await finish(transfer.flush)
                await finish(transfer.commit)
            finally:
                await finish(transfer.close)

    async def _chunks(self, first: bytes, transfer: _Transfer) -> AsyncIterator[bytes]:
        yield first
        while chunk := await self.threads.finish(transfer.read_chunk):
            yield chunk


def _size(answer: asyncio.Task[bytes]) -> int:
    """Return the bytes of an answer; none if its request failed."""
    return 0 if answer.cancelled() or answer.exception() else len(answer.result())


class _Transfer:
    """An open object and the writer of its output, each used by one thread at a time."""

    def __init__(self, job: Transformation, item: Item, file: BinaryIO, writer: Writer) -> None:
        plan, limits, self._processing = job.plan, job.limits, job.processing
        self._ends_lines = plan.ends_lines
        self._writer = writer
        self._is_open = False
        """Whether the last answer does not end with a newline."""
        self._kept: list[tuple[Records, bytes, bool]] = []
        self._size = 0
        where = f"s3://{item.bucket}/{item.key}"
        self._chunks = iter(splitting.chunks(file, where, gunzip=plan.gunzip))
        is_single = limits.strategy is Strategy.SINGLE
        if self._processing is None:
            self._batches = splitting.batches(
                self._chunks, plan.split, limits.bytes, is_single=is_single
            )
        else:
            prepare = self._processing.prepare
            self._batches = splitting.processed(
                self._chunks, plan.split, limits.bytes, prepare, is_single=is_single
            )
        self._reading = threading.Lock()
        """Held while the upload reads, which may continue after the answer has arrived."""
        self._ends = ExitStack()
        self._ends.enter_context(file)
        self._ends.enter_context(writer)

    @classmethod
    def open(cls, job: Transformation, item: Item) -> _Transfer:
        """Raise AwsError or OSError."""
        plan = job.plan
        writer = job.store.open_writer(plan.bucket, plan.output_key(item.relative))
        try:
            descriptor, _ = job.store.open(item.bucket, item.key)
        except BaseException:
            writer.abort()
            raise
        return cls(job, item, os.fdopen(descriptor, "rb", buffering=0), writer)

    def read(self) -> list[Batch]:
        """Return the next batches, enough to be worth a thread; none at the end."""
        found: list[Batch] = []
        size = 0
        for batch in islice(self._batches, _MOST_TOGETHER):
            found.append(batch)
            size += len(batch.body)
            if size >= _TOGETHER:
                break
        return found

    def read_chunk(self) -> bytes:
        with self._reading:
            return next(self._chunks, b"")

    def is_full_with(self, of: Records, answer: bytes, *, is_part: bool = False) -> bool:
        """Keep an answer; return whether `flush` should write what is kept.

        `is_part`: it is a part of a longer answer, after which no line ends.
        """
        self._kept.append((of, answer, is_part))
        self._size += len(answer) + (len(of.text) if isinstance(of, Lines) else sum(map(len, of)))
        return self._size >= _TOGETHER or len(self._kept) >= _MOST_KEPT

    def flush(self) -> None:
        """Write the output for the kept answers. Raise AnswerError, OSError."""
        for of, answer, is_part in self._kept:
            output = answer if self._processing is None else self._processing.finish(of, answer)
            self._writer.write(output)
            self._is_open = not output.endswith(b"\n")
            if not is_part:
                self._end_line()
        self._kept, self._size = [], 0

    def commit(self) -> None:
        self.flush()
        self._end_line()
        self._writer.commit()

    def _end_line(self) -> None:
        if self._ends_lines and self._is_open:
            self._writer.write(b"\n")
            self._is_open = False

    def close(self) -> None:
        with self._reading:
            self._ends.close()
