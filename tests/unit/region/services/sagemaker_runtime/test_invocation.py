"""From an invocation to a container and back: headers, errors, streams, whom it reaches."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from botocore.eventstream import EventStreamBuffer

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.region.wire.operations import AwsError

STREAM = "invocations-response-stream"


async def serve(region, *variants, **environment):
    await region.model(**environment)
    await region.config("config", *variants)
    assert (await region.endpoint())["EndpointStatus"] == "InService"


async def refused(code, coroutine):
    with pytest.raises(AwsError) as caught:
        await coroutine
    assert caught.value.code == code
    return caught.value


def test_headers_both_ways(play):
    """Those of the API pass, all others are stripped, in both directions."""

    async def scene(region):
        await serve(region)
        answer = await region.invoke(
            b"headers",
            content_type="text/csv",
            accept="application/json",
            x_amzn_sagemaker_custom_attributes="a=b",
            x_amzn_sagemaker_inference_id="id-1",
            x_private="secret",
            authorization="AWS4-HMAC-SHA256 Credential=…",
            x_amz_date="now",
        )
        seen = json.loads(answer.body)
        assert {name: seen[name] for name in seen if name != "host"} == {
            "content-length": "7",
            "content-type": "text/csv",
            "accept": "application/json",
            "x-amzn-sagemaker-custom-attributes": "a=b",
            "x-amzn-sagemaker-inference-id": "id-1",
        }
        assert answer.headers == {
            "Content-Type": "text/plain",
            "X-Amzn-SageMaker-Custom-Attributes": "from-container",
            "x-Amzn-Invoked-Production-Variant": "AllTraffic",
            "x-amzn-RequestId": "request-1",
        }

    play(scene)


def test_headers_over_their_length(play):
    """As the service model limits them."""

    async def scene(region):
        await serve(region)
        attributes = {"x_amzn_sagemaker_custom_attributes": "a" * 1025}
        error = await refused("ValidationError", region.invoke(**attributes))
        assert "1024" in error.message
        assert not region.engine.started[0].requests

    play(scene)


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (507, "server")])
def test_error_of_the_model(play, status, side):
    """424, with the container's own status and text, and the place of its log."""

    async def scene(region):
        await serve(region)
        answer = await region.invoke(b"fail %d" % status)
        assert answer.status == 424
        assert answer.headers["x-amzn-ErrorType"] == "ModelError"
        found = json.loads(answer.body)
        assert found["OriginalStatusCode"] == status
        assert found["OriginalMessage"] == "kaput"
        assert found["LogStreamArn"].endswith("log-group:/aws/sagemaker/Endpoints/one")
        assert found["Message"] == (
            f'Received {side} error ({status}) from primary with message "kaput". See '
            "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
            "#logEventViewer:group=/aws/sagemaker/Endpoints/one in account 000000000000 "
            "for more information."
        )

    play(scene)


def test_answer_that_is_cut(play):
    """It is not passed on as if it were whole."""

    async def scene(region):
        await serve(region)
        answer = await region.invoke(b"cut half")
        assert answer.status == 424
        assert "could not load the entire response body" in json.loads(answer.body)["Message"]

    play(scene)


def test_answer_over_the_limit(play):
    """The service buffers six megabytes."""

    async def scene(region):
        await serve(region)
        limit = hosting.API_PAYLOAD.value
        assert (await region.invoke(b"large %d" % limit)).status == 200
        assert (await region.invoke(b"large %d" % (limit + 1))).status == 424

    play(scene)


def test_request_over_the_limit(play):
    """413, before a container sees it."""

    async def scene(region):
        await serve(region)
        error = await refused(
            "ValidationError", region.invoke(bytes(hosting.API_PAYLOAD.value + 1))
        )
        assert error.status == 413
        assert "exceeded 6291456 bytes" in error.message

    play(scene)


