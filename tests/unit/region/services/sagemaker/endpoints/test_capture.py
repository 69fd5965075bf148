"""DataCaptureConfig in the region: what is written where, when, and what the description says."""

from __future__ import annotations

import asyncio
import logging

from tests.unit.region.services.sagemaker.endpoints.fake_engine import BOUND

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


async def captured(region, count):
    """Keys and records, once there are as many."""
    async with asyncio.timeout(BOUND):
        while True:
            keys = [each.key for each in region.store.list("captures")]
            lines = [
                line
                for key in keys
                for line in region.store.get("captures", key).path.read_bytes().splitlines()
            ]
            if len(lines) >= count:
                assert len(lines) == count
                return keys, [Record.from_line(line) for line in lines]
            await asyncio.sleep(0.01)


async def serve(region, capture, bucket=True):
    if bucket:
        region.store.create_bucket("captures")
    await region.model()
    await region.config(DataCaptureConfig=capture)
    return await region.endpoint()


async def ask(region, body=b"1,2", **headers):
    return await region.invoke(body, content_type="text/csv", **headers)


def test_both_directions(play, monkeypatch):
    """In one file under DestinationS3Uri/ENDPOINT/VARIANT/hour; with the keys to join by."""
    monkeypatch.setattr(module, "DELAY", 0.05)

    async def scene(region):
        found = await serve(region, config())
        assert found["DataCaptureConfig"]["EnableCapture"], "that is its default"
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"
        await ask(region, x_amzn_sagemaker_inference_id="i-1")
        await ask(region, b"3,4", x_amzn_sagemaker_custom_attributes="trace=7")
        (key,), (first, second) = await captured(region, 2)
        hour = f"{first.time:%Y/%m/%d/%H}"
        assert key.startswith(f"all/one/AllTraffic/{hour}/")
        assert key.endswith(".jsonl")
        assert (first.input.data, first.input.encoding) == ("1,2", "CSV")
        assert (first.output.data, first.output.content_type) == ("1,2", "text/plain")
        assert (first.inference_id, first.event_id) == ("i-1", "request-1")
        assert second.custom_attributes == ("trace=7",)

    play(scene)


def test_toggled_by_an_update(play, monkeypatch):
    """On, off, and to another place, each by UpdateEndpoint; kept where that is asked for."""
    monkeypatch.setattr(module, "DELAY", 0.05)

    async def scene(region):
        await serve(region, config("Input"))
        await region.config("off", DataCaptureConfig=config(EnableCapture=False))
        await region.config("else", DataCaptureConfig=config("Output", uri="s3://captures"))
        await region.config("none")
        await ask(region, b"1")
        await captured(region, 1)
        for name, retain in (("off", False), ("else", False), ("none", True)):
            await region.call(
                "UpdateEndpoint",
                EndpointName="one",
                EndpointConfigName=name,
                RetainAllVariantProperties=retain,
            )
            found = await region.settled()
            is_on = name != "off"
            status = "Started" if is_on else "Stopped"
            assert found["DataCaptureConfig"]["CaptureStatus"] == status
            await ask(region, name.encode())
        keys, records = await captured(region, 3)
        assert {key.split("/")[0] for key in keys} == {"all", "one"}
        outputs = [record.output.data for record in records if record.output]
        assert outputs == ["else", "none"]
        await region.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="none")
        assert "DataCaptureConfig" not in await region.settled()

    play(scene)


def test_errors_streams_and_a_share_of_none_leave_nothing(play):
    """What is captured is written at the latest when the region ends."""

    async def scene(region):
        await serve(region, config(percentage=0))
        await ask(region)
        await region.config("all", DataCaptureConfig=config())
        await region.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="all")
        await region.settled()
        await ask(region, b"fail 500")
        answer = await region.invoke(b"chunks", way="invocations-response-stream")
        assert [part async for part in answer.body]
        await ask(region, b"good")
        await asyncio.sleep(0)
        await region.endpoints.captures.close()
        _, (record,) = await captured(region, 1)
        assert record.input.data == "good"

    play(scene)


def test_missing_bucket(play, monkeypatch, caplog):
    """Requests are answered; the status says that nothing is written, the log why."""
    monkeypatch.setattr(module, "DELAY", 0.01)

    async def scene(region):
        await serve(region, config(), bucket=False)
        with caplog.at_level(logging.WARNING):
            assert (await ask(region)).status == 200
            await asyncio.sleep(0)  # it is taken once the answer is on its way
            await region.endpoints.captures.close()
        found = await region.settled()
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Stopped"
        assert "s3://captures/all/one/AllTraffic" in caplog.text
        region.store.create_bucket("captures")
        await ask(region)
        await captured(region, 1)
        await region.endpoints.captures.close()  # the file is there before its writer has ended
        found = await region.settled()
        assert found["DataCaptureConfig"]["CaptureStatus"] == "Started"

    play(scene)


def test_bounded(play, monkeypatch, caplog):
    """What waits for the store has a bound; a large file does not wait for the clock."""
    monkeypatch.setattr(module, "MOST", 10)
    monkeypatch.setattr(module, "SIZE", 4)

    async def scene(region):
        await serve(region, config())
        with caplog.at_level(logging.WARNING):
            await ask(region, b"123456")
            await asyncio.sleep(0)
        assert "wait for the object store" in caplog.text
        await ask(region, b"12")
        _, (record,) = await captured(region, 1)
        assert record.input.data == "12"

    play(scene)


def test_what_cannot_be_captured(play):
    """Said when the configuration is made."""

    async def scene(region):
        await region.model()
        serverless = {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}
        for variant, found, part in (
            ({}, config(uri="https://captures/all"), "not an S3 URI"),
            (serverless, config(), "serverless"),
        ):
            message = await region.refused(
                "CreateEndpointConfig",
                EndpointConfigName="config",
                ProductionVariants=[region.variant(**variant)],
                DataCaptureConfig=found,
            )
            assert part in message

    play(scene)
