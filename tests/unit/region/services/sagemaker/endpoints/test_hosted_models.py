"""Multi-model endpoints: models that requests load, on containers of a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import archive

from sagemaker_byoc.region.services.sagemaker.endpoints import hosted_models
from sagemaker_byoc.region.wire.operations import AwsError

PREFIX = "s3://models/many/"


async def serve(region, *names, **environment):
    """An endpoint of archives whose models answer with their names."""
    region.store.create_bucket("models")
    for name in names:
        put(region, name, name)
    container = {
        "Image": "serve:1",
        "Mode": "MultiModel",
        "ModelDataUrl": PREFIX,
        "Environment": environment,
    }
    await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
    await region.config()
    assert (await region.endpoint())["EndpointStatus"] == "InService"
    (started,) = region.engine.started
    return started


def put(region, name, answer):
    region.store.put_bytes("models", f"many/{name}.tar.gz", archive(answer=answer.encode()))


async def ask(region, name, body=b"model"):
    return await region.invoke(body, x_amzn_sagemaker_target_model=f"{name}.tar.gz")


async def refused(region, code, name, body=b"model"):
    with pytest.raises(AwsError) as caught:
        await ask(region, name, body)
    assert caught.value.code == code
    return caught.value


def test_models_are_loaded_when_they_are_asked(play):
    """Once each, from the archives below the prefix, also those that came later."""

    async def scene(region):
        container = await serve(region, "a", "deep/b")
        assert container.variables["SAGEMAKER_MULTI_MODEL"] == "true"
        assert container.spec.shared == ("models",)
        assert container.spec.read_only == {"models"}
        assert container.spec.inputs == {}
        assert container.loads == []
        for name in ("a", "deep/b", "a"):
            assert (await ask(region, name)).body == name.encode()
        assert container.loads == ["a", "deep/b"]
        put(region, "c", "late")
        answers = await asyncio.gather(*(ask(region, "c") for _ in range(5)))
        assert {answer.body for answer in answers} == {b"late"}
        assert container.loads == ["a", "deep/b", "late"]
        answer = await ask(region, "a", b"headers")
        headers = json.loads(answer.body)
        assert headers["x-amzn-sagemaker-target-model"] == "a.tar.gz"

    play(scene)


def test_the_model_used_longest_ago_makes_room(play):
    async def scene(region):
        container = await serve(region, "a", "b", "c", ROOM="2")
        for name in ("a", "b", "a", "c"):
            assert (await ask(region, name)).body == name.encode()
        assert sorted(container.models.values()) == ["a", "c"]
        folder = container.spec.tree.root / "models"
        assert len([*folder.iterdir()]) == 2
        assert (await ask(region, "b")).body == b"b"
        assert container.loads == ["a", "b", "c", "b"]

    play(scene)


def test_a_model_in_use_does_not_make_room(play):
    """The caller gets the container's 507; a stream counts until its end."""

    async def scene(region):
        container = await serve(region, "a", "b", ROOM="1")
        waiting = asyncio.create_task(ask(region, "a", b"wait"))
        await asyncio.to_thread(container.waiting.acquire)
        answer = await ask(region, "b")
        assert answer.status == 424
        assert json.loads(answer.body)["OriginalStatusCode"] == 507
        container.release.set()
        assert (await waiting).status == 200
        target = {"x_amzn_sagemaker_target_model": "a.tar.gz"}
        stream = await region.invoke(b"stream a b", way="invocations-response-stream", **target)
        assert (await ask(region, "b")).status == 424
        await stream.body.aclose()
        assert (await ask(region, "b")).body == b"b"

    play(scene)


def test_a_bound_on_loaded_models(play, monkeypatch):
    monkeypatch.setattr(hosted_models, "MOST_LOADED", 2)

    async def scene(region):
        container = await serve(region, "a", "b", "c")
        for name in "abc":
            assert (await ask(region, name)).body == name.encode()
        assert sorted(container.models.values()) == ["b", "c"]

    play(scene)


def test_a_model_that_is_asked_while_it_makes_room(play):
    """It is loaded again once the container and its folder are without it."""

    async def scene(region):
        container = await serve(region, "b", ROOM="1")
        put(region, "a", "LEAVING")
        assert (await ask(region, "a")).body == b"LEAVING"
        other = asyncio.create_task(ask(region, "b"))
        await asyncio.to_thread(container.waiting.acquire)
        again = asyncio.create_task(ask(region, "a"))
        done, _ = await asyncio.wait([again], timeout=0.2)
        assert not done
        container.release.set()
        await asyncio.gather(other, again)  # one of them may find no room
        for name in ("a", "b", "a"):
            assert (await ask(region, name)).status == 200
        assert [*container.models.values()] == ["LEAVING"]
        assert len([*(container.spec.tree.root / "models").iterdir()]) == 1

    play(scene)


def test_a_model_that_the_container_keeps(play):
    """The next one makes room; if there is none, the caller gets the container's 507."""

    async def scene(region):
        container = await serve(region, "b", "c", ROOM="2")
        put(region, "kept", "STAYING")
        for name in ("kept", "b", "c", "b"):
            assert (await ask(region, name)).status == 200
        assert [*container.models.values()] == ["STAYING", "b"]
        waiting = asyncio.create_task(ask(region, "b", b"wait"))
        await asyncio.to_thread(container.waiting.acquire)
        answer = json.loads((await ask(region, "c")).body)
        assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (507, "no memory")
        container.release.set()
        await waiting
        assert (await ask(region, "kept")).body == b"STAYING"
        assert (await ask(region, "c")).body == b"c"
        assert container.loads == ["STAYING", "b", "c", "b", "c"]

    play(scene)