def test_time_limit(play):
    """The text that SageMaker has for it, and the container is let go of."""

    async def scene(region):
        await serve(region)
        answer = await region.invoke(b"wait")
        found = json.loads(answer.body)
        assert found["OriginalStatusCode"] == 0
        assert "Your invocation timed out while waiting for a response" in found["Message"]

    play(scene, seconds=0.2)


def test_unknown_endpoint(play, tmp_path):
    """The same for one that is not in service yet."""

    async def scene(region):
        await region.model(FILE=str(tmp_path / "go"))
        await region.config()
        text = "Endpoint one of account 000000000000 not found."
        assert (await refused("ValidationError", region.invoke())).message == text
        await region.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        assert (await refused("ValidationError", region.invoke())).message == text
        (tmp_path / "go").touch()
        await region.settled()
        assert (await region.invoke()).status == 200

    play(scene)


def test_other_routes(play):
    """Refused, with what there is."""

    async def scene(region):
        error = await refused("UnknownOperationException", region.invoke(way="async-invocations"))
        assert "/endpoints/NAME/invocations" in error.message

    play(scene)


def frames(data):
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(event.headers, event.payload) for event in buffer]


async def stream(region, body):
    answer = await region.invoke(body, way=STREAM, x_amzn_sagemaker_accept="text/plain")
    assert answer.status == 200
    return answer, frames(b"".join([part async for part in answer.body]))


def test_streamed_answer(play):
    """As botocore reads it."""

    async def scene(region):
        await serve(region)
        answer, found = await stream(region, b"stream one two")
        assert answer.headers["X-Amzn-SageMaker-Content-Type"] == "text/plain"
        assert answer.headers["Content-Type"] == "application/vnd.amazon.eventstream"
        assert b"".join(payload for _, payload in found) == b"onetwo"
        assert {headers[":event-type"] for headers, _ in found} == {"PayloadPart"}
        _, body = region.engine.started[0].requests[-1]
        assert body == b"stream one two"

    play(scene)


def test_stream_that_breaks(play):
    """Its last frame says so."""

    async def scene(region):
        await serve(region)
        _, found = await stream(region, b"stream one !")
        headers, payload = found[-1]
        assert headers[":exception-type"] == "ModelStreamError"
        assert json.loads(payload)["ErrorCode"] == "StreamBroken"
        assert found[0][1] == b"one"

    play(scene)


def test_stream_out_of_time(play):
    """Not before its first byte: that is a ModelError."""

    async def scene(region):
        await serve(region)
        answer = await region.invoke(b"wait", way=STREAM)
        assert answer.status == 424

    play(scene, stream_seconds=0.2)


def test_error_instead_of_a_stream(play):
    """A plain ModelError."""

    async def scene(region):
        await serve(region)
        answer = await region.invoke(b"fail 503", way=STREAM)
        assert json.loads(answer.body)["OriginalStatusCode"] == 503

    play(scene)


def test_stream_that_nobody_reads_is_under_way_no_more(play):
    """Whether its caller left before the first frame or after."""

    async def scene(region):
        await serve(region)
        (instance,) = (
            next(iter(region.endpoints.by_name.values())).fleet.variants["AllTraffic"].instances
        )
        left = await region.invoke(b"stream one two", way=STREAM)
        assert instance.outstanding == 1
        await left.body.aclose()
        assert instance.outstanding == 0
        dropped = await region.invoke(b"stream one two", way=STREAM)
        del dropped
        assert instance.outstanding == 0

    play(scene)


def test_shares_follow_the_weights(play):
    """Exactly: 3 to 1 is 30 of 40."""

    async def scene(region):
        await serve(
            region,
            region.variant("a", InitialVariantWeight=3.0),
            region.variant("b", InitialVariantWeight=1.0),
            region.variant("c", InitialVariantWeight=0.0),
        )
        answers = [await region.invoke() for _ in range(40)]
        shares = Counter(each.headers["x-Amzn-Invoked-Production-Variant"] for each in answers)
        assert shares == {"a": 30, "b": 10}

    play(scene)


