"""Endpoints from their creation to their end, on containers of a fake engine."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import ARN, archive
from tests.unit.region.services.sagemaker.endpoints.fake_engine import is_open, wait_for

from sagemaker_byoc.contract.lifecycle import SERVE_STOP_GRACE
from sagemaker_byoc.region.containers import health
from sagemaker_byoc.region.core import polling
from sagemaker_byoc.region.core.polling import CLIENT, SDK, WAITS
from sagemaker_byoc.region.services.sagemaker.tags import Tags


def test_life_of_an_endpoint(play):
    """Created, in service, described, deleted; SIGTERM with the contract's grace at the end."""

    async def scene(region):
        await region.model()
        await region.config()
        found = await region.endpoint()
        assert found["EndpointStatus"] == "InService"
        assert found["EndpointArn"] == f"{ARN}:endpoint/one"
        assert found["EndpointConfigName"] == "config"
        (variant,) = found["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == variant["DesiredInstanceCount"] == 1
        assert variant["CurrentWeight"] == 1.0
        assert variant["DeployedImages"][0]["ResolvedImage"] == "serve:1@sha256:1"
        (container,) = region.engine.started
        await region.delete()
        assert container.graces == [SERVE_STOP_GRACE.value]
        assert not is_open(container.spec.port)
        assert not [*region.state.glob("work/endpoints/one/*")]

    play(scene)


def test_each_status_is_an_event(play):
    """With what DescribeEndpoint answers, and the status in EventBridge's letters."""

    async def scene(region):
        await region.model()
        await region.config()
        await region.endpoint()
        await region.delete()
        queue = region.context.events._queue
        events = [queue.get() for _ in range(queue.qsize())]
        found = [each.detail for each in events if "Endpoint State" in each.detail_type]
        statuses = [each["EndpointStatus"] for each in found]
        assert statuses == ["CREATING", "IN_SERVICE", "DELETING"]
        (variant,) = found[1]["ProductionVariants"]
        assert (variant["VariantName"], variant["DesiredInstanceCount"]) == ("AllTraffic", 1)
        assert "Variants" not in found[1]

    play(scene)


def test_words_for_what_is_missing_or_there(play):
    """SDKs test for these texts."""

    async def scene(region):
        await region.model()
        await region.config()
        await region.endpoint()
        container = {"Image": "serve:1"}
        refused = region.refused
        assert await refused("CreateModel", ModelName="model", PrimaryContainer=container) == (
            f'Cannot create already existing model "{ARN}:model/model".'
        )
        assert (
            await refused(
                "CreateEndpointConfig",
                EndpointConfigName="config",
                ProductionVariants=[region.variant()],
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

    play(scene)


def test_in_progress_is_not_touched(play, tmp_path):
    """Neither by an update nor by a delete, until it has settled."""

    async def scene(region):
        await region.model(FILE=str(tmp_path / "go"))
        await region.config()
        await region.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        text = f'Cannot update in-progress endpoint "{ARN}:endpoint/one".'
        both = {"EndpointName": "one", "EndpointConfigName": "config"}
        assert await region.refused("UpdateEndpoint", **both) == text
        assert await region.refused("DeleteEndpoint", EndpointName="one") == text
        (tmp_path / "go").touch()
        assert (await region.settled())["EndpointStatus"] == "InService"

    play(scene)


@pytest.fixture
def caller():
    """Sets who asks, as the server does for each request."""

    return CLIENT.set


def test_describe_is_held_until_there_is_news(play, tmp_path, caller):
    """A client's first look is answered at once, its second when the status has changed."""

    async def scene(region):
        await region.model(FILE=str(tmp_path / "go"))
        await region.config()
        await region.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        caller("client-1")
        first = await region.call("DescribeEndpoint", EndpointName="one")
        assert first["EndpointStatus"] == "Creating"
        second = asyncio.create_task(region.call("DescribeEndpoint", EndpointName="one"))
        caller("client-2")
        other = await region.call("DescribeEndpoint", EndpointName="one")
        assert other["EndpointStatus"] == "Creating"
        assert not second.done()
        (tmp_path / "go").touch()
        assert (await second)["EndpointStatus"] == "InService"

    play(scene)


@pytest.mark.parametrize("who", [WAITS, SDK])
def test_waiter_is_held_until_there_is_an_end(play, tmp_path, who, caller, monkeypatch):
    """From its first look on: it sleeps half a minute after an answer that is not the end."""
    monkeypatch.setattr(polling, "FIRST_LOOKS", ((0.0, 60.0),))  # SDK 2 sleeps 30 s before it

    async def scene(region):
        await region.model(FILE=str(tmp_path / "go"))
        await region.config()
        caller("client-1")
        SDK.set(who is SDK)
        await region.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        who.set(True)
        describe = asyncio.create_task(region.call("DescribeEndpoint", EndpointName="one"))
        who.set(False)
        await region.call("ListEndpoints")
        assert not describe.done()
        (tmp_path / "go").touch()
        assert (await describe)["EndpointStatus"] == "InService"
        listed = await region.call("ListEndpoints", StatusEquals="InService")
        assert [each["EndpointName"] for each in listed["Endpoints"]] == ["one"]

    play(scene)


def test_waiter_for_a_deletion_is_held_until_it_is_gone(play):
    """Then AWS's "Could not find" answers, for which botocore's endpoint_deleted waits."""

    async def scene(region):
        await region.model()
        await region.config()
        await region.endpoint()
        await region.call("DeleteEndpoint", EndpointName="one")
        described = await region.call("DescribeEndpoint", EndpointName="one")
        assert described["EndpointStatus"] == "Deleting"
        WAITS.set(True)
        assert "Could not find" in await region.refused("DescribeEndpoint", EndpointName="one")
        assert not [*region.state.glob("work/endpoints/*")]

    play(scene)


def test_tags_come_and_go_with_their_resource(play):
    """As they were given at its creation."""

    async def scene(region):
        tags = [{"Key": "team", "Value": "a"}]
        container = {"Image": "serve:1"}
        await region.call("CreateModel", ModelName="m", PrimaryContainer=container, Tags=tags)
        assert Tags(region.state).get(f"{ARN}:model/m") == {"team": "a"}
        await region.call("DeleteModel", ModelName="m")
        assert Tags(region.state).get(f"{ARN}:model/m") == {}

    play(scene)


def test_container_that_exits(play):
    """Failed at once, with SageMaker's sentence, the exit code and the log's end."""

    async def scene(region):
        await region.model(MODE="exits")
        await region.config()
        found = await region.endpoint()
        assert found["EndpointStatus"] == "Failed"
        reason = found["FailureReason"]
        assert reason.startswith(
            "The primary container for production variant AllTraffic did not pass the ping health "
            "check. Please check CloudWatch logs for this endpoint."
        )
        assert "exit code 1" in reason
        assert reason.endswith("no weights")
        assert len(reason) <= 1024
        assert not region.engine.running
        (lines,) = region.log().values()
        assert "no weights" in lines
        await region.delete()

    play(scene)


@pytest.mark.slow
def test_container_that_never_listens(play):
    """Failed when the variant's time is over."""

    async def scene(region):
        await region.model(MODE="deaf")
        # Below the service model's 60 s, which the wire checks and not this region.
        timeout = {"ContainerStartupHealthCheckTimeoutInSeconds": 1}
        await region.config("config", region.variant(**timeout))
        found = await region.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert "not 200 within 1 s" in found["FailureReason"]

    play(scene)


def test_one_bad_variant_ends_the_others(play):
    """None of a failed endpoint's containers goes on."""

    async def scene(region):
        await region.model("good")
        await region.model("bad", MODE="exits")
        await region.config("config", region.variant("a", "good"), region.variant("b", "bad"))
        found = await region.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert "variant b" in found["FailureReason"]
        assert not region.engine.running

    play(scene)


def test_stop_ends_a_creation_under_way(play):
    """`byoc stop` does not wait for eight minutes."""

    async def scene(region):
        await region.model(MODE="ill")
        await region.config()
        await region.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        region.endpoints.find("one").delete()
        await region.gone()
        assert not region.engine.running

    play(scene)


def test_stop_ends_a_pull_under_way(play):
    """Models and endpoints are made before their image is pulled: a client waits for 60 s."""

    async def scene(region):
        await region.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "slow:1"})
        await region.config()
        await region.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        pulling = region.images.pulling
        await asyncio.to_thread(wait_for, pulling.is_set, "the pull")
        region.endpoints.find("one").delete()
        await region.gone()
        await asyncio.to_thread(wait_for, lambda: not pulling.is_set(), "the end of the pull")

    play(scene)


def test_a_pull_that_fails_is_the_reason(play):
    async def scene(region):
        await region.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "broken:1"})
        await region.config()
        found = await region.endpoint()
        assert found["FailureReason"] == "Cannot pull image broken:1: disk. Clear it"

    play(scene)


