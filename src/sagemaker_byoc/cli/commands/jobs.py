"""`byoc ps`, `logs`, `stop` and `interrupt`: the training jobs and endpoints of a region."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.main import Command
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.launch.follow import ENDPOINTS_GROUP, JOBS_GROUP, Logs

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
    client, name = region.client("sagemaker"), arguments.name
    with target.refusals():
        kind, logs = _find(region, client, name)
        while True:
            # Asked before the lines are read: what is written until the end is among them.
            status = _status(client, kind, name)
            logs.fetch()
            logs.show(_line if arguments.json else console.result_line)
            if status is None or (kind == JOB and status in _ENDED) or not arguments.follow:
                return 0
            time.sleep(_POLL_SECONDS)


def _line(stream: str, line: str) -> None:
    console.line({"stream": stream, "line": line})


def _find(region: target.Target, client: Any, name: str) -> tuple[str, Logs]:
    """Return the kind and the log of that name. Raise RequestError if there is none."""
    if _status(client, JOB, name):
        return JOB, Logs(region.caller(), JOBS_GROUP, f"{name}/")
    group = f"{ENDPOINTS_GROUP}/{name}"
    groups = region.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    # The group stays when the endpoint is deleted.
    if group in {each["logGroupName"] for each in groups} or _status(client, ENDPOINT, name):
        return ENDPOINT, Logs(region.caller(), group, "")
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
