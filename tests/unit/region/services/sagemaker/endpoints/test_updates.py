"""Updates under load, roll-backs, other weights and counts, and the end of the region."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import HostingRegion
from tests.unit.region.services.sagemaker.endpoints.fake_engine import BOUND, wait_for

from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import INTERRUPTED

CLIENTS = 8


async def two_models(region, second="ok"):
    await region.model("old", PREFIX="old:")
    await region.model("new", PREFIX="new:", MODE=second)
    await region.config("old", region.variant(model="old"))
    await region.config("new", region.variant(model="new"))
    await region.endpoint("one", "old")


@asynccontextmanager
async def load(region):
    """Several clients that ask without a pause; yields a count of all answers."""
    answers = Counter()
    over = asyncio.Event()

    async def ask():
        while not over.is_set():
            response = await region.invoke(b"x")
            answers[response.status, response.body] += 1

    clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    try:
        yield answers
    finally:
        over.set()
        await asyncio.gather(*clients)


async def update(region, config, **more):
    await region.call("UpdateEndpoint", EndpointName="one", EndpointConfigName=config, **more)
    return await region.settled()


def test_update_under_load_loses_nothing(play):
    """Each answer is the old model's or the new one's, and none is an error."""

    async def scene(region):
        await two_models(region)
        async with load(region) as answers:
            for config in ("new", "old", "new"):
                found = await update(region, config)
                assert found["EndpointStatus"] == "InService"
                assert found["EndpointConfigName"] == config
                before = answers.total()
                while answers.total() < before + 50:
                    await asyncio.sleep(0.001)
        assert answers.keys() == {(200, b"old:x"), (200, b"new:x")}
        async with asyncio.timeout(BOUND):
            while len(region.engine.running) > 1:
                await asyncio.sleep(0.01)

    play(scene)


def test_request_under_way_is_finished_by_the_old_fleet(play):
    """Though the new one has taken over."""

    async def scene(region):
        await two_models(region)
        (old,) = region.engine.started
        waiting = asyncio.create_task(region.invoke(b"wait"))
        await asyncio.to_thread(old.waiting.acquire)
        await update(region, "new")
        assert (await region.invoke(b"x")).body == b"new:x"
        assert old.code is None
        old.release.set()
        assert (await waiting).body == b"old:wait"
        await asyncio.to_thread(wait_for, lambda: old.code is not None, "the old one goes on")
        assert old.graces == [30]

    play(scene)


def test_failed_update_is_rolled_back(play):
    """The old fleet never stopped; the endpoint says what happened, until the next change."""

    async def scene(region):
        await two_models(region, second="exits")
        async with load(region) as answers:
            found = await update(region, "new")
        assert found["EndpointStatus"] == "InService"
        assert found["EndpointConfigName"] == "old"
        assert "exit code 1" in found["FailureReason"]
        assert answers.keys() == {(200, b"old:x")}
        assert len(region.engine.running) == 1
        assert "FailureReason" not in await update(region, "old")

    play(scene)


def test_weights_and_counts(play):
    """In place: what runs goes on."""

    async def scene(region):
        await region.model()
        await region.config("config", region.variant("a"), region.variant("b"))
        await region.endpoint()
        first = set(region.engine.started)
        changes = [
            {"VariantName": "a", "DesiredWeight": 3.0},
            {"VariantName": "b", "DesiredInstanceCount": 2},
        ]
        resize = {"EndpointName": "one", "DesiredWeightsAndCapacities": changes}
        async with load(region) as answers:
            await region.call("UpdateEndpointWeightsAndCapacities", **resize)
            found = await region.settled()
        assert {status for status, _ in answers} <= {200}
        a, b = found["ProductionVariants"]
        assert (a["CurrentWeight"], a["CurrentInstanceCount"]) == (3.0, 1)
        assert (b["CurrentWeight"], b["CurrentInstanceCount"]) == (1.0, 2)
        assert first <= region.engine.running
        changes[1]["DesiredInstanceCount"] = 1
        await region.call("UpdateEndpointWeightsAndCapacities", **resize)
        found = await region.settled()
        assert len(region.engine.running) == 2
        kept = await update(region, "config", RetainAllVariantProperties=True)
        assert kept["ProductionVariants"][0]["CurrentWeight"] == 3.0
        reset = await update(region, "config")
        assert reset["ProductionVariants"][0]["CurrentWeight"] == 1.0
        changes[0]["VariantName"] = "zzz"
        assert "zzz" in await region.refused("UpdateEndpointWeightsAndCapacities", **resize)

    play(scene)


def test_region_that_ends_and_comes_back(tmp_path):
    """Its endpoints serve again; containers of the first life are gone, and asked about."""

    async def main():
        async with HostingRegion(tmp_path) as region:
            await two_models(region)
        async with HostingRegion(tmp_path) as region:
            found = await region.settled()
            assert found["EndpointStatus"] == "InService"
            assert (await region.invoke(b"x")).body == b"old:x"
            assert "FailureReason" not in found
            await region.delete()
        async with HostingRegion(tmp_path) as region:
            listed = await region.call("ListEndpoints")
            assert not listed["Endpoints"]
            assert not region.engine.started

    asyncio.run(main())


@pytest.mark.parametrize("status", ["Updating", "InService", "Creating", "Deleting", "Failed"])
def test_region_that_was_killed(tmp_path, status):
    """Each state has its way on; leftovers are swept before anything is started."""

    async def main():
        async with HostingRegion(tmp_path) as region:
            await two_models(region)
            catalog = region.endpoints.resources
            document = catalog.get("one")
        changes = {"EndpointStatus": status}
        if status == "Updating":
            changes["Pending"] = {"EndpointConfigName": "new", "Variants": []}
        catalog.records.put("one", {**document, **changes})
        leftover = tmp_path / "work/endpoints/one/0a/i-0-0"
        leftover.mkdir(parents=True)
        async with HostingRegion(tmp_path) as region:
            if status == "Deleting":
                await region.gone()
                assert not region.engine.started
                return
            await region.endpoints.swept
            found = await region.settled()
            ((labels, trees),) = region.engine.swept
            assert trees == [leftover]
            assert set(labels) == {f"sagemaker-byoc.{name}" for name in ("state", "region", "kind")}
            assert not leftover.exists()
            if status == "Failed":
                assert found["EndpointStatus"] == "Failed"
                assert not region.engine.started
                return
            assert found["EndpointStatus"] == "InService"
            assert found.get("FailureReason") == (INTERRUPTED if status == "Updating" else None)
            assert (await region.invoke(b"x")).body == b"old:x"

    asyncio.run(main())


def test_an_unknown_variant_is_refused_with_awss_words(play):
    """By UpdateEndpointWeightsAndCapacities, which names the configuration."""

    async def scene(region):
        await region.model()
        await region.config()
        await region.endpoint()
        words = await region.refused(
            "UpdateEndpointWeightsAndCapacities",
            EndpointName="one",
            DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 1.0}],
        )
        assert words == (
            'The variant name(s) "b" is/are not present within endpoint configuration "config".'
        )

    play(scene)
