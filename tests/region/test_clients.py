"""STS, IAM, CloudWatch Logs and the refusals, through botocore's clients over HTTP."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from sagemaker_byoc.region.core.account import Account

pytestmark = pytest.mark.slow

NOW = int(time.time() * 1000) - 60_000
"""A minute ago, in milliseconds: events of long ago are rejected."""


@pytest.fixture(scope="module")
def logs(region):
    return region.client("logs")


@pytest.fixture
def stream(logs, request):
    """Group and stream of ten events, one a millisecond."""
    group, name = "/test/" + re.sub(r"[^a-zA-Z0-9]", "-", request.node.name), "job/algo-1-1"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=name)
    events = [{"timestamp": NOW + n, "message": f"line {n}"} for n in range(10)]
    logs.put_log_events(logGroupName=group, logStreamName=name, logEvents=events)
    return {"logGroupName": group, "logStreamName": name}


def texts(answer):
    return [event["message"] for event in answer["events"]]


def loose(region, service):
    """A client that sends what the model forbids."""
    return Session(session_vars={"profile": (None, None, None, None)}).create_client(
        service,
        region_name="us-east-1",
        endpoint_url=region.url,
        aws_access_key_id=region.keys.access_key,
        aws_secret_access_key=region.keys.secret_key,
        config=Config(parameter_validation=False, retries={"max_attempts": 0}),
    )


def refusal(call, **parameters):
    with pytest.raises(ClientError) as found:
        call(**parameters)
    return found.value.response["Error"]


def test_the_caller_is_the_execution_role(region):
    """What get_execution_role() of the SDKs takes apart."""
    identity = region.client("sts").get_caller_identity()
    assert identity["Account"] == Account().id
    role = identity["Arn"].split("/")[1]
    assert region.client("iam").get_role(RoleName=role)["Role"]["Arn"] == Account().role


def test_sagemaker_may_assume_any_role(region):
    """A script names a role of its own; its trust policy and its rights are looked at by SDK v3."""
    iam = region.client("iam")
    role = iam.get_role(RoleName="MyOwnRole")["Role"]
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]
    assert statement["Principal"]["Service"] == "sagemaker.amazonaws.com"
    results = iam.simulate_principal_policy(
        PolicySourceArn=role["Arn"],
        ActionNames=["s3:GetObject", "s3:PutObject"],
        ResourceArns=["arn:aws:s3:::a", "arn:aws:s3:::b"],
    )["EvaluationResults"]
    assert len(results) == 4
    assert {result["EvalDecision"] for result in results} == {"allowed"}


def test_assume_role_gives_credentials_for_the_time_asked(region):
    answer = region.client("sts").assume_role(
        RoleArn="arn:aws:iam::111122223333:role/path/Mine",
        RoleSessionName="me",
        DurationSeconds=900,
    )
    assert 800 < answer["Credentials"]["Expiration"].timestamp() - time.time() < 1000
    assert answer["AssumedRoleUser"]["Arn"].endswith(":assumed-role/Mine/me")


def test_query_requests_are_validated(region):
    error = refusal(loose(region, "sts").assume_role, RoleArn="short", RoleSessionName="a b")
    assert error["Code"] == "ValidationError"
    assert error["Message"].startswith("2 validation errors detected: Value 'short' at 'roleArn'")


def test_a_follower_reads_each_event_once(logs, stream):
    """As the SDKs do: forward from the head, until the token does not change."""
    seen, token = [], None
    for _ in range(10):
        more = {} if token is None else {"nextToken": token}
        answer = logs.get_log_events(**stream, startFromHead=True, limit=4, **more)
        seen += texts(answer)
        if answer["nextForwardToken"] == token:
            break
        token = answer["nextForwardToken"]
    assert seen == [f"line {n}" for n in range(10)]
    event = {"timestamp": NOW + 10, "message": "two\nlines"}
    logs.put_log_events(**stream, logEvents=[event])
    assert texts(logs.get_log_events(**stream, nextToken=token)) == ["two\nlines"]


def test_without_a_token_the_newest_events_come_and_the_older_behind_them(logs, stream):
    last = logs.get_log_events(**stream, limit=3)
    assert texts(last) == ["line 7", "line 8", "line 9"]
    before = logs.get_log_events(**stream, limit=3, nextToken=last["nextBackwardToken"])
    assert texts(before) == ["line 4", "line 5", "line 6"]
    after = logs.get_log_events(**stream, limit=9, nextToken=before["nextForwardToken"])
    assert texts(after) == ["line 7", "line 8", "line 9"]
    rest = logs.get_log_events(**stream, nextToken=before["nextBackwardToken"])
    assert texts(rest) == ["line 0", "line 1", "line 2", "line 3"]
    start = logs.get_log_events(**stream, nextToken=rest["nextBackwardToken"])
    assert start["nextBackwardToken"] == rest["nextBackwardToken"]
    assert texts(start) == []


def test_times_bound_what_is_read(logs, stream):
    answer = logs.get_log_events(**stream, startTime=NOW + 2, endTime=NOW + 5, startFromHead=True)
    assert texts(answer) == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize("token", ["f/999999999999/s", "f/000000000000000003/s", "x", "b/3/s"])
def test_a_token_of_another_stream_is_refused(logs, stream, token):
    error = refusal(logs.get_log_events, **stream, nextToken=token)
    assert error["Code"] == "InvalidParameterException"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", 10),
        ("line", 10),
        ('"line 3"', 1),
        ("line -3", 9),
        ("?3 ?4", 2),
        ("LINE", 0),
        ("line 3", 1),
    ],
)
def test_filter_patterns(logs, stream, pattern, expected):
    answer = logs.filter_log_events(logGroupName=stream["logGroupName"], filterPattern=pattern)
    assert len(answer["events"]) == expected


@pytest.mark.parametrize("pattern", ["{ $.a = 1 }", "[a, b]", "%x%", 'a"b'])
def test_patterns_that_are_not_evaluated_say_so(logs, stream, pattern):
    error = refusal(
        logs.filter_log_events, logGroupName=stream["logGroupName"], filterPattern=pattern
    )
    assert error["Code"] == "InvalidParameterException"
    assert "Invalid filter pattern" in error["Message"]


def test_several_streams_are_searched_as_one_in_pages(logs, stream):
    group = stream["logGroupName"]
    logs.create_log_stream(logGroupName=group, logStreamName="job/algo-2-1")
    events = [{"timestamp": NOW + n, "message": f"other {n}"} for n in range(10)]
    logs.put_log_events(logGroupName=group, logStreamName="job/algo-2-1", logEvents=events)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNamePrefix="job/", PaginationConfig={"PageSize": 3}
    )
    found = [event for page in pages for event in page["events"]]
    assert len({event["eventId"] for event in found}) == 20
    assert [event["timestamp"] for event in found] == sorted(e["timestamp"] for e in found)


def test_streams_are_described_in_pages_and_by_time(logs, stream):
    group = stream["logGroupName"]
    for number, name in enumerate(["a", "b", "c"]):
        logs.create_log_stream(logGroupName=group, logStreamName=name)
        event = {"timestamp": NOW - number, "message": "m"}
        logs.put_log_events(logGroupName=group, logStreamName=name, logEvents=[event])
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=group, PaginationConfig={"PageSize": 2}
    )
    names = [found["logStreamName"] for page in pages for found in page["logStreams"]]
    assert names == ["a", "b", "c", stream["logStreamName"]]
    newest = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)
    assert newest["logStreams"][0]["lastEventTimestamp"] == NOW + 9
    assert [found["logStreamName"] for found in newest["logStreams"]][1:] == ["a", "b", "c"]


def test_logs_refuse_what_is_not_there_or_there_twice(logs, stream):
    """SDK v2 waits for a group by this code."""
    missing = refusal(logs.describe_log_streams, logGroupName="/none")
    assert missing["Code"] == "ResourceNotFoundException"
    twice = refusal(logs.create_log_group, logGroupName=stream["logGroupName"])
    assert twice["Code"] == "ResourceAlreadyExistsException"


def test_a_groups_name_is_no_path(logs, region):
    """`..` is a legal name of a group."""
    before = {file.name for file in region.state.iterdir()}
    logs.create_log_group(logGroupName="..")
    logs.create_log_stream(logGroupName="..", logStreamName="x")
    assert {file.name for file in region.state.iterdir()} == before
    groups = logs.describe_log_groups(logGroupNamePrefix="..")["logGroups"]
    assert [group["logGroupName"] for group in groups] == [".."]
    logs.delete_log_group(logGroupName="..")


@pytest.mark.parametrize(
    ("service", "operation", "words"),
    [
        ("sagemaker", "list_hubs", "sagemaker:ListHubs is not supported"),
        ("logs", "describe_metric_filters", "Supported of logs: CreateLogGroup"),
        ("iam", "list_users", "iam:ListUsers is not supported"),
        ("lambda", "list_functions", "lambda ListFunctions is not part of this local region"),
        ("sns", "list_topics", "sns is not part of this local region"),
        ("cloudwatch", "list_dashboards", "cloudwatch:ListDashboards is not supported"),
        ("sagemaker-a2i-runtime", "list_human_loops", "sagemaker-a2i-runtime ListHumanLoops"),
        ("sagemaker-metrics", "batch_get_metrics", "sagemaker-metrics BatchGetMetrics"),
    ],
)
def test_an_operation_that_is_not_there_is_named(region, service, operation, words):
    """In the protocol of its service: JSON, query, REST."""
    error = refusal(getattr(loose(region, service), operation))
    assert error["Code"] == "UnknownOperationException"
    assert words in error["Message"]


def test_cloudwatch_in_cbor(region, monkeypatch):
    """As the SDKs of Java, Go and JavaScript speak to it; boto3 prefers JSON."""
    monkeypatch.setattr(
        "botocore.model.PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", ("smithy-rpc-v2-cbor",)
    )
    client = region.client("cloudwatch")
    assert client.meta.service_model.resolved_protocol == "smithy-rpc-v2-cbor"
    now = datetime.now(UTC)
    many = [{"MetricName": "m", "Value": 2.5, "Timestamp": now}] * 1000  # sent as gzip
    client.put_metric_data(Namespace="cbor", MetricData=many)
    span = {"StartTime": now - timedelta(minutes=5), "EndTime": now + timedelta(minutes=5)}
    (point,) = client.get_metric_statistics(
        Namespace="cbor", MetricName="m", Period=60, Statistics=["Sum"], **span
    )["Datapoints"]
    assert point["Sum"] == 2500
    assert point["Timestamp"] == now.replace(second=0, microsecond=0)
    with pytest.raises(client.exceptions.ResourceNotFound) as missing:
        client.set_alarm_state(AlarmName="none", StateValue="OK", StateReason="a test")
    assert missing.value.response["Error"]["Code"] == "ResourceNotFound"
    assert refusal(client.list_dashboards)["Code"] == "UnknownOperationException"


def test_sagemakers_requests_are_refused_in_its_words(region):
    error = refusal(
        loose(region, "sagemaker").create_endpoint,
        EndpointName="a_b",
        EndpointConfigName="c" * 64,
    )
    assert error["Code"] == "ValidationException"
    name, length, pattern = error["Message"].split("; ")
    assert name == (
        "3 validation errors detected: Value 'a_b' at 'endpointName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )
    assert length == (
        f"Value '{'c' * 64}' at 'endpointConfigName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63"
    )
    assert "endpointConfigName" in pattern


def test_a_failure_of_ours_is_an_internal_failure_without_a_traceback(region, monkeypatch):
    """The cause is in the region's log alone."""
    monkeypatch.setattr("sagemaker_byoc.region.services.iam.Iam._role", lambda *_: 1 / 0)
    client = loose(region, "iam")
    error = refusal(client.get_role, RoleName="a")
    assert error["Code"] == "InternalFailure"
    assert "division" not in error["Message"]
    assert "ZeroDivisionError" in (region.state / "region.log").read_text()


def test_own_commands_need_a_header_that_a_web_page_cannot_send(region):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{region.url}/_byoc/status", timeout=10)
    with refused.value as answer:
        assert answer.code == 403
