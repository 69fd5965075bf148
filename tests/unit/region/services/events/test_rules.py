"""Rules, their targets, event buses and tags, in AWS's words."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from tests.unit.region.services.events.conftest import PIPELINE, SECONDS, Bridge

from sagemaker_byoc.region.core.account import CALLER, Principal
from sagemaker_byoc.region.wire.operations import AwsError

ARN = "arn:aws:events:us-east-1:000000000000:rule/r"
PATTERN = '{"source": ["a"]}'
TARGET = {"Id": "t", "Arn": PIPELINE}


def _refused(bridge: Bridge, operation: str, **asked: Any) -> str:
    with pytest.raises(AwsError) as caught:
        bridge.call(operation, **asked)
    return f"{caught.value.code}: {caught.value.message}"


def test_a_rule_from_beginning_to_end(bridge):
    asked = {"Name": "r", "EventPattern": PATTERN, "Description": "d", "RoleArn": "arn:role"}
    assert bridge.call("PutRule", **asked) == {"RuleArn": ARN}
    described = {**asked, "Arn": ARN, "State": "ENABLED", "EventBusName": "default"}
    assert bridge.call("ListRules", NamePrefix="r")["Rules"] == [described]
    assert bridge.call("DescribeRule", Name="r") == {**described, "CreatedBy": "000000000000"}
    bridge.call("DisableRule", Name="r")
    assert bridge.call("DescribeRule", Name="r")["State"] == "DISABLED"
    bridge.call("EnableRule", Name="r")
    bridge.again()
    assert bridge.call("DescribeRule", Name="r")["State"] == "ENABLED"
    bridge.call("PutTargets", Rule="r", Targets=[TARGET])
    assert "Rule can't be deleted since it has targets." in _refused(bridge, "DeleteRule", Name="r")
    bridge.call("RemoveTargets", Rule="r", Ids=["t", "no"])
    bridge.call("DeleteRule", Name="r")
    bridge.call("DeleteRule", Name="r")
    assert bridge.call("ListRules")["Rules"] == []


def test_a_rule_that_is_put_again_keeps_its_targets_and_tags(bridge):
    tags = [{"Key": "k", "Value": "v"}]
    bridge.call("PutRule", Name="r", EventPattern=PATTERN, Description="d", Tags=tags)
    bridge.call("PutTargets", Rule="r", Targets=[TARGET])
    again = [{"Key": "other", "Value": "x"}]
    bridge.call("PutRule", Name="r", ScheduleExpression="rate(1 hour)", Tags=again)
    described = bridge.call("DescribeRule", Name="r")
    assert "EventPattern" not in described
    assert "Description" not in described
    assert bridge.call("ListTargetsByRule", Rule="r")["Targets"] == [TARGET]
    assert bridge.call("ListTagsForResource", ResourceARN=ARN)["Tags"] == tags


def test_pages(bridge):
    for name in "abcde":
        bridge.call("PutRule", Name=name, EventPattern=PATTERN)
    first = bridge.call("ListRules", Limit=2)
    second = bridge.call("ListRules", Limit=9, NextToken=first["NextToken"])
    assert [each["Name"] for each in first["Rules"] + second["Rules"]] == [*"abcde"]
    assert second["NextToken"] is None
    assert "NextToken is not valid" in _refused(bridge, "ListRules", NextToken="x")


def test_rules_of_a_target(bridge):
    bridge.rule("b", TARGET)
    bridge.rule("a", TARGET)
    bridge.rule("c")
    found = bridge.call("ListRuleNamesByTarget", TargetArn=PIPELINE, Limit=10)
    assert found["RuleNames"] == ["a", "b"]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({}, "ValidationException: Parameter(s) EventPattern or ScheduleExpression must be"),
        ({"EventPattern": "{"}, "InvalidEventPatternException: Event pattern is not valid."),
        ({"ScheduleExpression": "rate(1)"}, "Parameter ScheduleExpression is not valid."),
        ({"EventPattern": PATTERN, "EventBusName": "no"}, "ResourceNotFoundException: Event bus"),
        (
            {"EventPattern": PATTERN, "State": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"},
            "is not supported by this local region",
        ),
        ({"EventPattern": PATTERN, "Tags": [{"Key": "aws:x", "Value": ""}]}, "begins with aws:"),
        ({"EventPattern": PATTERN + " " * 4100}, "length less than or equal to 4096"),
    ],
)
def test_rules_that_are_refused(bridge, asked, text):
    assert text in _refused(bridge, "PutRule", Name="r", **asked)
    assert bridge.call("ListRules")["Rules"] == []


LAMBDA = "arn:aws:lambda:us-east-1:000000000000:function:f"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({"Arn": LAMBDA}, f"A target of lambda ({LAMBDA}) is not supported by this local region."),
        ({"Arn": "x"}, "Parameter x is not valid. Reason: Provided Arn is not in correct format."),
        ({"Arn": "http://"}, "is not a URL"),
        ({"Arn": "http://user:word@127.0.0.1/"}, "may not have a user"),
        ({"Arn": "http://127.0.0.1:99999/"}, "is not a URL"),
        ({"Arn": "arn:aws:logs:us-east-1:000000000000:log-group:"}, "it names no log group"),
        ({"SqsParameters": {"MessageGroupId": "g"}}, "SqsParameters of a target"),
        ({"Input": "{"}, "JSON syntax error"),
        (
            {"Arn": "arn:aws:events:us-east-1:000000000000:api-destination/a/1"},
            "RoleArn is required",
        ),
        (
            {"Arn": "arn:aws:events:us-east-1:000000000000:api-destination/a/1", "RoleArn": "r"},
            "it does not exist",
        ),
    ],
)
def test_targets_that_are_refused(bridge, target, text):
    bridge.rule("r")
    targets = [TARGET, {**TARGET, "Id": "2", **target}]
    assert text in _refused(bridge, "PutTargets", Rule="r", Targets=targets)
    assert bridge.call("ListTargetsByRule", Rule="r")["Targets"] == []


def test_a_rule_has_five_targets(bridge):
    targets = [{**TARGET, "Id": str(number)} for number in range(6)]
    bridge.rule("r", *targets[:5])
    refusal = _refused(bridge, "PutTargets", Rule="r", Targets=targets)
    assert refusal.startswith("LimitExceededException")
    assert len(bridge.call("ListTargetsByRule", Rule="r")["Targets"]) == 5


@pytest.mark.parametrize(
    "operation", ["DescribeRule", "EnableRule", "DisableRule", "PutTargets", "ListTargetsByRule"]
)
def test_a_rule_that_does_not_exist(bridge, operation):
    asked = {"Name": "no"} if "Target" not in operation else {"Rule": "no"}
    if operation == "PutTargets":
        asked["Targets"] = [TARGET]
    assert _refused(bridge, operation, **asked) == (
        "ResourceNotFoundException: Rule no does not exist on EventBus default."
    )


def test_a_container_may_not_name_urls(bridge):
    bridge.rule("r")
    target = {"Id": "1", "Arn": "http://127.0.0.1:1/"}
    token = CALLER.set(Principal("secret", "arn:aws:sts::000000000000:assumed-role/r/s"))
    try:
        refusal = _refused(bridge, "PutTargets", Rule="r", Targets=[target])
    finally:
        CALLER.reset(token)
    assert refusal.startswith("AccessDeniedException")
    bridge.call("PutTargets", Rule="r", Targets=[target])


def test_event_buses(bridge):
    arn = "arn:aws:events:us-east-1:000000000000:event-bus/mine"
    made = bridge.call("CreateEventBus", Name="mine", Description="d")
    assert made == {"EventBusArn": arn, "Description": "d"}
    assert "ResourceAlreadyExists" in _refused(bridge, "CreateEventBus", Name="mine")
    assert "KmsKeyIdentifier is not" in _refused(
        bridge, "CreateEventBus", Name="x", KmsKeyIdentifier="k"
    )
    assert "may not have a slash" in _refused(bridge, "CreateEventBus", Name="a/b")
    bridge.call("PutRule", Name="r", EventPattern=PATTERN)
    rule = bridge.call("PutRule", Name="r", EventPattern=PATTERN, EventBusName=arn)
    assert rule["RuleArn"] == "arn:aws:events:us-east-1:000000000000:rule/mine/r"
    timed = {"Name": "s", "ScheduleExpression": "rate(1 hour)", "EventBusName": "mine"}
    assert "only on the default event bus" in _refused(bridge, "PutRule", **timed)
    bridge.again()
    assert len(bridge.call("ListRules", EventBusName="mine")["Rules"]) == 1
    names = [each["Name"] for each in bridge.call("ListEventBuses")["EventBuses"]]
    assert names == ["default", "mine"]
    assert bridge.call("DescribeEventBus")["Name"] == "default"
    assert "since it has rules" in _refused(bridge, "DeleteEventBus", Name="mine")
    bridge.call("DeleteRule", Name="r", EventBusName="mine")
    bridge.call("DeleteEventBus", Name="mine")
    assert "Cannot delete event bus default" in _refused(bridge, "DeleteEventBus", Name="default")


@pytest.mark.parametrize("resource", ["rule/r", "event-bus/default"])
def test_tags(bridge, resource):
    bridge.rule("r")
    arn = f"arn:aws:events:us-east-1:000000000000:{resource}"
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    bridge.call("TagResource", ResourceARN=arn, Tags=tags)
    bridge.call("UntagResource", ResourceARN=arn, TagKeys=["a", "c"])
    bridge.again()
    assert bridge.call("ListTagsForResource", ResourceARN=arn)["Tags"] == tags[1:]
    missing = "arn:aws:events:us-east-1:000000000000:rule/no"
    assert "does not exist" in _refused(bridge, "ListTagsForResource", ResourceARN=missing)


def test_a_rule_of_another_version_does_not_stop_the_region(bridge, caplog):
    bridge.rule("r", TARGET)
    path = bridge.state / "events" / "rules" / "r.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "EventPattern": '{"source": [{"new": 1}]}'}))
    bridge.again()
    assert "the rule r is not used" in caplog.text
    assert bridge.call("DescribeRule", Name="r")["State"] == "ENABLED"


def test_a_full_disk_changes_nothing(bridge, monkeypatch):
    bridge.rule("r", TARGET)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sagemaker_byoc.region.core.records.write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        bridge.call("PutRule", Name="r", ScheduleExpression="rate(1 minute)")
    with pytest.raises(OSError, match="No space"):
        bridge.call("RemoveTargets", Rule="r", Ids=["t"])
    (rule,) = bridge.service._rules.enabled()
    assert (rule.schedule, len(rule.targets)) == (None, 1)


def test_rules_are_used_while_another_is_written(bridge, monkeypatch):
    """A slow disk holds neither the event loop nor the bus."""
    bridge.rule("r", TARGET)
    began, freed, written = threading.Event(), threading.Event(), threading.Event()

    def slow(path, data):
        began.set()
        freed.wait(SECONDS)
        written.set()

    monkeypatch.setattr("sagemaker_byoc.region.core.records.write_atomically", slow)
    thread = threading.Thread(target=bridge.rule, args=("s",))
    thread.start()
    assert began.wait(SECONDS)
    found = bridge.service._rules.enabled()
    was_written = written.is_set()
    freed.set()
    thread.join()
    assert [each.record["Name"] for each in found] == ["r"]
    assert not was_written
    bridge.call("DeleteRule", Name="s")
    assert [each.record["Name"] for each in bridge.service._rules.enabled()] == ["r"]


@pytest.mark.parametrize("resource", ["rule/r", "event-bus/default"])
def test_no_tag_of_requests_at_the_same_time_is_lost(bridge, resource):
    bridge.rule("r")
    arn = f"arn:aws:events:us-east-1:000000000000:{resource}"
    tag, untag = bridge.operations["TagResource"], bridge.operations["UntagResource"]

    def work(name: int) -> None:
        for number in range(5):
            key = f"{name}-{number}"
            tag({"ResourceARN": arn, "Tags": [{"Key": key, "Value": ""}]})
        untag({"ResourceARN": arn, "TagKeys": [f"{name}-0"]})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tags = bridge.call("ListTagsForResource", ResourceARN=arn)["Tags"]
    assert len(tags) == 32


def test_a_bus_that_was_deleted_gets_no_tags(bridge):
    bridge.call("CreateEventBus", Name="b")
    bridge.call("DeleteEventBus", Name="b")
    with pytest.raises(AwsError, match="Event bus b does not exist"):
        bridge.service._buses.change_tags("b", lambda _: {"k": "v"})
    assert [each["Name"] for each in bridge.call("ListEventBuses")["EventBuses"]] == ["default"]


def test_a_new_rule_does_not_read_the_others(bridge, monkeypatch):
    bridge.call("CreateEventBus", Name="b")
    for bus in ("default", "b"):
        bridge.rule("r", EventPattern=PATTERN, EventBusName=bus)
    monkeypatch.setattr("sagemaker_byoc.region.services.events.rules.MOST", 2)
    records, read = bridge.service._rules._records, []
    get = records.get
    monkeypatch.setattr(records, "get", lambda name: read.append(name) or get(name))
    bridge.rule("s")
    assert read == ["s"]
    assert "LimitExceeded" in _refused(bridge, "PutRule", Name="t", EventPattern=PATTERN)
    bridge.rule("s", EventPattern=PATTERN, EventBusName="b")
    names = [each["Name"] for each in bridge.call("ListRules", EventBusName="b")["Rules"]]
    assert names == ["r", "s"]