def test_target_variant(play):
    """Passes by the weights; one that is not there is refused."""

    async def scene(region):
        await serve(region, region.variant("a"), region.variant("b", InitialVariantWeight=0.0))
        answer = await region.invoke(x_amzn_sagemaker_target_variant="b")
        assert answer.headers["x-Amzn-Invoked-Production-Variant"] == "b"
        error = await refused(
            "ValidationError", region.invoke(x_amzn_sagemaker_target_variant="zzz")
        )
        assert "zzz" in error.message

    play(scene)


def test_instance_with_the_fewest_requests(play):
    """A busy instance gets no other request while one is idle."""

    async def scene(region):
        await serve(region, region.variant(InitialInstanceCount=2))
        waiting = asyncio.create_task(region.invoke(b"wait"))
        loop = asyncio.get_running_loop()
        acquired = [
            loop.run_in_executor(None, each.waiting.acquire, True, 5)
            for each in region.engine.started
        ]
        await asyncio.wait(acquired, return_when=asyncio.FIRST_COMPLETED)
        busy = next(each for each in region.engine.started if each.requests)
        names = {(await region.invoke(b"who")).body for _ in range(5)}
        assert names == {each.spec.name.encode() for each in region.engine.started if each != busy}
        for each in region.engine.started:
            each.release.set()
            each.waiting.release()
        assert (await waiting).status == 200
        await asyncio.wait(acquired)

    play(scene)


def test_session_stays_with_its_instance(play):
    """From the container's answer on, until it ends it."""

    async def scene(region):
        await serve(region, region.variant(InitialInstanceCount=3))
        opened = await region.invoke(
            b"session s-1; Expires=2027-01-01T00:00:00Z", x_amzn_sagemaker_session_id="NEW_SESSION"
        )
        assert opened.headers["X-Amzn-SageMaker-New-Session-Id"].startswith("s-1;")
        here = {
            (await region.invoke(b"who", x_amzn_sagemaker_session_id="s-1")).body for _ in range(6)
        }
        assert len(here) == 1
        ended = await region.invoke(b"end s-1", x_amzn_sagemaker_session_id="s-1")
        assert ended.headers["X-Amzn-SageMaker-Closed-Session-Id"] == "s-1"
        after = {
            (await region.invoke(b"who", x_amzn_sagemaker_session_id="s-1")).body for _ in range(6)
        }
        assert len(after) == 3

    play(scene)


HOSTS = ("first", "second", "third")


async def pipeline(region, **more):
    containers = [
        {"Image": "serve:1", "ContainerHostname": name, "Environment": {"PREFIX": f"{name}:"}}
        for name in HOSTS
    ]
    await region.call("CreateModel", ModelName="model", Containers=containers, **more)
    await region.config()
    await region.endpoint()


def test_serial_pipeline(play):
    """Each container gets the answer of the one before, and has a log stream of its own."""

    async def scene(region):
        await pipeline(region)
        answer = await region.invoke(
            b"x",
            content_type="text/csv",
            accept="application/json",
            x_amzn_sagemaker_custom_attributes="a=b",
            x_amzn_sagemaker_inference_id="id-1",
        )
        assert answer.body == b"third:second:first:x"
        assert answer.headers["Content-Type"] == "text/plain"
        by_host = {each.spec.hostname: each for each in region.engine.started}
        sent = {"first": (b"x", "text/csv"), "second": (b"first:x", "text/plain")}
        sent["third"] = (b"second:first:x", "text/plain")
        for host, (body, content_type) in sent.items():
            headers, received = by_host[host].requests[-1]
            found = {name.lower(): value for name, value in headers.items()}
            assert received == body
            assert found["content-type"] == content_type
            assert found["accept"] == "application/json"
            assert found["x-amzn-sagemaker-custom-attributes"] == "a=b"
            assert found["x-amzn-sagemaker-inference-id"] == "id-1"
        assert sorted(stream.rpartition("/")[2] for stream in region.log()) == [*HOSTS]
        failed = json.loads((await region.invoke(b"fail 400")).body)
        assert "from first with" in failed["Message"]
        before = len(by_host["second"].requests)
        by_host["first"].variables["PREFIX"] = "fail "
        failed = json.loads((await region.invoke(b"507")).body)
        assert 'Received server error (507) from second with message "kaput"' in failed["Message"]
        assert failed["OriginalStatusCode"] == 507
        assert len(by_host["second"].requests) == before + 1
        assert len(by_host["third"].requests) == 1

    play(scene)


