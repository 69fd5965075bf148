"""Waiting: each line once, until the end and no longer than it may take."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.unit.launch.conftest import Service

from sagemaker_byoc.contract.errors import TimeLimitError
from sagemaker_byoc.launch.follow import FailedError, Watch, wait_for_endpoint, wait_for_job


class Streams:
    """CloudWatch Logs: one stream, and a line more at each look."""

    def __init__(self, name="digits-1/algo-1-170000"):
        self.name, self.lines = name, []

    def describe(self, _):
        return {"logStreams": [{"logStreamName": self.name}]}

    def get(self, asked):
        start = int(asked.get("nextToken", "0"))
        if start == len(self.lines):
            self.lines.append(f"line {start}")
            return {"events": [], "nextForwardToken": str(start)}
        events = [{"timestamp": start, "message": line} for line in self.lines[start:]]
        return {"events": events, "nextForwardToken": str(len(self.lines))}


@pytest.fixture
def follow():
    def follow(wait, describe, answers, seconds=30.0):
        said, lines, streams = [], [], Streams()
        each = iter(answers)
        service = Service(
            **{describe: lambda _: next(each)},
            DescribeLogStreams=streams.describe,
            GetLogEvents=streams.get,
        )
        watch = Watch(
            caller=service,
            say=said.append,
            line=lambda host, line: lines.append((host, line)),
            seconds=seconds,
            pause=0.001,
        )
        return wait(watch), said, lines

    return follow


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def job(status, *transitions, **more):
    return {
        "TrainingJobStatus": status,
        "SecondaryStatusTransitions": [
            {"Status": each, "StatusMessage": f"it is {each}", "StartTime": moment(number)}
            for number, each in enumerate(transitions)
        ],
        **more,
    }


def test_a_job_until_it_is_completed(follow):
    answers = [
        job("InProgress", "Starting"),
        job("InProgress", "Starting", "Training"),
        job("Completed", "Starting", "Training", "Completed",
            ModelArtifacts={"S3ModelArtifacts": "s3://b/m"}),
    ]  # fmt: skip
    ended, said, lines = follow(
        lambda watch: wait_for_job("digits-1", watch), "DescribeTrainingJob", answers
    )
    assert (ended.status, ended.model) == ("Completed", "s3://b/m")
    assert [each.partition(":")[0] for each in said] == ["Starting", "Training", "Completed"]
    assert {host for host, _ in lines} == {"algo-1"}
    numbers = [line for _, line in lines]
    assert numbers == [f"line {number}" for number in range(len(numbers))]
    assert numbers


def test_a_new_message_of_the_same_status_is_said(follow):
    """As the layers of an image arrive."""

    def look(message, *more, status="InProgress"):
        found = job(status, "Starting", "Training", *more)
        found["SecondaryStatusTransitions"][1]["StatusMessage"] = message
        return found

    layers = [f"{done} of 2 layers" for done in (1, 1, 2)]
    answers = [*map(look, layers), look(layers[-1], "Completed", status="Completed")]
    _, said, _ = follow(
        lambda watch: wait_for_job("digits-1", watch), "DescribeTrainingJob", answers
    )
    assert said == [
        "Starting: it is Starting",
        "Training: 1 of 2 layers",
        "Training: 2 of 2 layers",
        "Completed: it is Completed",
    ]


def test_lines_and_statuses_in_the_order_of_their_times():
    """Also if one look brings them all, as for a job of a second."""
    page = [(500, "old"), (1500, "trains"), (2000, "last"), (2001, "after")]
    events = [{"timestamp": when, "message": text} for when, text in page]
    pages = iter([{"events": events, "nextForwardToken": "4"}])
    service = Service(
        DescribeTrainingJob=lambda _: job("Completed", "Starting", "Training", "Uploading"),
        DescribeLogStreams=lambda _: {"logStreams": [{"logStreamName": "digits-1/algo-1-1"}]},
        GetLogEvents=lambda _: next(pages, {"events": [], "nextForwardToken": "4"}),
    )
    shown = []
    watch = Watch(
        caller=service,
        say=lambda text: shown.append(text.partition(":")[0]),
        line=lambda _, text: shown.append(text),
        seconds=30,
        pause=0.001,
    )
    wait_for_job("digits-1", watch)
    assert shown == ["Starting", "old", "Training", "trains", "last", "Uploading", "after"]


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_job_that_fails_says_why(follow, status):
    with pytest.raises(FailedError, match="AlgorithmError: no data") as caught:
        follow(
            lambda watch: wait_for_job("digits-1", watch),
            "DescribeTrainingJob",
            [job(status, FailureReason="AlgorithmError: no data")],
        )
    assert caught.value.exit_code == 1


def test_a_job_that_takes_too_long_continues(follow):
    def for_ever():
        while True:
            yield job("InProgress")

    with pytest.raises(TimeLimitError, match="continues") as caught:
        follow(
            lambda watch: wait_for_job("digits-1", watch),
            "DescribeTrainingJob",
            for_ever(),
            seconds=0.05,
        )
    assert caught.value.exit_code == 124


def endpoint(status, config="new", **more):
    return {"EndpointStatus": status, "EndpointConfigName": config, **more}


def test_an_endpoint_until_it_serves(follow):
    ended, said, _ = follow(
        lambda watch: wait_for_endpoint("digits", "new", watch),
        "DescribeEndpoint",
        [endpoint("Creating"), endpoint("Creating"), endpoint("InService")],
    )
    assert ended.status == "InService"
    assert said == ["endpoint digits is Creating", "endpoint digits is InService"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endpoint("Failed", FailureReason="no ping"), "is Failed and not as asked for: no ping"),
        (endpoint("InService", "old", FailureReason="no ping"), "it still serves old: no ping"),
        (endpoint("OutOfService"), "is OutOfService"),
    ],
)
def test_an_endpoint_that_does_not_serve_what_was_asked(follow, answer, words):
    """An update that was rolled back is a failure, although the endpoint is InService."""
    with pytest.raises(FailedError) as caught:
        follow(
            lambda watch: wait_for_endpoint("digits", "new", watch), "DescribeEndpoint", [answer]
        )
    assert words in caught.value.what
