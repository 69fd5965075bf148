"""States of alarms: the tables of the user guide."""

from __future__ import annotations

import json

import pytest

from sagemaker_byoc.region.services.cloudwatch.alarm_evaluation import evaluate, judge
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore

NOW = 1_800_000_030.0
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
STATES = {"A": "ALARM", "O": "OK", "I": "INSUFFICIENT_DATA", "R": None}


@pytest.mark.parametrize(
    ("periods", "needed", "states"),
    [
        # "How alarm state is evaluated when data is missing": 3 out of 3, then 2 out of 3.
        ("0-X-X", 3, "OOOO"),
        ("----0", 3, "OOOO"),
        ("-----", 3, "IRAO"),
        ("0XX-X", 3, "AAAA"),
        ("--X--", 3, "ARAO"),
        ("0-X-X", 2, "AAAA"),
        ("00X0X", 2, "AAAA"),
        ("0-X--", 2, "OOAO"),
        ("----0", 2, "OOAO"),
        ("---X-", 2, "ARAO"),
        # A first breaching value is too young to alarm.
        ("----X", 3, "RRAO"),
        ("----X", 1, "AAAA"),
        ("XXXXX", 3, "AAAA"),
        ("XX000", 3, "OOOO"),
    ],
)
def test_missing_values(periods, needed, states):
    breaching = [{"0": False, "X": True, "-": None}[each] for each in periods]
    found = [judge(breaching, needed, 3, treatment) for treatment in TREATMENTS]
    assert found == [STATES[state] for state in states]


@pytest.fixture
def store(tmp_path):
    store = MetricStore(tmp_path, clock=lambda: NOW)
    yield store
    store.close()


METRIC = Metric.of("n", "m", {"a": "b"})


def alarm(**more):
    return {
        "Namespace": "n",
        "MetricName": "m",
        "Dimensions": [{"Name": "a", "Value": "b"}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 90.0,
        "ComparisonOperator": "GreaterThanThreshold",
        **more,
    }


def put(store, *values, resolution=60, step=60):
    """Values of the periods before the current one, the newest last."""
    start = NOW // step * step - step * len(values)
    for number, value in enumerate(values):
        if value is not None:
            store.put(METRIC, value, start + step * number, resolution=resolution)


@pytest.mark.parametrize(
    ("operator", "states"),
    [
        ("GreaterThanThreshold", ["OK", "OK", "ALARM"]),
        ("GreaterThanOrEqualToThreshold", ["OK", "ALARM", "ALARM"]),
        ("LessThanThreshold", ["ALARM", "OK", "OK"]),
        ("LessThanOrEqualToThreshold", ["ALARM", "ALARM", "OK"]),
    ],
)
def test_operators(tmp_path, operator, states):
    found = []
    for value in (80.0, 90.0, 100.0):
        store = MetricStore(tmp_path / str(value), clock=lambda: NOW)
        put(store, value)
        found.append(evaluate(store, alarm(ComparisonOperator=operator), NOW).state)
        store.close()
    assert found == states


def test_the_current_period_is_not_read(store):
    put(store, 1.0)
    store.put(METRIC, 1000.0, NOW)
    assert evaluate(store, alarm(), NOW).state == "OK"


def test_a_reason_in_awss_words(store):
    put(store, 95.0, 10.0, 100.0)
    found = evaluate(store, alarm(EvaluationPeriods=3, DatapointsToAlarm=2), NOW)
    assert found.state == "ALARM"
    assert found.reason == (
        "Threshold Crossed: 2 out of the last 3 datapoints [100.0 (15/01/27 07:59:00), 95.0"
        " (15/01/27 07:57:00)] were greater than the threshold (90.0) (minimum 2 datapoints for"
        " OK -> ALARM transition)."
    )
    data = json.loads(found.data)
    assert data["recentDatapoints"] == [95.0, 10.0, 100.0]
    newest = {"timestamp": "2027-01-15T07:59:00.000+0000", "sampleCount": 1.0, "value": 100.0}
    assert data["evaluatedDatapoints"][0] == newest
    assert data["startDate"] == "2027-01-15T07:57:00.000+0000"


@pytest.mark.parametrize(
    ("treatment", "state"), [("breaching", "Breaching"), ("notBreaching", "NonBreaching")]
)
def test_reasons_of_missing_values(store, treatment, state):
    found = evaluate(store, alarm(EvaluationPeriods=2, TreatMissingData=treatment), NOW)
    assert found.reason == (
        "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints"
        f" were treated as [{state}]."
    )


def test_the_reason_of_insufficient_data(store):
    found = evaluate(store, alarm(EvaluationPeriods=2), NOW)
    assert found.reason == "Insufficient Data: 2 datapoints were unknown."


def test_short_periods(store):
    put(store, 1.0, 100.0, resolution=1, step=10)
    assert evaluate(store, alarm(Period=10), NOW).state == "ALARM"
    assert evaluate(store, alarm(Period=10, EvaluationPeriods=2), NOW).state == "OK"


def test_long_periods_end_with_the_last_minute(store):
    put(store, 100.0)
    assert evaluate(store, alarm(Period=300), NOW).state == "ALARM"


def test_units(store):
    put(store, 100.0)
    assert evaluate(store, alarm(Unit="Seconds"), NOW).state == "INSUFFICIENT_DATA"
    store.put(METRIC, 200.0, NOW - 60, unit="Seconds")
    assert json.loads(evaluate(store, alarm(), NOW).data)["recentDatapoints"] == [150.0]


def test_a_percentile_of_few_values_can_be_left_out(store):
    for value in range(50):
        store.put(METRIC, float(value), NOW - 60)
    percentile = alarm(ExtendedStatistic="p90", Threshold=10.0, Statistic=None)
    assert evaluate(store, percentile, NOW).state == "ALARM"
    ignoring = {**percentile, "EvaluateLowSampleCountPercentile": "ignore"}
    assert evaluate(store, ignoring, NOW) is None
    for value in range(50):
        store.put(METRIC, float(value), NOW - 60)
    assert evaluate(store, ignoring, NOW).state == "ALARM"


def test_the_reason_of_a_whole_day_fits(store, monkeypatch):
    put(store, *(float(number) + 1000.123456789 for number in range(1440)))
    written = []
    original = json.dumps
    monkeypatch.setattr(json, "dumps", lambda each: written.append(1) or original(each))
    found = evaluate(store, alarm(EvaluationPeriods=1440), NOW)
    assert found.state == "ALARM"
    assert len(written) <= 50
    assert len(found.reason) <= 1023
    assert len(found.data) <= 4000
    data = json.loads(found.data)
    assert data["recentDatapoints"][-1] == data["evaluatedDatapoints"][0]["value"] > 2439
    assert data["startDate"] == "2027-01-14T08:00:00.000+0000"