def test_model_archive_is_shared_by_instances(play):
    """Unpacked once, shown to each."""

    async def scene(region):
        region.store.create_bucket("models")
        region.store.put_bytes("models", "m/model.tar.gz", archive(weights=b"1"))
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/m/model.tar.gz"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await region.config("config", region.variant(InitialInstanceCount=3))
        found = await region.endpoint()
        assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 3
        (folder,) = {each.spec.inputs["model"] for each in region.engine.started}
        assert (folder / "weights").read_bytes() == b"1"
        assert len(region.log()) == 3

    play(scene)


def test_uncompressed_model(play):
    """All objects under a prefix, as they are."""

    async def scene(region):
        region.store.create_bucket("models")
        region.store.put_bytes("models", "m/a/weights", b"1")
        region.store.put_bytes("models", "m/code/inference.py", b"2")
        source = {"S3Uri": "s3://models/m/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": "serve:1", "ModelDataSource": {"S3DataSource": source}}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await region.config()
        await region.endpoint()
        folder = region.engine.started[0].spec.inputs["model"]
        assert (folder / "a/weights").read_bytes() == b"1"
        assert (folder / "code/inference.py").read_bytes() == b"2"

    play(scene)


def test_additional_sources(play):
    """Each in a folder of its own, beside the model; one object keeps its name."""

    async def scene(region):
        region.store.create_bucket("models")
        region.store.put_bytes("models", "m.tar.gz", archive(weights=b"1"))
        region.store.put_bytes("models", "draft/small", b"2")
        adapters = {"S3DataType": "S3Prefix", "S3Uri": "s3://models/draft/"}
        one = {"S3DataType": "S3Object", "S3Uri": "s3://models/draft/small"}
        container = {
            "Image": "serve:1",
            "ModelDataUrl": "s3://models/m.tar.gz",
            "AdditionalModelDataSources": [
                {"ChannelName": name, "S3DataSource": {**source, "CompressionType": "None"}}
                for name, source in {"draft": adapters, "one.file": one}.items()
            ],
        }
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await region.config("config", region.variant(InitialInstanceCount=2))
        await region.endpoint()
        for started in region.engine.started:
            inputs = started.spec.inputs
            assert (inputs["model"] / "weights").read_bytes() == b"1"
            for name in ("draft", "one.file"):
                folder = inputs[f"additional-model-data-sources/{name}"]
                assert (folder / "small").read_bytes() == b"2"
            assert started.spec.read_only == frozenset(inputs)

    play(scene)


