"""An endpoint of the region captures into its S3; the monitor reads it there, and writes there."""

from __future__ import annotations

import json

import pytest
from tests.region.test_capture import configure, wait_for_records
from tests.region.test_hosting import ROLE, model

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.region.clients import make_client

pytestmark = pytest.mark.slow
ROWS = 60


def body(number):
    return f"{number % 20},{number / 7:.3f}"


def test_traffic_that_drifted(region, monkeypatch, capsys):
    s3, sagemaker = region.client("s3"), region.client("sagemaker")
    runtime = make_client("sagemaker-runtime", region.url, region.keys)
    for bucket in ("models", "captures", "monitor"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="models", Key="model.tar.gz", Body=model("answer"))
    container = {"Image": "byoc-serve", "ModelDataUrl": "s3://models/model.tar.gz"}
    sagemaker.create_model(ModelName="model", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    configure(sagemaker, "config", {"CaptureOptions": [{"CaptureMode": "Input"}]})
    sagemaker.create_endpoint(EndpointName="endpoint", EndpointConfigName="config")
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName="endpoint", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )
    table = "\n".join(["a,b", *(body(number) for number in range(ROWS))])
    s3.put_object(Bucket="monitor", Key="train.csv", Body=table.encode())
    for number in range(ROWS):
        runtime.invoke_endpoint(
            EndpointName="endpoint", Body=body(number + 200), ContentType="text/csv"
        )
    wait_for_records(s3, ROWS)
    monkeypatch.setenv("BYOC_REGION_URL", region.url)
    for name, value in region.keys.environ.items():
        monkeypatch.setenv(name, value)
    place = "s3://monitor"
    assert main(["monitor", "baseline", f"{place}/train.csv", "--output", f"{place}/baseline"]) == 0
    words = ["--baseline", f"{place}/baseline", "--output", f"{place}/report"]
    capsys.readouterr()
    assert (
        main(["monitor", "run", "s3://captures/all", *words, "--fail-on-violation", "--json"]) == 1
    )
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == ROWS
    assert found["unread"]["unread"] == 0
    assert [each["feature_name"] for each in found["violations"]] == ["b"]
    page = s3.get_object(Bucket="monitor", Key="report/report.html")["Body"].read()
    assert b"<svg" in page
