"""Capture in a region with a real container, through an unmodified client."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError
from tests.region.test_hosting import ROLE, model

from sagemaker_byoc.contract.capture import Record, hour_of
from sagemaker_byoc.region.clients import make_client

pytestmark = pytest.mark.slow
BOUND = 60.0
HEADERS = {"CsvContentTypes": ["text/csv", "text/plain"], "JsonContentTypes": ["application/json"]}


def configure(sagemaker, name, capture):
    variant = {"VariantName": "AllTraffic", "ModelName": "model", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{**variant, "InstanceType": "ml.m5.large"}],
        DataCaptureConfig={
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://captures/all",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": HEADERS,
            **capture,
        },
    )


def wait_for_records(s3, count):
    """Keys and records, once there are as many."""
    until = time.monotonic() + BOUND
    while True:
        found = s3.list_objects_v2(Bucket="captures").get("Contents", [])
        keys = [each["Key"] for each in found]
        bodies = [s3.get_object(Bucket="captures", Key=key)["Body"].read() for key in keys]
        records = [Record.from_line(line) for body in bodies for line in body.splitlines()]
        if len(records) >= count:
            return keys, records
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def test_capture_is_switched_by_updates(region):
    """On with the endpoint, off and on again by UpdateEndpoint; failures leave nothing."""
    s3, sagemaker = region.client("s3"), region.client("sagemaker")
    runtime = make_client("sagemaker-runtime", region.url, region.keys)
    for bucket in ("models", "captures"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="models", Key="model.tar.gz", Body=model("answer"))
    container = {"Image": "byoc-serve", "ModelDataUrl": "s3://models/model.tar.gz"}
    sagemaker.create_model(ModelName="model", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    configure(sagemaker, "on", {})
    configure(sagemaker, "off", {"EnableCapture": False})
    configure(sagemaker, "inputs", {"CaptureOptions": [{"CaptureMode": "Input"}]})

    def ask(text, **more):
        answer = runtime.invoke_endpoint(
            EndpointName="one", Body=text.encode(), ContentType="text/csv", **more
        )
        return answer["Body"].read().decode(), answer["ResponseMetadata"]["RequestId"]

    def update(config):
        sagemaker.update_endpoint(EndpointName="one", EndpointConfigName=config)
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="one")
        found = sagemaker.describe_endpoint(EndpointName="one")["DataCaptureConfig"]
        return found["EnableCapture"], found["CaptureStatus"]

    sagemaker.create_endpoint(EndpointName="one", EndpointConfigName="on")
    try:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="one")
        _, request_id = ask("1,2", InferenceId="i-1", CustomAttributes="trace=7")
        with pytest.raises(ClientError):
            ask("fail")
        (key,), (record,) = wait_for_records(s3, 1)
        assert key.startswith("all/one/AllTraffic/")
        assert hour_of(key) == record.time.replace(minute=0, second=0)
        assert (record.input.data, record.output.data) == ("1,2", "answer:1,2")
        assert (record.output.content_type, record.output.encoding) == ("text/plain", "CSV")
        assert (record.inference_id, record.event_id) == ("i-1", request_id)
        assert record.custom_attributes == ("trace=7",)
        assert update("off") == (False, "Stopped")
        ask("not this")
        assert update("inputs") == (True, "Started")
        ask("3,4")
        _, records = wait_for_records(s3, 2)
        assert sorted(each.input.data for each in records) == ["1,2", "3,4"]
        assert [each.output for each in records if each.input.data == "3,4"] == [None]
    finally:
        with suppress(ClientError):
            sagemaker.delete_endpoint(EndpointName="one")
            sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="one")
