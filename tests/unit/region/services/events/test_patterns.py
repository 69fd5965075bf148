"""Event patterns: the examples of AWS's user guide, and those that must not hold up a region."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagemaker_byoc.region.services.events.patterns import DEEPEST, compile_pattern
from sagemaker_byoc.region.wire.operations import AwsError

EVENT: dict[str, Any] = {
    "version": "0",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "time": "2017-10-02T16:24:49Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-0", "arn:other"],
    "detail": {
        "c-count": 5,
        "d-count": 3,
        "x-limit": 301.8,
        "source-ip": "10.0.0.33",
        "source-ip6": "2001:db8::7",
        "state": "running",
        "empty": "",
        "nothing": None,
        "flag": True,
        "path": "dir/lib/file*name.PNG",
        "list": [],
        "mixed": [1, ["a", 2]],
        "items": [{"kind": "a", "size": 1}, {"kind": "b", "size": 9}],
    },
}


def _detail(**members: object) -> dict[str, object]:
    return {"detail": {key.replace("_", "-"): value for key, value in members.items()}}


@pytest.mark.parametrize(
    "pattern",
    [
        {"detail-type": ["EC2 Instance State-change Notification"], **_detail(state=["running"])},
        {"resources": ["arn:other"]},
        {"time": [{"prefix": "2017-10-02"}]},
        {"source": [{"prefix": {"equals-ignore-case": "AWS."}}]},
        {"source": [{"suffix": "ec2"}]},
        _detail(path=[{"suffix": {"equals-ignore-case": ".png"}}]),
        {"source": [{"equals-ignore-case": "AWS.EC2"}]},
        {"source": [{"wildcard": "aws.*"}]},
        {"source": [{"wildcard": "*"}]},
        {"source": [{"wildcard": "a*s.*c2"}]},
        _detail(path=[{"wildcard": "dir/*/file\\*name.*"}]),
        _detail(state=[{"anything-but": "initializing"}]),
        _detail(x_limit=[{"anything-but": 123}]),
        _detail(state=[{"anything-but": ["stopped", "overloaded"]}]),
        _detail(x_limit=[{"anything-but": [100, 200, 300]}]),
        _detail(state=[{"anything-but": {"prefix": "init"}}]),
        _detail(state=[{"anything-but": {"prefix": ["init", "stop"]}}]),
        _detail(path=[{"anything-but": {"suffix": [".txt", ".rtf"]}}]),
        _detail(state=[{"anything-but": {"equals-ignore-case": ["Initializing", "STOPPED"]}}]),
        _detail(state=[{"anything-but": {"wildcard": "*/bin/*"}}]),
        _detail(c_count=[{"numeric": [">", 0, "<=", 5]}]),
        _detail(d_count=[{"numeric": ["<", 10]}]),
        _detail(x_limit=[{"numeric": ["=", 3.018e2]}]),
        _detail(c_count=[5.0]),
        _detail(source_ip=[{"cidr": "10.0.0.0/24"}]),
        _detail(source_ip6=[{"cidr": "2001:db8::/32"}]),
        _detail(c_count=[{"exists": True}]),
        _detail(missing=[{"exists": False}]),
        _detail(missing={"below": [{"exists": False}]}),
        _detail(items=[{"exists": False}]),
        _detail(list=[{"exists": False}]),
        _detail(missing=[{"exists": False}, "a"]),
        _detail(empty=[""]),
        _detail(nothing=[None]),
        _detail(flag=[True]),
        _detail(mixed=["a"]),
        _detail(mixed=[2]),
        _detail(items={"kind": ["b"], "size": [{"numeric": [">", 5]}]}),
        _detail(**{"$or": [{"c-count": [{"numeric": [">", 99]}]}, {"state": ["running"]}]}),
        {
            "$or": [
                {"source": ["a"]},
                {"region": ["us-east-1"], "$or": [{"a": [1]}, _detail(state=["running"])]},
            ]
        },
    ],
    ids=json.dumps,
)
def test_matches(pattern: dict[str, Any]) -> None:
    assert compile_pattern(json.dumps(pattern))(EVENT)


@pytest.mark.parametrize(
    "pattern",
    [
        {"detail-type": ["EC2 instance state-change notification"]},
        {"source": ["aws.ec2"], **_detail(state=["stopped"])},
        {"source": [{"prefix": "AWS."}]},
        {"detail": [{"prefix": "a"}]},
        _detail(c_count=[{"prefix": "5"}]),
        {"source": [{"wildcard": "aws.*s3"}]},
        {"source": [{"wildcard": "aws.ec*c2"}]},
        _detail(path=[{"wildcard": "dir/*/x/*"}]),
        _detail(state=[{"anything-but": ["running", "stopped"]}]),
        _detail(state=[{"anything-but": {"prefix": ["init", "run"]}}]),
        _detail(path=[{"anything-but": {"wildcard": "*/lib/*"}}]),
        _detail(missing=[{"anything-but": "a"}]),
        _detail(c_count=[{"numeric": [">", 5]}]),
        _detail(state=[{"numeric": [">", 0]}]),
        _detail(flag=[1]),
        _detail(flag=[{"numeric": ["=", 1]}]),
        _detail(c_count=["5"]),
        _detail(source_ip=[{"cidr": "10.0.1.0/24"}]),
        _detail(state=[{"cidr": "10.0.0.0/8"}]),
        _detail(c_count=[{"exists": False}]),
        _detail(list=[{"exists": True}]),
        _detail(missing=[None]),
        _detail(empty=[None]),
        _detail(items={"kind": ["a"], "size": [9]}),
        {"$or": [{"source": ["a"]}, {"source": ["b"]}]},
    ],
    ids=json.dumps,
)
def test_does_not_match(pattern: dict[str, Any]) -> None:
    assert not compile_pattern(json.dumps(pattern))(EVENT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[]", "Filter is not an object"),
        ("{}", "Empty objects are not allowed"),
        ('{"source": []}', "Empty arrays are not allowed"),
        ('{"lenderId": "LenderA"}', '"lenderId" must be an object or an array'),
        ('{"source": [["a"]]}', "Match value must be String, number, true, false, or null"),
        ('{"source": [{}]}', "Match expression name not found"),
        ('{"source": [{"prefix": "a", "suffix": "b"}]}', "Only one key allowed"),
        ('{"source": [{"starts-with": "a"}]}', "Unrecognized match type starts-with"),
        ('{"source": [{"prefix": 1}]}', "prefix match pattern must be a string"),
        ('{"source": [{"prefix": {"suffix": "a"}}]}', "prefix match pattern must be a string"),
        ('{"source": [{"exists": "yes"}]}', "exists match pattern must be either true or false"),
        ('{"a": [{"numeric": [">"]}]}', "Value of numeric"),
        ('{"a": [{"numeric": ["~", 1]}]}', "Unrecognized numeric range operator: ~"),
        ('{"a": [{"numeric": [["="], 1]}]}', "Unrecognized numeric range operator: ['=']"),
        ('{"a": [{"numeric": [">", "1"]}]}', "Value of > must be numeric"),
        ('{"a": [{"numeric": [">", 5, "<", 1]}]}', "Bottom must be less than top"),
        ('{"a": [{"numeric": ["<", 5, ">", 1]}]}', "Bad numeric range operator"),
        ('{"a": [{"numeric": ["=", 1e10]}]}', "must be between -5000000000 and 5000000000"),
        ('{"a": [{"cidr": "10.0.0.0/99"}]}', "Malformed CIDR"),
        ('{"a": [{"anything-but": ["a", 1]}]}', "either all values are number or string"),
        ('{"a": [{"anything-but": []}]}', "Empty arrays are not allowed"),
        ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "Value of anything-but"),
        ('{"a": [{"wildcard": "a**b"}]}', "Consecutive wildcard characters"),
        ('{"a": [{"wildcard": "a\\\\b"}]}', "Invalid escape character"),
        ('{"$or": {"a": [1]}}', "It must be an Array followed with $or"),
        ('{"$or": [{"a": [1]}]}', "at least 2 Objects"),
        ('{"$or": [{"a": [1]}, 5]}', "Only JSON object is allowed"),
        ('{"$or": [{"a": [1]}, {"prefix": ["a"]}]}', "prefix is reserved"),
        ('{"a":' * (DEEPEST + 1) + "[1]" + "}" * (DEEPEST + 1), "nested deeper than 100 levels"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(AwsError) as caught:
        compile_pattern(text)
    assert caught.value.code == "InvalidEventPatternException"
    assert caught.value.message.startswith("Event pattern is not valid. Reason: ")
    assert reason in caught.value.message


def test_a_wildcard_that_backtracks_in_a_regular_expression_ends() -> None:
    matches = compile_pattern(json.dumps({"a": [{"wildcard": "*a" * 1000 + "*b"}]}))
    assert not matches({"a": "a" * 200_000})