@pytest.mark.parametrize(("names", "words"), [(["..", "a"], "ChannelName .."), (["a", "a"], "one")])
def test_additional_sources_that_are_refused(play, names, words):
    async def scene(region):
        source = {"S3DataType": "S3Prefix", "S3Uri": "s3://models/x/", "CompressionType": "None"}
        sources = [{"ChannelName": name, "S3DataSource": source} for name in names]
        container = {"Image": "a", "AdditionalModelDataSources": sources}
        text = await region.refused("CreateModel", ModelName="m", PrimaryContainer=container)
        assert words in text
        container["AdditionalModelDataSources"] = [{"ChannelName": "a", "S3DataSource": source}]
        text = await region.refused("CreateModel", ModelName="m", PrimaryContainer=container)
        assert text == "Could not find model data at s3://models/x/."

    play(scene)


@pytest.mark.parametrize(
    ("container", "text"),
    [
        ({"Image": "absent:1"}, "Cannot find image absent:1"),
        ({"Image": "a", "ModelDataUrl": "s3://no/x"}, "Could not find model data at s3://no/x."),
        ({"ModelPackageName": "x"}, f"ModelPackage {ARN}:model-package/x does not exist."),
        ({"ModelDataUrl": "s3://no/x"}, "needs an Image"),
    ],
)
def test_models_that_are_refused(play, container, text):
    """At their creation, as SageMaker does, and not when an endpoint fails."""

    async def scene(region):
        found = await region.refused("CreateModel", ModelName="m", PrimaryContainer=container)
        assert text in found

    play(scene)


