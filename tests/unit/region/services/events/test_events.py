"""Events from the bus, from clients and from schedules reach the targets of rules."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.members import unread_members
from tests.unit.region.services.events.conftest import PIPELINE, SECONDS

from sagemaker_byoc.region.core import event_bus
from sagemaker_byoc.region.core.event_bus import EVENTS_FILE, Event
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.events.deliveries import UNDELIVERED_FILE
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError

TARGET = {"Id": "t", "Arn": PIPELINE}
ENTRY = {"Source": "a.b", "DetailType": "test", "Detail": '{"n": 1}'}


def test_an_event_of_the_region_reaches_the_targets_of_rules_that_match(bridge):
    bridge.rule("all", TARGET, {"Id": "other", "Arn": PIPELINE})
    bridge.rule("none", TARGET, EventPattern='{"source": ["b"]}')
    bridge.rule("off", TARGET, EventPattern='{"source": ["a"]}', State="DISABLED")
    event = Event(detail_type="x", source="a", detail={"n": 1}, resources=("arn:1",))
    bridge.run(lambda: bridge.bus.publish(event))
    found = [bridge.memory.next(), bridge.memory.next()]
    document = json.loads((bridge.state / EVENTS_FILE).read_text())
    assert sorted(found, key=str) == [("all", "other", document), ("all", "t", document)]
    assert bridge.memory.got.empty()


def test_rules_and_targets_survive_a_restart(bridge):
    bridge.rule("r", {**TARGET, "InputPath": "$.detail"})
    bridge.again()
    bridge.run(lambda: bridge.call("PutEvents", Entries=[ENTRY]))
    assert bridge.memory.next() == ("r", "t", {"n": 1})


def test_a_log_group_as_a_target(bridge):
    group = {"Id": "1", "Arn": "arn:aws:logs:us-east-1:000000000000:log-group:/aws/events/g:*"}
    made = {"InputTemplate": '{"timestamp": 5, "message": "<x>"}', "InputPathsMap": {"x": "$.id"}}
    bridge.rule("r", group)
    bridge.rule("own", {**group, "InputTransformer": made})
    bridge.run(lambda: bridge.call("PutEvents", Entries=[ENTRY]))
    (event,) = bridge.logs.events("/aws/events/g", "r")
    assert json.loads(event.text)["source"] == "a.b"
    (event,) = bridge.logs.events("/aws/events/g", "own")
    assert (event.milliseconds, len(event.text)) == (5, 36)


def test_put_events(bridge):
    bridge.rule("r", TARGET)
    when = datetime(2020, 1, 2, tzinfo=UTC)
    entries = [
        {**ENTRY, "Time": when, "Resources": ["arn:x"]},
        {"DetailType": "t", "Detail": "{}"},
        {**ENTRY, "Detail": "[]"},
        {**ENTRY, "Detail": "[" * 100_000},
        {**ENTRY, "Detail": '{"n": 1e999}'},
        {**ENTRY, "Source": "AWS.s3"},
        {**ENTRY, "EventBusName": "nowhere"},
    ]
    answer = bridge.run(lambda: bridge.call("PutEvents", Entries=entries))
    assert answer["FailedEntryCount"] == 6
    assert [each.get("ErrorCode") for each in answer["Entries"]] == [
        None,
        "InvalidArgument",
        "MalformedDetail",
        "MalformedDetail",
        "MalformedDetail",
        "NotAuthorizedForSourceException",
        "ResourceNotFoundException",
    ]
    assert answer["Entries"][1]["ErrorMessage"] == (
        "Parameter Source is not valid. Reason: Source is a required argument."
    )
    _, _, event = bridge.memory.next()
    assert event == {
        "version": "0",
        "id": answer["Entries"][0]["EventId"],
        "detail-type": "test",
        "source": "a.b",
        "account": "000000000000",
        "time": "2020-01-02T00:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:x"],
        "detail": {"n": 1},
    }


def test_entries_that_find_a_full_queue_fail(bridge, monkeypatch):
    """A client that retries them loses none."""
    monkeypatch.setattr(event_bus, "MOST_QUEUED", 2)
    answer = bridge.call("PutEvents", Entries=[ENTRY] * 3)
    assert answer["FailedEntryCount"] == 1
    assert ["EventId" in each for each in answer["Entries"]] == [True, True, False]
    assert answer["Entries"][2]["ErrorCode"] == "ThrottlingException"


def test_entries_are_less_than_1_mib_together(bridge):
    fixed = len("a.b") + len("test") + len('{"a": ""}')
    entry, last = (
        {**ENTRY, "Detail": json.dumps({"a": "x" * (size - fixed)})}
        for size in ((1 << 20) // 8, (1 << 20) // 8 - 1)
    )
    with pytest.raises(AwsError, match="over the limit"):
        bridge.call("PutEvents", Entries=[entry] * 8)
    assert bridge.call("PutEvents", Entries=[entry] * 7 + [last])["FailedEntryCount"] == 0
    with pytest.raises(AwsError, match="length less than or equal to 10"):
        bridge.call("PutEvents", Entries=[ENTRY] * 11)


def test_the_bytes_of_entries_in_the_queue_are_bounded(bridge, monkeypatch):
    monkeypatch.setattr(event_bus, "MOST_BYTES", 70)
    entry = {**ENTRY, "Detail": json.dumps({"a": "x" * 20})}
    answer = bridge.call("PutEvents", Entries=[entry] * 3)
    assert ["EventId" in each for each in answer["Entries"]] == [True, False, False]


def test_a_detail_is_written_and_delivered_if_it_is_accepted(bridge):
    bridge.rule("r", TARGET, EventPattern='{"source": ["a.b"]}')
    details = ['{"a":' * depth + "1" + "}" * depth for depth in (900, 901)]
    details += ['{"a":' + "[" * 900 + "]" * 900 + "}", json.dumps({"a": "{" * 1000, "b": [{}]})]
    entries = [{**ENTRY, "Detail": each} for each in details]
    answer = bridge.run(lambda: bridge.call("PutEvents", Entries=entries))
    codes = [each.get("ErrorCode") for each in answer["Entries"]]
    assert codes == [None, "MalformedDetail", "MalformedDetail", None]
    assert "deeper than 900 levels" in answer["Entries"][1]["ErrorMessage"]
    assert len((bridge.state / EVENTS_FILE).read_text().splitlines()) == 2
    for _ in range(2):
        assert bridge.memory.next()[2]["source"] == "a.b"


@pytest.mark.parametrize("part", ["matches", "render", "fill"])
def test_a_rule_that_fails_does_not_stop_others(bridge, monkeypatch, caplog, part):
    for name in ("bad", "good"):
        bridge.rule(name, TARGET, EventPattern='{"source": ["a.b"]}')

    def fail(_):
        raise RecursionError("too deep")

    rules = {each.record["Name"]: each for each in bridge.service._rules.enabled()}
    bad = rules["bad"]
    if part == "matches":
        bad = dataclasses.replace(bad, matches=fail)
    else:
        (target,) = bad.targets
        bad = dataclasses.replace(bad, targets=(dataclasses.replace(target, **{part: fail}),))
    monkeypatch.setattr(bridge.service._rules, "enabled", lambda: (bad, rules["good"]))
    answer = bridge.run(lambda: bridge.call("PutEvents", Entries=[ENTRY]))
    assert bridge.memory.next()[0] == "good"
    assert "too deep" in caplog.text
    path = bridge.state / UNDELIVERED_FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if part == "matches":
        assert lines == []
    else:
        (line,) = lines
        assert "rule/bad target t" in line["target"]
        assert line["reason"] == "its input can't be made: RecursionError('too deep')"
        assert json.loads(line["input"]) == {"id": answer["Entries"][0]["EventId"]}


def test_each_bus_has_its_own_rules(bridge):
    bridge.call("CreateEventBus", Name="mine", Description="d")
    bridge.rule("r", TARGET, EventPattern='{"source": ["a.b"]}', EventBusName="mine")
    bridge.run(lambda: bridge.call("PutEvents", Entries=[ENTRY, {**ENTRY, "EventBusName": "mine"}]))
    bridge.memory.next()
    assert bridge.memory.got.empty()


def test_a_schedule(bridge):
    bridge.rule("tick", TARGET, ScheduleExpression="rate(1 minute)")
    bridge.rule("sees", TARGET, EventPattern='{"detail-type": ["Scheduled Event"]}')
    bridge.rule("blind", TARGET, EventPattern='{"source": ["a"]}')
    scheduler = bridge.service._scheduler
    scheduler.fire()
    scheduler._clock = lambda: now() + timedelta(seconds=61)
    bridge.run(lambda: None)
    (_, _, event), (_, _, same) = found = [bridge.memory.next(), bridge.memory.next()]
    assert sorted(name for name, _, _ in found) == ["sees", "tick"]
    assert bridge.memory.got.empty()
    assert event == same
    assert event["detail-type"] == "Scheduled Event"
    assert (event["source"], event["detail"]) == ("aws.events", {})
    assert event["resources"] == ["arn:aws:events:us-east-1:000000000000:rule/tick"]


def test_event_patterns_can_be_tried(bridge):
    event = Event(detail_type="x", source="a", detail={}).document(bridge.service._account)
    text = json.dumps(event)
    pattern = '{"source": ["a"]}'
    assert bridge.call("TestEventPattern", EventPattern=pattern, Event=text) == {"Result": True}
    for bad in ("{", "[]", json.dumps({**event, "id": None} | {"x": 1}).replace('"id"', '"no"')):
        with pytest.raises(AwsError, match="Parameter Event is not valid"):
            bridge.call("TestEventPattern", EventPattern=pattern, Event=bad)


def test_thousands_of_events_reach_a_target_in_order(bridge):
    bridge.rule("r", {**TARGET, "InputPath": "$.detail.n"})
    bridge.rule("deaf", TARGET, EventPattern='{"source": ["other"]}')

    def wait(is_over) -> None:
        until = time.monotonic() + SECONDS
        while not is_over():
            assert time.monotonic() < until
            time.sleep(0.001)

    def publish() -> None:
        for number in range(3000):
            wait(lambda n=number: bridge.memory.got.qsize() > n - 500)
            bridge.bus.publish(Event(detail_type="x", source="a", detail={"n": number}))
        wait(lambda: bridge.memory.got.qsize() == 3000)

    bridge.run(publish)
    assert [bridge.memory.next()[2] for _ in range(3000)] == [*range(3000)]


def test_no_member_of_a_request_is_ignored(bridge):
    connection = {
        "Name": "c",
        "AuthorizationType": "BASIC",
        "AuthParameters": {"BasicAuthParameters": {"Username": "u", "Password": "p"}},
    }
    arn = bridge.call("CreateConnection", **connection)["ConnectionArn"]
    known = {
        "Rule": "r",
        "ResourceARN": "arn:aws:events:us-east-1:000000000000:rule/r",
        "EventPattern": '{"source": ["a"]}',
        "ScheduleExpression": "rate(1 minute)",
        "Arn": PIPELINE,
        "EventBusName": "default",
        "ConnectionArn": arn,
        "InvocationEndpoint": "http://127.0.0.1:1/",
        **{name: connection[name] for name in ("AuthorizationType", "AuthParameters")},
    }

    def prepare() -> None:
        for name in ("r", "value"):
            bridge.rule(name, TARGET)
        for kind, members in (("Connection", connection), ("ApiDestination", known)):
            shape = models.service_model("events").shape_for(f"Create{kind}Request")
            asked = {name: each for name, each in members.items() if name in shape.members}
            with suppress(AwsError):
                bridge.call(f"Create{kind}", **{"HttpMethod": "GET", **asked, "Name": "value"})

    always = ("EventPattern", "ConnectionArn")
    unread = unread_members("events", bridge.operations, prepare, always, **known)
    ended = {name for name in unread if not name.startswith(("Create", "Update", "PutRule."))}
    # Managed rules, which Force is for, do not exist here.
    assert ended == {"DeleteRule.Force", "RemoveTargets.Force"}
    # What a record keeps as it is, and Describe returns; the tags of a rule are those of its first.
    kept = unread - ended - {"PutRule.Tags"}
    for operation, _, member in (name.partition(".") for name in kept):
        kind = operation.removeprefix("Create").removeprefix("Update").removeprefix("Put")
        assert member in models.service_model("events").shape_for(f"Describe{kind}Response").members
