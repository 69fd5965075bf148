"""`byoc ps`, `logs`, `stop` and `interrupt`: the jobs and endpoints of a region."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.main import Command
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.launch.follow import ENDPOINTS_GROUP, JOBS_GROUP, Logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of resource that these commands list, follow and stop."""

    word: str
    """In the column KIND, and in JSON."""
    noun: str
    member: str
    """Begins the members of a summary: `TrainingJobName`."""
    items: str
    """Member of a List answer."""
    key: str
    """In `byoc ps --json`."""
    group: str
    """The log group of its streams; each endpoint has one below it."""
    stopping: str
    """What is said after a stop."""
    runs_on: bool = False
    """Whether it stays until it is deleted, as an endpoint does."""

    @property
    def operation(self) -> str:
        """boto3's word: `training_job`."""
        return "_".join(self.noun.split())


ENDPOINT = Kind(
    word="endpoint",
    noun="endpoint",
    member="Endpoint",
    items="Endpoints",
    key="endpoints",
    group=ENDPOINTS_GROUP,
    stopping="is being deleted",
    runs_on=True,
)
KINDS = (
    Kind(
        word="job",
        noun="training job",
        member="TrainingJob",
        items="TrainingJobSummaries",
        key="trainingJobs",
        group=JOBS_GROUP,
        stopping="is stopping: it has 120 s to save its model",
    ),
    Kind(
        word="processing",
        noun="processing job",
        member="ProcessingJob",
        items="ProcessingJobSummaries",
        key="processingJobs",
        group="/aws/sagemaker/ProcessingJobs",
        stopping="is stopping: it has 120 s to write its output",
    ),
    Kind(
        word="transform",
        noun="transform job",
        member="TransformJob",
        items="TransformJobSummaries",
        key="transformJobs",
        group="/aws/sagemaker/TransformJobs",
        stopping="is stopping: its output is not stored",
    ),
    ENDPOINT,
)
NOUNS = f"{', '.join(kind.noun for kind in KINDS[:-1])} or endpoint"
_ENDED = frozenset({"Completed", "Failed", "Stopped"})
_UNKNOWN = "UnknownOperationException"
_POLL_SECONDS = 0.5


def _listed(sagemaker: Any, kind: Kind, **wanted: str) -> Iterator[dict[str, Any]]:
    """Yield the summaries of a kind; none from an older region that lacks the kind."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - after explained_imports

    try:
        for page in sagemaker.get_paginator(f"list_{kind.operation}s").paginate(**wanted):
            yield from page[kind.items]
    except ClientError as error:
        if error.response["Error"]["Code"] != _UNKNOWN:
            raise


def _found(sagemaker: Any, kind: Kind, name: str) -> dict[str, Any] | None:
    """Return the summary of that name; None if there is none."""
    listed = _listed(sagemaker, kind, NameContains=name)
    return next((each for each in listed if each[f"{kind.member}Name"] == name), None)


def _of_name(sagemaker: Any, name: str) -> dict[Kind, dict[str, Any]]:
    """Return the summaries of that name, the newest first: two kinds may have the same name."""
    found = {kind: each for kind in KINDS if (each := _found(sagemaker, kind, name)) is not None}
    return dict(sorted(found.items(), key=lambda item: item[1]["CreationTime"], reverse=True))


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
        found = {kind: [*_listed(client, kind, **newest)] for kind in KINDS}
    if arguments.json:
        document = {"schema": 1, **{kind.key: listed for kind, listed in found.items()}}
        console.result(json.dumps(document, indent=2, default=_encode))
        return 0
    rows = [(kind.word, *_row(each, kind)) for kind, listed in found.items() for each in listed]
    console.result(console.table([("KIND", "NAME", "STATUS", "CREATED"), *rows]))
    return 0


def _row(summary: dict[str, Any], kind: Kind) -> tuple[str, str, str]:
    created = summary["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return summary[f"{kind.member}Name"], summary[f"{kind.member}Status"], created


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
            found = _found(client, kind, name)
            logs.fetch()
            logs.show(_line if arguments.json else console.result_line)
            status = None if found is None else found[f"{kind.member}Status"]
            if status is None or not arguments.follow:
                return 0
            if not kind.runs_on and status in _ENDED:
                return 0
            time.sleep(_POLL_SECONDS)


def _line(stream: str, line: str) -> None:
    console.line({"stream": stream, "line": line})


def _find(region: target.Target, client: Any, name: str) -> tuple[Kind, Logs]:
    """Return the kind and the log of that name. Raise RequestError if there is none."""
    kind = next(iter(_of_name(client, name)), None)
    if kind is not None and kind is not ENDPOINT:
        return kind, Logs(region.caller(), kind.group, f"{name}/")
    group = f"{ENDPOINT.group}/{name}"
    groups = region.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    # The group stays when the endpoint is deleted.
    if group in {each["logGroupName"] for each in groups} or kind is ENDPOINT:
        return ENDPOINT, Logs(region.caller(), group, "")
    raise RequestError(f"there is no {NOUNS} {name!r} at {region.url}", hint="`byoc ps` lists them")


# ── stop, interrupt ──


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="JOB|ENDPOINT")
    _add_ps(parser)


def _stop(arguments: argparse.Namespace) -> int:
    region, name = target.find(arguments), arguments.name
    region.status()
    client = region.client("sagemaker")
    with target.refusals():
        for kind, summary in _of_name(client, name).items():
            if not kind.runs_on and summary[f"{kind.member}Status"] != "InProgress":
                continue
            call = f"{'delete' if kind.runs_on else 'stop'}_{kind.operation}"
            getattr(client, call)(**{f"{kind.member}Name": name})
            console.step(f"{kind.noun} {name} {kind.stopping}")
            return _result(arguments, kind.word, "Deleting" if kind.runs_on else "Stopping")
    raise RequestError(
        f"no job {name!r} is in progress at {region.url}, and there is no such endpoint",
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


PS = Command("List the region's jobs and endpoints, newest first.", _add_ps, _ps)
LOGS = Command("Print the log of a job or an endpoint.", _add_logs, _logs)
STOP = Command("Stop a job, or delete an endpoint.", _add_stop, _stop)
INTERRUPT = Command(
    "Interrupt a managed spot training job; it is started again from its checkpoints.",
    _add_interrupt,
    _interrupt,
)