def test_damaged_archive(play):
    """The reason names the object and what is wrong with it."""

    async def scene(region):
        region.store.create_bucket("models")
        region.store.put_bytes("models", "model.tar.gz", b"not an archive")
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/model.tar.gz"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await region.config()
        found = await region.endpoint()
        assert found["FailureReason"].startswith('Failed to download model data for container "pr')
        assert "not a whole tar archive" in found["FailureReason"]

    play(scene)


def test_configuration_is_checked(play):
    """Parts that this region does not have are refused and not ignored."""

    async def scene(region):
        await region.model()

        async def refused(*variants, **more):
            return await region.refused(
                "CreateEndpointConfig",
                EndpointConfigName="c",
                ProductionVariants=[*variants],
                **more,
            )

        variant = region.variant()
        assert "Could not find model" in await refused(region.variant(model="other"))
        assert "must be unique" in await refused(variant, variant)
        assert "at most 16" in await refused({**variant, "InitialInstanceCount": 17})
        asked = {"AsyncInferenceConfig": {"OutputConfig": {}}}
        assert "not supported by this local region" in await refused(variant, **asked)

    play(scene)


def test_running_endpoint_needs_neither_model_nor_configuration(play):
    """Scripts delete these first."""

    async def scene(region):
        await region.model()
        await region.config()
        await region.endpoint()
        await region.call("DeleteEndpointConfig", EndpointConfigName="config")
        await region.call("DeleteModel", ModelName="model")
        assert (await region.invoke()).status == 200
        assert (await region.settled())["EndpointStatus"] == "InService"

    play(scene)


def test_capture_is_described(play):
    """As the configuration asked for it."""

    async def scene(region):
        await region.model()
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://models/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }
        await region.config(DataCaptureConfig=capture)
        found = await region.endpoint()
        assert found["DataCaptureConfig"]["CurrentSamplingPercentage"] == 50
        assert found["DataCaptureConfig"]["EnableCapture"]
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"

    play(scene)


def test_listing_in_pages(play):
    """Filtered, ordered, and each once."""

    async def scene(region):
        for name in "cab":
            await region.model(f"model-{name}")
        first = await region.call("ListModels", MaxResults=2, SortBy="Name", SortOrder="Ascending")
        names = [each["ModelName"] for each in first["Models"]]
        rest = await region.call(
            "ListModels", SortBy="Name", SortOrder="Ascending", NextToken=first["NextToken"]
        )
        names += [each["ModelName"] for each in rest["Models"]]
        assert names == ["model-a", "model-b", "model-c"]
        assert "NextToken" not in rest
        found = await region.call("ListModels", NameContains="-B")
        assert [each["ModelName"] for each in found["Models"]] == ["model-b"]
        assert "pagination token" in await region.refused("ListModels", NextToken="?")

    play(scene)


