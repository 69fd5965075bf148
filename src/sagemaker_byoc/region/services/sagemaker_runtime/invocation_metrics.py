"""CloudWatch's metrics of invocations, in the namespace AWS/SageMaker.

Source of names, units and dimensions: developer guide, "Amazon SageMaker AI metrics in CloudWatch".
An invocation is noted in one list; a thread makes the summaries of each second's list.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from sagemaker_byoc.region.services.cloudwatch.metric import NO_UNIT, Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.summaries import Summary
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import Endpoint
from sagemaker_byoc.region.wire.http import Response

NAMESPACE = "AWS/SageMaker"
FLUSH_SECONDS = 1.0
SAMPLE_SECONDS = 1.0
SAMPLES = 10
"""Samples of the requests under way that become one value: AWS has a period of 10 s."""
MOST_NOTED = 50_000
"""Invocations that are summarized at once, if they come faster than that per second."""
_MICROSECONDS = 1e6


class Noted(NamedTuple):
    """One invocation that reached a model."""

    endpoint: str
    variant: str
    instances: int
    time: float
    """Its end, in seconds since 1970."""
    status: int
    """That of the model's answer; 0 if it did not answer."""
    model: float
    """Seconds that the model took."""
    overhead: float
    """Seconds from the request's arrival, without those of the model."""


class InvocationMetrics:
    """A Part: notes invocations, and samples how many are under way. On the event loop."""

    def __init__(self, endpoints: Mapping[str, Endpoint], store: MetricStore) -> None:
        self._endpoints = endpoints
        self._store = store
        self._noted: list[Noted] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sampling = asyncio.create_task(self._sample(), name="endpoint metrics")

    async def close(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            with suppress(asyncio.CancelledError):
                await self._sampling
        await asyncio.to_thread(self._put, self._take())

    def note(self, invocation: Noted) -> None:
        noted = self._noted
        noted.append(invocation)
        count = len(noted)
        if count == 1 and self._loop is not None:
            self._loop.call_later(FLUSH_SECONDS, self._flush)
        elif count >= MOST_NOTED:
            self._flush()

    def _flush(self) -> None:
        noted = self._take()
        if noted and self._loop is not None:
            self._loop.run_in_executor(None, self._put, noted)

    def _take(self) -> list[Noted]:
        noted, self._noted = self._noted, []
        return noted

    def _put(self, noted: list[Noted]) -> None:
        groups: dict[tuple[str, str, int], list[Noted]] = defaultdict(list)
        for each in noted:
            groups[each.endpoint, each.variant, int(each.time) // 60 * 60].append(each)
        for (endpoint, variant, minute), group in groups.items():
            for name, unit, summary in _summaries(group):
                self._store.put_summary(metric(name, endpoint, variant), summary, minute, unit=unit)

    async def _sample(self) -> None:
        """Put the requests under way per instance, every 10 s."""
        while True:
            summaries: dict[tuple[str, str], Summary] = defaultdict(Summary)
            began = time.time()
            for _ in range(SAMPLES):
                await asyncio.sleep(SAMPLE_SECONDS)
                for endpoint, variant, outstanding in self._outstanding():
                    summaries[endpoint, variant].add(outstanding)
            for (endpoint, variant), summary in summaries.items():
                found = metric("ConcurrentRequestsPerModel", endpoint, variant)
                self._store.put_summary(found, summary, began, resolution=1)

    def _outstanding(self) -> Iterator[tuple[str, str, float]]:
        for name, endpoint in self._endpoints.items():
            if endpoint.fleet is not None:
                for variant in endpoint.fleet.variants.values():
                    for instance in variant.instances:
                        yield name, variant.plan.name, float(instance.outstanding)


def metric(name: str, endpoint: str, variant: str) -> Metric:
    return Metric.of(NAMESPACE, name, {"EndpointName": endpoint, "VariantName": variant})


def model_status(response: Response) -> int:
    """Return the status with which the model answered; 0 if it gave no whole answer."""
    if response.status == 200 or not isinstance(response.body, bytes):
        return response.status
    status: int = json.loads(response.body)["OriginalStatusCode"]
    return 0 if status // 100 == 2 else status


def _summaries(group: list[Noted]) -> Iterator[tuple[str, str, Summary]]:
    """Yield name, unit and summary of each metric of the invocations of one variant."""
    yield "Invocations", NO_UNIT, Summary.of_values([1.0] * len(group))
    shares = [1.0 / each.instances for each in group]
    yield "InvocationsPerInstance", NO_UNIT, Summary.of_values(shares)
    hundreds = [each.status // 100 for each in group]
    for name, is_error in (
        ("Invocation4XXErrors", [float(each == 4) for each in hundreds]),
        ("Invocation5XXErrors", [float(each == 5) for each in hundreds]),
        ("InvocationModelErrors", [float(each != 2) for each in hundreds]),
    ):
        yield name, NO_UNIT, Summary.of_values(is_error)
    for name, seconds in (
        ("ModelLatency", [each.model for each in group]),
        ("OverheadLatency", [each.overhead for each in group]),
    ):
        rounded = [float(round(each * _MICROSECONDS)) for each in seconds]
        yield name, "Microseconds", Summary.of_values(rounded)
