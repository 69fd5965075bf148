"""Endpoints from their creation to their end, on pretended containers."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import ARN, archive
from tests.unit.region.services.sagemaker.endpoints.pretenders import is_open, wait_for

from sagemaker_byoc.contract.lifecycle import SERVE_STOP_GRACE
from sagemaker_byoc.region.containers import health
from sagemaker_byoc.region.core.polling import CLIENT, SDK, WAITS
from sagemaker_byoc.region.services.sagemaker.catalog import Tags


def test_life_of_an_endpoint(room):
    """Created, in service, described, deleted; SIGTERM with the contract's grace at the end."""

    async def scene(room):
        await room.model()
        await room.config()
        found = await room.endpoint()
        assert found["EndpointStatus"] == "InService"
        assert found["EndpointArn"] == f"{ARN}:endpoint/one"
        assert found["EndpointConfigName"] == "config"
        (variant,) = found["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == variant["DesiredInstanceCount"] == 1
        assert variant["CurrentWeight"] == 1.0
        assert variant["DeployedImages"][0]["ResolvedImage"] == "serve:1@sha256:1"
        (container,) = room.engine.started
        await room.delete()
        assert container.graces == [SERVE_STOP_GRACE.value]
        assert not is_open(container.spec.port)
        assert not [*room.state.glob("work/endpoints/one/*")]

    room(scene)


def test_words_for_what_is_missing_or_there(room):
    """SDKs test for these texts."""

    async def scene(room):
        await room.model()
        await room.config()
        await room.endpoint()
        container = {"Image": "serve:1"}
        refused = room.refused
        assert await refused("CreateModel", ModelName="model", PrimaryContainer=container) == (
            f'Cannot create already existing model "{ARN}:model/model".'
        )
        assert (
            await refused(
                "CreateEndpointConfig",
                EndpointConfigName="config",
                ProductionVariants=[room.variant()],
            )
            == "Cannot create already existing endpoint configuration "
            f'"{ARN}:endpoint-config/config".'
        )
        assert await refused("CreateEndpoint", EndpointName="one", EndpointConfigName="config") == (
            f'Cannot create already existing endpoint "{ARN}:endpoint/one".'
        )
        assert await refused("DescribeEndpoint", EndpointName="two") == (
            f'Could not find endpoint "{ARN}:endpoint/two".'
        )
        assert await refused("DeleteEndpoint", EndpointName="two") == (
            f'Could not find endpoint "{ARN}:endpoint/two".'
        )
        assert await refused("DescribeModel", ModelName="x") == (
            f'Could not find model "{ARN}:model/x".'
        )
        assert await refused("CreateEndpoint", EndpointName="x", EndpointConfigName="x") == (
            f'Could not find endpoint configuration "{ARN}:endpoint-config/x".'
        )

    room(scene)


def test_in_progress_is_not_touched(room, tmp_path):
    """Neither by an update nor by a delete, until it has settled."""

    async def scene(room):
        await room.model(FILE=str(tmp_path / "go"))
        await room.config()
        await room.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        text = f'Cannot update in-progress endpoint "{ARN}:endpoint/one".'
        both = {"EndpointName": "one", "EndpointConfigName": "config"}
        assert await room.refused("UpdateEndpoint", **both) == text
        assert await room.refused("DeleteEndpoint", EndpointName="one") == text
        (tmp_path / "go").touch()
        assert (await room.settled())["EndpointStatus"] == "InService"

    room(scene)


@pytest.fixture
def caller():
    """Sets who asks, as the server does for each request."""

    return CLIENT.set


def test_describe_is_held_until_there_is_news(room, tmp_path, caller):
    """A client's first look is answered at once, its second when the status has changed."""

    async def scene(room):
        await room.model(FILE=str(tmp_path / "go"))
        await room.config()
        await room.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        caller("client-1")
        first = await room.call("DescribeEndpoint", EndpointName="one")
        assert first["EndpointStatus"] == "Creating"
        second = asyncio.create_task(room.call("DescribeEndpoint", EndpointName="one"))
        caller("client-2")
        other = await room.call("DescribeEndpoint", EndpointName="one")
        assert other["EndpointStatus"] == "Creating"
        assert not second.done()
        (tmp_path / "go").touch()
        assert (await second)["EndpointStatus"] == "InService"

    room(scene)


@pytest.mark.parametrize("who", [WAITS, SDK])
def test_waiter_is_held_until_there_is_an_end(room, tmp_path, who):
    """From its first look on: it sleeps half a minute after an answer that is not the end."""

    async def scene(room):
        await room.model(FILE=str(tmp_path / "go"))
        await room.config()
        await room.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        who.set(True)
        describe = asyncio.create_task(room.call("DescribeEndpoint", EndpointName="one"))
        who.set(False)
        await room.call("ListEndpoints")
        assert not describe.done()
        (tmp_path / "go").touch()
        assert (await describe)["EndpointStatus"] == "InService"
        listed = await room.call("ListEndpoints", StatusEquals="InService")
        assert [each["EndpointName"] for each in listed["Endpoints"]] == ["one"]

    room(scene)


def test_waiter_for_a_deletion_is_held_until_it_is_gone(room):
    """Then AWS's "Could not find" answers, for which botocore's endpoint_deleted waits."""

    async def scene(room):
        await room.model()
        await room.config()
        await room.endpoint()
        await room.call("DeleteEndpoint", EndpointName="one")
        described = await room.call("DescribeEndpoint", EndpointName="one")
        assert described["EndpointStatus"] == "Deleting"
        WAITS.set(True)
        assert "Could not find" in await room.refused("DescribeEndpoint", EndpointName="one")

    room(scene)


def test_tags_come_and_go_with_their_resource(room):
    """As they were given at its creation."""

    async def scene(room):
        tags = [{"Key": "team", "Value": "a"}]
        container = {"Image": "serve:1"}
        await room.call("CreateModel", ModelName="m", PrimaryContainer=container, Tags=tags)
        assert Tags(room.state).get(f"{ARN}:model/m") == {"team": "a"}
        await room.call("DeleteModel", ModelName="m")
        assert Tags(room.state).get(f"{ARN}:model/m") == {}

    room(scene)


def test_container_that_exits(room):
    """Failed at once, with SageMaker's sentence, the exit code and the log's end."""

    async def scene(room):
        await room.model(MODE="exits")
        await room.config()
        found = await room.endpoint()
        assert found["EndpointStatus"] == "Failed"
        reason = found["FailureReason"]
        assert reason.startswith(
            "The primary container for production variant AllTraffic did not pass the ping health "
            "check. Please check CloudWatch logs for this endpoint."
        )
        assert "exit code 1" in reason
        assert reason.endswith("no weights")
        assert len(reason) <= 1024
        assert not room.engine.running
        (lines,) = room.log().values()
        assert "no weights" in lines
        await room.delete()

    room(scene)


@pytest.mark.slow
def test_container_that_never_listens(room):
    """Failed when the variant's time is over."""

    async def scene(room):
        await room.model(MODE="deaf")
        # Below the service model's 60 s, which the wire checks and not this room.
        timeout = {"ContainerStartupHealthCheckTimeoutInSeconds": 1}
        await room.config("config", room.variant(**timeout))
        found = await room.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert "not 200 within 1 s" in found["FailureReason"]

    room(scene)


def test_one_bad_variant_ends_the_others(room):
    """None of a failed endpoint's containers goes on."""

    async def scene(room):
        await room.model("good")
        await room.model("bad", MODE="exits")
        await room.config("config", room.variant("a", "good"), room.variant("b", "bad"))
        found = await room.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert "variant b" in found["FailureReason"]
        assert not room.engine.running

    room(scene)


def test_stop_ends_a_creation_under_way(room):
    """`byoc stop` does not wait for eight minutes."""

    async def scene(room):
        await room.model(MODE="ill")
        await room.config()
        await room.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        room.service.endpoints.stop("one")
        await room.gone()
        assert not room.engine.running

    room(scene)


def test_stop_ends_a_pull_under_way(room):
    """Models and endpoints are made before their image is pulled: a client waits for 60 s."""

    async def scene(room):
        await room.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "slow:1"})
        await room.config()
        await room.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        pulling = room.images.pulling
        await asyncio.to_thread(wait_for, pulling.is_set, "the pull")
        room.service.endpoints.stop("one")
        await room.gone()
        await asyncio.to_thread(wait_for, lambda: not pulling.is_set(), "the end of the pull")

    room(scene)