def test_containers_invoked_by_name(play):
    """InferenceExecutionConfig Direct."""

    async def scene(region):
        await pipeline(region, InferenceExecutionConfig={"Mode": "Direct"})
        for name in HOSTS:
            answer = await region.invoke(b"x", x_amzn_sagemaker_target_container_hostname=name)
            assert answer.body == f"{name}:x".encode()
        error = await refused("ValidationError", region.invoke(b"x"))
        assert error.message == (
            "Endpoint one needs a TargetContainerHostname in each request, one of first, second, "
            "third."
        )
        unknown = {"x_amzn_sagemaker_target_container_hostname": "fourth"}
        error = await refused("ValidationError", region.invoke(b"x", **unknown))
        assert error.message == (
            "Endpoint one has no container with the hostname fourth. It has first, second, third."
        )
        assert sum(len(each.requests) for each in region.engine.started) == 3

    play(scene)


def test_names_that_a_serial_or_single_model_does_not_have(play):
    async def scene(region):
        await serve(region)
        named = {"x_amzn_sagemaker_target_container_hostname": "first"}
        error = await refused("ValidationError", region.invoke(b"x", **named))
        assert "is not a multi-container endpoint with direct invocation" in error.message
        error = await refused("ValidationError", region.invoke(x_amzn_sagemaker_target_model="m"))
        assert error.message == (
            "Endpoint one is not a multi-model endpoint and does not support target model header."
        )

    play(scene)


def test_names_of_containers_are_checked(play):
    async def scene(region):
        first, second = ({"Image": "a", "ContainerHostname": name} for name in ("a", "b"))
        unnamed = {"Image": "a"}
        for containers, mode, words in (
            ([first, first], "Serial", "Each ContainerHostname of a model must be unique"),
            ([first, second, unnamed], "Serial", "only a, b have one"),
            ([unnamed, unnamed], "Direct", "with direct invocation needs a ContainerHostname"),
        ):
            config = {"Mode": mode}
            text = await region.refused(
                "CreateModel", ModelName="m", Containers=containers, InferenceExecutionConfig=config
            )
            assert words in text

    play(scene)


def test_capture_gets_both_bodies(play):
    """After the answer, where the configuration asks for it; not where it does not."""
    seen = []

    async def scene(region):
        await region.model()
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://models/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }
        await region.config("plain")
        await region.config("captures", DataCaptureConfig=capture)
        await region.endpoint("one", "plain")
        await region.endpoint("two", "captures")
        await region.invoke(b"a", "one")
        await region.invoke(b"b", "two", content_type="text/csv", x_amzn_sagemaker_inference_id="i")
        await asyncio.sleep(0)
        (exchange,) = seen
        assert (exchange.endpoint, exchange.variant) == ("two", "AllTraffic")
        assert (exchange.request, exchange.request_type) == (b"b", "text/csv")
        assert (exchange.response, exchange.response_type) == (b"b", "text/plain")
        assert exchange.inference_id == "i"
        assert exchange.config == capture

    play(scene, capture=seen.append)


def test_all_instances_dead(play):
    """503 with a hint, and no endless search."""

    async def scene(region):
        await serve(region)
        region.engine.started[0].die(1)
        error = await refused("ServiceUnavailable", region.invoke())
        assert "its log stream says why" in error.message

    play(scene)
