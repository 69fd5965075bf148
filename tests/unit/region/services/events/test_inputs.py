"""What targets get: the examples of AWS's user guide."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagemaker_byoc.region.services.events.inputs import make_render, parse_path
from sagemaker_byoc.region.wire.operations import AwsError

RULE = {"Name": "example", "Arn": "arn:aws:events:us-east-1:123456789012:rule/example"}
EVENT: dict[str, Any] = {
    "version": "0",
    "detail-type": "EC2 Instance State-change Notification",
    "resources": ["arn:1", "arn:2"],
    "detail": {
        "instance-id": "i-0123456789",
        "state": "RUNNING",
        "note": 'a "b"\n',
        "count": 2,
        "tags": {"a": "b"},
        "items": [{"n": 1}, {"n": 2}],
    },
}


def _render(**target: Any) -> str:
    return make_render({"Id": "1", **target}, RULE)(EVENT)


def _transform(template: str, **paths: str) -> str:
    return _render(InputTransformer={"InputPathsMap": paths, "InputTemplate": template})


def test_the_event_itself() -> None:
    assert json.loads(_render()) == EVENT


def test_a_constant_is_sent_as_it_is() -> None:
    assert _render(Input='{ "a": 1}') == '{ "a": 1}'


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [EVENT]),
        ("$.detail.state", ["RUNNING"]),
        ("$.detail['instance-id']", ["i-0123456789"]),
        ('$["detail-type"]', ["EC2 Instance State-change Notification"]),
        ("$.detail-type", ["EC2 Instance State-change Notification"]),
        ("$.resources[0]", ["arn:1"]),
        ("$.resources[-1]", ["arn:2"]),
        ("$.resources[7]", []),
        ("$.detail.items[*].n", [1, 2]),
        ("$.detail.tags.*", ["b"]),
        ("$.detail.missing.state", []),
        ("$.detail.state.below", []),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert [*parse_path(path)(EVENT)] == found


@pytest.mark.parametrize(
    "path", ["detail", "$detail", "$.", "$..a", "$.a[", "$.a[?(@.b)]", "$[1:2]"]
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(AwsError, match="Invalid JSONPath"):
        parse_path(path)


def test_a_part() -> None:
    assert _render(InputPath="$.detail.tags") == '{"a": "b"}'
    assert _render(InputPath="$.nothing") == "null"


def test_a_text_with_variables() -> None:
    paths = {"instance": "$.detail.instance-id", "status": "$.detail.state"}
    assert _transform('"instance <instance> is in <status>"', **paths) == (
        '"instance i-0123456789 is in RUNNING"'
    )


def test_a_json_template() -> None:
    template = (
        '{"id": <id>, "text": "<id>: <n>", "quoted": "<note>", "tags": <tags>, "in": "<tags>",'
        ' "numbers": <all>, "none": <none>, "empty": "<none>", "escaped": "\\"<n>\\""}'
    )
    found = _transform(
        template,
        id="$.detail.instance-id",
        n="$.detail.count",
        note="$.detail.note",
        tags="$.detail.tags",
        all="$.detail.items[*].n",
        none="$.detail.none",
    )
    assert json.loads(found) == {
        "id": "i-0123456789",
        "text": "i-0123456789: 2",
        "quoted": 'a "b"\n',
        "tags": {"a": "b"},
        "in": '{"a": "b"}',
        "numbers": [1, 2],
        "none": None,
        "empty": "",
        "escaped": '"2"',
    }


def test_reserved_variables() -> None:
    template = (
        '{"rule": <aws.events.rule-name>, "arn": "<aws.events.rule-arn>",'
        ' "event": <aws.events.event.json>, "head": <aws.events.event>}'
    )
    found = json.loads(_transform(template))
    assert (found["rule"], found["arn"]) == (RULE["Name"], RULE["Arn"])
    assert found["event"] == EVENT
    assert found["head"] == {name: EVENT[name] for name in EVENT if name != "detail"}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({"Input": "{"}, "JSON syntax error in input"),
        ({"Input": "{}", "InputPath": "$"}, "Only one of Input, InputPath, or InputTransformer"),
        ({"InputPath": "detail"}, "Invalid JSONPath"),
        ({"InputTransformer": {"InputTemplate": '"<a>"'}}, "<a> is not in InputPathsMap"),
    ],
)
def test_refused(target: dict[str, Any], text: str) -> None:
    with pytest.raises(AwsError, match=text) as caught:
        _render(**target)
    assert caught.value.code == "ValidationException"
