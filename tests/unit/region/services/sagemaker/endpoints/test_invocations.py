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


async def serve(room, *variants, **environment):
    await room.model(**environment)
    await room.config("config", *variants)
    assert (await room.endpoint())["EndpointStatus"] == "InService"


async def refused(code, coroutine):
    with pytest.raises(AwsError) as caught:
        await coroutine
    assert caught.value.code == code
    return caught.value


def test_headers_both_ways(room):
    """Those of the API pass, all others are stripped, in both directions."""

    async def scene(room):
        await serve(room)
        answer = await room.invoke(
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

    room(scene)


def test_headers_over_their_length(room):
    """As the service model limits them."""

    async def scene(room):
        await serve(room)
        attributes = {"x_amzn_sagemaker_custom_attributes": "a" * 1025}
        error = await refused("ValidationError", room.invoke(**attributes))
        assert "1024" in error.message
        assert not room.engine.started[0].requests

    room(scene)


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (507, "server")])
def test_error_of_the_model(room, status, side):
    """424, with the container's own status and text, and the place of its log."""

    async def scene(room):
        await serve(room)
        answer = await room.invoke(b"fail %d" % status)
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

    room(scene)


def test_answer_that_is_cut(room):
    """It is not passed on as if it were whole."""

    async def scene(room):
        await serve(room)
        answer = await room.invoke(b"cut half")
        assert answer.status == 424
        assert "could not load the entire response body" in json.loads(answer.body)["Message"]

    room(scene)


def test_answer_over_the_limit(room):
    """The service buffers six megabytes."""

    async def scene(room):
        await serve(room)
        limit = hosting.API_PAYLOAD.value
        assert (await room.invoke(b"large %d" % limit)).status == 200
        assert (await room.invoke(b"large %d" % (limit + 1))).status == 424

    room(scene)


def test_request_over_the_limit(room):
    """413, before a container sees it."""

    async def scene(room):
        await serve(room)
        error = await refused("ValidationError", room.invoke(bytes(hosting.API_PAYLOAD.value + 1)))
        assert error.status == 413
        assert "exceeded 6291456 bytes" in error.message

    room(scene)


def test_time_limit(room):
    """The text that SageMaker has for it, and the container is let go of."""

    async def scene(room):
        await serve(room)
        answer = await room.invoke(b"wait")
        found = json.loads(answer.body)
        assert found["OriginalStatusCode"] == 0
        assert "Your invocation timed out while waiting for a response" in found["Message"]

    room(scene, seconds=0.2)


def test_unknown_endpoint(room, tmp_path):
    """The same for one that is not in service yet."""

    async def scene(room):
        await room.model(FILE=str(tmp_path / "go"))
        await room.config()
        text = "Endpoint one of account 000000000000 not found."
        assert (await refused("ValidationError", room.invoke())).message == text
        await room.call("CreateEndpoint", EndpointName="one", EndpointConfigName="config")
        assert (await refused("ValidationError", room.invoke())).message == text
        (tmp_path / "go").touch()
        await room.settled()
        assert (await room.invoke()).status == 200

    room(scene)


def test_other_routes(room):
    """Refused, with what there is."""

    async def scene(room):
        error = await refused("UnknownOperationException", room.invoke(way="async-invocations"))
        assert "/endpoints/NAME/invocations" in error.message

    room(scene)


def frames(data):
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(event.headers, event.payload) for event in buffer]


async def stream(room, body):
    answer = await room.invoke(body, way=STREAM, x_amzn_sagemaker_accept="text/plain")
    assert answer.status == 200
    return answer, frames(b"".join([part async for part in answer.body]))


def test_streamed_answer(room):
    """As botocore reads it."""

    async def scene(room):
        await serve(room)
        answer, found = await stream(room, b"stream one two")
        assert answer.headers["X-Amzn-SageMaker-Content-Type"] == "text/plain"
        assert answer.headers["Content-Type"] == "application/vnd.amazon.eventstream"
        assert b"".join(payload for _, payload in found) == b"onetwo"
        assert {headers[":event-type"] for headers, _ in found} == {"PayloadPart"}
        _, body = room.engine.started[0].requests[-1]
        assert body == b"stream one two"

    room(scene)


def test_stream_that_breaks(room):
    """Its last frame says so."""

    async def scene(room):
        await serve(room)
        _, found = await stream(room, b"stream one !")
        headers, payload = found[-1]
        assert headers[":exception-type"] == "ModelStreamError"
        assert json.loads(payload)["ErrorCode"] == "StreamBroken"
        assert found[0][1] == b"one"

    room(scene)


def test_stream_out_of_time(room):
    """Not before its first byte: that is a ModelError."""

    async def scene(room):
        await serve(room)
        answer = await room.invoke(b"wait", way=STREAM)
        assert answer.status == 424

    room(scene, stream_seconds=0.2)


def test_error_instead_of_a_stream(room):
    """A plain ModelError."""

    async def scene(room):
        await serve(room)
        answer = await room.invoke(b"fail 503", way=STREAM)
        assert json.loads(answer.body)["OriginalStatusCode"] == 503

    room(scene)


def test_stream_that_nobody_reads_is_under_way_no_more(room):
    """Whether its caller left before the first frame or after."""

    async def scene(room):
        await serve(room)
        (instance,) = (
            next(iter(room.service.endpoints.by_name.values()))
            .fleet.variants["AllTraffic"]
            .instances
        )
        left = await room.invoke(b"stream one two", way=STREAM)
        assert instance.outstanding == 1
        await left.body.aclose()
        assert instance.outstanding == 0
        dropped = await room.invoke(b"stream one two", way=STREAM)
        del dropped
        assert instance.outstanding == 0

    room(scene)