def test_a_pull_that_fails_is_the_reason(room):
    async def scene(room):
        await room.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "broken:1"})
        await room.config()
        found = await room.endpoint()
        assert found["FailureReason"] == "Cannot pull image broken:1: disk. Clear it"

    room(scene)


def test_model_archive_is_shared_by_instances(room):
    """Unpacked once, shown to each."""

    async def scene(room):
        room.store.create_bucket("models")
        room.store.put_bytes("models", "m/model.tar.gz", archive(weights=b"1"))
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/m/model.tar.gz"}
        await room.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await room.config("config", room.variant(InitialInstanceCount=3))
        found = await room.endpoint()
        assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 3
        (folder,) = {each.spec.inputs["model"] for each in room.engine.started}
        assert (folder / "weights").read_bytes() == b"1"
        assert len(room.log()) == 3

    room(scene)


def test_uncompressed_model(room):
    """All objects under a prefix, as they are."""

    async def scene(room):
        room.store.create_bucket("models")
        room.store.put_bytes("models", "m/a/weights", b"1")
        room.store.put_bytes("models", "m/code/inference.py", b"2")
        source = {"S3Uri": "s3://models/m/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": "serve:1", "ModelDataSource": {"S3DataSource": source}}
        await room.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await room.config()
        await room.endpoint()
        folder = room.engine.started[0].spec.inputs["model"]
        assert (folder / "a/weights").read_bytes() == b"1"
        assert (folder / "code/inference.py").read_bytes() == b"2"

    room(scene)


