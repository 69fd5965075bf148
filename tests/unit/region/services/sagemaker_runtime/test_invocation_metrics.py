"""CloudWatch's metrics of invocations."""

from __future__ import annotations

import asyncio

import pytest

from sagemaker_byoc.region.services.cloudwatch.summaries import Summary
from sagemaker_byoc.region.services.sagemaker_runtime import invocation_metrics
from sagemaker_byoc.region.services.sagemaker_runtime.invocation_metrics import metric


def found(region, name, variant="AllTraffic", period=60):
    """All values of a metric of the endpoint `one`, and their unit."""
    whole, unit = Summary(), None
    for point in region.context.metrics.read(metric(name, "one", variant), 0, 2**40, period):
        whole.merge(point.summary)
        unit = point.unit
    return whole, unit


async def written(region, count, variant="AllTraffic"):
    """Wait until so many invocations are in the store, with all of their metrics."""
    while found(region, "OverheadLatency", variant)[0].count < count:
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(invocation_metrics, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(invocation_metrics, "SAMPLE_SECONDS", 0.01)


async def serve(region, *variants):
    await region.model()
    await region.config("config", *variants)
    assert (await region.endpoint())["EndpointStatus"] == "InService"


def test_counts_and_latencies(play):
    async def scene(region):
        await serve(region, region.variant(InitialInstanceCount=2))
        for body in (b"a", b"b", b"fail 400", b"fail 507", b"cut half"):
            await region.invoke(body)
        await written(region, 5)
        sums = {
            name: found(region, name)[0].total
            for name in (
                "Invocations", "InvocationsPerInstance", "Invocation4XXErrors",
                "Invocation5XXErrors", "InvocationModelErrors",
            )
        }  # fmt: skip
        assert sums == {
            "Invocations": 5, "InvocationsPerInstance": 2.5, "Invocation4XXErrors": 1,
            "Invocation5XXErrors": 1, "InvocationModelErrors": 3,
        }  # fmt: skip
        assert found(region, "Invocation4XXErrors")[0].count == 5
        for name in ("ModelLatency", "OverheadLatency"):
            latency, unit = found(region, name)
            assert (latency.count, unit) == (5, "Microseconds")
            assert 0 < latency.maximum < 60e6
        assert found(region, "ModelLatency")[0].minimum > 10

    play(scene)


def test_a_stream_counts_at_its_end(play):
    async def scene(region):
        await serve(region)
        way = "invocations-response-stream"
        answer = await region.invoke(b"stream one two", way=way)
        await region.invoke(b"fail 400")
        await written(region, 1)
        assert found(region, "Invocations")[0].count == 1
        assert found(region, "InvocationModelErrors")[0].total == 1
        async for _ in answer.body:
            pass
        await written(region, 2)
        assert found(region, "InvocationModelErrors")[0].total == 1

    play(scene)


def test_a_request_that_reached_no_model_is_not_counted(play):
    async def scene(region):
        await serve(region)
        with pytest.raises(Exception, match="not found"):
            await region.invoke(name="none")
        with pytest.raises(Exception, match="at most 1024"):
            await region.invoke(x_amzn_sagemaker_custom_attributes="a" * 1025)
        await region.invoke(b"a")
        await written(region, 1)
        assert found(region, "Invocations")[0].count == 1

    play(scene)


def test_requests_under_way_are_sampled_for_ten_second_periods(play):
    async def scene(region):
        await serve(region)
        waiting = asyncio.create_task(region.invoke(b"wait"))
        while found(region, "ConcurrentRequestsPerModel", period=10)[0].maximum != 1:
            await asyncio.sleep(0.01)
        region.engine.started[0].release.set()
        await asyncio.gather(waiting, return_exceptions=True)

    play(scene)


def test_a_burst_is_summarized_before_the_second_is_over(play, monkeypatch):
    monkeypatch.setattr(invocation_metrics, "FLUSH_SECONDS", 3600.0)
    monkeypatch.setattr(invocation_metrics, "MOST_NOTED", 3)

    async def scene(region):
        await serve(region)
        for _ in range(3):
            await region.invoke(b"a")
        await written(region, 3)

    play(scene)


def test_what_is_noted_at_the_end_is_written(play, monkeypatch):
    monkeypatch.setattr(invocation_metrics, "FLUSH_SECONDS", 3600.0)

    async def scene(region):
        await serve(region)
        await region.invoke(b"a")
        await region.metrics.close()
        assert found(region, "Invocations")[0].count == 1

    play(scene)