def test_shares_follow_the_weights(room):
    """Exactly: 3 to 1 is 30 of 40."""

    async def scene(room):
        await serve(
            room,
            room.variant("a", InitialVariantWeight=3.0),
            room.variant("b", InitialVariantWeight=1.0),
            room.variant("c", InitialVariantWeight=0.0),
        )
        answers = [await room.invoke() for _ in range(40)]
        shares = Counter(each.headers["x-Amzn-Invoked-Production-Variant"] for each in answers)
        assert shares == {"a": 30, "b": 10}

    room(scene)


def test_target_variant(room):
    """Passes by the weights; one that is not there is refused."""

    async def scene(room):
        await serve(room, room.variant("a"), room.variant("b", InitialVariantWeight=0.0))
        answer = await room.invoke(x_amzn_sagemaker_target_variant="b")
        assert answer.headers["x-Amzn-Invoked-Production-Variant"] == "b"
        error = await refused("ValidationError", room.invoke(x_amzn_sagemaker_target_variant="zzz"))
        assert "zzz" in error.message

    room(scene)


def test_instance_with_the_fewest_requests(room):
    """A busy instance gets no other request while one is idle."""

    async def scene(room):
        await serve(room, room.variant(InitialInstanceCount=2))
        waiting = asyncio.create_task(room.invoke(b"wait"))
        loop = asyncio.get_running_loop()
        acquired = [
            loop.run_in_executor(None, each.waiting.acquire, True, 5)
            for each in room.engine.started
        ]
        await asyncio.wait(acquired, return_when=asyncio.FIRST_COMPLETED)
        busy = next(each for each in room.engine.started if each.requests)
        names = {(await room.invoke(b"who")).body for _ in range(5)}
        assert names == {each.spec.name.encode() for each in room.engine.started if each != busy}
        for each in room.engine.started:
            each.release.set()
            each.waiting.release()
        assert (await waiting).status == 200
        await asyncio.wait(acquired)

    room(scene)


def test_session_stays_with_its_instance(room):
    """From the container's answer on, until it ends it."""

    async def scene(room):
        await serve(room, room.variant(InitialInstanceCount=3))
        opened = await room.invoke(
            b"session s-1; Expires=2027-01-01T00:00:00Z", x_amzn_sagemaker_session_id="NEW_SESSION"
        )
        assert opened.headers["X-Amzn-SageMaker-New-Session-Id"].startswith("s-1;")
        here = {
            (await room.invoke(b"who", x_amzn_sagemaker_session_id="s-1")).body for _ in range(6)
        }
        assert len(here) == 1
        ended = await room.invoke(b"end s-1", x_amzn_sagemaker_session_id="s-1")
        assert ended.headers["X-Amzn-SageMaker-Closed-Session-Id"] == "s-1"
        after = {
            (await room.invoke(b"who", x_amzn_sagemaker_session_id="s-1")).body for _ in range(6)
        }
        assert len(after) == 3

    room(scene)


async def pipeline(room, **more):
    containers = [
        {"Image": "serve:1", "ContainerHostname": name, "Environment": {"PREFIX": f"{name}:"}}
        for name in ("first", "second")
    ]
    await room.call("CreateModel", ModelName="model", Containers=containers, **more)
    await room.config()
    await room.endpoint()


def test_serial_pipeline(room):
    """Each container gets the answer of the one before, and has a log stream of its own."""

    async def scene(room):
        await pipeline(room)
        answer = await room.invoke(b"x", content_type="text/csv")
        assert answer.body == b"second:first:x"
        (second,) = [each for each in room.engine.started if each.spec.hostname == "second"]
        headers, _ = second.requests[-1]
        found = {name.lower(): value for name, value in headers.items()}
        assert found["content-type"] == "text/plain"
        assert sorted(stream.rpartition("/")[2] for stream in room.log()) == ["first", "second"]
        failed = json.loads((await room.invoke(b"fail 400")).body)
        assert "from first with" in failed["Message"]

    room(scene)


def test_containers_invoked_by_name(room):
    """InferenceExecutionConfig Direct."""

    async def scene(room):
        await pipeline(room, InferenceExecutionConfig={"Mode": "Direct"})
        answer = await room.invoke(b"x", x_amzn_sagemaker_target_container_hostname="second")
        assert answer.body == b"second:x"
        error = await refused("ValidationError", room.invoke(b"x"))
        assert "first, second" in error.message

    room(scene)


def test_capture_gets_both_bodies(room):
    """After the answer, where the configuration asks for it; not where it does not."""
    seen = []

    async def scene(room):
        await room.model()
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://models/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }
        await room.config("plain")
        await room.config("captures", DataCaptureConfig=capture)
        await room.endpoint("one", "plain")
        await room.endpoint("two", "captures")
        await room.invoke(b"a", "one")
        await room.invoke(b"b", "two", content_type="text/csv", x_amzn_sagemaker_inference_id="i")
        await asyncio.sleep(0)
        (exchange,) = seen
        assert (exchange.endpoint, exchange.variant) == ("two", "AllTraffic")
        assert (exchange.request, exchange.request_type) == (b"b", "text/csv")
        assert (exchange.response, exchange.response_type) == (b"b", "text/plain")
        assert exchange.inference_id == "i"
        assert exchange.config == capture

    room(scene, capture=seen.append)


def test_all_instances_dead(room):
    """503 with a hint, and no endless search."""

    async def scene(room):
        await serve(room)
        room.engine.started[0].die(1)
        error = await refused("ServiceUnavailable", room.invoke())
        assert "its log stream says why" in error.message

    room(scene)
