"""`byoc logs`: the lines of a training job's hosts, or of an endpoint's instances."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError

HELP = "Print the log of a training job or an endpoint."
JOBS_GROUP = "/aws/sagemaker/TrainingJobs"
ENDPOINTS_GROUP = "/aws/sagemaker/Endpoints"
_ENDED = frozenset({"Completed", "Failed", "Stopped"})
_POLL_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB|ENDPOINT")
    target.add_arguments(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing until it ends")
    parser.add_argument(
        "--json", action="store_true", help='print {"stream": …, "line": …}, one object per line'
    )


def run(arguments: argparse.Namespace) -> int:
    region = target.find(arguments)
    region.status()
    with target.refusals():
        source = _find(region, arguments.name)
        while True:
            # Asked before the lines are read: what is written until the end is among them.
            ended = source.has_ended()
            for stream, line in source.new_lines():
                if arguments.json:
                    console.line({"stream": stream, "line": line})
                else:
                    console.result_line(stream, line)
            if ended or not arguments.follow:
                return 0
            time.sleep(_POLL_SECONDS)


@dataclass(slots=True)
class _Source:
    """The streams of one job or endpoint, and how far each was read."""

    logs: Any
    sagemaker: Any
    name: str
    group: str
    prefix: str
    tokens: dict[str, str] = field(default_factory=dict)

    def has_ended(self) -> bool:
        if self.group == JOBS_GROUP:
            found = self.sagemaker.describe_training_job(TrainingJobName=self.name)
            return found["TrainingJobStatus"] in _ENDED
        return self.name not in endpoints_named(self.sagemaker, self.name)

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """Yield stream and line; lines of several streams are ordered by time."""
        found = [event for stream in self._streams() for event in self._events(stream)]
        for _, stream, line in sorted(found, key=lambda event: event[0]):
            yield stream, line

    def _streams(self) -> list[str]:
        try:
            narrowed = {"logStreamNamePrefix": self.prefix} if self.prefix else {}
            pages = self.logs.get_paginator("describe_log_streams").paginate(
                logGroupName=self.group, **narrowed
            )
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    def _events(self, stream: str) -> Iterator[tuple[int, str, str]]:
        label = stream.removeprefix(self.prefix)
        if self.group == JOBS_GROUP:
            label = label.rpartition("-")[0]
        while True:
            token = self.tokens.get(stream)
            answer = self.logs.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=True,
                **({} if token is None else {"nextToken": token}),
            )
            for event in answer["events"]:
                yield event["timestamp"], label, event["message"]
            self.tokens[stream] = answer["nextForwardToken"]
            if token == answer["nextForwardToken"]:
                return


def _find(region: target.Target, name: str) -> _Source:
    """Return the log of that name. Raise RequestError if there is none."""
    logs, sagemaker = region.client("logs"), region.client("sagemaker")
    job = _Source(logs, sagemaker, name, JOBS_GROUP, f"{name}/")
    if name in jobs_named(sagemaker, name):
        return job
    endpoint = _Source(logs, sagemaker, name, f"{ENDPOINTS_GROUP}/{name}", "")
    groups = logs.describe_log_groups(logGroupNamePrefix=endpoint.group)["logGroups"]
    known = {group["logGroupName"] for group in groups}
    if name in endpoints_named(sagemaker, name) or endpoint.group in known:
        return endpoint
    raise RequestError(
        f"there is no training job and no endpoint {name!r} at {region.url}",
        hint="`byoc ps` lists them",
    )


def jobs_named(sagemaker: Any, part: str) -> dict[str, str]:
    """Return the status of each training job whose name contains `part`."""
    pages = sagemaker.get_paginator("list_training_jobs").paginate(NameContains=part)
    found = (job for page in pages for job in page["TrainingJobSummaries"])
    return {job["TrainingJobName"]: job["TrainingJobStatus"] for job in found}


def endpoints_named(sagemaker: Any, part: str) -> dict[str, str]:
    pages = sagemaker.get_paginator("list_endpoints").paginate(NameContains=part)
    found = (endpoint for page in pages for endpoint in page["Endpoints"])
    return {endpoint["EndpointName"]: endpoint["EndpointStatus"] for endpoint in found}