@pytest.mark.parametrize(
    ("container", "text"),
    [
        ({"Image": "absent:1"}, "Cannot find image absent:1"),
        ({"Image": "a", "ModelDataUrl": "s3://no/x"}, "Could not find model data at s3://no/x."),
        ({"Image": "a", "Mode": "MultiModel"}, "MultiModel is not supported"),
        ({"Image": "a", "ModelPackageName": "x"}, "ModelPackageName is not supported"),
        ({"ModelDataUrl": "s3://no/x"}, "needs an Image"),
    ],
)
def test_models_that_are_refused(room, container, text):
    """At their creation, as SageMaker does, and not when an endpoint fails."""

    async def scene(room):
        found = await room.refused("CreateModel", ModelName="m", PrimaryContainer=container)
        assert text in found

    room(scene)


def test_damaged_archive(room):
    """The reason names the object and what is wrong with it."""

    async def scene(room):
        room.store.create_bucket("models")
        room.store.put_bytes("models", "model.tar.gz", b"not an archive")
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/model.tar.gz"}
        await room.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await room.config()
        found = await room.endpoint()
        assert found["FailureReason"].startswith('Failed to download model data for container "pr')
        assert "not a whole tar archive" in found["FailureReason"]

    room(scene)


def test_configuration_is_checked(room):
    """Parts that this region does not have are refused and not ignored."""

    async def scene(room):
        await room.model()

        async def refused(*variants, **more):
            return await room.refused(
                "CreateEndpointConfig",
                EndpointConfigName="c",
                ProductionVariants=[*variants],
                **more,
            )

        variant = room.variant()
        assert "Could not find model" in await refused(room.variant(model="other"))
        assert "must be another" in await refused(variant, variant)
        assert "at most 16" in await refused({**variant, "InitialInstanceCount": 17})
        asked = {"AsyncInferenceConfig": {"OutputConfig": {}}}
        assert "not supported by this local region" in await refused(variant, **asked)

    room(scene)


def test_running_endpoint_needs_neither_model_nor_configuration(room):
    """Scripts delete these first."""

    async def scene(room):
        await room.model()
        await room.config()
        await room.endpoint()
        await room.call("DeleteEndpointConfig", EndpointConfigName="config")
        await room.call("DeleteModel", ModelName="model")
        assert (await room.invoke()).status == 200
        assert (await room.settled())["EndpointStatus"] == "InService"

    room(scene)


def test_capture_is_described(room):
    """As the configuration asked for it."""

    async def scene(room):
        await room.model()
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://models/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }
        await room.config(DataCaptureConfig=capture)
        found = await room.endpoint()
        assert found["DataCaptureConfig"]["CurrentSamplingPercentage"] == 50
        assert found["DataCaptureConfig"]["EnableCapture"]
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"

    room(scene)


def test_listing_in_pages(room):
    """Filtered, ordered, and each once."""

    async def scene(room):
        for name in "cab":
            await room.model(f"model-{name}")
        first = await room.call("ListModels", MaxResults=2, SortBy="Name", SortOrder="Ascending")
        names = [each["ModelName"] for each in first["Models"]]
        rest = await room.call(
            "ListModels", SortBy="Name", SortOrder="Ascending", NextToken=first["NextToken"]
        )
        names += [each["ModelName"] for each in rest["Models"]]
        assert names == ["model-a", "model-b", "model-c"]
        assert "NextToken" not in rest
        found = await room.call("ListModels", NameContains="-B")
        assert [each["ModelName"] for each in found["Models"]] == ["model-b"]
        assert "pagination token" in await room.refused("ListModels", NextToken="?")

    room(scene)


