"""Data capture: answered invocations as files of JSON Lines in the region's store.

    DestinationS3Uri/ENDPOINT/VARIANT/yyyy/mm/dd/hh/MM-SS-mmm-UUID.jsonl

Records wait in memory for a moment, so that a file has several; a file appears when it is
complete. Its format is `contract.capture`'s, as in the serving container.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from sagemaker_byoc.contract.capture import (
    Lines,
    Selection,
    file_name,
    hour_folder,
    moment_of,
)
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.wire.operations import AwsError

LOG = logging.getLogger(__name__)

DELAY = 2.0
"""Seconds from the first record of a file to the file; SageMaker takes minutes."""
SIZE = 8 * 2**20
"""Bytes at which a file is written without waiting."""
MOST = 128 * 2**20
"""Bytes that may wait to be written; later records are dropped, and the log reports it."""
_CONTENT_TYPE = "application/jsonlines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One answered invocation; `config` is the endpoint's DataCaptureConfig."""

    config: Mapping[str, Any]
    endpoint: str
    variant: str
    request_id: str
    time: datetime
    inference_id: str | None
    custom_attributes: str | None
    request_type: str | None
    """Content-Type of the request, if it had one."""
    request: bytes
    response_type: str | None
    response: bytes


Capture: TypeAlias = Callable[[Exchange], None]
"""Called on the event loop after the answer is on its way; must not block and must not raise."""
Run: TypeAlias = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]
"""Runs what blocks in a thread."""


@dataclass(slots=True)
class _Pending:
    """A file that is not written yet."""

    endpoint: str
    bucket: str
    key: str
    records: list[tuple[Lines, Exchange]] = field(default_factory=list)
    size: int = 0
    """Bytes of their bodies."""


@dataclass(slots=True)
class _Rule:
    """A DataCaptureConfig as it is applied."""

    config: Mapping[str, Any]
    selection: Selection
    lines: Lines
    bucket: str
    prefix: str


class Captures:
    """Captures of all endpoints, on one event loop. A record that is lost never raises."""

    def __init__(self, store: ObjectStore, run: Run) -> None:
        self._store = store
        self._run = run
        self._rules: dict[str, _Rule] = {}
        self._pending: dict[tuple[str, str], _Pending] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._failing: set[str] = set()
        self._dropped = 0

    def is_working(self, endpoint: str) -> bool:
        """Return whether the endpoint's last file could be written."""
        return endpoint not in self._failing

    def take(self, exchange: Exchange) -> None:
        try:
            rule = self._rule(exchange)
        except AwsError as error:
            self._drop(1, error.message)
            return
        if not rule.selection.takes():
            return
        if self._waiting + len(exchange.request) + len(exchange.response) > MOST:
            self._drop(1, f"{MOST} bytes wait for the object store already")
            return
        # The text of a line is made by the thread that writes it.
        place = f"{rule.prefix}{exchange.endpoint}/{exchange.variant}/{hour_folder(exchange.time)}"
        group = (rule.bucket, place)
        pending = self._pending.get(group)
        if pending is None:
            key = f"{place}/{file_name(exchange.time, str(uuid.uuid4()))}"
            pending = self._pending[group] = _Pending(exchange.endpoint, rule.bucket, key)
            asyncio.get_running_loop().call_later(DELAY, self._flush, group, pending)
        size = len(exchange.request) + len(exchange.response)
        pending.records.append((rule.lines, exchange))
        pending.size += size
        self._waiting += size
        if pending.size >= SIZE:
            self._flush(group, pending)

    def forget(self, endpoint: str) -> None:
        """Forget a deleted endpoint; records that wait are still written."""
        self._rules.pop(endpoint, None)
        self._failing.discard(endpoint)

    async def close(self) -> None:
        """Write everything that waits."""
        for group, pending in [*self._pending.items()]:
            self._flush(group, pending)
        await asyncio.gather(*self._writing)

    def _rule(self, exchange: Exchange) -> _Rule:
        known = self._rules.get(exchange.endpoint)
        if known is not None and known.config is exchange.config:
            return known
        selection = Selection.from_config(exchange.config)
        bucket, prefix = parse_s3_uri(exchange.config["DestinationS3Uri"])
        prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        rule = _Rule(exchange.config, selection, Lines(selection), bucket, prefix)
        self._rules[exchange.endpoint] = rule
        return rule

    def _flush(self, group: tuple[str, str], pending: _Pending) -> None:
        if self._pending.get(group) is not pending:
            return  # it has been written for its size
        del self._pending[group]
        task = asyncio.create_task(self._write(pending), name=f"capture {pending.endpoint}")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, pending: _Pending) -> None:
        def put() -> None:
            data = b"".join(_line(*record) for record in pending.records)
            self._store.put_bytes(pending.bucket, pending.key, data, content_type=_CONTENT_TYPE)

        try:
            await self._run(put)
        except (AwsError, OSError) as error:
            reason = error.message if isinstance(error, AwsError) else str(error)
            self._failing.add(pending.endpoint)
            self._drop(len(pending.records), f"s3://{pending.bucket}/{pending.key}: {reason}")
        else:
            self._failing.discard(pending.endpoint)
        finally:
            self._waiting -= pending.size

    def _drop(self, count: int, reason: str) -> None:
        """Count dropped records, and log the first and then each doubling."""
        before, self._dropped = self._dropped, self._dropped + count
        if before == 0 or self._dropped.bit_length() > before.bit_length():
            LOG.warning("data capture: %d record(s) not written: %s", self._dropped, reason)


def _line(lines: Lines, exchange: Exchange) -> bytes:
    """Return a record. Its event id is the request id, which the caller's answer has, too."""
    return lines.line(
        exchange.request,
        exchange.request_type or "",
        exchange.response,
        exchange.response_type or "",
        event_id=exchange.request_id,
        moment=moment_of(exchange.time),
        inference_id=exchange.inference_id or "",
        custom_attributes=exchange.custom_attributes or "",
    )
