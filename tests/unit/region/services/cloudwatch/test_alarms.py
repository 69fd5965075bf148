"""Alarms: requests, evaluation over time, restarts, tags."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.members import unread_members
from tests.unit.region.services.cloudwatch.alarm_bench import ALARM, METRIC, refusal

from sagemaker_byoc.region.core.account import CALLER, Account, Principal
from sagemaker_byoc.region.services.cloudwatch import alarm_records


def test_no_member_is_ignored(bench):
    names = [name for name in bench.operations if "Metric" not in name or "Alarm" in name]
    operations = {name: bench.operations[name] for name in names}
    arn = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:high"
    known = {
        **ALARM, "AlarmNames": ["high"], "ResourceARN": arn, "TreatMissingData": "missing",
        "ExtendedStatistic": "p50", "EvaluateLowSampleCountPercentile": "ignore",
        "AlarmTypes": ["MetricAlarm"], "NextToken": None, "TagKeys": ["a"], "MaxRecords": 5,
        "Tags": [{"Key": "a", "Value": "b"}], "StateReasonData": "{}", "AlarmNamePrefix": "h",
    }  # fmt: skip
    always = (*ALARM,)
    unread = unread_members("cloudwatch", operations, bench.put, always=always, **known)
    assert unread == set()


def test_a_new_alarm_has_insufficient_data_until_it_is_evaluated(bench):
    bench.put(AlarmDescription="words", AlarmActions=["arn:x"], Unit="Count")
    alarm = bench.alarm()
    assert alarm["StateValue"] == "INSUFFICIENT_DATA"
    assert alarm["StateReason"] == "Unchecked: Initial alarm creation"
    assert alarm["AlarmArn"] == "arn:aws:cloudwatch:us-east-1:000000000000:alarm:high"
    assert alarm["AlarmDescription"] == "words"
    assert (alarm["AlarmActions"], alarm["OKActions"]) == (["arn:x"], [])
    assert alarm["ActionsEnabled"] is True


def test_states_follow_the_values(bench):
    bench.put(TreatMissingData="missing")
    bench.minute(10.0)
    assert bench.state() == "OK"
    bench.minute(95.0)
    assert bench.state() == "ALARM"
    assert "1 out of the last 1 datapoint [95.0" in bench.alarm()["StateReason"]
    bench.minute(10.0)
    assert bench.state() == "OK"
    assert bench.history(HistoryItemType="StateUpdate") == [
        "Alarm updated from ALARM to OK",
        "Alarm updated from OK to ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
    ]
    # Three more periods are looked at before there is no value at all.
    for _ in range(3):
        bench.minute()
    assert bench.state() == "INSUFFICIENT_DATA"


def test_m_out_of_n(bench):
    bench.put(EvaluationPeriods=3, DatapointsToAlarm=2)
    states = []
    for value in (95.0, 10.0, 10.0, 95.0, 10.0, 95.0):
        bench.minute(value)
        states.append(bench.state())
    assert states == ["INSUFFICIENT_DATA", "OK", "OK", "OK", "OK", "ALARM"]


def test_an_alarm_is_evaluated_once_per_period(bench, monkeypatch):
    read = []
    original = bench.store.read
    monkeypatch.setattr(bench.store, "read", lambda *given: read.append(1) or original(*given))
    bench.put()
    for _ in range(120):
        bench.tick()
        bench.now += 1
    assert len(read) == 3  # at once, and after two minutes
    bench.put(Threshold=1.0)
    bench.tick()
    assert len(read) == 4


def test_a_short_period_is_evaluated_that_often(bench):
    bench.put(Period=10, EvaluationPeriods=1)
    bench.tick()
    bench.store.put(METRIC, 100.0, bench.now, resolution=1)
    bench.now += 12
    bench.tick()
    assert bench.state() == "ALARM"


def test_a_clock_that_is_set_back_stops_no_alarm(bench):
    bench.put()
    bench.minute(95.0)
    assert bench.state() == "ALARM"
    bench.now -= 7200
    bench.minute(10.0)
    assert bench.state() == "OK"


def test_everything_survives_a_restart(bench):
    bench.put(Tags=[{"Key": "a", "Value": "b"}])
    bench.minute(95.0)
    before, history = bench.alarm(), bench.history()
    bench.close()
    bench.open()
    assert bench.alarm() == before
    assert bench.history() == history
    arn = before["AlarmArn"]
    assert bench("ListTagsForResource", ResourceARN=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    bench.minute(10.0)
    assert bench.state() == "OK"


def test_an_update_keeps_the_state_and_the_tags(bench):
    bench.put(Tags=[{"Key": "a", "Value": "b"}], AlarmDescription="old")
    bench.minute(95.0)
    bench.now += 1
    bench.put(Threshold=99.0, Tags=[{"Key": "c", "Value": "d"}])
    alarm = bench.alarm()
    assert (alarm["StateValue"], alarm["Threshold"]) == ("ALARM", 99.0)
    assert "AlarmDescription" not in alarm
    tags = bench("ListTagsForResource", ResourceARN=alarm["AlarmArn"])["Tags"]
    assert tags == [{"Key": "a", "Value": "b"}]
    assert bench.history()[0] == 'Alarm "high" updated'


def test_changes_are_published_as_aws_publishes_them(bench):
    bench.put(AlarmDescription="words", Dimensions=[{"Name": "d", "Value": "v"}])
    bench("SetAlarmState", AlarmName="high", StateValue="ALARM", StateReason="a test")
    (event,) = bench.events
    document = event.document(Account())
    assert document["detail-type"] == "CloudWatch Alarm State Change"
    assert document["source"] == "aws.cloudwatch"
    assert document["resources"] == [bench.alarm()["AlarmArn"]]
    detail = document["detail"]
    assert detail["alarmName"] == "high"
    assert detail["state"] == {
        "value": "ALARM", "reason": "a test", "timestamp": "2027-01-15T08:00:30.000+0000"
    }  # fmt: skip
    assert detail["previousState"]["value"] == "INSUFFICIENT_DATA"
    metric = {"namespace": "n", "name": "m", "dimensions": {"d": "v"}}
    assert detail["configuration"]["metrics"][0]["metricStat"]["metric"] == metric
    json.dumps(document)


def test_a_state_that_is_set_lasts_until_the_next_evaluation(bench):
    bench.put()
    bench.minute(10.0)
    bench("SetAlarmState", AlarmName="high", StateValue="ALARM", StateReason="a test")
    assert bench.state() == "ALARM"
    bench.tick()
    assert bench.state() == "OK"
    error = refusal(bench, "SetAlarmState", AlarmName="none", StateValue="OK", StateReason="a test")
    assert (error.code, error.status) == ("ResourceNotFound", 404)
    for data in ("{", '{"value": NaN}', "[" * 4000):
        error = refusal(
            bench, "SetAlarmState", AlarmName="high", StateValue="OK", StateReason="x",
            StateReasonData=data,
        )  # fmt: skip
        assert error.code == "InvalidFormat"


def test_a_container_may_not_name_urls(bench):
    token = CALLER.set(Principal("secret", "arn:aws:sts::000000000000:assumed-role/r/s"))
    try:
        for member in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            error = refusal(bench.put, **{member: ["arn:x", "HTTP://127.0.0.1:1/"]})
            assert error.code == "AccessDeniedException"
            assert "may not name URLs" in error.message
        bench.put(AlarmActions=["arn:x"])
    finally:
        CALLER.reset(token)
    assert bench.alarm()["AlarmActions"] == ["arn:x"]


BAD = [
    ({"Period": 15}, "ValidationError", "Period must be 10, 20, 30 or a multiple of 60"),
    ({"Period": 60, "EvaluationPeriods": 1441}, "ValidationError", "more than a day"),
    ({"Period": 3600, "EvaluationPeriods": 169}, "ValidationError", "more than a week"),
    ({"DatapointsToAlarm": 2}, "ValidationError", "DatapointsToAlarm"),
    ({"TreatMissingData": "maybe"}, "ValidationError", "breaching, notBreaching, ignore, missing"),
    ({"EvaluateLowSampleCountPercentile": "x"}, "ValidationError", "evaluate, ignore"),
    ({"ComparisonOperator": "LessThanLowerThreshold"}, "ValidationError", "anomaly detection"),
    ({"Threshold": float("nan")}, "InvalidParameterValue", "Threshold"),
    ({"Period": 2**70 * 60}, "ValidationError", "more than a week"),
    ({"EvaluationPeriods": 2**70}, "ValidationError", "more than a day"),
    ({"Metrics": []}, "ValidationError", "Metrics is not supported"),
    ({"EvaluationWindow": {}}, "ValidationError", "EvaluationWindow is not supported"),
    ({"ExtendedStatistic": "p50"}, "InvalidParameterCombination", "Exactly one"),
    ({"AlarmActions": ["http://"]}, "ValidationError", "'http://' is not a URL"),
    ({"OKActions": ["https://u:p@h/"]}, "ValidationError", "may not have a user"),
    ({"Threshold": float("nan")}, "InvalidParameterValue", "The value nan for parameter Threshold"),
    ({"Threshold": float("inf")}, "InvalidParameterValue", "for parameter Threshold"),
    ({"AlarmName": "a\nb"}, "InvalidParameterValue", "AlarmName"),
    ({"AlarmName": "\ud800"}, "InvalidParameterValue", "AlarmName"),
    ({"Dimensions": [{"Name": "a", "Value": "\t"}]}, "InvalidParameterValue", "Dimensions.member"),
    ({"Tags": [{"Key": str(number), "Value": ""} for number in range(51)]},
     "InvalidParameterValue", "at most 50 tags"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code", "words"), BAD)
def test_alarms_that_are_refused(bench, change, code, words):
    error = refusal(bench.put, **change)
    assert error.code == code
    assert words in error.message
    assert bench("DescribeAlarms")["MetricAlarms"] == []


@pytest.mark.parametrize("name", ["MetricName", "Threshold", "Period", "Statistic"])
def test_members_that_an_alarm_needs(bench, name):
    parameters = {key: value for key, value in ALARM.items() if key != name}
    error = refusal(bench, "PutMetricAlarm", **parameters)
    assert name in error.message


@pytest.mark.parametrize("name", ["../x", "日本", "a/b", "x" * 255, "."])
def test_names_of_any_characters(bench, name):
    bench.put(AlarmName=name)
    bench.minute(95.0)
    bench.close()
    bench.open()
    assert bench.state(name) == "ALARM"
    assert bench.history(AlarmName=name)[0].startswith("Alarm updated")


def test_alarms_are_found_by_name_state_and_action(bench):
    bench.put(AlarmName="a1", AlarmActions=["arn:one"])
    bench.put(AlarmName="a2", OKActions=["arn:two"])
    bench.put(AlarmName="b", MetricName="other")
    bench("SetAlarmState", AlarmName="a2", StateValue="OK", StateReason="a test")

    def names(**parameters):
        return [each["AlarmName"] for each in bench("DescribeAlarms", **parameters)["MetricAlarms"]]

    assert names() == ["a1", "a2", "b"]
    assert names(AlarmNamePrefix="a") == ["a1", "a2"]
    assert names(AlarmNames=["b", "none"]) == ["b"]
    assert names(StateValue="OK") == ["a2"]
    assert names(ActionPrefix="arn:t") == ["a2"]
    assert names(AlarmTypes=["CompositeAlarm"]) == []
    assert names(ParentsOfAlarmName="a1") == []
    page = bench("DescribeAlarms", MaxRecords=2)
    assert len(page["MetricAlarms"]) == 2
    assert names(NextToken=page["NextToken"]) == ["b"]
    assert refusal(bench, "DescribeAlarms", NextToken="x").code == "InvalidNextToken"
    both = refusal(bench, "DescribeAlarms", AlarmNames=["a"], AlarmNamePrefix="a")
    assert "cannot be used together" in both.message
    found = bench("DescribeAlarmsForMetric", Namespace="n", MetricName="m", Period=60)
    assert [each["AlarmName"] for each in found["MetricAlarms"]] == ["a1", "a2"]
    found = bench("DescribeAlarmsForMetric", Namespace="n", MetricName="m", Statistic="Sum")
    assert found["MetricAlarms"] == []


def test_tags(bench):
    bench.put()
    arn = {"ResourceARN": bench.alarm()["AlarmArn"]}
    bench("TagResource", **arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    bench("TagResource", **arn, Tags=[{"Key": "a", "Value": "3"}])
    bench("UntagResource", **arn, TagKeys=["b", "none"])
    assert bench("ListTagsForResource", **arn)["Tags"] == [{"Key": "a", "Value": "3"}]
    many = [{"Key": str(number), "Value": ""} for number in range(50)]
    assert refusal(bench, "TagResource", **arn, Tags=many).code == "InvalidParameterValue"
    reserved = [{"Key": "aws:x", "Value": ""}]
    assert "aws:" in refusal(bench, "TagResource", **arn, Tags=reserved).message
    assert "aws:" in refusal(bench.put, AlarmName="other", Tags=reserved).message
    assert len(bench("ListTagsForResource", **arn)["Tags"]) == 1
    for other in ("arn:aws:cloudwatch:us-east-1:000000000000:alarm:none", "arn:alarm:high"):
        error = refusal(bench, "ListTagsForResource", ResourceARN=other)
        assert error.code == "ResourceNotFoundException"


def test_tags_of_requests_at_the_same_time_are_all_kept(bench):
    bench.put()
    arn = {"ResourceARN": bench.alarm()["AlarmArn"]}

    def tag(prefix):
        for number in range(5):
            bench("TagResource", **arn, Tags=[{"Key": f"{prefix}{number}", "Value": ""}])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(tag, "abcdefgh"))
    assert len(bench("ListTagsForResource", **arn)["Tags"]) == 40


def test_the_number_of_alarms_is_bounded(bench, monkeypatch):
    monkeypatch.setattr(alarm_records, "ALARMS", 1)
    bench.put()
    bench.put()
    assert refusal(bench.put, AlarmName="other").code == "LimitExceeded"
