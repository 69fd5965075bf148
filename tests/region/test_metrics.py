"""CloudWatch's metrics and alarms in a region that is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import botocore.session
import pytest
from tests.region.test_hosting import BOUND
from tests.region.test_hosting import region as started_region

from sagemaker_byoc.region.core.state_folder import read_address

pytestmark = pytest.mark.slow

METRICS = 30


def client(state):
    keys = json.loads((state / "credentials.json").read_text())
    return botocore.session.Session().create_client(
        "cloudwatch",
        region_name="us-east-1",
        endpoint_url=read_address(state).url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
    )


def wait_until_written(state, count):
    """Until the file has so many values."""
    deadline = time.monotonic() + BOUND
    with sqlite3.connect(f"file:{state}/metrics/metrics.sqlite?mode=ro", uri=True) as file:
        while (file.execute("SELECT sum(count) FROM periods").fetchone()[0] or 0) < count:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    file.close()


def test_a_region_that_is_killed(tmp_path):
    """Written values, alarms, their states and their history are there."""
    state, now = tmp_path / "state", datetime.now(UTC)
    with started_region(state) as (process, _):
        cloudwatch = client(state)
        data = [
            {"MetricName": f"m{number}", "Value": float(number), "Timestamp": now}
            for number in range(METRICS)
        ]
        cloudwatch.put_metric_data(Namespace="killed", MetricData=data)
        cloudwatch.put_metric_alarm(
            AlarmName="high",
            Namespace="killed",
            MetricName="m1",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0.0,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="ignore",
        )
        cloudwatch.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="a test")
        wait_until_written(state, METRICS)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(BOUND)
    lines = (state / "events" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["detail-type"] for line in lines] == ["CloudWatch Alarm State Change"]
    with started_region(state):
        cloudwatch = client(state)
        assert len(cloudwatch.list_metrics(Namespace="killed")["Metrics"]) == METRICS
        (point,) = cloudwatch.get_metric_statistics(
            Namespace="killed",
            MetricName="m7",
            StartTime=now - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=5),
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
