"""A region that is killed under load: events, metrics, alarms and the model registry afterwards.

One region is killed for all: a start takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import botocore.session
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.region.test_events import ENTRY, receiver
from tests.region.test_hosting import BOUND
from tests.region.test_hosting import region as started_region
from tests.region.test_model_registry import SPECIFICATION

from sagemaker_byoc.region.core.state_folder import read_address

pytestmark = pytest.mark.slow

METRICS = 30
RULES = 20
PACKAGES = 100
GROUPS = 4


def client(state, service):
    keys = json.loads((state / "credentials.json").read_text())
    return botocore.session.Session().create_client(
        service,
        region_name="us-east-1",
        endpoint_url=read_address(state).url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
    )


def put_rules(events, url, got):
    for number in range(RULES):
        name = f"r{number:02}"
        events.put_rule(Name=name, EventPattern=json.dumps({"source": ["mine"]}))
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": url}])
    events.put_events(Entries=[{**ENTRY, "Detail": '{"n": 1}'}])
    got.get(timeout=BOUND)


def put_metrics(cloudwatch, state, now):
    """Put values, and an alarm without values, so that only a request changes its state."""
    data = [
        {"MetricName": f"m{number}", "Value": float(number), "Timestamp": now}
        for number in range(METRICS)
    ]
    cloudwatch.put_metric_data(Namespace="killed", MetricData=data)
    cloudwatch.put_metric_alarm(
        AlarmName="high",
        Namespace="killed",
        MetricName="none",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
    )
    cloudwatch.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="a test")
    wait_until_written(state, METRICS)


def wait_until_written(state, count):
    """Until the file has so many values."""
    deadline = time.monotonic() + BOUND
    with sqlite3.connect(f"file:{state}/metrics/metrics.sqlite?mode=ro", uri=True) as file:
        while (file.execute("SELECT sum(count) FROM periods").fetchone()[0] or 0) < count:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    file.close()


def register_until_killed(process, sagemaker):
    """Kill the region while four clients register packages. Return what they were answered."""
    done = {}
    enough = threading.Event()

    def register(number):
        name = f"g{number}"
        tags = [{"Key": "number", "Value": str(number)}]
        sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=tags)
        for version in range(1, 1000):
            token = f"{name}-{version}"
            arn = sagemaker.create_model_package(
                ModelPackageGroupName=name,
                InferenceSpecification=SPECIFICATION,
                ClientToken=token,
            )["ModelPackageArn"]
            sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
            done[arn] = (name, token)
            if len(done) >= PACKAGES:
                enough.set()

    with ThreadPoolExecutor(GROUPS) as threads:
        runs = [threads.submit(register, number) for number in range(GROUPS)]
        try:
            assert enough.wait(BOUND)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(BOUND)
        for run in runs:
            assert isinstance(run.exception(), (ClientError, BotoCoreError))
    return done


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A region that was killed and runs again, and what it answered before."""
    state = tmp_path_factory.mktemp("killed") / "state"
    now = datetime.now(UTC)
    with receiver() as (url, got):
        with started_region(state) as (process, started):
            put_rules(client(state, "events"), url, got)
            put_metrics(client(state, "cloudwatch"), state, now)
            packages = register_until_killed(process, started.sagemaker)
        with started_region(state):
            yield SimpleNamespace(state=state, now=now, got=got, packages=packages)


def test_rules_and_events(killed):
    """Rules and targets that were answered for are there; the file has whole lines."""
    events = client(killed.state, "events")
    assert len(events.list_rules()["Rules"]) == RULES
    while not killed.got.empty():
        killed.got.get()
    events.put_events(Entries=[{**ENTRY, "Detail": '{"n": 2}'}])
    assert [killed.got.get(timeout=BOUND)["detail"]["n"] for _ in range(RULES)] == [2] * RULES
    lines = (killed.state / "events" / "events.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert [each["detail"]["n"] for each in written if each["source"] == "mine"] == [1, 2]
    changes = [each["detail-type"] for each in written if each["source"] == "aws.cloudwatch"]
    assert changes == ["CloudWatch Alarm State Change"]


def test_metrics_and_alarms(killed):
    """Written values, alarms, their states and their history are there."""
    cloudwatch = client(killed.state, "cloudwatch")
    assert len(cloudwatch.list_metrics(Namespace="killed")["Metrics"]) == METRICS
    (point,) = cloudwatch.get_metric_statistics(
        Namespace="killed",
        MetricName="m7",
        StartTime=killed.now - timedelta(minutes=5),
        EndTime=killed.now + timedelta(minutes=5),
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    assert point["Sum"] == 7
    (alarm,) = cloudwatch.describe_alarms()["MetricAlarms"]
    assert (alarm["StateValue"], alarm["StateReason"]) == ("ALARM", "a test")
    history = cloudwatch.describe_alarm_history(AlarmName="high")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in history] == [
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        'Alarm "high" created',
    ]


def test_model_packages(killed):
    """What was answered is there, with its tags; a request that is repeated makes nothing twice."""
    sagemaker = client(killed.state, "sagemaker")
    for arn, (name, token) in killed.packages.items():
        found = sagemaker.describe_model_package(ModelPackageName=arn)
        assert found["ModelApprovalStatus"] == "Approved"
        again = sagemaker.create_model_package(
            ModelPackageGroupName=name, InferenceSpecification=SPECIFICATION, ClientToken=token
        )
        assert again["ModelPackageArn"] == arn
    pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageType="Both")
    listed = [each for page in pages for each in page["ModelPackageSummaryList"]]
    for number in range(GROUPS):
        group = sagemaker.describe_model_package_group(ModelPackageGroupName=f"g{number}")
        tags = sagemaker.list_tags(ResourceArn=group["ModelPackageGroupArn"])["Tags"]
        assert tags == [{"Key": "number", "Value": str(number)}]
        versions = sorted(
            each["ModelPackageVersion"]
            for each in listed
            if each["ModelPackageGroupName"] == f"g{number}"
        )
        new = sagemaker.create_model_package(
            ModelPackageGroupName=f"g{number}", InferenceSpecification=SPECIFICATION
        )
        assert int(new["ModelPackageArn"].rpartition("/")[2]) > versions[-1]