def test_dead_container_is_replaced(play):
    """While the other instance serves; the log says so."""

    async def scene(region):
        await region.model()
        await region.config("config", region.variant(InitialInstanceCount=2))
        await region.endpoint()
        first, _ = region.engine.started
        first.die(137)
        answers = [await region.invoke() for _ in range(20)]
        assert {answer.status for answer in answers} == {200}
        async with asyncio.timeout(10):
            while len(region.engine.started) < 3:
                await asyncio.sleep(0.01)
            while True:
                found = await region.call("DescribeEndpoint", EndpointName="one")
                if found["ProductionVariants"][0]["CurrentInstanceCount"] == 2:
                    break
                await asyncio.sleep(0.01)
        assert any("exit code 137" in line for lines in region.log().values() for line in lines)

    play(scene)


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
def test_values_that_only_aws_refuses(play, variant, words):
    """The service model lets them through."""

    async def scene(region):
        await region.model()
        asked = {"VariantName": "a", "ModelName": "model", **variant}
        name = {"EndpointConfigName": "c", "ProductionVariants": [asked]}
        assert words in await region.refused("CreateEndpointConfig", **name)

    play(scene)


def test_what_a_serverless_endpoint_cannot_have(play):
    async def scene(region):
        await region.model()
        container = {"Image": "serve:1"}
        await region.call(
            "CreateModel",
            ModelName="isolated",
            PrimaryContainer=container,
            EnableNetworkIsolation=True,
        )
        await region.call("CreateModel", ModelName="two", Containers=[container, container])
        one = region.variant(ServerlessConfig=SERVERLESS)

        async def refused(*variants, **more):
            return await region.refused(
                "CreateEndpointConfig",
                EndpointConfigName="c",
                ProductionVariants=[*variants],
                **more,
            )

        assert "one variant only" in await refused(one, region.variant("b"))
        assert "KmsKeyId" in await refused(one, KmsKeyId="key")
        assert "EnableNetworkIsolation" in await refused({**one, "ModelName": "isolated"})
        assert "one container" in await refused({**one, "ModelName": "two"})
        await region.config("config", one)

    play(scene)


def test_members_that_aws_always_returns(play):
    async def scene(region):
        await region.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "serve:1"})
        model = await region.call("DescribeModel", ModelName="model")
        assert model["EnableNetworkIsolation"] is False
        whole = {"Image": "serve:1", "Mode": "SingleModel", "Environment": {}}
        assert model["PrimaryContainer"] == whole
        await region.config()
        config = await region.call("DescribeEndpointConfig", EndpointConfigName="config")
        assert config["EnableNetworkIsolation"] is False

    play(scene)


def test_an_image_for_another_machine_is_warned_about(play):
    """In the endpoint's log: the containers run here, and could not on the instances."""

    async def scene(region):
        await region.call("CreateModel", ModelName="model", PrimaryContainer={"Image": "arm:1"})
        await region.config()
        assert (await region.endpoint())["EndpointStatus"] == "InService"
        (lines,) = region.log().values()
        assert "built for arm64, and the instances are amd64 (ml.m5.large)" in lines[0]

    play(scene)


def test_a_tag_of_awss_own_is_refused(play):
    """And nothing is made."""

    async def scene(region):
        container = {"Image": "serve:1"}
        for key in ("aws:team", "AWS:team"):
            tags = [{"Key": key, "Value": "a"}]
            said = await region.refused(
                "CreateModel", ModelName="m", PrimaryContainer=container, Tags=tags
            )
            assert key in said
        await region.call("CreateModel", ModelName="m", PrimaryContainer=container)
        assert Tags(region.state).get(f"{ARN}:model/m") == {}

    play(scene)