def test_a_load_that_takes_longer_than_a_request(play):
    """The load continues; boto3 repeats the request."""

    async def scene(region):
        container = await serve(region)
        put(region, "slow", "SLOW")
        error = await refused(region, "ModelNotReadyException", "slow")
        assert error.status == 429
        assert "slow.tar.gz is not ready for inference" in error.message
        container.release.set()

        async def answered():
            while True:
                with contextlib.suppress(AwsError):
                    return await ask(region, "slow")

        assert (await answered()).body == b"SLOW"
        assert container.loads == ["SLOW"]

    play(scene, seconds=0.2)


def test_models_that_can_not_be_loaded(play):
    """Each request tries again: the archive may be there, or be whole, by then."""

    async def scene(region):
        container = await serve(region)
        error = await refused(region, "ValidationError", "none")
        assert error.message.startswith(
            "Failed to download model data (bucket: models, key: many/none.tar.gz). Please ensure"
        )
        region.store.put_bytes("models", "many/torn.tar.gz", b"no archive")
        error = await refused(region, "ValidationError", "torn")
        assert "not a whole tar archive" in error.message
        put(region, "bad", "BAD")
        answer = json.loads((await ask(region, "bad")).body)
        assert answer["OriginalStatusCode"] == 500
        assert 'from primary with message "no weights"' in answer["Message"]
        assert [*(container.spec.tree.root / "models").iterdir()] == []
        for name in ("none", "torn", "bad"):
            put(region, name, "good")
            assert (await ask(region, name)).body == b"good"
        outside = await refused(region, "ValidationError", "../../../secret")
        assert "Failed to download model data" in outside.message

    play(scene)


def test_a_request_names_its_model(play):
    async def scene(region):
        await serve(region, "a")
        with pytest.raises(AwsError) as caught:
            await region.invoke(b"x")
        assert caught.value.code == "ValidationError"
        assert "Request request-1 is missing a target model header" in caught.value.message

    play(scene)


def test_a_new_container_has_no_models(play):
    """Those of before are loaded again."""

    async def scene(region):
        container = await serve(region, "a")
        await ask(region, "a")
        container.ill = True
        container.die(1)

        async def replaced():
            while len(region.engine.started) < 2:
                await asyncio.sleep(0.01)
            while True:
                try:
                    return await ask(region, "a")
                except AwsError:
                    await asyncio.sleep(0.01)

        assert (await replaced()).body == b"a"
        assert region.engine.started[1].loads == ["a"]

    play(scene)


def test_a_container_that_ends_during_a_load(play):
    """The request is answered by its successor, or refused, and not cut."""

    async def scene(region):
        container = await serve(region)
        put(region, "slow", "SLOW")
        waiting = asyncio.create_task(ask(region, "slow"))
        await asyncio.to_thread(container.waiting.acquire)
        models = region.endpoints.by_name["one"].fleet.variants["AllTraffic"].instances[0].models
        closing = asyncio.create_task(models.close())
        with pytest.raises(AwsError) as caught:
            await waiting
        assert caught.value.code == "ServiceUnavailable"
        container.release.set()
        await closing

    play(scene)


def test_a_container_that_ends_during_an_unload(play):
    """Requests that wait for the end of the unload are refused, and load nothing."""

    async def scene(region):
        container = await serve(region, "b", ROOM="1")
        put(region, "a", "LEAVING")
        await ask(region, "a")
        asked = [asyncio.create_task(ask(region, "b"))]
        await asyncio.to_thread(container.waiting.acquire)
        instance = region.endpoints.by_name["one"].fleet.variants["AllTraffic"].instances[0]
        asked.append(asyncio.create_task(ask(region, "a")))
        while instance.outstanding < 2:
            await asyncio.sleep(0)
        await instance.models.close()
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [error.code for error in errors] == ["ServiceUnavailable"] * 2
        container.release.set()
        assert container.loads == ["LEAVING"]

    play(scene)


def test_an_endpoint_that_is_deleted_ends_its_loads(play):
    async def scene(region):
        container = await serve(region)
        put(region, "slow", "SLOW")
        waiting = asyncio.create_task(ask(region, "slow"))
        await asyncio.to_thread(container.waiting.acquire)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        container.release.set()
        await region.delete()

    play(scene)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({}, "needs a ModelDataUrl"),
        ({"ModelDataUrl": "s3://none/many/"}, "Could not find model data at s3://none/many/."),
        ({"ModelDataSource": {"S3DataSource": {}}}, "ModelDataSource is not supported for multi"),
    ],
)
def test_containers_that_are_refused(play, container, words):
    async def scene(region):
        multi = {"Image": "serve:1", "Mode": "MultiModel", **container}
        text = await region.refused("CreateModel", ModelName="m", PrimaryContainer=multi)
        assert words in text

    play(scene)


def test_what_a_multi_model_container_can_not_be_beside_or_in(play):
    async def scene(region):
        await serve(region)
        multi = {"Image": "serve:1", "Mode": "MultiModel", "ModelDataUrl": PREFIX}
        both = [multi, {"Image": "serve:1"}]
        text = await region.refused("CreateModel", ModelName="m", Containers=both)
        assert "Mode MultiModel beside other containers is not supported" in text
        serverless = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
        text = await region.refused(
            "CreateEndpointConfig",
            EndpointConfigName="c",
            ProductionVariants=[region.variant(ServerlessConfig=serverless)],
        )
        assert "can't serve a multi-model container" in text
        found = await region.call("DescribeModel", ModelName="model")
        assert found["PrimaryContainer"]["Mode"] == "MultiModel"

    play(scene)
