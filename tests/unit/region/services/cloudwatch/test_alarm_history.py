"""The history of alarms: pages, bounds, age."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from tests.unit.region.services.cloudwatch.alarm_bench import refusal

from sagemaker_byoc.region.services.cloudwatch import alarm_history


def test_a_deleted_alarm_leaves_its_history(bench):
    bench.put()
    bench("DeleteAlarms", AlarmNames=["high", "none"])
    assert bench("DescribeAlarms")["MetricAlarms"] == []
    assert bench.history() == ['Alarm "high" deleted', 'Alarm "high" created']
    bench.tick()


def test_pages_and_bounds_of_the_history(bench, monkeypatch):
    monkeypatch.setattr(alarm_history, "ITEMS", 5)
    for number in range(7):
        bench.now += 1
        bench.put(Threshold=float(number))
    query = {"ScanBy": "TimestampAscending", "MaxRecords": 2}
    first = bench("DescribeAlarmHistory", **query)
    times = [item["Timestamp"] for item in first["AlarmHistoryItems"]]
    assert times == sorted(times)
    second = bench("DescribeAlarmHistory", **query, NextToken=first["NextToken"])
    third = bench("DescribeAlarmHistory", **query, NextToken=second["NextToken"])
    pages = [first, second, third]
    assert [len(page["AlarmHistoryItems"]) for page in pages] == [2, 2, 1]
    assert third["NextToken"] is None
    since = datetime.fromtimestamp(bench.now, UTC)
    assert len(bench.history(StartDate=since)) == 1
    assert len(bench.history(EndDate=since)) == 5
    assert bench.history(AlarmTypes=["LogAlarm"]) == []
    for content in ("é", "null", f"[1.0, {10**30}]", "[" * 100_000, "[1, 1]"):
        token = base64.urlsafe_b64encode(content.encode()).decode()
        for given in (content, token):
            error = refusal(bench, "DescribeAlarmHistory", NextToken=given)
            assert error.code == "InvalidNextToken"
    long_ago, far = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert len(bench.history(StartDate=long_ago, EndDate=far)) == 5
    bench.now += 31 * 86_400
    bench.put()
    assert len(bench.history()) == 1
