"""CloudWatch Logs' operations."""

from __future__ import annotations

import contextlib
import time

import pytest
from tests.support.members import unread_members

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.logs.logs import Logs
from sagemaker_byoc.region.wire.operations import AwsError

HERE = {"logGroupName": "g", "logStreamName": "s"}
HOUR = 3_600_000


@pytest.fixture
def api(tmp_path):
    operations = Logs(LogStore(tmp_path), Account()).operations()

    def call(name, **parameters):
        return operations[name](parameters)

    call.operations = operations
    call("CreateLogGroup", logGroupName="g")
    call("CreateLogStream", **HERE)
    return call


def put(api, *hours, text="x"):
    """Events so many hours from now."""
    now = time.time_ns() // 1_000_000
    events = [{"timestamp": now + int(hour * HOUR), "message": text} for hour in hours]
    return api("PutLogEvents", logEvents=events, **HERE)


def kept(api):
    return len(api("GetLogEvents", startFromHead=True, **HERE)["events"])


@pytest.mark.parametrize(
    ("hours", "rejected", "count"),
    [
        ((-1, 0, 1), None, 3),
        ((-30 * 24, 0), {"tooOldLogEventEndIndex": 1}, 1),
        ((0, 1, 3, 4), {"tooNewLogEventStartIndex": 2}, 2),
        ((-400, -337, 3), {"tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 2}, 0),
    ],
)
def test_events_too_old_and_too_new_are_told_and_not_kept(api, hours, rejected, count):
    assert put(api, *hours).get("rejectedLogEventsInfo") == rejected
    assert kept(api) == count


def test_batches_that_are_refused_whole(api):
    for hours, text, words in (
        ((0, -1), "x", "chronological"),
        ((-25, 0), "x", "24 hours"),
        ((0, 0), "x" * (1 << 19), "Upload too large: 1048628 bytes"),
    ):
        with pytest.raises(AwsError, match=rf"InvalidParameterException.*{words}"):
            put(api, *hours, text=text)
    assert kept(api) == 0


@pytest.mark.parametrize(
    "member",
    [{"kmsKeyId": "k"}, {"tags": {"a": "b"}}, {"logGroupClass": "INFREQUENT_ACCESS"}],
)
def test_what_a_group_would_lose_is_refused_by_name(api, member):
    with pytest.raises(AwsError, match=rf"InvalidParameterException.*{next(iter(member))}"):
        api("CreateLogGroup", logGroupName="h", **member)
    api("CreateLogGroup", logGroupName="h", logGroupClass="STANDARD", tags={})


def test_groups_by_their_identifiers(api):
    api("CreateLogGroup", logGroupName="h")
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:h:*"
    for identifiers, names in ((["g"], ["g"]), ([arn], ["h"]), (["g", arn], ["g", "h"])):
        found = api("DescribeLogGroups", logGroupIdentifiers=identifiers)["logGroups"]
        assert [group["logGroupName"] for group in found] == names
    assert api("DescribeLogGroups", accountIdentifiers=["111122223333"])["logGroups"] == []


def test_no_member_of_a_request_is_ignored(api):
    def prepare():
        with contextlib.suppress(AwsError):
            api("CreateLogGroup", logGroupName="g")
        with contextlib.suppress(AwsError):
            api("CreateLogStream", **HERE)

    unread = unread_members(
        "logs",
        api.operations,
        prepare,
        ("logGroupName",),
        logStreamNames=["s"],
        nextToken="f/00",
        logEvents=[{"timestamp": time.time_ns() // 1_000_000, "message": "x"}],
        **HERE,
    )
    unread -= {
        "PutLogEvents.sequenceToken",  # ignored by CloudWatch Logs too
        "FilterLogEvents.interleaved",  # likewise, since 2019
        "FilterLogEvents.unmask",  # nothing is masked
        "GetLogEvents.unmask",
        "DescribeLogGroups.includeLinkedAccounts",  # the region has one account
    }
    # A group is named by either member, and the name comes first.
    assert {name for name in unread if not name.endswith(".logGroupIdentifier")} == set()
