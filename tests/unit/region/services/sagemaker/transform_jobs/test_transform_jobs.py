"""Transform jobs from CreateTransformJob to their end: instances, limits, failures, stops."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from tests.support.waiting import until
from tests.unit.region.services.sagemaker.endpoints.fake_engine import BOUND, Handler
from tests.unit.region.services.sagemaker.transform_jobs.conftest import TransformRegion

from sagemaker_byoc.region.services.sagemaker import context, models
from sagemaker_byoc.region.services.sagemaker.endpoints import configs
from sagemaker_byoc.region.services.sagemaker.endpoints import instance as instances
from sagemaker_byoc.region.services.sagemaker.jobs.containers import INTERNAL
from sagemaker_byoc.region.services.sagemaker.transform_jobs import requests

ARN = "arn:aws:sagemaker:us-east-1:000000000000"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(requests, "_DELAYS", (0.0,))


def test_a_job(play):
    """Two objects on two instances; its description; its log; nothing is left of it."""

    async def scene(region):
        await region.model()
        region.put(**{"a.csv": b"one\ntwo\n", "sub/b.csv": b"three"})
        arn = await region.create(
            TransformResources__InstanceCount=2, Tags=[{"Key": "team", "Value": "blue"}]
        )
        assert arn == f"{ARN}:transform-job/job"
        found = await region.end()
        assert found["TransformJobStatus"] == "Completed"
        assert region.outputs() == {"a.csv.out": b"one\ntwo\n", "sub/b.csv.out": b"three\n"}
        assert {len(each.requests) for each in region.engine.started} == {1, 2}
        assert found["CreationTime"] <= found["TransformStartTime"] <= found["TransformEndTime"]
        request = region.request(TransformResources__InstanceCount=2)
        request["TransformInput"]["CompressionType"] = "None"
        request["TransformOutput"]["KmsKeyId"] = ""
        assert {k: v for k, v in found.items() if not k.endswith("Time")} == {
            **request,
            "TransformJobArn": arn,
            "TransformJobStatus": "Completed",
            "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
        }
        streams = sorted(region.log())
        assert len(streams) == 4
        assert re.fullmatch(r"job/i-[0-9a-f]{17}-\d{10}", streams[0])
        assert streams[1] == f"{streams[0]}/data-log"
        assert region.data_log() == 2 * [
            "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=SINGLE_RECORD",
            "The answer to /execution-parameters is not a JSON object",
        ]
        tags = await region.call("ListTags", ResourceArn=arn)
        assert tags["Tags"] == [{"Key": "team", "Value": "blue"}]
        assert {grace for each in region.engine.started for grace in each.graces} == {30.0}

    play(scene)


def test_variables(play):
    """Those of the request only if it has them; those of the job win over the model's."""

    async def scene(region):
        await region.model(MODE="ok", COLOR="red", SAGEMAKER_BATCH="model")
        region.put(a=b"x")
        await region.run("plain", BatchStrategy=None, Environment={"COLOR": "blue"})
        await region.run("full", MaxPayloadInMB=3, MaxConcurrentTransforms=2)
        plain, full = (each.variables for each in region.engine.started)
        assert (plain["COLOR"], full["COLOR"]) == ("blue", "red")
        assert plain["SAGEMAKER_BATCH"] == "model"
        assert plain["TRANSFORM_JOB_ARN"] == f"{ARN}:transform-job/plain"
        assert not {name for name in plain if name.startswith("SAGEMAKER_M")}
        assert "SAGEMAKER_BATCH_STRATEGY" not in plain
        assert full["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "3"
        assert full["SAGEMAKER_BATCH_STRATEGY"] == "SINGLE_RECORD"
        assert full["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] == "2"

    play(scene)


@pytest.mark.parametrize(
    ("answer", "asked", "line"),
    [
        (
            {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 7},
            {},
            "MaxConcurrentTransforms=8, MaxPayloadInMB=7, BatchStrategy=SINGLE_RECORD",
        ),
        (
            {"MaxConcurrentTransforms": "8", "BatchStrategy": "MultiRecord", "MaxPayloadInMB": "7"},
            {},
            "MaxConcurrentTransforms=8, MaxPayloadInMB=7, BatchStrategy=MULTI_RECORD",
        ),
        (
            {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 7},
            {"MaxConcurrentTransforms": 2, "MaxPayloadInMB": 1, "BatchStrategy": "MultiRecord"},
            "MaxConcurrentTransforms=2, MaxPayloadInMB=1, BatchStrategy=MULTI_RECORD",
        ),
        (
            {"MaxConcurrentTransforms": 50},
            {"MaxPayloadInMB": 20},
            "MaxConcurrentTransforms=5, MaxPayloadInMB=20, BatchStrategy=MULTI_RECORD",
        ),
        (
            {"MaxConcurrentTransforms": -1, "MaxPayloadInMB": 1000, "BatchStrategy": "Every"},
            {},
            "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD",
        ),
    ],
)
def test_execution_parameters(play, monkeypatch, answer, asked, line):
    """The request, then the container, then the defaults."""
    paths = []

    def get(handler):
        paths.append(handler.path)
        is_asked = handler.path == "/execution-parameters"
        handler.answer(200, json.dumps(answer).encode() if is_asked else b"")

    monkeypatch.setattr(Handler, "do_GET", get)

    async def scene(region):
        await region.model()
        region.put(a=b"x")
        request = {"BatchStrategy": None, **asked}
        assert (await region.run(**request))["TransformJobStatus"] == "Completed"
        first, *notes = region.data_log()
        assert first == line
        assert len(notes) == {50: 1, -1: 3}.get(answer["MaxConcurrentTransforms"], 0)
        assert paths.count("/execution-parameters") == 1

    play(scene)


def test_objects_that_fail_beside_others(play):
    async def scene(region):
        await region.model()
        region.put(a=b"one", b=b"fail 400", c=b"three", d=b"fail 500")
        found = await region.run(ModelClientConfig={"InvocationsMaxRetries": 1})
        assert found["TransformJobStatus"] == "Failed"
        assert found["FailureReason"] == (
            "ClientError: See job logs for more information\n"
            "data/in/b: ClientError: 400 Message: kaput\n"
            "data/in/d: Bad HTTP status received from algorithm: 500 kaput"
        )
        assert region.outputs() == {"a.out": b"one\n", "c.out": b"three\n"}
        assert region.data_log()[2:] == [
            "data/in/b: ClientError: 400",
            "data/in/b: ",
            "data/in/b: Message:",
            "data/in/b: kaput",
            "data/in/d: Bad HTTP status received from algorithm: 500",
            "data/in/d: kaput",
        ]
        assert len(region.engine.started[0].requests) == 5

    play(scene)


def test_a_container_that_ends(play):
    """Its requests are sent again to the one that replaces it."""

    async def scene(region):
        await region.model()
        region.put(a=b"1\n2\nwait x\n4\n")
        await region.create()
        await until(lambda: region.engine.started, "the container")
        (first,) = region.engine.started
        assert await asyncio.to_thread(first.waiting.acquire, True, BOUND)
        first.die(137)
        await until(lambda: len(region.engine.started) == 2, "another container")
        region.engine.started[1].release.set()
        found = await region.end()
        assert (found["TransformJobStatus"], region.outputs()) == (
            "Completed",
            {"a.out": b"1\n2\nwait x\n4\n"},
        )
        lines = [line for each in region.log().values() for line in each]
        assert any("it ended with exit code 137; a new one is started" in line for line in lines)

    play(scene)


def test_a_record_that_ends_every_container(play, monkeypatch):
    monkeypatch.setattr(instances, "_DELAYS", (0.0,) * 9)

    async def scene(region):
        await region.model()
        region.put(a=b"1\nwait x\n", b=b"ok")
        await region.create(ModelClientConfig={"InvocationsMaxRetries": 2})
        for number in range(3):
            await until(lambda n=number: len(region.engine.started) > n, "a container")
            each = region.engine.started[number]
            assert await asyncio.to_thread(each.waiting.acquire, True, BOUND)
            each.die(1)
        found = await region.end()
        assert "data/in/a: Unable to get response from algorithm" in found["FailureReason"]
        assert found["FailureReason"].startswith("AlgorithmError: See job logs")
        assert region.outputs() == {"b.out": b"ok\n"}

    play(scene)


def test_a_busy_container_is_not_ill(play, monkeypatch):
    """It need not answer /ping while it works on a request."""
    monkeypatch.setattr(instances, "PING_EVERY", 0.01)
    monkeypatch.setattr(instances, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(instances, "ILL_SECONDS", 0.0)
    answer, ill = Handler.do_GET, []

    def get(handler):
        if handler.server.container.ill:
            ill.append(handler.path)
        answer(handler)

    monkeypatch.setattr(Handler, "do_GET", get)

    async def scene(region):
        await region.model()
        region.put(a=b"wait x\n2\n3\n")
        await region.create()
        await until(lambda: region.engine.started, "the container")
        (container,) = region.engine.started
        assert await asyncio.to_thread(container.waiting.acquire, True, BOUND)
        container.ill = True
        await until(lambda: len(ill) > 5, "looks at the container")
        container.release.set()
        assert (await region.end())["TransformJobStatus"] == "Completed"
        assert region.engine.started == [container]

    play(scene)


def test_an_unhealthy_container(play):
    async def scene(region):
        await region.model(MODE="exits")
        region.put(a=b"x")
        found = await region.run()
        assert found["TransformJobStatus"] == "Failed"
        assert found["FailureReason"].startswith(
            "AlgorithmError: Model container failed to respond to ping; Please ensure /ping "
            "endpoint is implemented and responds with an HTTP 200 status code. Cause: the serving "
            "container ended with exit code 1; its log ends:"
        )
        assert found["FailureReason"].endswith("no weights")
        assert region.outputs() == {}

    play(scene)


def test_a_model_that_is_gone(play):
    """Its archive is fetched when the job runs."""

    async def scene(region):
        region.store.put_bytes("data", "model.tar.gz", b"no archive")
        container = {"Image": "serve:1", "ModelDataUrl": "s3://data/model.tar.gz"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        region.put(a=b"x")
        found = await region.run()
        assert found["FailureReason"].startswith("ClientError: Failed to download model data for")

    play(scene)


def test_a_broken_image(play):
    async def scene(region):
        container = {"Image": "broken:1"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        region.put(a=b"x")
        found = await region.run()
        assert found["FailureReason"] == "ClientError: Cannot pull image broken:1: disk. Clear it"
        assert "TransformStartTime" not in found

    play(scene)


def test_a_stop(play):
    """SageMaker stores no output of a job that is stopped, not even that of whole objects."""

    async def scene(region):
        await region.model()
        region.put(a=b"whole\n", b=b"1\nwait x\n3\n")
        await region.create()
        await until(lambda: region.engine.started, "the container")
        assert await asyncio.to_thread(region.engine.started[0].waiting.acquire, True, BOUND)
        await until(lambda: region.outputs() == {"a.out": b"whole\n"}, "the first output")
        await region.call("StopTransformJob", TransformJobName="job")
        found = await region.end()
        assert (found["TransformJobStatus"], region.outputs()) == ("Stopped", {})
        assert "FailureReason" not in found
        message = await region.refused("StopTransformJob", TransformJobName="job")
        assert "the transform job is in status Stopped" in message

    play(scene)


def test_a_stop_before_the_start(play):
    """While the image is pulled, or while a container starts."""

    async def scene(region):
        container = {"Image": "slow:1"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        region.put(a=b"x")
        await region.create("pulls")
        await until(region.images.pulling.is_set, "the pull")
        await region.call("StopTransformJob", TransformJobName="pulls")
        assert (await region.end("pulls"))["TransformJobStatus"] == "Stopped"
        await region.model("deaf", MODE="deaf")
        await region.create("starts", ModelName="deaf")
        await until(lambda: region.engine.started, "the container")
        await region.call("StopTransformJob", TransformJobName="starts")
        assert (await region.end("starts"))["TransformJobStatus"] == "Stopped"

    play(scene)


def test_starts_do_not_delay_requests(play, monkeypatch):
    """Each start takes a thread until its container is healthy."""
    monkeypatch.setattr(context, "THREADS", 2)

    async def scene(region):
        await region.model("deaf", MODE="deaf")
        region.put(a=b"x")
        await region.create(ModelName="deaf", TransformResources__InstanceCount=4)
        await until(lambda: len(region.engine.started) == 4, "all containers")
        await region.model()
        await region.call("StopTransformJob", TransformJobName="job")
        assert (await region.end())["TransformJobStatus"] == "Stopped"

    play(scene)


def test_all_containers_of_the_largest_endpoint_can_start():
    largest = configs.MOST_VARIANTS * configs.MOST_INSTANCES * models.MOST_CONTAINERS
    assert largest == context.STARTS


def test_the_end_of_the_region(play):
    """It stops the job as StopTransformJob does."""

    async def scene(region):
        await region.model()
        region.put(a=b"whole\n", b=b"wait x\n")
        await region.create()
        await until(lambda: region.engine.started, "the container")
        assert await asyncio.to_thread(region.engine.started[0].waiting.acquire, True, BOUND)
        await region.jobs.close()

    async def again(region):
        assert (await region.describe())["TransformJobStatus"] == "Stopped"
        assert region.outputs() == {}

    play(scene)
    play(again)


def test_refusals(play):
    async def scene(region):
        await region.model()
        region.put(a=b"x")
        message = await region.refused("CreateTransformJob", **region.request(ModelName="other"))
        assert message == f'Could not find model "{ARN}:model/other".'
        uri = "s3://data/none/"
        empty = region.request(TransformInput__DataSource__S3DataSource__S3Uri=uri)
        message = await region.refused("CreateTransformJob", **empty)
        assert message.startswith(f'No S3 objects found under S3 URL "{uri}" given in input')
        nowhere = region.request(TransformOutput__S3OutputPath="s3://nowhere/x")
        message = await region.refused("CreateTransformJob", **nowhere)
        assert message == (
            "TransformOutput.S3OutputPath: there is no bucket 'nowhere'. Create it first"
        )
        await region.run()
        error = await region.refusal("CreateTransformJob", **region.request())
        assert error.code == "ResourceInUse"
        assert "Transform job names must be unique" in error.message
        message = await region.refused("DescribeTransformJob", TransformJobName="other")
        assert message == "Requested resource not found."
        assert "DeleteTransformJob" not in region.operations

    play(scene)


def test_containers_that_are_invoked_directly(play):
    async def scene(region):
        names = [{"Image": "serve:1", "ContainerHostname": name} for name in ("one", "two")]
        direct = {"Containers": names, "InferenceExecutionConfig": {"Mode": "Direct"}}
        await region.call("CreateModel", ModelName="model", **direct)
        region.put(a=b"x")
        message = await region.refused("CreateTransformJob", **region.request())
        assert "are invoked directly" in message

    play(scene)


def test_a_multi_model_container(play):
    async def scene(region):
        container = {"Image": "serve:1", "Mode": "MultiModel", "ModelDataUrl": "s3://data/models/"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        region.put(a=b"x")
        message = await region.refused("CreateTransformJob", **region.request())
        assert "is a multi-model container" in message

    play(scene)


def test_serial_containers(play):
    async def scene(region):
        containers = [
            {"Image": "serve:1", "Environment": {"PREFIX": "a"}, "ContainerHostname": "first"},
            {"Image": "serve:1", "Environment": {"PREFIX": "b"}, "ContainerHostname": "second"},
        ]
        await region.call("CreateModel", ModelName="model", Containers=containers)
        region.put(a=b"x\ny")
        assert (await region.run())["TransformJobStatus"] == "Completed"
        assert region.outputs() == {"a.out": b"bax\nbay\n"}
        names = {name.split("/", 2)[2] for name in region.log()}
        assert names == {"first", "second", "data-log"}

    play(scene)


def test_a_manifest(play):
    async def scene(region):
        await region.model()
        region.put(a=b"1", b=b"2", c=b"3")
        region.store.put_bytes(
            "data", "m.json", b'[{"prefix": "s3://data/"}, "in/a", "in/c", "in/x"]'
        )
        found = await region.run(
            TransformInput__DataSource__S3DataSource={
                "S3DataType": "ManifestFile",
                "S3Uri": "s3://data/m.json",
            }
        )
        assert region.outputs() == {"in/a.out": b"1\n", "in/c.out": b"3\n"}
        assert "data/in/x: The specified key does not exist." in found["FailureReason"]
        region.store.put_bytes("data", "m.json", b"{")
        found = await region.run(
            "second",
            TransformInput__DataSource__S3DataSource={
                "S3DataType": "ManifestFile",
                "S3Uri": "s3://data/m.json",
            },
        )
        assert "is not JSON" in found["FailureReason"]

    play(scene)


def test_captures(play):
    async def scene(region):
        await region.model()
        region.put(**{"a": b"1\n2", "sub/b": b"3"})
        capture = {"DestinationS3Uri": "s3://data/captured/", "GenerateInferenceId": True}
        found = await region.run(TransformOutput__Accept="text/csv", DataCaptureConfig=capture)
        assert found["TransformJobStatus"] == "Completed", found
        start = found["TransformStartTime"]
        hour = f"{start:%Y/%m/%d/%H}"
        one, two = (info.key for info in region.store.list("data", "captured/"))
        assert one.startswith(f"captured/input/{hour}/")
        assert two.startswith(f"captured/output/{hour}/")
        documents = [
            json.loads(region.store.get("data", key).path.read_bytes()) for key in (one, two)
        ]
        assert documents == [
            [{"prefix": "s3://data/in/"}, "a", "sub/b"],
            [{"prefix": "s3://data/out/"}, "a.out", "sub/b.out"],
        ]
        rows = [line.split(",") for line in region.outputs()["a.out"].decode().splitlines()]
        assert [row[0] for row in rows] == ["1", "2"]
        assert {row[2] for row in rows} == {f"{start:%Y-%m-%dT%H:%M:%SZ}"}

    play(scene)


def test_lists(play):
    async def scene(region):
        await region.model()
        region.put(a=b"x")
        for name in ("one", "two"):
            await region.run(name)
        page = await region.call("ListTransformJobs", SortBy="Name", SortOrder="Ascending")
        first, second = page["TransformJobSummaries"]
        assert (first["TransformJobName"], second["TransformJobStatus"]) == ("one", "Completed")
        assert first["TransformEndTime"] <= second["TransformEndTime"]
        page = await region.call("ListTransformJobs", StatusEquals="Failed")
        assert page["TransformJobSummaries"] == []

    play(scene)


def test_a_killed_region(tmp_path):
    """Its jobs have failed when it starts again, and their instances are swept."""

    async def main():
        region = TransformRegion(tmp_path)
        document = {
            "TransformJobName": "job",
            "TransformJobArn": f"{ARN}:transform-job/job",
            "TransformJobStatus": "InProgress",
        }
        region.jobs.resources.add("job", document)
        left = region.context.work("transform-jobs") / "job" / "i-123-0"
        left.mkdir(parents=True)
        async with region:
            found = await region.describe()
            assert (found["TransformJobStatus"], found["FailureReason"]) == ("Failed", INTERNAL)
            ((labels, trees),) = region.engine.swept
            assert labels["sagemaker-byoc.job"] == "transform_job"
            assert trees == [left]

    asyncio.run(main())
