"""DataCaptureConfig in the region: what is written where, when, and what the description says."""

from __future__ import annotations

import asyncio
import logging

from tests.unit.region.services.sagemaker.endpoints.pretenders import BOUND

from sagemaker_byoc.contract.capture import Record
from sagemaker_byoc.region.services.sagemaker.endpoints import capture as module

HEADERS = {"CsvContentTypes": ["text/csv", "text/plain"], "JsonContentTypes": ["application/json"]}


def config(*modes, percentage=100, uri="s3://captures/all/", **more):
    return {
        "InitialSamplingPercentage": percentage,
        "DestinationS3Uri": uri,
        "CaptureOptions": [{"CaptureMode": mode} for mode in modes or ("Input", "Output")],
        "CaptureContentTypeHeader": HEADERS,
        **more,
    }


async def captured(room, count):
    """Keys and records, once there are as many."""
    async with asyncio.timeout(BOUND):
        while True:
            keys = [each.key for each in room.store.list("captures")]
            lines = [
                line
                for key in keys
                for line in room.store.get("captures", key).path.read_bytes().splitlines()
            ]
            if len(lines) >= count:
                assert len(lines) == count
                return keys, [Record.from_line(line) for line in lines]
            await asyncio.sleep(0.01)


async def serve(room, capture, bucket=True):
    if bucket:
        room.store.create_bucket("captures")
    await room.model()
    await room.config(DataCaptureConfig=capture)
    return await room.endpoint()


async def ask(room, body=b"1,2", **headers):
    return await room.invoke(body, content_type="text/csv", **headers)


def test_both_directions(room, monkeypatch):
    """In one file under DestinationS3Uri/ENDPOINT/VARIANT/hour; with the keys to join by."""
    monkeypatch.setattr(module, "DELAY", 0.05)

    async def scene(room):
        found = await serve(room, config())
        assert found["DataCaptureConfig"]["EnableCapture"], "that is its default"
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"
        await ask(room, x_amzn_sagemaker_inference_id="i-1")
        await ask(room, b"3,4", x_amzn_sagemaker_custom_attributes="trace=7")
        (key,), (first, second) = await captured(room, 2)
        hour = f"{first.time:%Y/%m/%d/%H}"
        assert key.startswith(f"all/one/AllTraffic/{hour}/")
        assert key.endswith(".jsonl")
        assert (first.input.data, first.input.encoding) == ("1,2", "CSV")
        assert (first.output.data, first.output.content_type) == ("1,2", "text/plain")
        assert (first.inference_id, first.event_id) == ("i-1", "request-1")
        assert second.custom_attributes == ("trace=7",)

    room(scene)


def test_toggled_by_an_update(room, monkeypatch):
    """On, off, and to another place, each by UpdateEndpoint; kept where that is asked for."""
    monkeypatch.setattr(module, "DELAY", 0.05)

    async def scene(room):
        await serve(room, config("Input"))
        await room.config("off", DataCaptureConfig=config(EnableCapture=False))
        await room.config("else", DataCaptureConfig=config("Output", uri="s3://captures"))
        await room.config("none")
        await ask(room, b"1")
        await captured(room, 1)
        for name, retain in (("off", False), ("else", False), ("none", True)):
            await room.call(
                "UpdateEndpoint",
                EndpointName="one",
                EndpointConfigName=name,
                RetainAllVariantProperties=retain,
            )
            found = await room.settled()
            is_on = name != "off"
            status = "Started" if is_on else "Stopped"
            assert found["DataCaptureConfig"]["CaptureStatus"] == status
            await ask(room, name.encode())
        keys, records = await captured(room, 3)
        assert {key.split("/")[0] for key in keys} == {"all", "one"}
        outputs = [record.output.data for record in records if record.output]
        assert outputs == ["else", "none"]
        await room.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="none")
        assert "DataCaptureConfig" not in await room.settled()

    room(scene)


def test_errors_streams_and_a_share_of_none_leave_nothing(room):
    """What is captured is written at the latest when the region ends."""

    async def scene(room):
        await serve(room, config(percentage=0))
        await ask(room)
        await room.config("all", DataCaptureConfig=config())
        await room.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="all")
        await room.settled()
        await ask(room, b"fail 500")
        answer = await room.invoke(b"chunks", way="invocations-response-stream")
        assert [part async for part in answer.body]
        await ask(room, b"good")
        await asyncio.sleep(0)
        await room.service.captures.close()
        _, (record,) = await captured(room, 1)
        assert record.input.data == "good"

    room(scene)


def test_missing_bucket(room, monkeypatch, caplog):
    """Requests are answered; the status says that nothing is written, the log why."""
    monkeypatch.setattr(module, "DELAY", 0.01)

    async def scene(room):
        await serve(room, config(), bucket=False)
        with caplog.at_level(logging.WARNING):
            assert (await ask(room)).status == 200
            await asyncio.sleep(0)  # it is taken once the answer is on its way
            await room.service.captures.close()
        found = await room.settled()
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Stopped"
        assert "s3://captures/all/one/AllTraffic" in caplog.text
        room.store.create_bucket("captures")
        await ask(room)
        await captured(room, 1)
        found = await room.settled()
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"

    room(scene)


def test_bounded(room, monkeypatch, caplog):
    """What waits for the store has a bound; a large file does not wait for the clock."""
    monkeypatch.setattr(module, "MOST", 10)
    monkeypatch.setattr(module, "SIZE", 4)

    async def scene(room):
        await serve(room, config())
        with caplog.at_level(logging.WARNING):
            await ask(room, b"123456")
            await asyncio.sleep(0)
        assert "wait for the object store" in caplog.text
        await ask(room, b"12")
        _, (record,) = await captured(room, 1)
        assert record.input.data == "12"

    room(scene)


def test_what_cannot_be_captured(room):
    """Said when the configuration is made."""

    async def scene(room):
        await room.model()
        serverless = {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}
        for variant, found, part in (
            ({}, config(uri="https://captures/all"), "not an S3 URI"),
            (serverless, config(), "serverless"),
        ):
            message = await room.refused(
                "CreateEndpointConfig",
                EndpointConfigName="config",
                ProductionVariants=[room.variant(**variant)],
                DataCaptureConfig=found,
            )
            assert part in message

    room(scene)
