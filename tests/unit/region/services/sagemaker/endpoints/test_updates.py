"""Updates under load, roll-backs, other weights and counts, and the end of the region."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import Room
from tests.unit.region.services.sagemaker.endpoints.pretenders import BOUND, wait_for

from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import INTERRUPTED

CLIENTS = 8


async def two_models(room, second="ok"):
    await room.model("old", PREFIX="old:")
    await room.model("new", PREFIX="new:", MODE=second)
    await room.config("old", room.variant(model="old"))
    await room.config("new", room.variant(model="new"))
    await room.endpoint("one", "old")


@asynccontextmanager
async def load(room):
    """Several clients that ask without a pause; yields a count of all answers."""
    answers = Counter()
    over = asyncio.Event()

    async def ask():
        while not over.is_set():
            response = await room.invoke(b"x")
            answers[response.status, response.body] += 1

    clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    try:
        yield answers
    finally:
        over.set()
        await asyncio.gather(*clients)


async def update(room, config, **more):
    await room.call("UpdateEndpoint", EndpointName="one", EndpointConfigName=config, **more)
    return await room.settled()


def test_update_under_load_loses_nothing(room):
    """Each answer is the old model's or the new one's, and none is an error."""

    async def scene(room):
        await two_models(room)
        async with load(room) as answers:
            for config in ("new", "old", "new"):
                found = await update(room, config)
                assert found["EndpointStatus"] == "InService"
                assert found["EndpointConfigName"] == config
                before = answers.total()
                while answers.total() < before + 50:
                    await asyncio.sleep(0.001)
        assert answers.keys() == {(200, b"old:x"), (200, b"new:x")}
        async with asyncio.timeout(BOUND):
            while len(room.engine.running) > 1:
                await asyncio.sleep(0.01)

    room(scene)


def test_request_under_way_is_finished_by_the_old_fleet(room):
    """Though the new one has taken over."""

    async def scene(room):
        await two_models(room)
        (old,) = room.engine.started
        waiting = asyncio.create_task(room.invoke(b"wait"))
        await asyncio.to_thread(old.waiting.acquire)
        await update(room, "new")
        assert (await room.invoke(b"x")).body == b"new:x"
        assert old.code is None
        old.release.set()
        assert (await waiting).body == b"old:wait"
        await asyncio.to_thread(wait_for, lambda: old.code is not None, "the old one goes on")
        assert old.graces == [30]

    room(scene)


def test_failed_update_is_rolled_back(room):
    """The old fleet never stopped; the endpoint says what happened, until the next change."""

    async def scene(room):
        await two_models(room, second="exits")
        async with load(room) as answers:
            found = await update(room, "new")
        assert found["EndpointStatus"] == "InService"
        assert found["EndpointConfigName"] == "old"
        assert "exit code 1" in found["FailureReason"]
        assert answers.keys() == {(200, b"old:x")}
        assert len(room.engine.running) == 1
        assert "FailureReason" not in await update(room, "old")

    room(scene)


def test_weights_and_counts(room):
    """In place: what runs goes on."""

    async def scene(room):
        await room.model()
        await room.config("config", room.variant("a"), room.variant("b"))
        await room.endpoint()
        first = set(room.engine.started)
        changes = [
            {"VariantName": "a", "DesiredWeight": 3.0},
            {"VariantName": "b", "DesiredInstanceCount": 2},
        ]
        resize = {"EndpointName": "one", "DesiredWeightsAndCapacities": changes}
        async with load(room) as answers:
            await room.call("UpdateEndpointWeightsAndCapacities", **resize)
            found = await room.settled()
        assert {status for status, _ in answers} <= {200}
        a, b = found["ProductionVariants"]
        assert (a["CurrentWeight"], a["CurrentInstanceCount"]) == (3.0, 1)
        assert (b["CurrentWeight"], b["CurrentInstanceCount"]) == (1.0, 2)
        assert first <= room.engine.running
        changes[1]["DesiredInstanceCount"] = 1
        await room.call("UpdateEndpointWeightsAndCapacities", **resize)
        found = await room.settled()
        assert len(room.engine.running) == 2
        kept = await update(room, "config", RetainAllVariantProperties=True)
        assert kept["ProductionVariants"][0]["CurrentWeight"] == 3.0
        reset = await update(room, "config")
        assert reset["ProductionVariants"][0]["CurrentWeight"] == 1.0
        changes[0]["VariantName"] = "zzz"
        assert "zzz" in await room.refused("UpdateEndpointWeightsAndCapacities", **resize)

    room(scene)


def test_region_that_ends_and_comes_back(tmp_path):
    """Its endpoints serve again; containers of the first life are gone, and asked about."""

    async def main():
        async with Room(tmp_path) as room:
            await two_models(room)
        async with Room(tmp_path) as room:
            found = await room.settled()
            assert found["EndpointStatus"] == "InService"
            assert (await room.invoke(b"x")).body == b"old:x"
            assert "FailureReason" not in found
            await room.delete()
        async with Room(tmp_path) as room:
            listed = await room.call("ListEndpoints")
            assert not listed["Endpoints"]
            assert not room.engine.started

    asyncio.run(main())


@pytest.mark.parametrize("status", ["Updating", "InService", "Creating", "Deleting", "Failed"])
def test_region_that_was_killed(tmp_path, status):
    """Each state has its way on; leftovers are swept before anything is started."""

    async def main():
        async with Room(tmp_path) as room:
            await two_models(room)
            catalog = room.service.endpoints.catalog
            document = catalog.get("one")
        changes = {"EndpointStatus": status}
        if status == "Updating":
            changes["Pending"] = {"EndpointConfigName": "new", "Variants": []}
        catalog.put("one", {**document, **changes})
        leftover = tmp_path / "work/endpoints/one/0a/i-0-0"
        leftover.mkdir(parents=True)
        async with Room(tmp_path) as room:
            if status == "Deleting":
                await room.gone()
                assert not room.engine.started
                return
            await room.service.endpoints.swept
            found = await room.settled()
            ((labels, trees),) = room.engine.swept
            assert trees == [leftover]
            assert set(labels) == {f"sagemaker-byoc.{name}" for name in ("state", "region", "kind")}
            assert not leftover.exists()
            if status == "Failed":
                assert found["EndpointStatus"] == "Failed"
                assert not room.engine.started
                return
            assert found["EndpointStatus"] == "InService"
            assert found.get("FailureReason") == (INTERRUPTED if status == "Updating" else None)
            assert (await room.invoke(b"x")).body == b"old:x"

    asyncio.run(main())


def test_an_unknown_variant_is_refused_with_awss_words(room):
    """By UpdateEndpointWeightsAndCapacities, which names the configuration."""

    async def scene(room):
        await room.model()
        await room.config()
        await room.endpoint()
        words = await room.refused(
            "UpdateEndpointWeightsAndCapacities",
            EndpointName="one",
            DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 1.0}],
        )
        assert words == (
            'The variant name(s) "b" is/are not present within endpoint configuration "config".'
        )

    room(scene)
