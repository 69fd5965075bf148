"""`byoc ps`: the training jobs and endpoints of a region."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import console

HELP = "List the region's training jobs and endpoints, newest first."
_COLUMNS = ("KIND", "NAME", "STATUS", "CREATED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    region = target.find(arguments)
    region.status()
    client = region.client("sagemaker")
    with target.refusals():
        jobs = [*_all(client, "list_training_jobs", "TrainingJobSummaries")]
        endpoints = [*_all(client, "list_endpoints", "Endpoints")]
    if arguments.json:
        document = {"schema": 1, "trainingJobs": jobs, "endpoints": endpoints}
        console.result(json.dumps(document, indent=2, default=_encode))
        return 0
    rows = [("job", _row(job, "TrainingJob")) for job in jobs]
    rows += [("endpoint", _row(endpoint, "Endpoint")) for endpoint in endpoints]
    console.result(console.table([_COLUMNS, *((kind, *row) for kind, row in rows)]))
    return 0


def _all(client: Any, operation: str, member: str) -> Iterator[dict[str, Any]]:
    for page in client.get_paginator(operation).paginate(
        SortBy="CreationTime", SortOrder="Descending"
    ):
        yield from page[member]


def _row(summary: dict[str, Any], kind: str) -> tuple[str, str, str]:
    created = summary["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return summary[f"{kind}Name"], summary[f"{kind}Status"], created


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is not JSON")
