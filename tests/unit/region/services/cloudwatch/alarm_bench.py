"""CloudWatch with a clock that a test moves."""

from __future__ import annotations

import asyncio

import pytest

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.cloudwatch.cloudwatch import CloudWatch
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.wire.operations import AwsError

START = 1_800_000_000.0
METRIC = Metric.of("n", "m", {})
ALARM = {
    "AlarmName": "high",
    "Namespace": "n",
    "MetricName": "m",
    "Statistic": "Average",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 90.0,
    "ComparisonOperator": "GreaterThanThreshold",
}


class Bench:
    """CloudWatch with a clock that a test moves, and its alarms evaluated when a test says so."""

    def __init__(self, folder):
        self.now = START + 30
        self.events = []
        self.folder = folder
        self.store = MetricStore(folder, clock=lambda: self.now)
        self.open()

    def open(self):
        self.cloudwatch = CloudWatch(
            self.folder,
            self.store,
            Account(),
            clock=lambda: self.now,
            publish=self.events.append,
        )
        self.operations = self.cloudwatch.operations()

    def __call__(self, name, **parameters):
        return self.operations[name](parameters)

    def close(self):
        asyncio.run(self.cloudwatch.close())

    def put(self, **more):
        self("PutMetricAlarm", **{**ALARM, **more})

    def minute(self, value=None):
        """A value of this minute, and the evaluation after its end."""
        if value is not None:
            self.store.put(METRIC, value, self.now)
        self.now += 60
        self.tick()

    def tick(self):
        self.cloudwatch._ticker.tick()

    def alarm(self, name="high"):
        (found,) = self("DescribeAlarms", AlarmNames=[name])["MetricAlarms"]
        return found

    def state(self, name="high"):
        return self.alarm(name)["StateValue"]

    def history(self, **parameters):
        items = self("DescribeAlarmHistory", **parameters)["AlarmHistoryItems"]
        return [item["HistorySummary"] for item in items]


def refusal(call, *arguments, **parameters):
    with pytest.raises(AwsError) as found:
        call(*arguments, **parameters)
    return found.value