def test_dead_container_is_replaced(room):
    """While the other instance serves; the log says so."""

    async def scene(room):
        await room.model()
        await room.config("config", room.variant(InitialInstanceCount=2))
        await room.endpoint()
        first, _ = room.engine.started
        first.die(137)
        answers = [await room.invoke() for _ in range(20)]
        assert {answer.status for answer in answers} == {200}
        async with asyncio.timeout(10):
            while len(room.engine.started) < 3:
                await asyncio.sleep(0.01)
            while True:
                found = await room.call("DescribeEndpoint", EndpointName="one")
                if found["ProductionVariants"][0]["CurrentInstanceCount"] == 2:
                    break
                await asyncio.sleep(0.01)
        assert any("exit code 137" in line for lines in room.log().values() for line in lines)

    room(scene)


def test_health_look_is_quick_where_the_log_ended():
    """An exit is not waited for until the next look at the engine."""

    class Ended:
        def lines(self):
            return iter(())

        def exit_code(self):
            return 3

    log = health.ContainerLog(Ended(), print)
    log.start()
    log.join()
    assert health.Watch(Ended(), 1, log).exit_code() == 3


SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ({"ServerlessConfig": SERVERLESS | {"MemorySizeInMB": 1111}}, "MemorySizeInMB 1111"),
        ({"ServerlessConfig": SERVERLESS | {"ProvisionedConcurrency": 6}}, "more than its Max"),
        ({"ServerlessConfig": SERVERLESS, "InstanceType": "ml.m5.large"}, "and InstanceType"),
        ({"ServerlessConfig": SERVERLESS, "InitialInstanceCount": 1}, "and InitialInstanceCount"),
        ({}, "needs an InstanceType or a ServerlessConfig"),
        (
            {"InstanceType": "ml.m5.large", "ManagedInstanceScaling": {}},
            "only supported for inference component endpoints",
        ),
    ],
)
def test_values_that_only_aws_refuses(room, variant, words):
    """The service model lets them through."""

    async def scene(room):
        await room.model()
        asked = {"VariantName": "a", "ModelName": "model", **variant}
        name = {"EndpointConfigName": "c", "ProductionVariants": [asked]}
        assert words in await room.refused("CreateEndpointConfig", **name)

    room(scene)


def test_what_a_serverless_endpoint_cannot_have(room):
    async def scene(room):
        await room.model()
        container = {"Image": "serve:1"}
        await room.call(
            "CreateModel",
            ModelName="isolated",
            PrimaryContainer=container,
            EnableNetworkIsolation=True,
        )
        await room.call("CreateModel", ModelName="two", Containers=[container, container])
        one = room.variant(ServerlessConfig=SERVERLESS)

        async def refused(*variants, **more):
            return await room.refused(
                "CreateEndpointConfig",
                EndpointConfigName="c",
                ProductionVariants=[*variants],
                **more,
            )

        assert "one variant only" in await refused(one, room.variant("b"))
        assert "KmsKeyId" in await refused(one, KmsKeyId="key")
        assert "EnableNetworkIsolation" in await refused({**one, "ModelName": "isolated"})
        assert "one container" in await refused({**one, "ModelName": "two"})
        await room.config("config", one)

    room(scene)


def test_members_that_aws_always_returns(room):
    async def scene(room):
        await room.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "serve:1"})
        model = await room.call("DescribeModel", ModelName="model")
        assert model["EnableNetworkIsolation"] is False
        whole = {"Image": "serve:1", "Mode": "SingleModel", "Environment": {}}
        assert model["PrimaryContainer"] == whole
        await room.config()
        config = await room.call("DescribeEndpointConfig", EndpointConfigName="config")
        assert config["EnableNetworkIsolation"] is False

    room(scene)


def test_an_image_for_another_machine_is_warned_about(room):
    """In the endpoint's log: the containers run here, and could not on the instances."""

    async def scene(room):
        await room.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "arm:1"})
        await room.config()
        assert (await room.endpoint())["EndpointStatus"] == "InService"
        (lines,) = room.log().values()
        assert "built for arm64, and the instances are amd64 (ml.m5.large)" in lines[0]

    room(scene)


def test_a_tag_of_awss_own_is_refused(room):
    """And nothing is made."""

    async def scene(room):
        container = {"Image": "serve:1"}
        for key in ("aws:team", "AWS:team"):
            tags = [{"Key": key, "Value": "a"}]
            said = await room.refused(
                "CreateModel", ModelName="m", PrimaryContainer=container, Tags=tags
            )
            assert key in said
        await room.call("CreateModel", ModelName="m", PrimaryContainer=container)
        assert Tags(room.state).get(f"{ARN}:model/m") == {}

    room(scene)
