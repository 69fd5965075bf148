"""`byoc ps`, `logs`, `stop` and `interrupt`: the training jobs and endpoints of a region."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.main import Command
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError

JOB, ENDPOINT = "TrainingJob", "Endpoint"
_LISTS = {
    JOB: ("list_training_jobs", "TrainingJobSummaries"),
    ENDPOINT: ("list_endpoints", "Endpoints"),
}
_ENDED = frozenset({"Completed", "Failed", "Stopped"})
_POLL_SECONDS = 0.5


def _listed(sagemaker: Any, kind: str, **wanted: str) -> Iterator[dict[str, Any]]:
    operation, member = _LISTS[kind]
    for page in sagemaker.get_paginator(operation).paginate(**wanted):
        yield from page[member]


def _status(sagemaker: Any, kind: str, name: str) -> str | None:
    """Return the status of the job or endpoint of this name; None if there is none."""
    found = _listed(sagemaker, kind, NameContains=name)
    return next((each[f"{kind}Status"] for each in found if each[f"{kind}Name"] == name), None)


# ── ps ──


def _add_ps(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _ps(arguments: argparse.Namespace) -> int:
    region = target.find(arguments)
    region.status()
    client = region.client("sagemaker")
    newest = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    with target.refusals():
        jobs = [*_listed(client, JOB, **newest)]
        endpoints = [*_listed(client, ENDPOINT, **newest)]
    if arguments.json:
        document = {"schema": 1, "trainingJobs": jobs, "endpoints": endpoints}
        console.result(json.dumps(document, indent=2, default=_encode))
        return 0
    rows = [("job", *_row(job, JOB)) for job in jobs]
    rows += [("endpoint", *_row(endpoint, ENDPOINT)) for endpoint in endpoints]
    console.result(console.table([("KIND", "NAME", "STATUS", "CREATED"), *rows]))
    return 0


def _row(summary: dict[str, Any], kind: str) -> tuple[str, str, str]:
    created = summary["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return summary[f"{kind}Name"], summary[f"{kind}Status"], created


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is not JSON")


# ── logs ──


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB|ENDPOINT")
    target.add_arguments(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing until it ends")
    parser.add_argument(
        "--json", action="store_true", help='print {"stream": …, "line": …}, one object per line'
    )


def _logs(arguments: argparse.Namespace) -> int:
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
    kind: str
    name: str
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        shared = f"/aws/sagemaker/{self.kind}s"
        return shared if self.kind == JOB else f"{shared}/{self.name}"

    @property
    def prefix(self) -> str:
        return f"{self.name}/" if self.kind == JOB else ""

    def has_ended(self) -> bool:
        status = _status(self.sagemaker, self.kind, self.name)
        return status is None or (self.kind == JOB and status in _ENDED)

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
        if self.kind == JOB:
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
    if _status(sagemaker, JOB, name):
        return _Source(logs, sagemaker, JOB, name)
    endpoint = _Source(logs, sagemaker, ENDPOINT, name)
    groups = logs.describe_log_groups(logGroupNamePrefix=endpoint.group)["logGroups"]
    known = {group["logGroupName"] for group in groups}  # it stays when the endpoint is deleted
    if endpoint.group in known or _status(sagemaker, ENDPOINT, name):
        return endpoint
    raise RequestError(
        f"there is no training job and no endpoint {name!r} at {region.url}",
        hint="`byoc ps` lists them",
    )


# ── stop, interrupt ──


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB|ENDPOINT")
    _add_ps(parser)


def _stop(arguments: argparse.Namespace) -> int:
    region, name = target.find(arguments), arguments.name
    region.status()
    client = region.client("sagemaker")
    with target.refusals():
        if _status(client, JOB, name) == "InProgress":
            client.stop_training_job(TrainingJobName=name)
            console.step(f"training job {name} is stopping: it has 120 s to save its model")
            return _result(arguments, "job", "Stopping")
        if _status(client, ENDPOINT, name):
            client.delete_endpoint(EndpointName=name)
            console.step(f"endpoint {name} is being deleted")
            return _result(arguments, "endpoint", "Deleting")
    raise RequestError(
        f"no training job {name!r} is in progress at {region.url}, and there is no such endpoint",
        hint="`byoc ps` lists them",
    )


def _add_interrupt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB")
    _add_ps(parser)


def _interrupt(arguments: argparse.Namespace) -> int:
    """Take a spot job's instances away, as the spot market would."""
    target.find(arguments).post(f"interrupt/{arguments.name}")
    console.step(f"training job {arguments.name} is interrupted")
    return _result(arguments, "job", "Interrupted")


def _result(arguments: argparse.Namespace, kind: str, status: str) -> int:
    if arguments.json:
        console.document({"kind": kind, "name": arguments.name, "status": status})
    return 0


PS = Command("List the region's training jobs and endpoints, newest first.", _add_ps, _ps)
LOGS = Command("Print the log of a training job or an endpoint.", _add_logs, _logs)
STOP = Command("Stop a training job (its model is kept), or delete an endpoint.", _add_stop, _stop)
INTERRUPT = Command(
    "Interrupt a managed spot training job; it is started again from its checkpoints.",
    _add_interrupt,
    _interrupt,
)
