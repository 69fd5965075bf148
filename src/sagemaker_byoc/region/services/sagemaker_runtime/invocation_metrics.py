"""CloudWatch's metrics of invocations, in the namespace AWS/SageMaker.

Source of names, units and dimensions: developer guide, "Amazon SageMaker AI metrics in CloudWatch".
An invocation is noted in lists; a thread makes the summaries of each second's lists.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sagemaker_byoc.region.services.cloudwatch.metric import NO_UNIT, Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.summaries import Summary
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import Endpoint
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Variant
from sagemaker_byoc.region.wire.http import Response

NAMESPACE = "AWS/SageMaker"
FLUSH_SECONDS = 1.0
SAMPLE_SECONDS = 1.0
SAMPLES = 10
"""Samples of the requests under way that become one value: AWS has a period of 10 s."""
MOST_NOTED = 50_000
"""Invocations that are summarized at once, if they come faster than that per second."""
_MICROSECONDS = 1e6


@dataclass(slots=True, eq=False)
class _Batch:
    """The invocations of one variant within a second."""

    endpoint: str
    variant: str
    instances: int
    time: float
    """The end of the first, in seconds since 1970."""
    model: list[float] = field(default_factory=list)
    """Seconds that the model took, of each."""
    overhead: list[float] = field(default_factory=list)
    """Seconds from the request's arrival, without those of the model."""
    errors: list[int] = field(default_factory=list)
    """The statuses other than 200; 0 if the model did not answer."""


class InvocationMetrics:
    """A Part: notes invocations, and samples how many are under way. On the event loop."""

    def __init__(self, endpoints: Mapping[str, Endpoint], store: MetricStore) -> None:
        self._endpoints = endpoints
        self._store = store
        self._batches: dict[Variant, _Batch] = {}
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

    def note(
        self, endpoint: str, variant: Variant, status: int, model: float, overhead: float
    ) -> None:
        """Note an invocation that reached a model.

        `status` is that of the model's answer, 0 if it did not answer; `model` and `overhead` are
        the seconds that the model and the rest took.
        """
        batch = self._batches.get(variant)
        if batch is None:
            batch = self._begin(endpoint, variant)
        batch.model.append(model)
        batch.overhead.append(overhead)
        if status != 200:
            batch.errors.append(status)
        if len(batch.model) >= MOST_NOTED:
            self._flush()

    def _begin(self, endpoint: str, variant: Variant) -> _Batch:
        if not self._batches and self._loop is not None:
            self._loop.call_later(FLUSH_SECONDS, self._flush)
        count = max(1, len(variant.instances))
        batch = _Batch(endpoint, variant.plan.name, count, time.time())
        self._batches[variant] = batch
        return batch

    def _flush(self) -> None:
        if self._batches and self._loop is not None:
            self._loop.run_in_executor(None, self._put, self._take())

    def _take(self) -> list[_Batch]:
        batches, self._batches = self._batches, {}
        return [*batches.values()]

    def _put(self, batches: list[_Batch]) -> None:
        for batch in batches:
            for name, unit, summary in _summaries(batch):
                found = metric(name, batch.endpoint, batch.variant)
                self._store.put_summary(found, summary, batch.time, unit=unit)

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


def _summaries(batch: _Batch) -> Iterator[tuple[str, str, Summary]]:
    """Yield name, unit and summary of each metric of the invocations of one variant."""
    count = len(batch.model)
    yield "Invocations", NO_UNIT, _counted({1.0: count})
    yield "InvocationsPerInstance", NO_UNIT, _counted({1.0 / batch.instances: count})
    hundreds = Counter(status // 100 for status in batch.errors)
    for name, errors in (
        ("Invocation4XXErrors", hundreds[4]),
        ("Invocation5XXErrors", hundreds[5]),
        ("InvocationModelErrors", len(batch.errors)),
    ):
        yield name, NO_UNIT, _counted({0.0: count - errors, 1.0: errors})
    for name, seconds in (("ModelLatency", batch.model), ("OverheadLatency", batch.overhead)):
        whole = [float(round(each * _MICROSECONDS)) for each in seconds]
        yield name, "Microseconds", Summary.of_values(whole)


def _counted(counts: Mapping[float, int]) -> Summary:
    found = Summary()
    for value, times in counts.items():
        if times:
            found.add(value, times)
    return found
